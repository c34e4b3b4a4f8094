"""Nothing of a live run expires, however long it waits, and for whatever: DynamoDB deletes the rest at its ttl."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from stepwell import Batch, CancelOn, Concurrency, Context, RunStatus, Singleton, Stepwell, Throttle, Timeouts
from stepwell.store.layout import GATE_SK, INPUT_SK, MEMBER_PREFIX
from stepwell.testing import LocalStepwell

from .support import Deploy, run_of

BULKY = os.urandom(3000).hex()
"""Too much for the run's own item, whatever compresses it."""
DAY = 86_400


def later(local: LocalStepwell, days: int) -> None:
    for _ in range(days):
        local.advance("1d")


def items(local: LocalStepwell, sk: str) -> int:
    return sum(1 for (_, each), _ in local.world.table.items() if each.startswith(sk))


def test_the_event_of_a_run_outlasts_a_pause_of_months(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", tags={"n": "event.data.n"}, cancel_on=CancelOn("stop"))
    def fn(ctx: Context[Any]) -> int:
        return len(ctx.event.data["text"])

    local = deploy(app)
    local.client.pause("shop/fn")
    event = local.send("go", {"n": 1, "text": BULKY})
    later(local, 95)
    assert run_of(local, event).status is RunStatus.SCHEDULED
    local.client.resume("shop/fn")
    local.run_until_idle()
    assert run_of(local, event).result == len(BULKY)
    assert [run.id for run in local.client.runs(tag="n=1")] == [run_of(local, event).id]


def test_a_run_that_is_to_be_cancelled_by_an_event_waits_for_it_also_after_months(
    app: Stepwell, deploy: Deploy
) -> None:
    @app.function(on="go", cancel_on=CancelOn("stop", match={"data.n": "event.data.n"}))
    def fn(ctx: Context[Any]) -> None: ...

    local = deploy(app)
    local.client.pause("shop/fn")
    event = local.send("go", {"n": 1})
    later(local, 95)
    local.send("stop", {"n": 1})
    local.run_until_idle()
    assert run_of(local, event).status is RunStatus.CANCELLED


def test_the_events_of_a_batch_outlast_the_time_it_collects_them(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", batch=Batch(100, "300d"))
    def fn(ctx: Context[Any]) -> list[int]:
        numbers = [event.data["n"] for event in ctx.events]
        ctx.step.sleep("and then for as long again", "300d")
        return numbers

    local = deploy(app)
    events = [local.send("go", {"n": n, "text": BULKY}) for n in range(3)]
    later(local, 601)
    (batch,) = {run.id: run for event in events for run in local.client.runs_of_event(event)}.values()
    assert (batch.status, sorted(batch.result)) == (RunStatus.COMPLETED, [0, 1, 2])


def test_an_event_outlasts_its_turn_at_a_slow_throttle(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", throttle=Throttle(1, "150d"))
    def fn(ctx: Context[Any]) -> int:
        return len(ctx.event.data["text"])

    local = deploy(app)
    local.send("go", {"text": "first"})
    local.run_until_idle()
    second = local.send("go", {"text": BULKY})
    later(local, 151)
    assert run_of(local, second).result == len(BULKY)


def test_it_outlasts_a_line_that_does_not_move_until_its_time_is_over(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", timeouts=Timeouts(start="95d"))
    def fn(ctx: Context[Any]) -> int:
        return len(ctx.event.data["text"])

    local = deploy(app)
    local.client.pause("shop/fn")
    in_time = local.send("go", {"text": BULKY})
    later(local, 94)
    local.client.resume("shop/fn")
    local.run_until_idle()
    assert run_of(local, in_time).result == len(BULKY)
    local.client.pause("shop/fn")
    too_late = local.send("go", {"text": BULKY})
    later(local, 96)
    assert run_of(local, too_late).status is RunStatus.CANCELLED


def test_checkpoints_outlast_a_line_in_which_a_woken_run_stands(app: Stepwell, deploy: Deploy) -> None:
    """It is kept out by a limit that a deployment has lowered to the runs that others hold."""
    calls: list[str] = []

    @app.function(on="go", concurrency=Concurrency(1))
    def fn(ctx: Context[Any]) -> int:
        first = ctx.step.run("first", lambda: calls.append("first") or len(calls))  # type: ignore[func-returns-value]
        ctx.step.sleep("rest", "1d")
        return first

    local = deploy(app)
    event = local.send("go", {"text": BULKY})
    local.run_until_idle()
    gate = next(pk for (pk, sk), _ in local.world.table.items() if sk == GATE_SK)
    ports = local._backstage._ports
    ports.store.table.update(gate, GATE_SK, set_={"held": 1})  # somebody else's, for a very long time
    local.advance("1d1s")
    # Or the sweeper would come for it every minute of the three months.
    ports.store.table.update(gate, GATE_SK, set_={"due_pk": "DUE#0", "due_sk": "9" * 15, "ttl": 1 << 40})
    local.world.table.refresh((gate, GATE_SK))
    later(local, 95)
    assert run_of(local, event).status is RunStatus.SUSPENDED
    ports.store.table.update(gate, GATE_SK, set_={"held": 0})
    local.advance("1d")
    assert (run_of(local, event).result, calls) == (1, ["first"])


def test_a_singleton_is_remembered_for_as_long_as_it_lives(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", singleton=Singleton("skip"))
    def fn(ctx: Context[Any]) -> None:
        for n in range(4):
            ctx.step.wait_for_event(f"news {n}", event="news", timeout="200d")

    local = deploy(app)
    first = local.send("go", {})
    later(local, 790)
    second = local.send("go", {})
    local.run_until_idle()
    assert run_of(local, first).status is RunStatus.SUSPENDED
    assert run_of(local, second).status is RunStatus.SKIPPED
    later(local, 20)
    third = local.send("go", {})
    local.run_until_idle()
    assert run_of(local, first).status is RunStatus.COMPLETED
    assert run_of(local, third).status is RunStatus.SUSPENDED


def test_what_has_ended_is_gone_after_the_retention(app: Stepwell, deploy: Deploy) -> None:
    """Otherwise all of the above would prove nothing."""

    @app.function(on="go", batch=Batch(2, "1d"), tags={"n": "event.data.n"}, cancel_on=CancelOn("stop"))
    def fn(ctx: Context[Any]) -> None:
        ctx.step.run("work", lambda: None)

    local = deploy(app)
    for n in range(2):
        local.send("go", {"n": n, "text": BULKY})
    local.run_until_idle()
    assert items(local, INPUT_SK) + items(local, MEMBER_PREFIX) == 3
    later(local, 31)
    assert list(local.client.runs()) == []
    later(local, 90)
    left = {sk for (pk, sk), _ in local.world.table.items() if not pk.startswith(("APP", "PATHS"))}
    assert left == set()


def test_a_rest_is_followed_by_more_requests_only_if_it_leads_into_another_month(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go")
    def fn(ctx: Context[Any]) -> None:
        ctx.step.run("work", lambda: None)
        ctx.step.sleep("rest", timedelta(days=ctx.event.data["days"]))

    local = deploy(app)

    def cost(days: int) -> dict[str, int]:
        before = local.requests
        local.send("go", {"days": days})
        local.run_until_idle()
        return dict((local.requests - before).calls)

    cost(1)  # the first one reads the manifest as well
    short = cost(28)
    assert short == cost(1)
    for days in (31, 365):
        calls = cost(days)
        more = {call: count - short.get(call, 0) for call, count in calls.items() if count != short.get(call, 0)}
        assert more == {"dynamodb.Query": 1, "dynamodb.UpdateItem": 1}
