"""Gates with time, with pausing, and with each other: what is meant for one of them must not spoil another."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from stepwell import (
    Batch,
    Concurrency,
    Context,
    Cron,
    Debounce,
    RateLimit,
    Run,
    RunStatus,
    Singleton,
    Stepwell,
    Throttle,
)
from stepwell.queue import Message
from stepwell.store.layout import INPUT_SK, RUN_SK
from stepwell.store.table import Table
from stepwell.testing import LocalStepwell
from stepwell.testing.observations import Wrote

from . import remote_steps
from .support import Deploy, occupied, redeploy, release, run_of


def runs(local: LocalStepwell, **filters: Any) -> list[Run]:
    return sorted(local.client.runs(**filters), key=lambda run: run.created_at)


class Starts:
    """A function that notes when it was begun, and for what."""

    def __init__(self) -> None:
        self.local: LocalStepwell | None = None
        self.begin: datetime | None = None
        self.seen: list[tuple[Any, float]] = []

    def __call__(self, ctx: Context[Any]) -> None:
        assert self.local is not None
        assert self.begin is not None
        what = [event.data.get("n") for event in ctx.events] if len(ctx.events) > 1 else ctx.event.data.get("n")
        self.seen.append((what, (self.local.now() - self.begin).total_seconds()))

    def at(self, local: LocalStepwell) -> LocalStepwell:
        self.local, self.begin = local, local.now()
        return local

    @property
    def times(self) -> list[float]:
        return [when for _, when in self.seen]


@pytest.fixture
def fn(app: Stepwell) -> Starts:
    return Starts()


# ---- events for later


def test_an_event_for_later_starts_at_its_time_also_where_calls_take_time(
    app: Stepwell, deploy: Deploy, fn: Starts
) -> None:
    """Between the look at the clock that finds its time has come and the one that asks the throttle, time passes."""
    app.function(on="go", id="fn", throttle=Throttle(10, "1s"))(fn)
    local = fn.at(deploy(app, latency=0.002))
    local.send("go", {"n": 1}, ts=local.now() + timedelta(minutes=5))
    local.advance("5m2s")
    assert [round(at) for at in fn.times] == [300]


def test_an_event_for_later_holds_up_nothing_that_comes_before(app: Stepwell, deploy: Deploy, fn: Starts) -> None:
    app.function(on="go", id="fn", throttle=Throttle(1, "1m"))(fn)
    local = fn.at(deploy(app))
    local.send("go", {"n": "far"}, ts=local.now() + timedelta(days=366))
    for n in range(3):
        local.send("go", {"n": n})
    local.advance("1h")
    assert fn.times == [0, 60, 120]


def test_events_for_the_same_time_pass_the_throttle_one_after_the_other(
    app: Stepwell, deploy: Deploy, fn: Starts
) -> None:
    app.function(on="go", id="fn", throttle=Throttle(1, "1m"))(fn)
    local = fn.at(deploy(app))
    for n in range(3):
        local.send("go", {"n": n}, ts=local.now() + timedelta(hours=1))
    local.advance("1h")
    waiting = runs(local, status="scheduled")
    assert len(waiting) == 2
    assert all("throttle: at most 1 start in 1m" in local.client.why_waiting(run.id) for run in waiting)
    local.advance("1h")
    assert fn.times == [3600, 3660, 3720]


@pytest.mark.parametrize("option", [{"batch": Batch(3, "10s")}, {"debounce": Debounce("10s", timeout="1m")}])
def test_an_event_for_later_is_not_collected_with_those_of_now(
    app: Stepwell, deploy: Deploy, fn: Starts, option: dict[str, Any]
) -> None:
    app.function(on="go", id="fn", **option)(fn)
    local = fn.at(deploy(app))
    local.send("go", {"n": 1})
    local.run_until_idle()
    local.send("go", {"n": "later"}, ts=local.now() + timedelta(days=1))
    local.advance("2d")
    assert fn.seen == [(1, 10), ("later", 86_400)]


# ---- pausing


def test_what_waited_for_a_paused_function_goes_through_its_throttle(app: Stepwell, deploy: Deploy, fn: Starts) -> None:
    app.function(on="go", id="fn", throttle=Throttle(1, "1m"))(fn)
    local = fn.at(deploy(app))
    local.client.pause("shop/fn")
    for n in range(4):
        local.send("go", {"n": n})
        local.run_until_idle()
        local.advance(1)
    local.advance("1h")
    local.client.resume("shop/fn")
    local.advance("1h")
    begin = 3604
    assert fn.seen == [(0, begin), (1, begin + 60), (2, begin + 120), (3, begin + 180)]


def test_turns_that_passed_during_a_pause_are_given_anew(app: Stepwell, deploy: Deploy, fn: Starts) -> None:
    app.function(on="go", id="fn", throttle=Throttle(1, "1m"))(fn)
    local = fn.at(deploy(app))
    for n in range(6):
        local.send("go", {"n": n})
        local.run_until_idle()
        local.advance(1)
    local.client.pause("shop/fn")
    local.advance("1h")
    local.client.resume("shop/fn")
    local.advance("1h")
    assert fn.seen == [(0, 0), *((n, 3606 + 60 * (n - 1)) for n in range(1, 6))]


def test_the_line_of_a_paused_function_costs_next_to_nothing(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go")
    def fn(ctx: Context[Any]) -> None: ...

    local = deploy(app)
    local.client.pause("shop/fn")
    for n in range(5):
        local.send("go", {"n": n})
    local.advance("10m")
    before = local.requests
    local.advance("10h")
    assert (local.requests - before).write_units <= 2
    assert (local.requests - before).sqs == 0


@pytest.mark.parametrize("option", [{"batch": Batch(10, "1h")}, {"debounce": Debounce("1h")}])
def test_ticks_are_not_collected(app: Stepwell, deploy: Deploy, option: dict[str, Any]) -> None:
    @app.function(on=[Cron("0 * * * *"), "go"], **option)
    def fn(ctx: Context[Any]) -> list[str]:
        return [event.name for event in ctx.events]

    local = deploy(app)
    local.advance("59m")
    local.send("go")
    local.send("go")
    local.advance("3h")
    found = sorted((run.started_at.strftime("%H:%M"), run.result) for run in runs(local) if run.started_at)
    ticks = [(f"0{hour}:00", ["stepwell/cron.tick"]) for hour in (1, 2, 3)]
    assert [each for each in found if each[1] == ["stepwell/cron.tick"]] == ticks
    assert [each[0] for each in found if each[1] != ["stepwell/cron.tick"]] == ["01:59"]


@pytest.mark.parametrize("option", [{"batch": Batch(10, "1m")}, {"debounce": Debounce("1m")}])
def test_of_a_paused_schedule_only_the_last_tick_waits_also_where_events_are_collected(
    app: Stepwell, deploy: Deploy, option: dict[str, Any]
) -> None:
    @app.function(on=Cron("0 * * * *"), **option)
    def fn(ctx: Context[Any]) -> list[str]:
        return [str(event.data["scheduled_at"])[11:16] for event in ctx.events]

    local = deploy(app)
    local.client.pause("shop/fn")
    local.advance("3h30m")
    local.client.resume("shop/fn")
    local.advance("10m")
    assert [run.result for run in runs(local) if run.result] == [["03:00"]]


def test_a_schedule_that_was_paused_for_long_is_throttled_as_if_it_had_not(
    app: Stepwell, deploy: Deploy, fn: Starts
) -> None:
    app.function(on=Cron("0 * * * *"), id="fn", throttle=Throttle(1, "1d"))(fn)
    local = fn.at(deploy(app))
    local.client.pause("shop/fn")
    local.advance("10h10m")
    local.client.resume("shop/fn")
    local.run_until_idle()
    assert fn.times == [36_600]


@pytest.mark.parametrize("option", [{"singleton": Singleton("skip")}, {"rate_limit": RateLimit(1, "1d")}])
def test_of_a_paused_schedule_the_last_tick_waits_whatever_else_there_is(
    app: Stepwell, deploy: Deploy, option: dict[str, Any]
) -> None:
    @app.function(on=Cron("0 * * * *"), **option)
    def fn(ctx: Context[Any]) -> str:
        return str(ctx.event.data["scheduled_at"])[11:16]

    local = deploy(app)
    local.client.pause("shop/fn")
    local.advance("3h30m")
    local.client.resume("shop/fn")
    local.run_until_idle()
    assert [run.result for run in runs(local) if run.status is RunStatus.COMPLETED] == ["03:00"]


def test_a_tick_replayed_for_a_paused_function_waits_beside_the_last_one(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on=Cron("0 * * * *"))
    def fn(ctx: Context[Any]) -> str:
        return str(ctx.event.data["scheduled_at"])[11:16]

    local = deploy(app)
    local.advance("1h10m")
    local.client.pause("shop/fn")
    local.advance("1h")
    (first,) = runs(local, status="completed")
    local.client.replay(first.id)
    local.advance("1h")
    local.client.resume("shop/fn")
    local.run_until_idle()
    assert [run.result for run in runs(local) if run.result] == ["01:00", "01:00", "03:00"]


def test_a_deployment_without_the_function_changes_nothing_about_its_pause(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", id="fn")
    def fn(ctx: Context[Any]) -> None: ...

    local = deploy(app)
    local.client.pause("shop/fn")
    event_id = local.send("go")
    local.run_until_idle()
    entry = app.functions.pop("fn")
    redeploy(local, app)
    local.advance("10m")
    app.functions["fn"] = entry
    redeploy(local, app)
    local.advance("10m")
    (run,) = local.client.runs_of_event(event_id)
    assert (run.status, run.started_at) == (RunStatus.SCHEDULED, None)
    local.client.resume("shop/fn")
    local.run_until_idle()
    assert local.client.run(run.id).status is RunStatus.COMPLETED


# ---- with each other


def test_a_singleton_that_is_replaced_all_the_time_starts_as_its_throttle_allows(
    app: Stepwell, deploy: Deploy, fn: Starts
) -> None:
    app.function(on="go", id="fn", singleton=Singleton("cancel"), throttle=Throttle(1, "1m"))(fn)
    local = fn.at(deploy(app))
    for n in range(60):
        local.send("go", {"n": n})
        local.run_until_idle()
        local.advance(10)
    local.advance("1h")
    assert fn.times == [60.0 * n for n in range(11)]


def test_runs_that_stood_in_line_keep_to_the_throttle(app: Stepwell, deploy: Deploy, fn: Starts) -> None:
    app.function(on="go", id="fn", concurrency=Concurrency(5), throttle=Throttle(1, "1m"))(fn)
    local = fn.at(deploy(app))
    gate = occupied(local, "shop/fn", 5)
    for n in range(5):
        local.send("go", {"n": n})
        local.run_until_idle()
        local.advance(1)
    local.advance("1h")
    release(local, gate, 5)
    local.advance("1h")
    assert fn.seen == [(n, 3605 + 60 * n) for n in range(5)]


def test_who_stands_in_line_uses_up_no_turn_at_the_throttle(app: Stepwell, deploy: Deploy) -> None:
    """A tenant whose slots are taken would otherwise hold up all others."""
    begun: list[tuple[str, float]] = []
    start = [0.0]

    @app.function(on="go", concurrency=Concurrency(1, key="event.data.tenant"), throttle=Throttle(1, "1m"))
    def fn(ctx: Context[Any]) -> None:
        begun.append((ctx.event.data["tenant"], local.now().timestamp() - start[0]))

    local = deploy(app)
    start[0] = local.now().timestamp()
    gate = occupied(local, "shop/fn", tenant="busy")
    for tenant in ["busy"] * 10 + ["quiet"]:
        local.send("go", {"tenant": tenant})
        local.run_until_idle()
    local.advance("1m")
    assert begun == [("quiet", 0)]
    release(local, gate)
    local.advance("20m")
    assert begun[1:] == [("busy", 60.0 * n) for n in range(1, 11)]


@pytest.mark.parametrize("others", [0, 1])
def test_a_singleton_that_makes_way_hands_its_slot_on(app: Stepwell, deploy: Deploy, others: int) -> None:
    """To the run that takes its place, or to who stood in line before that."""

    @app.function(on="go", singleton=Singleton("cancel", key="event.data.doc"), concurrency=Concurrency(1))
    def fn(ctx: Context[Any]) -> int:
        if ctx.event.data["n"] == 0:
            ctx.step.map(remote_steps.works_in_an_hour, [1], spread=True)
        return int(ctx.event.data["n"])

    local = deploy(app)
    first = local.send("go", {"doc": "a", "n": 0})
    local.run_until_idle()
    rest = [local.send("go", {"doc": f"b{n}", "n": 7}) for n in range(others)]
    local.run_until_idle()
    assert [run_of(local, each).status for each in rest] == [RunStatus.SCHEDULED] * others
    last = local.send("go", {"doc": "a", "n": 3})
    local.run_until_idle()
    assert run_of(local, first).status is RunStatus.CANCELLED
    assert [run_of(local, each).result for each in (*rest, last)] == [7] * others + [3]


def test_there_is_always_one_of_a_singleton_that_is_replaced(app: Stepwell, deploy: Deploy) -> None:
    """Also where the newcomer loses its turn at another gate meanwhile: the one ends by the write that makes the other."""

    @app.function(on="go", singleton=Singleton("cancel"), rate_limit=RateLimit(4, "1h"))
    def fn(ctx: Context[Any]) -> None:
        ctx.step.sleep("rest", "1h")

    local = deploy(app)
    local.client.send([{"name": "go", "data": {"n": n}} for n in range(40)])
    local.run_until_idle()
    assert Counter(run.status for run in local.client.runs()) == {
        RunStatus.SKIPPED: 36,
        RunStatus.CANCELLED: 3,
        RunStatus.SUSPENDED: 1,
    }
    live: set[str | None] = set()
    for write in local.world.observations.of(Wrote):
        if write.sk != RUN_SK or write.after is None:
            continue
        live.add(write.run_id)
        if RunStatus(write.after.attributes["status"]["S"]).is_terminal:
            live.remove(write.run_id)
        assert live, "there was a moment without any"


def test_steps_in_workers_of_their_own_count_with_their_run(app: Stepwell, deploy: Deploy) -> None:
    """A limit that ended where a step names another class of worker would not limit the most expensive work there is."""

    @app.function(on="go", concurrency=Concurrency(2))
    def fn(ctx: Context[Any]) -> list[Any]:
        return ctx.step.map(remote_steps.grow_number, [1, 2, 3], spread=True)

    local = deploy(app)
    for n in range(8):
        local.send("go", {"n": n})
    local.run_until_idle()
    assert [run.result for run in runs(local, function="shop/fn")] == [[2, 3, 4]] * 8

    def parent(item: dict[str, Any]) -> str | None:
        return item["parent"]["run"] if item.get("parent") else None

    at_work: Counter[str] = Counter()
    most = 0
    for write in local.world.observations.of(Wrote):
        whose = parent(write.after.plain()) if write.sk == RUN_SK and write.after else None
        if whose is not None and write.after is not None:
            at_work[whose] += write.after.attributes["status"]["S"] == "running"
            at_work[whose] -= write.after.attributes["status"]["S"] == "completed"
            most = max(most, sum(count > 0 for count in at_work.values()))
    assert most == 2


def test_of_functions_that_share_a_limit_each_goes_by_its_own_number(app: Stepwell, deploy: Deploy) -> None:
    """One that may only run alone waits for that, and nobody else waits for it."""
    order: list[str] = []

    @app.function(on="small", concurrency=Concurrency(1, scope="app"))
    def small(ctx: Context[Any]) -> None:
        order.append("small")

    @app.function(on="big", concurrency=Concurrency(10, scope="app"))
    def big(ctx: Context[Any]) -> None:
        order.append("big")

    local = deploy(app)
    gate = occupied(local, "shop/big", 2)
    local.send("small")
    local.run_until_idle()
    for _ in range(5):
        local.send("big")
    local.run_until_idle()
    assert order == ["big"] * 5
    release(local, gate, 2)
    local.run_until_idle()
    assert order == ["big"] * 5 + ["small"]


def test_a_run_whose_event_is_gone_holds_up_nobody_behind_it(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", throttle=Throttle(100, "1s"))
    def fn(ctx: Context[Any]) -> None: ...

    local = deploy(app)
    local.client.pause("shop/fn")
    first = local.send("go", {"text": "".join(map(str, range(3000)))})
    local.advance("1s")
    rest = [local.send("go", {"n": n}) for n in range(3)]
    local.advance("1s")
    run = run_of(local, first)
    local._backstage._ports.store.table.delete(f"RUN#{run.id}", INPUT_SK)
    local.client.resume("shop/fn")
    local.advance("1m")
    assert [run_of(local, each).status for each in rest] == [RunStatus.COMPLETED] * 3
    lost = run_of(local, first)
    assert (lost.status, lost.error and lost.error.message) == (
        RunStatus.FAILED,
        f"The event of run {run.id} is gone.",
    )


def test_a_batch_that_is_full_while_it_stands_in_line_costs_no_more_than_one_that_is_not(
    app: Stepwell, deploy: Deploy
) -> None:
    @app.function(on="go", batch=Batch(3, "1m"), concurrency=Concurrency(1))
    def fn(ctx: Context[Any]) -> int:
        return len(ctx.events)

    local = deploy(app)
    gate = occupied(local, "shop/fn")

    def an_hour() -> Any:
        before = local.requests
        local.advance("1h")
        return (local.requests - before).write_units

    first = local.send("go", {"n": 0})
    local.send("go", {"n": 1})
    local.advance("2m")
    not_full = an_hour()
    local.send("go", {"n": 2})
    local.run_until_idle()
    assert an_hour() == not_full
    release(local, gate)
    local.run_until_idle()
    assert run_of(local, first).result == 3


def test_an_older_event_that_comes_late_does_not_cancel_the_newer_run(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", singleton=Singleton("cancel"))
    def fn(ctx: Context[Any]) -> int:
        ctx.step.sleep("let it settle", "1m")
        return int(ctx.event.data["version"])

    local, old, new = deploy(app), "the-older", "the-newer"
    local.client._ports.queue.send(Message({"name": "go", "data": {"version": 1}, "id": old}, delay=5))
    local.world.clock.advance(0.5)
    local.send("go", {"version": 2}, id=new)
    local.run_until_idle()
    local.advance("5m")
    found = {run.event.id: run for run in local.client.runs()}
    assert found[new].result == 2
    assert (found[old].status, "is of a later event" in str(found[old].reason)) == (RunStatus.SKIPPED, True)


def test_a_debounced_run_that_stands_in_line_hands_its_place_on(app: Stepwell, deploy: Deploy) -> None:
    order: list[str] = []

    @app.function(on="go", debounce=Debounce("1s", key="event.data.doc"), concurrency=Concurrency(1))
    def fn(ctx: Context[Any]) -> None:
        order.append(f"{ctx.event.data['doc']} {ctx.event.data['n']}")

    local = deploy(app)
    local.client.pause("shop/fn")
    for doc, n in [("busy", 1), ("other", 1), ("busy", 2), ("third", 1), ("busy", 3)]:
        local.send("go", {"doc": doc, "n": n})
        local.run_until_idle()
        local.advance("10s")
    local.client.resume("shop/fn")
    local.advance("1m")
    assert order == ["busy 3", "other 1", "third 1"]


def test_a_key_of_any_length_takes_no_more_than_a_line_of_the_reason(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", debounce=Debounce("1m", key="event.data.text"))
    def fn(ctx: Context[Any]) -> None: ...

    local = deploy(app)
    event_id = local.send("go", {"text": "x" * 500_000})
    local.run_until_idle()
    run = local.run(event_id)
    assert run is not None
    assert len(run.reason or "") < 300
    local.advance("2m")
    assert local.client.run(run.id).status is RunStatus.COMPLETED
    assert local.dead_letters() == []


def test_a_gate_that_is_always_in_use_keeps_the_sweeper_from_nothing_else(
    app: Stepwell, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.function(on="go", concurrency=Concurrency(1))
    def gated(ctx: Context[Any]) -> None: ...

    @app.function(on="sleep")
    def plain(ctx: Context[Any]) -> None:
        ctx.step.sleep("rest", "1h")

    local = deploy(app)
    gate = occupied(local, "shop/gated")
    local.send("go")
    for n in range(16):
        local.send("sleep", {"n": n})
    local.run_until_idle()
    update, refused = Table.update, []

    def contended(table: Table, pk: str, sk: str, **more: Any) -> Any:
        if pk == gate:
            refused.append(pk)
            answer: Any = {"Error": {"Code": "TransactionConflictException"}}
            raise ClientError(answer, "UpdateItem")
        return update(table, pk, sk, **more)

    monkeypatch.setattr(Table, "update", contended)
    local.advance("4h")
    assert len(refused) > 100
    assert {run.status for run in local.client.runs(function="shop/plain")} == {RunStatus.COMPLETED}
    monkeypatch.undo()
    release(local, gate)
    local.run_until_idle()
    assert {run.status for run in local.client.runs(function="shop/gated")} == {RunStatus.COMPLETED}
