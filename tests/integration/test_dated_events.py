"""Events that take effect later: their runs begin then, once, and can be called off before."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from stepwell import Batch, CancelOn, Context, RunStatus, Stepwell
from stepwell.engine.accept import accept, take_effect
from stepwell.ports import Ports
from stepwell.testing import Chaos, LocalStepwell

from .support import Deploy, run_of


def noting(app: Stepwell) -> list[Any]:
    """Declare a function that notes when it is called, and how much it was sent."""
    began: list[Any] = []

    def fn(ctx: Context[Any]) -> int:
        began.append(ctx.now())
        return len(ctx.event.data.get("text", ""))

    app.function(on="go", id="fn")(fn)
    return began


@pytest.mark.parametrize("seconds", [2, 899, 901, 3600, 45 * 86_400])
def test_a_run_begins_at_the_time_of_its_event_near_or_far(app: Stepwell, deploy: Deploy, seconds: int) -> None:
    began = noting(app)
    local = deploy(app)
    start = local.now()
    event_id = local.send("go", ts=start + timedelta(seconds=seconds))
    local.advance(seconds - 1)
    assert run_of(local, event_id).status == RunStatus.SCHEDULED
    local.advance("2s")
    assert began == [start + timedelta(seconds=seconds)]
    assert run_of(local, event_id).status == RunStatus.COMPLETED


def test_it_begins_once_whatever_comes_twice_or_late(app: Stepwell, deploy: Deploy) -> None:
    began = noting(app)
    local = deploy(app, chaos=Chaos(duplicate=0.7, delay=0.5, lose=0.3))
    later = local.now() + timedelta(hours=3)
    for _ in range(3):
        local.send("go", {"n": 1}, id="mine", ts=later)
    local.advance("4h")
    assert run_of(local, "mine").status == RunStatus.COMPLETED
    assert len(began) == 1
    assert later <= began[0] <= later + timedelta(minutes=10)


def test_it_can_be_cancelled_before(app: Stepwell, deploy: Deploy) -> None:
    began = noting(app)
    local = deploy(app)
    event_id = local.send("go", ts=local.now() + timedelta(minutes=10))
    local.run_until_idle()
    assert [run.id for run in local.client.runs(status="scheduled")] == [run_of(local, event_id).id]
    assert local.client.cancel(run_of(local, event_id).id) is True
    local.advance("1d")
    assert (run_of(local, event_id).status, began) == (RunStatus.CANCELLED, [])


def test_a_large_event_is_kept_until_it_has_run(app: Stepwell, deploy: Deploy) -> None:
    noting(app)
    local = deploy(app)
    event_id = local.send("go", {"text": "x" * 50_000}, ts=local.now() + timedelta(days=60))
    local.run_until_idle()
    assert expiry(local, run_of(local, event_id).id) > (local.now() + timedelta(days=60)).timestamp()
    local.advance("60d")
    assert run_of(local, event_id).result == 50_000


def test_an_event_sent_again_while_its_run_is_scheduled_starts_no_second_one(app: Stepwell, deploy: Deploy) -> None:
    began = noting(app)
    local = deploy(app)
    at = local.now() + timedelta(days=200)
    for _ in range(4):
        local.send("go", {"n": 1}, id="mine", ts=at)
        local.advance("45d")
    local.advance("21d")
    assert began == [at]
    local.send("go", {"n": 1}, id="mine", ts=at)
    local.advance("8d")
    assert (began, len(list(local.client.runs()))) == ([at], 1)


NEAR_AND_FAR = pytest.mark.parametrize("ahead", [timedelta(seconds=5), timedelta(minutes=14), timedelta(days=30)])


def waiting(app: Stepwell, **options: Any) -> None:
    """Declare a function that waits for a payment and tells when and by whose event it was paid."""

    @app.function(on="order", id="waits", **options)
    def waits(ctx: Context[Any]) -> Any:
        paid = ctx.step.wait_for_event("paid", event="paid", timeout="300d")
        return paid and [paid.id, ctx.now().isoformat()]


@NEAR_AND_FAR
@pytest.mark.parametrize("id", [None, "mine"])
@pytest.mark.parametrize("starts", [0, 1, 2])
def test_a_wait_is_over_when_the_event_takes_effect_and_not_before(
    app: Stepwell, deploy: Deploy, ahead: timedelta, id: str | None, starts: int
) -> None:
    """Also one that has begun after the event was accepted; one that begins after its effect is none of its business."""
    waiting(app)
    for number in range(starts):
        app.function(on="paid", id=f"beside-{number}")(lambda ctx: None)
    local = deploy(app)
    before = local.send("order")
    local.run_until_idle()
    at = local.now() + ahead
    paid = local.send("paid", ts=at, id=id)
    local.run_until_idle()
    between = local.send("order")
    local.advance(ahead - timedelta(seconds=2))
    assert {run_of(local, each, "waits").status for each in (before, between)} == {RunStatus.SUSPENDED}
    local.advance("4s")
    after = local.send("order")
    local.advance("1h")
    for each in (before, between):
        told, when = run_of(local, each, "waits").result
        assert told == paid
        assert at.isoformat() <= when <= (at + timedelta(seconds=2)).isoformat()
    assert run_of(local, after, "waits").status == RunStatus.SUSPENDED


@NEAR_AND_FAR
@pytest.mark.parametrize("id", [None, "mine"])
def test_it_cancels_what_lives_when_it_takes_effect_and_was_accepted_before(
    app: Stepwell, deploy: Deploy, ahead: timedelta, id: str | None
) -> None:
    @app.function(on="order", id="waits", cancel_on=CancelOn("stop"))
    def waits(ctx: Context[Any]) -> None:
        ctx.step.sleep("long", "100d")

    local = deploy(app)
    before = local.send("order")
    stop = local.send("stop", ts=local.now() + ahead, id=id)
    local.run_until_idle()
    between = local.send("order")
    local.advance(ahead - timedelta(seconds=2))
    assert {run_of(local, each).status for each in (before, between)} == {RunStatus.SUSPENDED}
    local.advance("4s")
    after = local.send("order")
    local.advance("1h")
    assert {run_of(local, each).reason for each in (before, between)} == {f"cancelled by stop {stop}"}
    assert run_of(local, after).status == RunStatus.SUSPENDED


@pytest.mark.parametrize("chance", range(6))
def test_whatever_comes_twice_late_or_not_at_all_no_effect_is_lost_and_none_comes_early(
    app: Stepwell, deploy: Deploy, chance: int
) -> None:
    waiting(app, cancel_on=CancelOn("stop"))
    local = deploy(app, chaos=Chaos(duplicate=0.5, delay=0.5, lose=0.3), seed=chance)
    paid, stopped = local.send("order", {"n": 1}), local.now() + timedelta(hours=4)
    local.advance("20m")
    local.send("stop", ts=stopped)
    at, sent = local.now() + timedelta(hours=2), local.send("paid", ts=local.now() + timedelta(hours=2))
    local.advance("30m")
    local.send("paid", ts=at, id=sent)
    local.advance("80m")
    assert run_of(local, paid).status == RunStatus.SUSPENDED
    local.advance("40m")
    assert run_of(local, paid).result[0] == sent
    second = local.send("order", {"n": 2})
    local.advance("20m")
    local.send("paid", ts=at, id=sent)  # it has been, before this wait began
    local.advance("20m")
    assert run_of(local, second).status == RunStatus.SUSPENDED
    local.advance("2h")
    assert run_of(local, second).status == RunStatus.CANCELLED


@pytest.mark.parametrize("sent_first", [True, False])
@pytest.mark.parametrize("id", [None, "mine"])
@pytest.mark.parametrize("starts", [0, 1])
def test_a_wait_that_looks_back_sees_it_from_its_effect_on(
    app: Stepwell, deploy: Deploy, sent_first: bool, id: str | None, starts: int
) -> None:
    """However long before the run it was sent."""

    @app.function(on="order", id="looks")
    def looks(ctx: Context[Any]) -> Any:
        found = []
        for name, rest in (("early", "1h"), ("late", "2h")):
            ctx.step.sleep(f"before-{name}", rest)
            paid = ctx.step.wait_for_event(name, event="paid", timeout="1m", since="run_start")
            found.append(paid and paid.id)
        return found

    for number in range(starts):
        app.function(on="paid", id=f"beside-{number}")(lambda ctx: None)
    local = deploy(app)
    at = local.now() + timedelta(hours=26)
    paid = local.send("paid", ts=at, id=id) if sent_first else ""
    local.advance("1d")
    order = local.send("order")
    if not sent_first:
        paid = local.send("paid", ts=at, id=id)
    local.advance("4h")
    assert run_of(local, order, "looks").result == [None, paid]


def test_a_dated_event_is_listed_once_by_the_time_it_was_accepted(app: Stepwell, deploy: Deploy) -> None:
    waiting(app)
    local = deploy(app)
    local.send("order")
    sent = [local.send("paid", ts=local.now() + timedelta(hours=hours)) for hours in (1, 2)]
    local.run_until_idle()
    assert [event.id for event in local.client.events(name="paid")] == sent[::-1]
    local.advance("3h")
    assert [event.id for event in local.client.events(name="paid")] == sent[::-1]


def test_what_it_costs_to_take_effect_later(app: Stepwell, deploy: Deploy) -> None:
    """Far ahead: its item and its place in the index, out of which it is taken, and the list of what took effect."""
    app.function(on="go", id="fn")(lambda ctx: None)
    local = deploy(app)
    local.send("go")
    local.run_until_idle()
    for ahead, most in ((timedelta(minutes=5), 2), (timedelta(days=5), 5)):
        before = local.requests
        local.send("nobody/listens", ts=local.now() + ahead)
        local.advance(ahead + timedelta(minutes=5))
        assert (local.requests - before).write_units <= most


def expiry(local: LocalStepwell, run_id: str) -> int:
    """When the event beside a run may be deleted, epoch seconds."""
    image = local.world.table.get((f"RUN#{run_id}", "EVENT"))
    assert image is not None
    return int(image.plain()["ttl"])


@pytest.mark.parametrize("ahead", [-90, 90])
def test_without_a_time_of_its_own_an_event_has_that_of_the_queue_whatever_the_senders_clock_says(
    app: Stepwell, deploy: Deploy, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    """Dated ahead by a clock that is ahead it would be held back, and never be debounced, batched or met by a wait."""

    @app.function(on="go", id="fn", batch=Batch(2, "1h"))
    def fn(ctx: Context[Any]) -> list[str]:
        return [event.ts.isoformat() for event in ctx.events]

    local = deploy(app)
    ports, clock = local.client._ports, Ports.now
    monkeypatch.setattr(Ports, "now", lambda self: clock(self) + (ahead * 1000 if self is ports else 0))
    local.client.send([{"name": "go", "data": {"n": n}} for n in range(2)])
    monkeypatch.undo()
    local.run_until_idle()
    assert [run.result for run in local.client.runs(status="completed")] == [[local.now().isoformat()] * 2]


def late(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Let the message that tells of an effect fail so often before it is handled."""
    failed: list[str] = []

    def throttled(ports: Ports, place: str, *, again: bool) -> None:
        if len(failed) < times:
            failed.append(place)
            raise RuntimeError("throttled")
        take_effect(ports, place, again=again)

    monkeypatch.setattr("stepwell.engine.orchestrate.take_effect", throttled)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("id", [None, "mine"])
@pytest.mark.parametrize("rest", [59, 60, 61, 65])
def test_a_wait_that_looks_back_finds_it_though_its_effect_is_handled_late(
    app: Stepwell, deploy: Deploy, monkeypatch: pytest.MonkeyPatch, known: bool, id: str | None, rest: int
) -> None:
    """The message about it passes over who began to wait after its time, and that one looks back before it has come."""

    @app.function(on="order", id="looks")
    def looks(ctx: Context[Any]) -> Any:
        ctx.step.sleep("rest", f"{rest}s")
        paid = ctx.step.wait_for_event("paid", event="paid", timeout="1h", since="run_start")
        return paid and paid.id

    local = deploy(app)
    if known:
        local.send("order")
        local.advance("2h")
    late(monkeypatch, 3)
    paid = local.send("paid", ts=local.now() + timedelta(seconds=60), id=id)
    local.run_until_idle()
    order = local.send("order")
    local.advance("10m")
    assert run_of(local, order, "looks").result == paid


def test_a_wait_says_nothing_of_an_event_that_has_yet_to_take_effect(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="order", id="waits")
    def waits(ctx: Context[Any]) -> None:
        ctx.step.wait_for_event("paid", event="paid", match={"data.n": 1}, timeout="1d")

    local = deploy(app)
    order = local.send("order")
    local.run_until_idle()
    local.send("paid", {"n": 2}, ts=local.now() + timedelta(seconds=30))
    local.run_until_idle()
    run = run_of(local, order, "waits").id
    assert "near miss" not in (local.client.why_waiting(run) or "")
    local.advance("40s")
    assert "1 near miss: other n" in (local.client.why_waiting(run) or "")


def test_an_event_that_an_earlier_release_has_accepted_is_listed_when_it_takes_effect(
    app: Stepwell, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.function(on="order", id="looks")
    def looks(ctx: Context[Any]) -> Any:
        ctx.step.sleep("rest", "10m")
        return ctx.step.wait_for_event("paid", event="paid", timeout="1h", since="run_start") is not None

    local = deploy(app)
    with monkeypatch.context() as patch:
        patch.setattr("stepwell.store.events.Events.log_effect", lambda *args: None)
        local.send("paid", ts=local.now() + timedelta(seconds=60))
        order = local.send("order")
        local.run_until_idle()
    local.advance("20m")
    assert run_of(local, order, "looks").result is True


@pytest.mark.parametrize("lag", [500, 2500, 20_000])
@pytest.mark.parametrize("id", [None, "mine"])
@pytest.mark.parametrize("starts", [0, 1, 2])
def test_an_event_without_a_time_takes_effect_at_once_though_the_orchestrators_clock_is_behind(
    app: Stepwell, deploy: Deploy, monkeypatch: pytest.MonkeyPatch, lag: int, id: str | None, starts: int
) -> None:
    waiting(app)
    app.function(on="order", id="guarded", cancel_on=CancelOn("paid"))(lambda ctx: ctx.step.sleep("long", "1d"))
    for number in range(starts):
        app.function(on="paid", id=f"beside-{number}")(lambda ctx: None)
    local = deploy(app)
    order = local.send("order")
    local.advance("1m")
    clock, behind = Ports.now, [0]

    def handled(*args: Any, **options: Any) -> None:
        behind[0] = lag
        try:
            accept(*args, **options)
        finally:
            behind[0] = 0

    monkeypatch.setattr("stepwell.engine.orchestrate.accept", handled)
    monkeypatch.setattr(Ports, "now", lambda self: clock(self) - behind[0])
    paid = local.send("paid", id=id)
    local.run_until_idle()
    local.advance("1m")
    assert run_of(local, order, "waits").result[0] == paid
    assert run_of(local, order, "guarded").reason == f"cancelled by paid {paid}"
