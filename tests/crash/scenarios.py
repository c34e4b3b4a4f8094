"""Programs to be crashed at every point. Each is small and shows one way in which runs depend on the table."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from stepwell import AsyncContext, Context, Cron, RetryAfterError, Run, RunStatus, StepError, Stepwell, step
from stepwell.middleware.encryption import Encryption, SecretKey
from stepwell.queue import Message
from stepwell.testing import LocalStepwell
from tests.integration.support import redeploy

Play = Callable[[LocalStepwell, str], None]


@dataclass
class Scenario:
    """A function, what starts it, what has to happen meanwhile, and what it must have come to."""

    name: str
    app: Stepwell
    check: Callable[[Run], None]
    event: tuple[str, dict[str, Any]] = ("go", {"order": "o-1"})
    play: Play | None = None
    function: str | None = "main"
    apps: list[Stepwell] = field(default_factory=list)

    def everything(self) -> list[Stepwell]:
        return [self.app, *self.apps]


def completed(expected: Any) -> Callable[[Run], None]:
    def check(run: Run) -> None:
        assert run.status is RunStatus.COMPLETED, f"{run!r}, steps {dict(run.steps)}"
        assert run.result == expected

    return check


def ended(status: RunStatus, error: str | None = None) -> Callable[[Run], None]:
    def check(run: Run) -> None:
        assert run.status is status, f"{run!r}, steps {dict(run.steps)}"
        assert (run.error.type if run.error else None) == error

    return check


@step
def double(number: int) -> int:
    return number * 2


@step(compute="large")
def triple(number: int) -> int:
    return number * 3


def sequential() -> Scenario:
    app = Stepwell("seq")

    @app.function(on="go", id="main")
    def main(ctx: Context[Any]) -> int:
        total = 0
        for number in range(3):
            total += ctx.step.run(double, number)
        return total

    return Scenario("sequential", app, completed(6))


def parallel() -> Scenario:
    app = Stepwell("par")

    @app.function(on="go", id="main")
    async def main(ctx: AsyncContext[Any]) -> list[Any]:
        async def branch(number: int) -> int:
            first = await ctx.step.run(double, number)
            await ctx.step.sleep("rest", "30s")
            return await ctx.step.run("more", double, first)

        return list(await asyncio.gather(branch(1), branch(2), ctx.step.run("single", double, 5)))

    return Scenario("parallel", app, completed([4, 8, 10]))


def race() -> Scenario:
    """Who was first decides what is done next, and must be the same on every replay."""
    app = Stepwell("race")

    @app.function(on="go", id="main")
    async def main(ctx: AsyncContext[Any]) -> bool:
        nap = asyncio.create_task(ctx.step.sleep("nap", "10s"))
        paid = asyncio.create_task(ctx.step.wait_for_event("paid", event="paid", timeout="20s"))
        first, _ = await asyncio.wait({nap, paid}, return_when=asyncio.FIRST_COMPLETED)
        winner = await ctx.step.run("note", str, "nap" if nap in first else "paid")
        await asyncio.gather(nap, paid)
        again = await ctx.step.run("check", str, winner)
        return winner == again and winner in ("nap", "paid")

    def play(local: LocalStepwell, _: str) -> None:
        local.advance("9s")
        local.client.send("paid", {})
        local.advance("30s")

    return Scenario("race between a sleep and an event", app, completed(True), play=play)


def mapped() -> Scenario:
    app = Stepwell("map")

    @app.function(on="go", id="main")
    def main(ctx: Context[Any]) -> list[Any]:
        return list(ctx.step.map(double, [1, 2, 3], max_concurrency=2))

    return Scenario("map", app, completed([2, 4, 6]))


def submitted() -> Scenario:
    """Steps that nobody asks for: the run does not end before them, wherever it is cut."""
    app = Stepwell("sub")

    @app.function(on="go", id="other", retries=1)
    async def other(ctx: AsyncContext[Any]) -> str:
        ctx.step.submit("aside", double, 1)
        ctx.step.submit("fails", _refuse)
        await ctx.step.run("own", double, 2)
        return "returned"

    @app.function(on="go", id="main", retries=1)
    def main(ctx: Context[Any]) -> str:
        ctx.step.submit("aside", double, 1)
        ctx.step.submit("fails", _refuse)
        ctx.step.run("own", double, 2)
        return "returned"

    def check(run: Run) -> None:
        ended(RunStatus.FAILED, "ValueError")(run)
        assert {key: each.result for key, each in run.steps.items()} == {"aside": 2, "fails": None, "own": 4}

    def play(local: LocalStepwell, event_id: str) -> None:
        local.advance("1h")
        beside = local.run(event_id, function="other")
        assert beside is not None
        check(beside)

    return Scenario("submitted and left", app, check, play=play)


def _refuse() -> None:
    raise ValueError("no")


def spread() -> Scenario:
    app = Stepwell("spread")

    @app.function(on="go", id="main")
    def main(ctx: Context[Any]) -> list[Any]:
        items = ctx.step.map(double, [1], spread=True)
        return [*items, ctx.step.run(triple, 5)]

    return Scenario("spread over workers", app, completed([2, 15]))


def sleeping() -> Scenario:
    app = Stepwell("sleep")

    @app.function(on="go", id="main")
    def main(ctx: Context[Any]) -> str:
        ctx.step.sleep("short", "30s")
        ctx.step.run(double, 1)
        ctx.step.sleep("long", timedelta(days=2))
        return "awake"

    return Scenario("sleep", app, completed("awake"))


def waiting() -> Scenario:
    """The event comes at the last moment: it or the time-out, never both, never neither."""
    app = Stepwell("wait")

    @app.function(on="go", id="main")
    def main(ctx: Context[Any]) -> str:
        found = ctx.step.wait_for_event(
            "paid", event="paid", match={"data.order": ctx.event.data["order"]}, timeout="60s"
        )
        seen = ctx.step.run("seen", str, found is not None)
        return "ok" if seen == str(found is not None) else "changed"

    def play(local: LocalStepwell, _: str) -> None:
        local.advance("59s")
        local.client.send("paid", {"order": "other"})
        local.client.send("paid", {"order": "o-1"}, id="pay-1")
        local.client.send("paid", {"order": "o-1"}, id="pay-1")
        local.advance("5s")

    return Scenario("wait against time-out", app, completed("ok"), play=play)


def looking_back() -> Scenario:
    """The event came before the wait began."""
    app = Stepwell("back")

    @app.function(on="go", id="main")
    def main(ctx: Context[Any]) -> str:
        ctx.step.sleep("slow start", "1h")
        found = ctx.step.wait_for_event("paid", event="paid", timeout="1h", since="run_start")
        return "found" if found is not None else "missed"

    def play(local: LocalStepwell, event_id: str) -> None:
        for _ in range(20):  # the event must come after the run began, however late that was
            run = local.run(event_id) if local.world.is_idle() else None
            if run is not None and run.started_at is not None:
                break
            local.advance("1m")
        local.client.send("paid", {"order": "o-1"})
        local.advance("2h")

    return Scenario("wait since the start of the run", app, completed("found"), play=play)


def answered() -> Scenario:
    app = Stepwell("call")
    tokens: dict[str, str] = {}

    @app.function(on="go", id="main")
    def main(ctx: Context[Any]) -> Any:
        def hand_out(callback: Any) -> None:
            tokens[ctx.run_id] = callback.token

        return ctx.step.wait_for_callback("answer", timeout="1h", submit=hand_out)

    def play(local: LocalStepwell, event_id: str) -> None:
        for _ in range(10):
            run = local.run(event_id)
            if run is not None and run.id in tokens:
                break
            local.advance("2m")
        for _ in range(10):  # whoever answers tries again when it does not get through
            try:
                local.client.complete_callback(tokens[run.id], {"ok": True})
                return
            except Exception:
                local.advance("1s")

    def check(run: Run) -> None:
        tokens.clear()  # every world gives its run the same id
        completed({"ok": True})(run)

    return Scenario("callback", app, check, play=play)


def invoking() -> Scenario:
    app, other = Stepwell("parent"), Stepwell("child")

    @other.function(on="never", id="work", retries=0)
    def work(ctx: Context[Any]) -> int:
        if ctx.event.data["number"] < 0:
            raise ValueError("negative")
        return ctx.step.run(double, ctx.event.data["number"])

    @app.function(on="go", id="main")
    def main(ctx: Context[Any]) -> list[Any]:
        good = ctx.step.invoke("child/work", {"number": 4})
        try:
            ctx.step.invoke("child/work", {"number": -1}, id="bad")
        except StepError as error:
            return [good, error.type]
        return [good, "no error"]

    return Scenario("invoke", app, completed([8, "ValueError"]), apps=[other])


def failing() -> Scenario:
    app = Stepwell("fail")

    @app.function(on="go", id="main", retries=1, on_failure=lambda ctx: ctx.event.data.error.message)
    def main(ctx: Context[Any]) -> None:
        def broken() -> None:
            raise RuntimeError("always")

        ctx.step.run("fine", double, 1)
        ctx.step.run("broken", broken)

    return Scenario("retry exhaustion with a failure handler", app, ended(RunStatus.FAILED, "RuntimeError"))


def recovering() -> Scenario:
    app = Stepwell("recover")
    calls: dict[str, int] = {}

    @app.function(on="go", id="main")
    def main(ctx: Context[Any]) -> str:
        def flaky() -> str:
            calls[ctx.run_id] = calls.get(ctx.run_id, 0) + 1
            if calls[ctx.run_id] < 3:
                raise RetryAfterError("7s", "busy")
            return "through"

        return ctx.step.run("flaky", flaky)

    def check(run: Run) -> None:
        calls.clear()
        completed("through")(run)

    return Scenario("retries", app, check)


def cancelled() -> Scenario:
    app, other = Stepwell("stop"), Stepwell("stopped")

    @other.function(on="never", id="work")
    def work(ctx: Context[Any]) -> None:
        ctx.step.sleep("for ever", timedelta(days=30))

    @app.function(on="go", id="main")
    def main(ctx: Context[Any]) -> None:
        ctx.step.invoke("stopped/work", {})

    def play(local: LocalStepwell, event_id: str) -> None:
        local.advance("3m")
        run = local.run(event_id)
        assert run is not None
        assert local.client.cancel(run.id)
        local.advance("10m")
        assert all(each.status.is_terminal for each in local.client.runs())

    return Scenario("cancel with a child", app, ended(RunStatus.CANCELLED), play=play, apps=[other])


def duplicated() -> Scenario:
    app = Stepwell("dup")

    @app.function(on="go", id="main")
    def main(ctx: Context[Any]) -> int:
        return ctx.step.run(double, 21)

    @app.function(on="g*", id="second")
    def second(ctx: Context[Any]) -> str:
        return "second"

    def play(local: LocalStepwell, event_id: str) -> None:
        local.client.send("go", {"order": "o-2"}, id="twice")
        local.client.send("go", {"order": "o-2"}, id="twice")
        local.client.send("go", {"order": "another"}, id="twice")
        local.advance("5m")
        for _ in range(20):
            if len(local.client.runs_of_event("twice")) == 2 and local.dead_letters():
                break
            local.advance("5m")
        assert len(local.client.runs_of_event("twice")) == 2
        assert {letter.reason.split(":")[0][:8] for letter in local.dead_letters()} == {"An event"}

    return Scenario("duplicate events", app, completed(42), play=play)


def large() -> Scenario:
    app = Stepwell("large")

    @app.function(on="go", id="main")
    def main(ctx: Context[Any]) -> int:
        text = ctx.step.run("make", lambda: "x0y1" * 60_000)
        ctx.step.sleep("rest", "30s")
        return len(text) + len(ctx.event.data["blob"])

    blob = "".join(chr(97 + (n * n) % 26) for n in range(300_000))
    return Scenario("large payloads", app, completed(540_000), event=("go", {"blob": blob}))


def polling() -> Scenario:
    app = Stepwell("poll")
    checks: dict[str, int] = {}

    @app.function(on="go", id="main")
    def main(ctx: Context[Any]) -> bool:
        def check() -> int:
            checks[ctx.run_id] = checks.get(ctx.run_id, 0) + 1
            return checks[ctx.run_id]

        return ctx.step.poll("ready", check, until=lambda count: count >= 3, every="20s") >= 3

    def check_run(run: Run) -> None:
        checks.clear()
        completed(True)(run)

    return Scenario("poll", app, check_run)


def sending() -> Scenario:
    app = Stepwell("send")

    @app.function(on="go", id="main")
    def main(ctx: Context[Any]) -> int:
        ctx.step.send_event("tell", [{"name": "told", "data": {"n": n}} for n in range(2)])
        return len(ctx.step.send_event("tell one", "told", {"n": 2}))

    @app.function(on="told", id="listener")
    def listener(ctx: Context[Any]) -> int:
        return ctx.event.data["n"]

    def check(run: Run) -> None:
        assert run.status is RunStatus.COMPLETED

    def play(local: LocalStepwell, _: str) -> None:
        local.advance("10m")
        for _ in range(20):
            heard = [run.result for run in local.client.runs(function="send/listener", status="completed")]
            if len(heard) == 3:
                break
            local.advance("5m")
        assert sorted(heard) == [0, 1, 2]

    return Scenario("sending events", app, check, play=play)


def again() -> Scenario:
    """Whoever operates forks and replays in bulk, and is cut off as well: in a step, so that it is repeated."""
    app = Stepwell("again")
    first: list[str] = []

    @app.function(on="go", id="main", tags={"order": "event.data.order"})
    def main(ctx: Context[Any]) -> list[Any]:
        kept = ctx.step.run("kept", lambda: ctx.run_id)
        ctx.step.run("large", lambda: "".join(chr(97 + (n * n) % 26) for n in range(60_001)))
        return [kept in first or kept == ctx.run_id, ctx.step.run(double, 4)]

    @app.function(on="operate", id="operator")
    def operate(ctx: Context[Any]) -> None:
        ctx.step.run("fork", lambda: app.client.fork(first[0], "double", input={"order": "o-2"}))
        ctx.step.run("bulk", lambda: app.client.replay_all(tag="order=o-1"))

    def play(local: LocalStepwell, _: str) -> None:
        until(local, lambda: [status for _, status in mains(local)] == ["completed"])
        first[:] = [run for run, _ in mains(local)]
        local.client.send("operate", {}, id="operate")
        until(local, lambda: len(mains(local)) >= 3 and all(status == "completed" for _, status in mains(local)))
        runs = [run for n in (1, 2) for run in local.client.runs(tag=f"order=o-{n}", function="again/main")]
        assert sorted(run.id for run in runs) == [run for run, _ in mains(local)], "each is found by its tag"
        assert [run.result for run in runs] == [[True, 8]] * len(runs)
        (noted,) = [image.plain()["run"] for (pk, _), image in local.world.table.items() if pk.startswith("AGAIN#")]
        assert noted in {run.id for run in runs if run.replay_of}, "one replay in bulk, and it came to be"

    def mains(local: LocalStepwell) -> list[tuple[str, str]]:
        """The runs of main and their states; what the world has seen is looked up more quickly than it is listed."""
        items = [(pk, image.plain()) for (pk, sk), image in local.world.table.items() if sk == "RUN"]
        return sorted((pk.removeprefix("RUN#"), item["status"]) for pk, item in items if item["function"] == "main")

    return Scenario("forks, replays, tags", app, completed([True, 8]), play=play)


def until(local: LocalStepwell, done: Callable[[], bool]) -> None:
    """Let time pass until something holds."""
    for _ in range(100):
        if done():
            return
        local.advance("30s")
    raise AssertionError(f"It never comes to that.\n{local.timeline()}")


def ticking() -> Scenario:
    """Two ticks of a schedule with a deployment between them: each of them runs once, the deployment may be repeated."""
    app = Stepwell("tick")
    ticks = ["2026-01-01T00:50:00+00:00", "2026-01-01T01:50:00+00:00"]

    @app.function(on=["go", Cron("50 0,1 * * *", jitter="2m")], id="main")
    def main(ctx: Context[Any]) -> int:
        return 42  # steps are crashed elsewhere

    def ran(local: LocalStepwell) -> list[str]:
        items = [image.plain() for (_, sk), image in local.world.table.items() if sk == "RUN"]  # quicker than a list
        events = [json.loads(item["event"]) for item in items if item["status"] == "completed"]
        return sorted(event["data"]["scheduled_at"] for event in events if event["name"] == "stepwell/cron.tick")

    def play(local: LocalStepwell, _: str) -> None:
        local.advance("49m")
        for attempt in range(3):  # CloudFormation's invocation is repeated, too
            try:
                redeploy(local, app)
                break
            except AssertionError:
                assert attempt < 2
                local.advance("1s")
        local.advance("70m")
        for _ in range(10):
            if ran(local) == ticks:
                break
            local.advance("2m")
        assert ran(local) == ticks

    return Scenario("schedule", app, completed(42), play=play)


def over_http() -> Scenario:
    """Everything outside comes again until it is told that it got through: events with their idempotency key, answers."""
    app = Stepwell("http")
    urls: dict[str, str] = {}

    @app.function(on="go", id="main")
    def main(ctx: Context[Any]) -> Any:
        def hand_out(callback: Any) -> None:
            urls[ctx.run_id] = callback.url

        return ctx.step.wait_for_callback("answer", timeout="1d", submit=hand_out)

    @app.function(on="posted", id="listener")
    def listener(ctx: Context[Any]) -> int:
        return ctx.event.data["n"]

    def play(local: LocalStepwell, event_id: str) -> None:
        key, events = local.event_key(), [{"name": "posted", "data": {"n": n}} for n in range(2)]
        assert any(
            local.http("POST", f"/e/{key}", body=events, headers={"Idempotency-Key": "r-1"}).status == 202
            for _ in range(5)
        )
        for _ in range(10):
            run = local.run(event_id) if local.world.is_idle() else None
            if run is not None and run.id in urls:
                break
            local.advance("2m")
        assert any(local.http("POST", urls[run.id], body={"ok": True}).status == 200 for _ in range(5))
        local.advance("10m")
        heard = [run.result for run in local.client.runs(function="http/listener")]
        assert sorted(heard) == [0, 1]

    def check(run: Run) -> None:
        urls.clear()
        completed({"ok": True})(run)

    return Scenario("events and answers over HTTP", app, check, play=play)


def notified() -> Scenario:
    """One S3 notification of two objects, delivered whole until both have their run."""
    app = Stepwell("store")

    @app.function(on="go", id="main")
    def main(ctx: Context[Any]) -> int:
        return ctx.step.run(double, 1)

    @app.function(on="aws/s3/ObjectCreated", id="listener")
    def listener(ctx: Context[Any]) -> str:
        return str(ctx.event.data["key"])

    def play(local: LocalStepwell, _: str) -> None:
        things = [{"bucket": {"name": "b"}, "object": {"key": key, "sequencer": "01"}} for key in ("one", "two")]
        records = [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": thing} for thing in things]
        local.client._ports.queue.send(Message({"Records": records}, group="s3"))
        local.advance("30m")
        heard = [run.result for run in local.client.runs(function="store/listener")]
        assert sorted(heard) == ["one", "two"]

    return Scenario("an S3 notification of two objects", app, completed(2), play=play)


def encrypted() -> Scenario:
    """A step and a child that fails, all of it encrypted: whoever repeats a write encrypts anew, and differently."""
    app = Stepwell("sealed", middleware=[Encryption(SecretKey(b"k" * 32), clear=["order"])])

    @app.function(on="never", id="work", retries=0)
    def work(ctx: Context[Any]) -> int:
        raise ValueError(f"not {ctx.event.data['number']}")

    @app.function(on="go", id="main")
    def main(ctx: Context[Any]) -> list[Any]:
        total = ctx.step.run(double, len(ctx.event.data["card"]))
        try:
            ctx.step.invoke(work, {"number": total})
        except StepError as error:
            return [total, ctx.step.run("why", str, error.message)]
        return [total, None]

    event = ("go", {"order": "o-1", "card": "4242"})
    return Scenario("encryption", app, completed([8, "not 8"]), event=event)


SCENARIOS: list[Callable[[], Scenario]] = [
    sequential,
    parallel,
    race,
    mapped,
    submitted,
    spread,
    sleeping,
    waiting,
    looking_back,
    answered,
    invoking,
    failing,
    recovering,
    cancelled,
    duplicated,
    large,
    polling,
    sending,
    again,
    ticking,
    over_http,
    notified,
    encrypted,
]
