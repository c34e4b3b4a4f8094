"""Gates with time, with pausing, and with each other: what is meant for one of them must not spoil another."""

from __future__ import annotations

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
from stepwell.ids import derived_ulid, event_id_of
from stepwell.store.layout import gate_pk
from stepwell.store.table import Table
from stepwell.testing import LocalStepwell

from .support import Deploy, redeploy


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


def test_an_older_event_that_comes_late_does_not_cancel_the_newer_run(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", singleton=Singleton("cancel"))
    def fn(ctx: Context[Any]) -> int:
        ctx.step.sleep("let it settle", "1m")
        return int(ctx.event.data["version"])

    local = deploy(app)
    now = round(local.now().timestamp() * 1000)
    old, new = (event_id_of(derived_ulid(now + ahead, "an event", str(ahead))) for ahead in (-5000, 0))
    local.send("go", {"version": 2}, id=new)
    local.run_until_idle()
    local.send("go", {"version": 1}, id=old)
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
    @app.function(on="go")
    def gated(ctx: Context[Any]) -> None: ...

    @app.function(on="sleep")
    def plain(ctx: Context[Any]) -> None:
        ctx.step.sleep("rest", "1h")

    local = deploy(app)
    local.client.pause("shop/gated")
    local.send("go")
    for n in range(16):
        local.send("sleep", {"n": n})
    local.run_until_idle()
    update, refused = Table.update, []

    def contended(table: Table, pk: str, sk: str, **more: Any) -> Any:
        if pk == gate_pk("shop#gated#pause#"):
            refused.append(pk)
            answer: Any = {"Error": {"Code": "TransactionConflictException"}}
            raise ClientError(answer, "UpdateItem")
        return update(table, pk, sk, **more)

    monkeypatch.setattr(Table, "update", contended)
    local.advance("4h")
    assert len(refused) > 100
    assert {run.status for run in local.client.runs(function="shop/plain")} == {RunStatus.COMPLETED}
