"""Slots, buckets, collectors and pausing, through the real handlers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from stepwell import (
    AsyncContext,
    Batch,
    CancelOn,
    Concurrency,
    Context,
    Cron,
    Debounce,
    EventModel,
    RateLimit,
    Run,
    RunStatus,
    Singleton,
    Stepwell,
    Throttle,
    Timeouts,
)
from stepwell.engine.registration import register
from stepwell.errors import InvalidOption
from stepwell.queue import Message
from stepwell.testing import LocalStepwell
from stepwell.testing.invariants import check, concurrency_within

from .support import Deploy, occupied, release

CANCELLED, COMPLETED, SCHEDULED, SKIPPED = (
    RunStatus.CANCELLED,
    RunStatus.COMPLETED,
    RunStatus.SCHEDULED,
    RunStatus.SKIPPED,
)


def send(local: LocalStepwell, *orders: Any, apart: float = 1, **data: Any) -> list[str]:
    """Events in a known order, one handled after the other."""
    ids = []
    for order in orders:
        ids.append(local.send("go", {"order": order, **data}))
        local.run_until_idle()
        local.advance(apart)
    return ids


def runs(local: LocalStepwell, **filters: Any) -> list[Run]:
    return sorted(local.client.runs(**filters), key=lambda run: run.created_at)


def statuses(local: LocalStepwell) -> Counter[RunStatus]:
    return Counter(run.status for run in local.client.runs())


# ---- slots


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_runs_than_the_limit_execute_at_once(app: Stepwell, deploy: Deploy, limit: int) -> None:
    @app.function(on="go", concurrency=Concurrency(limit))
    def fn(ctx: Context[Any]) -> int:
        for _ in range(3):
            ctx.step.run("work", lambda: 1)
        return 1

    local = deploy(app)
    for n in range(10):
        local.send("go", {"order": n})
    local.run_until_idle()
    assert statuses(local) == {COMPLETED: 10}
    check(local.world.observations, [concurrency_within(limit)])
    if limit > 1:
        with pytest.raises(AssertionError):  # the limit was used: one less would have been passed
            check(local.world.observations, [concurrency_within(limit - 1)])


def test_a_limit_of_a_thousand_is_one_of_a_thousand(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", concurrency=Concurrency(1000))
    def fn(ctx: Context[Any]) -> int:
        return ctx.step.run("work", lambda: 1)

    local = deploy(app)
    gate = occupied(local, "shop/fn", 999)
    send(local, 1)
    assert statuses(local) == {COMPLETED: 1}
    occupied(local, "shop/fn")
    send(local, 2)
    assert statuses(local) == {COMPLETED: 1, SCHEDULED: 1}
    release(local, gate, 1000)
    local.run_until_idle()
    assert statuses(local) == {COMPLETED: 2}


def test_a_slot_costs_what_the_guide_says(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", concurrency=Concurrency(1))
    def gated(ctx: Context[Any]) -> int:
        return ctx.step.run("work", lambda: 1)

    @app.function(on="free")
    def free(ctx: Context[Any]) -> int:
        return ctx.step.run("work", lambda: 1)

    local = deploy(app)

    def cost(name: str, count: int) -> tuple[float, float, int]:
        before = local.requests
        local.client.send([{"name": name, "data": {"order": n}} for n in range(count)])
        local.run_until_idle()
        spent = local.requests - before
        return spent.write_units, spent.read_units, spent.sqs

    for name in ("go", "free"):
        cost(name, 1)  # the first one reads the manifest as well
    writes, reads, sqs = cost("free", 1)
    assert cost("go", 1) == (writes + 6, reads + 3, sqs)
    assert cost("go", 2) == (2 * (writes + 6) + 11, 2 * (reads + 3) + 2, 6), "one of the two had to wait"


def test_each_value_of_the_key_has_slots_of_its_own(app: Stepwell, deploy: Deploy) -> None:
    order: list[str] = []

    @app.function(on="go", concurrency=Concurrency(1, key="event.data.tenant"))
    def fn(ctx: Context[Any]) -> None:
        ctx.step.run("work", lambda: order.append(ctx.event.data["tenant"]))

    local = deploy(app)
    for n in range(6):
        local.send("go", {"tenant": "abc"[n % 3]})
    local.run_until_idle()
    assert sorted(order) == ["a", "a", "b", "b", "c", "c"]
    events = {run.id: run.event.data["tenant"] for run in local.client.runs()}
    by_tenant = concurrency_within(1, lambda item: events.get(f"{item['pk'].removeprefix('RUN#')}"))
    check(local.world.observations, [by_tenant])


def test_a_run_that_sleeps_holds_no_slot(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", concurrency=Concurrency(1))
    def fn(ctx: Context[Any]) -> None:
        ctx.step.sleep("rest", "1h")

    local = deploy(app)
    send(local, 1, 2, 3)
    assert statuses(local) == {RunStatus.SUSPENDED: 3}
    local.advance("2h")
    assert statuses(local) == {COMPLETED: 3}


def test_the_first_in_line_goes_first_and_priority_moves_ahead(app: Stepwell, deploy: Deploy) -> None:
    order: list[Any] = []

    @app.function(on="go", concurrency=Concurrency(1), priority="event.data.urgent ? 120 : 0")
    def fn(ctx: Context[Any]) -> None:
        ctx.step.run("work", lambda: order.append(ctx.event.data["order"]))
        if ctx.event.data["order"] == 0:
            ctx.step.poll("until released", lambda: True, until=bool)

    local = deploy(app)
    local.client.pause("shop/fn")
    send(local, 1, 2, urgent=False)
    send(local, 3, urgent=True)
    send(local, 4, urgent=False)
    local.client.resume("shop/fn")
    local.run_until_idle()
    assert order == [3, 1, 2, 4]


def test_a_limit_of_the_app_is_shared_by_its_functions(app: Stepwell, deploy: Deploy) -> None:
    limit = Concurrency(2, scope="app")

    @app.function(on="go", concurrency=limit)
    def one(ctx: Context[Any]) -> None:
        ctx.step.run("work", lambda: None)

    @app.function(on="go", concurrency=limit)
    def two(ctx: Context[Any]) -> None:
        ctx.step.run("work", lambda: None)

    local = deploy(app)
    for n in range(5):
        local.send("go", {"order": n})
    local.run_until_idle()
    assert statuses(local) == {COMPLETED: 10}
    check(local.world.observations, [concurrency_within(2, lambda item: "app")])


def test_the_slot_of_a_worker_that_died_is_not_lost(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", concurrency=Concurrency(1))
    def fn(ctx: Context[Any]) -> int:
        return ctx.step.run("work", lambda: 1)

    local = deploy(app)
    local.crash_after("work", times=2)
    for n in range(3):
        local.send("go", {"order": n})
    local.advance("30m")
    assert statuses(local) == {COMPLETED: 3}
    check(local.world.observations, [concurrency_within(1)])


def test_invoked_runs_wait_for_their_slots_too(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="never", concurrency=Concurrency(1))
    def child(ctx: Context[Any]) -> int:
        return ctx.step.run("work", lambda: ctx.event.data["n"])

    @app.function(on="go")
    async def fn(ctx: AsyncContext[Any]) -> int:
        return sum(await asyncio.gather(*(ctx.step.invoke(child, {"n": n}, id=f"child-{n}") for n in range(3))))

    local = deploy(app)
    gate = occupied(local, "shop/child")
    event = local.send("go", {})
    local.run_until_idle()
    assert [run.status for run in runs(local, function="shop/child")] == [SCHEDULED] * 3
    release(local, gate)
    local.run_until_idle()
    run = local.run(event, "fn")
    assert run is not None
    assert run.result == 3
    check(local.world.observations, [concurrency_within(1, lambda item: item["function"] == "child" or None)])


def test_a_limit_that_was_raised_by_a_deployment_holds_for_those_who_wait(app: Stepwell, deploy: Deploy) -> None:
    def declare(limit: int) -> Stepwell:
        made = Stepwell("shop")

        @made.function(on="go", id="fn", concurrency=Concurrency(limit))
        def fn(ctx: Context[Any]) -> None:
            ctx.step.run("work", lambda: None)

        return made

    local = deploy(declare(1))
    gate = occupied(local, "shop/fn")
    send(local, 1, 2, 3)
    assert statuses(local) == {SCHEDULED: 3}
    ports = local._backstage._ports
    apps, _ = ports.store.apps.current()
    register(ports, declare(3).manifest(), apps["shop"].workers)
    local.advance("1m")
    assert statuses(local) == {COMPLETED: 3}, "beside the slot that is still taken"
    check(local.world.observations, [concurrency_within(2)])
    release(local, gate)


def test_why_a_run_stands_in_line_is_told(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", concurrency=Concurrency(1, key="event.data.tenant"))
    def fn(ctx: Context[Any]) -> None:
        ctx.step.run("work", lambda: None)

    local = deploy(app)
    local.client.pause("shop/fn")
    send(local, 1, 2, tenant="acme")
    told = [local.client.why_waiting(run.id) for run in runs(local)]
    assert told == [
        "waiting until its function is resumed, which is paused; first in line",
        "waiting until its function is resumed, which is paused; 1 in line before it",
    ]


# ---- buckets


def test_a_throttle_spreads_starts_evenly_and_in_order(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", throttle=Throttle(2, "1m"))
    def fn(ctx: Context[Any]) -> None:
        return None

    local = deploy(app)
    begin = local.now()
    for n in range(5):
        local.send("go", {"order": n})
    local.run_until_idle()
    waiting = runs(local, status="scheduled")
    assert len(waiting) == 4
    assert "throttle: at most 2 start in" in local.client.why_waiting(waiting[0].id)
    local.advance("10m")
    started = sorted((run.started_at - begin).total_seconds() for run in runs(local) if run.started_at)
    assert started == [0, 30, 60, 90, 120]
    assert statuses(local) == {COMPLETED: 5}


def test_a_burst_lets_some_start_at_once_after_a_pause(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", throttle=Throttle(1, "1m", burst=3))
    def fn(ctx: Context[Any]) -> None:
        return None

    local = deploy(app)
    begin = local.now()
    for n in range(5):
        local.send("go", {"order": n})
    local.advance("10m")
    started = sorted((run.started_at - begin).total_seconds() for run in runs(local) if run.started_at)
    assert started == [0, 0, 0, 60, 120]


def test_a_rate_limit_skips_what_is_too_much_and_says_so(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", rate_limit=RateLimit(2, "1h", key="event.data.tenant"))
    def fn(ctx: Context[Any]) -> None:
        return None

    local = deploy(app)
    send(local, 1, 2, 3, tenant="a")
    send(local, 4, tenant="b")
    local.advance("1h")
    send(local, 5, tenant="a")
    found = {run.event.data["order"]: run for run in runs(local)}
    assert {order: run.status for order, run in found.items()} == {
        1: COMPLETED,
        2: COMPLETED,
        3: SKIPPED,
        4: COMPLETED,
        5: COMPLETED,
    }
    assert found[3].reason == 'rate limit: at most 2 start in 1h for "a"'


def test_an_idempotency_key_runs_once_in_a_day(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", idempotency="event.data.order")
    def fn(ctx: Context[Any]) -> None:
        return None

    local = deploy(app)
    first, again, other = send(local, 1, 1, 2)
    local.advance("23h")
    [soon] = send(local, 1)
    local.advance("1h")
    [later] = send(local, 1)
    states = [run.status for event in (first, again, other, soon, later) if (run := local.run(event))]
    assert states == [COMPLETED, SKIPPED, COMPLETED, SKIPPED, COMPLETED]


@pytest.mark.parametrize(("mode", "expected"), [("skip", [COMPLETED, SKIPPED]), ("cancel", [CANCELLED, COMPLETED])])
def test_a_singleton_has_one_live_run(app: Stepwell, deploy: Deploy, mode: Any, expected: list[RunStatus]) -> None:
    @app.function(on="go", singleton=Singleton(mode))
    def fn(ctx: Context[Any]) -> None:
        ctx.step.sleep("rest", "1h")

    local = deploy(app)
    send(local, 1, 2)
    local.advance("2h")
    assert [run.status for run in runs(local)] == expected
    send(local, 3)
    local.advance("2h")
    assert runs(local)[-1].status is COMPLETED


# ---- collectors


def test_of_debounced_events_the_last_one_runs_when_no_more_come(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", debounce=Debounce("10s", key="event.data.user"))
    def fn(ctx: Context[Any]) -> Any:
        return ctx.event.data["order"]

    local = deploy(app)
    ids = send(local, 1, 2, 3, apart=5, user="u")
    [alone] = send(local, 9, user="v")
    assert local.client.why_waiting(runs(local, status="scheduled")[0].id).startswith("debounce: ")
    local.advance("1m")
    last = local.run(ids[2])
    assert last is not None
    assert (last.status, last.result) == (COMPLETED, 3)
    assert [run.status for event in ids[:2] if (run := local.run(event))] == [SKIPPED, SKIPPED]
    other = local.run(alone)
    assert other is not None
    assert other.result == 9


def test_a_debounce_is_over_after_its_timeout_at_the_latest(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", debounce=Debounce("10s", timeout="25s"))
    def fn(ctx: Context[Any]) -> Any:
        return ctx.event.data["order"]

    local = deploy(app)
    begin = local.now()
    send(local, *range(8), apart=5)
    local.advance("1m")
    done = [run for run in runs(local) if run.status is COMPLETED]
    assert [(run.started_at - begin).total_seconds() for run in done if run.started_at] == [25, 45]
    assert [run.result for run in done] == [4, 7]


@pytest.mark.parametrize("apart", [0.2, 0.5, 0.9])
def test_events_that_come_ever_so_fast_do_not_keep_a_debounce_from_its_timeout(
    app: Stepwell, deploy: Deploy, apart: float
) -> None:
    @app.function(on="go", debounce=Debounce("5s", timeout="20s"))
    def fn(ctx: Context[Any]) -> Any:
        return ctx.event.data["order"]

    local = deploy(app)
    begin = local.now()
    send(local, *range(int(65 / apart)), apart=apart)
    started = [(run.started_at - begin).total_seconds() for run in runs(local, status="completed") if run.started_at]
    assert len(started) == 3
    assert all(20 * n <= at <= 20 * n + 2 * n for n, at in enumerate(sorted(started), start=1))
    local.advance("1m")
    assert runs(local, status="completed")[-1].result == int(65 / apart) - 1


@pytest.mark.parametrize("delay", [5, 60])
def test_an_older_event_that_comes_late_does_not_win(app: Stepwell, deploy: Deploy, delay: int) -> None:
    """Whether the newer one waits yet or has started."""

    @app.function(on="go", debounce=Debounce("10s"))
    def fn(ctx: Context[Any]) -> Any:
        return ctx.event.data["order"]

    local = deploy(app)
    local.client._ports.queue.send(Message({"name": "go", "data": {"order": "older"}}, delay=delay))
    local.advance("2s")
    send(local, "newer")
    local.advance("2m")
    assert {run.event.data["order"]: run.status for run in runs(local)} == {"newer": COMPLETED, "older": SKIPPED}


class Order(EventModel, name="go"):
    order: int


def test_a_batch_runs_when_it_is_full_or_its_time_is_up(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on=Order, batch=Batch(3, "1m"))
    def fn(ctx: Context[Order]) -> list[int]:
        return [event.data.order for event in ctx.events]

    local = deploy(app)
    ids = send(local, 1, 2, 3, 4, 5)
    first = local.run(ids[1])
    assert first is not None
    assert (first.status, first.result) == (COMPLETED, [1, 2, 3])
    local.advance("1m")
    last = local.run(ids[4])
    assert last is not None
    assert (last.status, last.result) == (COMPLETED, [4, 5])
    assert len(local.client.runs_of_event(ids[0])) == 1


def test_batches_are_kept_apart_by_key_and_leave_out_what_they_are_not_for(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", batch=Batch(2, "1m", key="event.data.user", where="event.data.order > 0"))
    def fn(ctx: Context[Any]) -> Any:
        return [event.data["order"] for event in ctx.events]

    local = deploy(app)
    send(local, 1, user="u")
    send(local, 2, user="v")
    send(local, 0, user="u")
    send(local, 3, user="u")
    assert sorted(run.result for run in runs(local, status="completed")) == [[0], [1, 3]]
    local.advance("2m")
    assert sorted(run.result for run in runs(local, status="completed")) == [[0], [1, 3], [2]]


def test_large_events_are_batched_as_well(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", batch=Batch(2, "1m"))
    def fn(ctx: Context[Any]) -> Any:
        return [len(event.data["text"]) for event in ctx.events]

    local = deploy(app)
    for size in (10, 500_000):
        local.send("go", {"text": "x" * size})
    local.run_until_idle()
    assert [run.result for run in runs(local, status="completed")] == [[10, 500_000]]


def test_a_replayed_or_forked_batch_takes_all_its_events_along(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", batch=Batch(3, "1m"))
    def fn(ctx: Context[Any]) -> Any:
        ctx.step.run("look", lambda: None)
        return ctx.step.run("take", lambda: [event.data["order"] for event in ctx.events])

    local = deploy(app)
    [first, *_] = send(local, 1, 2, 3)
    run = local.run(first)
    assert run is not None
    replayed, forked = local.client.replay(run.id), local.client.fork(run.id, "take")
    local.run_until_idle()
    assert local.client.run(replayed).result == [1, 2, 3]
    assert local.client.run(forked).result == [1, 2, 3]


# ---- pausing


def test_who_waits_in_line_may_run_out_of_time_or_be_called_off(app: Stepwell, deploy: Deploy) -> None:
    @app.function(
        on="go",
        concurrency=Concurrency(1),
        timeouts=Timeouts(start="10m"),
        cancel_on=CancelOn("stop", match={"data.order": "event.data.order"}),
    )
    def fn(ctx: Context[Any]) -> None:
        return None

    local = deploy(app)
    local.client.pause("shop/fn")
    send(local, 1, 2, apart=0)
    begin = local.now()
    local.advance("5m")
    local.send("stop", {"order": 2})
    local.advance("10m")
    one, two = sorted(runs(local), key=lambda run: run.event.data["order"])
    assert (one.status, one.reason) == (CANCELLED, "not started within 10m")
    assert one.ended_at is not None
    assert (one.ended_at - begin).total_seconds() <= 601
    assert (two.status, (two.reason or "")[:17]) == (CANCELLED, "cancelled by stop")
    local.client.resume("shop/fn")
    [late] = send(local, 3)
    run = local.run(late)
    assert run is not None
    assert run.status is COMPLETED, "those that were cancelled hold nobody up"


def test_a_paused_function_starts_nothing_and_loses_nothing(app: Stepwell, deploy: Deploy) -> None:
    order: list[Any] = []

    @app.function(on="go")
    def fn(ctx: Context[Any]) -> None:
        ctx.step.sleep("rest", "1h")
        order.append(ctx.event.data["order"])

    local = deploy(app)
    send(local, "begun")
    local.client.pause("shop/fn")
    send(local, 1, 2)
    local.client.invoke("shop/fn", {"order": "invoked"})
    local.advance("5h")
    assert order == ["begun"]
    assert statuses(local) == {COMPLETED: 1, SCHEDULED: 3}
    local.client.resume("shop/fn")
    local.advance("2h")
    assert sorted(map(str, order)) == ["1", "2", "begun", "invoked"]


def test_what_waits_for_a_paused_function_can_be_cancelled(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go")
    def fn(ctx: Context[Any]) -> None:
        return None

    local = deploy(app)
    local.client.pause("shop/fn")
    first, _ = send(local, 1, 2)
    run = local.run(first)
    assert run is not None
    assert local.client.cancel(run.id)
    local.client.resume("shop/fn")
    local.run_until_idle()
    assert statuses(local) == {CANCELLED: 1, COMPLETED: 1}


def test_of_a_paused_schedule_only_the_last_tick_runs(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on=Cron("0 * * * *"))
    def fn(ctx: Context[Any]) -> str:
        return str(ctx.event.data["scheduled_at"])[11:16]

    local = deploy(app)
    local.client.pause("shop/fn")
    local.advance("3h30m")
    assert statuses(local) == {SKIPPED: 2, SCHEDULED: 1}
    local.client.resume("shop/fn")
    local.run_until_idle()
    assert [run.result for run in runs(local, status="completed")] == ["03:00"]
    local.advance("1h")
    assert sorted(run.result for run in runs(local, status="completed")) == ["03:00", "04:00"]


def test_of_the_ticks_of_a_paused_schedule_the_last_one_waits_in_whatever_order_they_come(
    app: Stepwell, deploy: Deploy
) -> None:
    @app.function(on=Cron("0 * * * *"))
    def fn(ctx: Context[Any]) -> str:
        return str(ctx.event.data["scheduled_at"])[11:16]

    local = deploy(app, start=datetime(2026, 1, 1, 3, 30, tzinfo=UTC))
    local.client.pause("shop/fn")
    for hour in (2, 3, 1, 2):
        at = round(datetime(2026, 1, 1, hour, tzinfo=UTC).timestamp() * 1000)
        tick = {"stepwell": "tick", "app": "shop", "function": "fn", "at": at, "cron": "0 * * * *", "tz": "UTC"}
        local.client._ports.queue.send(Message(tick))
        local.run_until_idle()
    assert statuses(local) == {SKIPPED: 2, SCHEDULED: 1}
    local.client.resume("shop/fn")
    local.run_until_idle()
    assert [run.result for run in runs(local, status="completed")] == ["03:00"]


# ---- what makes no sense


def refusals() -> Iterator[Any]:
    debounce, batch = Debounce("1m"), Batch(2, "1m")
    yield pytest.param({"debounce": debounce, "batch": batch}, "cannot be combined", id="debounce and batch")
    yield pytest.param({"batch": batch, "rate_limit": RateLimit(1, "1m")}, "cannot be combined", id="batch and rate")
    yield pytest.param({"debounce": debounce, "singleton": Singleton("skip")}, "cannot be combined", id="debounce, one")
    yield pytest.param({"priority": "1"}, "needs concurrency=", id="priority alone")
    yield pytest.param({"concurrency": [Concurrency(1), Concurrency(2)]}, "same scope and key", id="twice the same")
    yield pytest.param({"concurrency": [Concurrency(1, key=f"{n}") for n in range(3)]}, "at most 2", id="three limits")
    yield pytest.param({"concurrency": 5}, "Concurrency", id="a number")
    yield pytest.param({"idempotency": "event.data."}, "CEL", id="no expression")
    slow, other = Timeouts(start="1m"), CancelOn("stop", match={"data.order": "event.data.order"})
    yield pytest.param({"batch": batch, "timeouts": slow}, "would be cancelled", id="batch and a short start")
    yield pytest.param({"batch": batch, "cancel_on": other}, "them all for the first", id="batch and one's cancel")
    where = CancelOn("stop", where="async.data.n == event.data.n")
    yield pytest.param({"batch": batch, "cancel_on": where}, "them all for the first", id="batch and one's condition")
    own = CancelOn("go", match={"data.order": "event.data.order"})
    keyed = Batch(2, "1m", key="event.data.order")
    yield pytest.param({"batch": keyed, "cancel_on": own}, "starts the function", id="batch and its own trigger")
    yield pytest.param({"debounce": debounce, "timeouts": slow}, "every run would be cancelled", id="debounce, start")
    yield pytest.param({"debounce": Debounce("1m", timeout="10s")}, "shorter than its period", id="short timeout")


@pytest.mark.parametrize(("options", "why"), list(refusals()))
def test_options_that_make_no_sense_are_refused_when_declared(app: Stepwell, options: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidOption, match=why):
        app.function(on="go", **options)(lambda ctx: None)


def test_an_event_below_a_trigger_of_a_batch_cannot_cancel_it_either(app: Stepwell) -> None:
    with pytest.raises(InvalidOption, match="starts the function"):
        app.function(on="order/*", batch=Batch(2, "1m"), cancel_on=CancelOn("order/cancelled"))(lambda ctx: None)


def test_a_debounced_run_may_have_a_limit_for_starting_that_it_can_meet(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", debounce=Debounce("1m"), timeouts=Timeouts(start="2m"))
    def fn(ctx: Context[Any]) -> None: ...

    local = deploy(app)
    for _ in range(5):
        send(local, 1, apart=30)
    local.advance("2m")
    assert statuses(local) == {SKIPPED: 4, COMPLETED: 1}


def test_a_batch_may_be_cancelled_as_a_whole(app: Stepwell) -> None:
    rules = [CancelOn("stop", match={"data.order": "event.data.order"}), CancelOn("halt", where="async.data.all")]
    batch = Batch(2, "1m", key="event.data.order")
    app.function(on="go", id="fn", batch=batch, cancel_on=rules, timeouts=Timeouts(start="2m"))(lambda ctx: None)
