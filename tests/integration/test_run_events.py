"""stepwell/run.*: the end of a run as an event that other functions listen to."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from stepwell import Batch, CancelOn, Context, RunStatus, Stepwell, Timeouts, Trigger
from stepwell.engine import accept
from stepwell.engine.ending import skipped
from stepwell.engine.registration import register
from stepwell.engine.starting import start_run
from stepwell.queue import look
from stepwell.testing import LocalStepwell

from .remote_steps import reject_odd
from .support import Declare, Deploy, declare_as, only_dead_letter, run_of


def works(ctx: Any) -> Any:
    yield ctx.step.run("work", lambda: 1)
    return {"done": True}


def fails(ctx: Any) -> Any:
    yield ctx.step.run("work", lambda: 1)
    raise ValueError("no luck")


def rests(ctx: Any) -> Any:
    yield ctx.step.sleep("rest", "1d")


class Listener:
    """A function of an app of its own that keeps what it hears."""

    def __init__(self, on: Any = "stepwell/run.*") -> None:
        self.app = Stepwell("ops")
        self.heard: list[tuple[str, dict[str, Any]]] = []

        @self.app.function(on=on, id="listen", retries=0)
        def listen(ctx: Context[Any]) -> None:
            self.heard.append((ctx.event.name, ctx.event.data))

    @property
    def names(self) -> list[str]:
        return [name.removeprefix("stepwell/run.") for name, _ in self.heard]


def send(local: LocalStepwell, event: str = "go", wait: str = "0s", **data: Any) -> str:
    event_id = local.send(event, data)
    local.advance(wait)
    return event_id


def test_what_a_listener_has_invoked_stays_quiet_when_it_is_replayed_or_forked(app: Stepwell, deploy: Deploy) -> None:
    heard: list[str] = []
    app.function(on="go", id="fn")(lambda ctx: None)
    invoked = app.function(on="never", id="child")(lambda ctx: ctx.step.run("work", lambda: 1))

    @app.function(on="stepwell/run.*", id="listen")
    def listen(ctx: Context[Any]) -> None:
        heard.append(ctx.event.data["function"])
        ctx.step.invoke(invoked, {}, id="waited-for")
        ctx.step.invoke(invoked, {}, id="apart", detached=True)

    local = deploy(app)
    send(local)
    told = set(heard)
    assert told == {"fn"}
    for run in list(local.client.runs(function="shop/child")):
        again = (local.client.replay(run.id), local.client.fork(run.id, "work"))
        local.run_until_idle()
        assert [local.client.run(each).status for each in again] == [RunStatus.COMPLETED] * 2
        local.client.replay(again[0])
        local.run_until_idle()
    assert set(heard) == told, "neither the runs it invokes nor what repeats them"


def test_an_end_is_told_with_all_there_is_to_know(app: Stepwell, declare_plain: Declare, deploy: Deploy) -> None:
    listener = Listener()
    declare_plain(app, works)
    local = deploy(app, listener.app)
    event_id = local.send("go", {"n": 1}, tenant="acme")
    local.run_until_idle()
    run = run_of(local, event_id, "fn")
    ((name, data),) = listener.heard
    assert name == "stepwell/run.finished"
    assert data == {
        "run_id": run.id,
        "app": "shop",
        "function": "fn",
        "status": "completed",
        "result": {"done": True},
        "error": None,
        "reason": None,
        "event": {
            "id": event_id,
            "name": "go",
            "ts": "2026-01-01T00:00:00.000Z",
            "data": {"n": 1},
            "tenant": "acme",
        },
        "tags": {},
        "parent_id": None,
    }


def test_each_kind_of_end_has_its_event(app: Stepwell, declare_plain: Declare, deploy: Deploy) -> None:
    listener = Listener()
    declare_plain(app, works, on="works", id="works")
    declare_plain(app, fails, on="fails", id="fails", retries=0)
    declare_plain(app, rests, on="rests", id="rests", cancel_on=CancelOn("stop"))
    declare_plain(app, rests, on="late", id="late", timeouts=Timeouts(finish="1h"))
    local = deploy(app, listener.app)
    for name in ("works", "fails", "rests", "late"):
        send(local, name)
    local.send("stop")
    local.advance("2h")
    assert sorted(listener.names) == ["cancelled", "cancelled", "failed", "finished"]
    told = {data["function"]: data for _, data in listener.heard}
    assert (told["fails"]["error"]["type"], told["fails"]["error"]["message"]) == ("ValueError", "no luck")
    assert told["rests"]["reason"].startswith("cancelled by stop evt_")
    assert told["late"]["reason"] == "not finished within 1h"


@pytest.mark.parametrize(
    ("on", "heard"),
    [
        ("stepwell/run.finished", ["finished"]),
        ("stepwell/run.failed", ["failed"]),
        (["stepwell/run.failed", "stepwell/run.cancelled"], ["failed"]),
        ("stepwell/*", ["failed", "finished"]),
        ("*", ["fails", "works"]),
        (Trigger("stepwell/run.*", where="event.data.function == 'works'"), ["finished"]),
        (Trigger("stepwell/run.*", where="event.data.function == 'works' && has(event.data.error.type)"), []),
        (Trigger("stepwell/run.*", where="event.data.error.type == 'ValueError'"), ["failed"]),
        (Trigger("stepwell/run.*", where="event.data.result.done"), ["finished"]),
        (Trigger("stepwell/run.*", where="event.data.event.data.n > 1"), ["failed"]),
        (Trigger("stepwell/run.*", where="event.data.status == 'failed'"), ["failed"]),
    ],
)
def test_a_listener_hears_what_it_asks_for(
    app: Stepwell, declare_plain: Declare, deploy: Deploy, on: Any, heard: list[str]
) -> None:
    listener = Listener(on)
    declare_plain(app, works, on="works", id="works")
    declare_plain(app, fails, on="fails", id="fails", retries=0)
    local = deploy(app, listener.app)
    send(local, "works", n=1)
    send(local, "fails", n=2)
    assert sorted(listener.names) == heard


def cost(local: LocalStepwell, name: str) -> tuple[float, float, int, int]:
    before = local.requests
    local.send(name, {"n": 1})
    local.run_until_idle()
    spent = local.requests - before
    return spent.write_units, spent.read_units, spent.sqs, spent.invocations["worker"]


def test_a_run_nobody_listens_to_pays_nothing(app: Stepwell, declare_plain: Declare, deploy: Deploy) -> None:
    def two_functions(app: Stepwell) -> None:
        declare_plain(app, works, on="works", id="works")
        declare_plain(app, works, on="other", id="other")

    two_functions(app)
    quiet, other = Stepwell("quiet"), Listener(Trigger("stepwell/run.finished", where="event.data.function == 'works'"))
    quiet.function(on="never", id="never")(lambda ctx: None)
    plain = deploy(app, quiet)
    costs = [cost(plain, name) for name in ("other", "other")]
    app = Stepwell("shop")
    two_functions(app)
    local = deploy(app, other.app)
    assert [cost(local, name) for name in ("other", "other")] == costs, "the listener means another function"
    assert cost(local, "works")[0] > costs[1][0]
    assert other.names == ["finished"]


def test_whoever_listens_later_does_not_hear_of_runs_that_had_started(
    app: Stepwell, declare_plain: Declare, deploy: Deploy
) -> None:
    heard: list[str] = []
    declare_plain(app, rests)
    local = deploy(app)
    send(local)
    app.function(on="stepwell/run.*", id="later")(lambda ctx: heard.append(ctx.event.data["run_id"]))
    ports = local._ports(counted=False)
    register(ports, app.manifest(), ports.store.apps.current()[0]["shop"].workers)
    second = send(local)
    local.advance("2d")
    assert heard == [run_of(local, second, "fn").id]


# ---- no loops


@pytest.mark.parametrize("on", ["stepwell/run.failed", "stepwell/run.*", ["go", "stepwell/run.*"]])
def test_a_listener_does_not_hear_itself(app: Stepwell, deploy: Deploy, on: Any) -> None:
    heard: list[str] = []

    @app.function(on="go", id="fn", retries=0)
    def fn(ctx: Context[Any]) -> None:
        raise ValueError("no")

    @app.function(on=on, id="listen", retries=0)
    def listen(ctx: Context[Any]) -> None:
        heard.append(ctx.event.name)
        raise ValueError("neither")

    local = deploy(app)
    send(local, wait="1h")
    asked = [name for name in heard if name != "go"]
    assert asked == ["stepwell/run.failed"] * len(asked)
    assert 1 <= len(asked) <= 2, "of the run of fn, and of its own run if that was started by go"


def test_neither_do_runs_that_a_listener_invokes(app: Stepwell, declare_plain: Declare, deploy: Deploy) -> None:
    heard: list[str] = []
    declare_plain(app, works, on="go", id="fn")
    worker = declare_plain(app, works, on="never", id="worker")

    @app.function(on="never", id="middle")
    def middle(ctx: Context[Any]) -> None:
        ctx.step.invoke(worker)

    @app.function(on="stepwell/run.*", id="listen")
    def listen(ctx: Context[Any]) -> None:
        ctx.step.run("note", heard.append, ctx.event.data["function"])
        ctx.step.invoke(middle)
        ctx.step.invoke(worker, detached=True)

    local = deploy(app)
    send(local, wait="1h")
    assert heard == ["fn"]


def test_the_run_of_a_failure_handler_is_not_announced(app: Stepwell, declare_plain: Declare, deploy: Deploy) -> None:
    listener = Listener()
    declare_plain(app, fails, retries=0, on_failure=lambda ctx: None)
    local = deploy(app, listener.app)
    send(local, wait="1h")
    assert listener.names == ["failed"]


# ---- children, parents, steps


def test_invoked_runs_are_announced_with_their_parent_and_steps_of_their_own_worker_are_not(
    app: Stepwell, deploy: Deploy
) -> None:
    listener = Listener()

    @app.function(on="never", id="child")
    def child(ctx: Context[Any]) -> int:
        return 5

    @app.function(on="go", id="parent")
    def parent(ctx: Context[Any]) -> list[Any]:
        return [ctx.step.invoke(child), ctx.step.map(reject_odd, [2], spread=True)]

    local = deploy(app, listener.app)
    event_id = send(local, wait="1m")
    run = run_of(local, event_id, "parent")
    told = {data["function"]: data["parent_id"] for _, data in listener.heard}
    assert told == {"child": run.id, "parent": None}


def test_a_step_hears_of_an_end_that_a_function_listens_to(
    app: Stepwell, declare_plain: Declare, deploy: Deploy
) -> None:
    declare_plain(app, works)

    @app.function(on="watch", id="watch")
    def watch(ctx: Context[Any]) -> str | None:
        found = ctx.step.wait_for_event(
            "end", event="stepwell/run.finished", match={"data.event.data.order": "o-1"}, timeout="1h"
        )
        return found.data["function"] if found else None

    def play(*apps: Stepwell) -> Any:
        local = deploy(*apps)
        event_id = send(local, "watch")
        send(local, "go", order="o-1")
        local.advance("2h")
        return run_of(local, event_id, "watch").result

    assert play(app) is None, "nobody announced it"
    assert play(app, Listener().app) == "fn"


def test_the_end_of_one_run_cancels_another(app: Stepwell, declare_plain: Declare, deploy: Deploy) -> None:
    stop = CancelOn(
        "stepwell/run.failed", match={"data.event.data.order": "event.data.order", "data.function": "payment"}
    )
    declare_plain(app, rests, on="order", id="shipping", cancel_on=stop)
    declare_plain(app, fails, on="order", id="payment", retries=0)
    local = deploy(app)
    event_id = send(local, "order", order="o-1")
    assert run_of(local, event_id, "shipping").status == RunStatus.CANCELLED


# ---- what is in it


@pytest.mark.parametrize(
    ("size", "omitted"), [(1_000, []), (70_000, ["event.data", "result"]), (300_000, ["event.data", "result"])]
)
def test_what_is_large_is_left_out_and_named(
    app: Stepwell, declare_plain: Declare, deploy: Deploy, size: int, omitted: list[str]
) -> None:
    text = "".join(chr(65 + (n * n) % 57) for n in range(size))

    def body(ctx: Any) -> Any:
        yield ctx.step.run("one", lambda: 1)
        return {"text": text}

    listener = Listener()
    declare_plain(app, body)
    local = deploy(app, listener.app)
    send(local, text=text)
    ((_, data),) = listener.heard
    assert data.get("omitted", []) == omitted
    assert data["result"] == (None if omitted else {"text": text})
    assert data["event"]["data"] == ({} if omitted else {"text": text})


def test_more_listeners_than_one_message_may_start_all_hear_of_it(
    app: Stepwell, declare_plain: Declare, deploy: Deploy
) -> None:
    ops, heard = Stepwell("ops"), []
    for number in range(120):
        ops.function(on="stepwell/run.finished", id=f"listen-{number}")(lambda ctx: heard.append(ctx.event.id))
    declare_plain(app, works)
    local = deploy(app, ops)
    send(local, wait="1m")
    assert len(heard) == 120
    assert len(set(heard)) == 1


def test_a_refused_run_is_told_too(app: Stepwell, declare_plain: Declare, deploy: Deploy) -> None:
    """What flow control does when it refuses an event: create the run as skipped, then have it looked at."""
    listener = Listener()
    declare_plain(app, rests)
    local = deploy(app, listener.app)
    event_id = send(local)
    ports = local.client._ports
    state = ports.store.runs.read(run_of(local, event_id, "fn").id)
    assert state is not None
    refused = skipped(ports, state, "over its rate limit")
    assert (refused.status, refused.owes, refused.reason) == (RunStatus.SKIPPED, ("event",), "over its rate limit")
    other = replace(refused, id="shop.01KDVDNA00ZZZZZZZZZZZZZZZZ")
    assert ports.store.runs.create(other) is None
    ports.queue.send(look(other.id))
    local.advance("2m")
    ((name, data),) = listener.heard
    assert (name, data["reason"], data["result"]) == ("stepwell/run.skipped", "over its rate limit", None)
    stands = ports.store.runs.read(other.id)
    assert stands is not None
    assert stands.owes == ()


def test_the_event_is_dated_with_the_end(app: Stepwell, deploy: Deploy, declare_plain: Declare) -> None:
    times: list[Any] = []
    ops = Stepwell("ops")
    ops.function(on="stepwell/run.finished", id="listen")(lambda ctx: times.append(ctx.event.ts))
    declare_plain(app, rests)
    local = deploy(app, ops)
    begin = local.now()
    send(local, wait="2d")
    assert times == [begin + timedelta(days=1)]


def test_an_event_that_a_batch_took_along_was_not_skipped(app: Stepwell, deploy: Deploy) -> None:
    told: list[str] = []

    @app.function(on="go", batch=Batch(3, "1m"))
    def fn(ctx: Context[Any]) -> int:
        return len(ctx.events)

    @app.function(on=["stepwell/run.skipped", "stepwell/run.finished"])
    def listener(ctx: Context[Any]) -> None:
        told.append(ctx.event.name)

    local = deploy(app)
    local.client.send([{"name": "go", "data": {"n": n}} for n in range(3)])
    local.run_until_idle()
    assert told == ["stepwell/run.finished"]


def test_an_end_of_which_nobody_can_say_who_wants_to_hear_it_is_a_dead_letter_and_keeps_no_run_from_ending(
    app: Stepwell, declare_plain: Declare, deploy: Deploy
) -> None:
    endless = "event.data.event.data.l.all(a, event.data.event.data.l.all(b, event.data.event.data.l.all(c, true)))"
    listener, other = Listener(Trigger("stepwell/run.finished", where=endless)), Listener()
    other.app = Stepwell("other")
    other.app.function(on="stepwell/run.*", id="listen")(lambda ctx: other.heard.append((ctx.event.name, {})))
    declare_plain(app, works)
    local = deploy(app, listener.app, other.app)
    run = run_of(local, send(local, l=list(range(100))), "fn")
    assert (run.status, run._state.owes) == (RunStatus.COMPLETED, ())
    assert (listener.names, other.names) == ([], ["finished"])
    letter = only_dead_letter(local)
    assert (letter.code, "ops/listen" in letter.reason) == ("undecided", True)
    local.advance("1d")
    assert only_dead_letter(local).id == letter.id

    corrected = Stepwell("ops")
    corrected.function(on="stepwell/run.finished", id="listen")(lambda ctx: None)
    declare_as(local, corrected)
    assert local.client.redrive() == 1
    local.run_until_idle()
    assert (listener.names, other.names) == (["finished"], ["finished"])
    assert local.dead_letters() == []


@pytest.mark.parametrize("size", [10, 70_000, 400_000])
def test_a_condition_sees_the_data_of_the_event_also_where_they_are_left_out(
    app: Stepwell, declare_plain: Declare, deploy: Deploy, size: int
) -> None:
    """What held when the run was accepted holds at its end; to a listener, a rule and a wait."""
    listener = Listener(Trigger("stepwell/run.finished", where="event.data.event.data.order == 'o-1'"))
    order = {"data.event.data.order": "event.data.order"}
    rules = [CancelOn("stepwell/run.finished", match=order), CancelOn("never", match={"data.x": 1})]
    declare_plain(app, works, on="works", id="works")
    declare_plain(app, rests, on="rests", id="rests", cancel_on=rules)

    @app.function(on="waits", id="waits")
    def waits(ctx: Context[Any]) -> Any:
        ended = ctx.step.wait_for_event(
            "ended",
            event="stepwell/run.finished",
            match={"data.event.data.order": "o-1", "data.function": "works"},
            timeout="1d",
        )
        return None if ended is None else ended.data.get("omitted")

    local = deploy(app, listener.app)
    rested, waited = local.send("rests", {"order": "o-1"}), local.send("waits")
    local.run_until_idle()
    for name in ("o-2", "o-1"):
        send(local, "works", order=name, text="a" * size)
        assert (len(listener.heard), run_of(local, rested).status.is_terminal) == (
            (1, True) if name == "o-1" else (0, False)
        )
    omitted = ["event.data"] if size > 65_536 else None
    assert [data.get("omitted") for _, data in listener.heard] == [omitted]
    assert (listener.heard[0][1]["event"]["data"] == {}) == (omitted is not None)
    assert run_of(local, waited).status == RunStatus.COMPLETED
    assert run_of(local, waited).result == omitted


def test_an_end_is_heard_by_a_run_that_was_received_before_and_is_created_after_though_data_are_left_out(
    app: Stepwell, declare_plain: Declare, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare_plain(app, works, on="works", id="works")
    order = {"data.function": "works", "data.event.data.order": "event.data.order"}
    declare_plain(app, rests, on="rests", id="rests", cancel_on=CancelOn("stepwell/run.finished", match=order))
    broken = [True]

    def failing(ports: Any, app: str, function: str, *args: Any, **options: Any) -> Any:
        if broken and function == "rests":
            raise ConnectionError("an outage")
        return start_run(ports, app, function, *args, **options)

    monkeypatch.setattr(accept, "start_run", failing)
    local = deploy(app)
    rested = [local.send("rests", {"order": name}) for name in ("o-1", "o-2")]
    local.advance("1s")
    send(local, "works", order="o-1", text="a" * 70_000, wait="1s")
    broken.clear()
    local.advance("1h")
    assert [run_of(local, each).status for each in rested] == [RunStatus.CANCELLED, RunStatus.SUSPENDED]
