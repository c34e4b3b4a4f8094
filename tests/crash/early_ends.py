"""Programs that end before their time, and whose ends are heard of, to be crashed at every point."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from stepwell import CancelOn, Context, Run, RunStatus, Stepwell, Timeouts
from stepwell.testing import LocalStepwell
from tests.crash.scenarios import Scenario, double


def called_off() -> Scenario:
    """The cancelling event races with the start, with a wait and with a step; one for another order was there before."""
    app = Stepwell("stop")

    @app.function(
        on="go", id="main", cancel_on=[CancelOn("stop", match={"data.order": "event.data.order"}, timeout="1d")]
    )
    def main(ctx: Context[Any]) -> str:
        ctx.step.run(double, 1)
        ctx.step.sleep("rest", "10m")
        return "went on"

    def check(run: Run) -> None:
        assert run.status is RunStatus.CANCELLED, f"{run!r}, steps {dict(run.steps)}"
        assert str(run.reason).startswith("cancelled by stop evt_"), run.reason

    def play(local: LocalStepwell, event_id: str) -> None:
        local.client.send("stop", {"order": "o-2"})
        local.advance("1s")
        other = local.client.send("go", {"order": "o-2"})
        local.client.send("stop", {"order": "o-1"})
        for _ in range(20):
            local.advance("12m")
            spared = local.run(other) if local.world.is_idle() else None
            if spared is not None and spared.status.is_terminal:
                break
        assert spared is not None
        assert spared.result == "went on", f"{spared!r}"

    return Scenario("an event that cancels", app, check, play=play)


def limited() -> Scenario:
    """It rests beyond its time, and so does the child it waits for."""
    app = Stepwell("limit")

    @app.function(on="never", id="child")
    def child(ctx: Context[Any]) -> None:
        ctx.step.sleep("for ever", timedelta(days=30))

    @app.function(on="go", id="main", timeouts=Timeouts(start="1d", finish="2m"))
    def main(ctx: Context[Any]) -> None:
        ctx.step.run(double, 1)
        ctx.step.invoke(child)

    def play(local: LocalStepwell, event_id: str) -> None:
        local.advance("3m")
        for _ in range(20):
            run = local.run(event_id)
            assert run is not None
            steps = run.steps
            if run.status.is_terminal and ("child" not in steps or local.has_ended(str(steps["child"].child))):
                break
            local.advance("2m")
        if "child" in steps:
            assert local.client.run(str(steps["child"].child)).status is RunStatus.CANCELLED

    def check(run: Run) -> None:
        assert (run.status, run.reason) == (RunStatus.CANCELLED, "not finished within 2m")
        assert run.started_at is not None
        assert run.ended_at is not None
        late = run.ended_at - run.started_at - timedelta(minutes=2)
        assert timedelta(0) <= late <= timedelta(minutes=3), late

    return Scenario("out of time", app, check, play=play)


def heard() -> Scenario:
    """One function fails, starts another on its way that completes, and each end is heard of once."""
    app, ops = Stepwell("work"), Stepwell("ops")
    told: dict[str, str] = {}

    @app.function(on="never", id="other")
    def other(ctx: Context[Any]) -> int:
        return ctx.step.run(double, 2)

    @app.function(on="go", id="main", retries=0)
    def main(ctx: Context[Any]) -> None:
        ctx.step.invoke(other, detached=True)
        raise ValueError("no luck")

    @ops.function(on="stepwell/run.*", id="listen")
    def listen(ctx: Context[Any]) -> None:
        told[ctx.run_id] = f"{ctx.event.data['function']} {ctx.event.data['status']}"

    def play(local: LocalStepwell, _: str) -> None:
        for _ in range(20):
            local.advance("2m")
            if len(told) == 2:
                break

    def check(run: Run) -> None:
        heard = sorted(told.values())
        told.clear()  # every world gives its runs the same ids
        assert run.status is RunStatus.FAILED, f"{run!r}"
        assert heard == ["main failed", "other completed"]

    return Scenario("ends that are heard of", app, check, play=play, apps=[ops])


def said_again() -> Scenario:
    """An event that nobody else hears cancels a run and ends a wait; sent again, it does so to nobody who came later."""
    app = Stepwell("again")

    @app.function(on="go", id="main", cancel_on=[CancelOn("stop", match={"data.order": "event.data.order"})])
    def main(ctx: Context[Any]) -> str:
        match = {"data.instead": ctx.event.data["order"]}
        told = ctx.step.wait_for_event("told", event="stop", match=match, timeout="20m")
        return "went on" if told is None else "was told"

    def play(local: LocalStepwell, event_id: str) -> None:
        told = local.client.send("go", {"order": "o-2"})
        local.advance("10m")
        assert local.world.is_idle()
        stop = local.client.send("stop", {"order": "o-1", "instead": "o-2"})
        local.advance("10m")
        later = [local.client.send("go", {"order": order}) for order in ("o-1", "o-2")]
        local.advance("2m")
        local.client.send("stop", {"order": "o-1", "instead": "o-2"}, id=stop)
        ended = [_ended(local, each) for each in (told, *later)]
        assert ended == ["was told", "went on", "went on"], ended

    def check(run: Run) -> None:
        assert run.status is RunStatus.CANCELLED, f"{run!r}, steps {dict(run.steps)}"

    return Scenario("an event that is sent again", app, check, play=play)


def dated() -> Scenario:
    """Two events dated ahead, one within what the queue holds a message and one beyond: each meets who is there then."""
    app = Stepwell("dated")

    @app.function(on="go", id="main", cancel_on=[CancelOn("stop", match={"data.order": "event.data.order"})])
    def main(ctx: Context[Any]) -> list[str]:
        told = ctx.step.wait_for_event("told", event="tell", timeout="5h")
        assert told is not None
        ctx.step.sleep("rest", "5h")
        return [ctx.now().isoformat()]

    def play(local: LocalStepwell, event_id: str) -> None:
        start = local.now()
        near, far = start + timedelta(minutes=14), start + timedelta(hours=2)
        local.client.send("tell", {}, ts=near)
        local.client.send("stop", {"order": "o-1"}, ts=far)
        other = local.client.send("go", {"order": "o-2"})
        local.advance("13m")
        if local.world.is_idle():
            run = local.run(event_id)
            assert run is None or run.status.value == "suspended", f"{run!r}"
        local.advance("100m")
        run = local.run(event_id)
        assert run is not None
        assert not run.status.is_terminal, f"{run!r}"
        after = local.client.send("go", {"order": "o-1"})
        local.advance("4h")
        assert _ended(local, other) is not None
        spared = local.run(after)
        assert spared is not None
        assert spared.status is not RunStatus.COMPLETED

    def check(run: Run) -> None:
        assert run.status is RunStatus.CANCELLED, f"{run!r}, steps {dict(run.steps)}"
        assert run.steps["told"].status.value == "completed"

    return Scenario("events that take effect later", app, check, play=play)


def _ended(local: LocalStepwell, event_id: str) -> Any:
    """The result of the run, once it has ended."""
    for _ in range(20):
        run = local.run(event_id) if local.world.is_idle() else None
        if run is not None and run.status.is_terminal:
            return run.result
        local.advance("12m")
    raise AssertionError(f"event {event_id} has started no run that ended")


EARLY_ENDS: list[Callable[[], Scenario]] = [called_off, limited, heard, said_again, dated]
