"""Why a run waits, in one sentence."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from stepwell import AsyncContext, Concurrency, Context, Stepwell, Timeouts, step
from stepwell.errors import UnknownRun
from stepwell.testing import Chaos, Fault, FaultKind, FaultPlan, LocalStepwell

from .support import Deploy, occupied, play, release, run_of


@step(compute="large")
def heavy(number: int) -> int:
    raise ValueError("too heavy")


def why(local: LocalStepwell, event_id: str, function: str | None = None) -> str:
    return local.client.why_waiting(run_of(local, event_id, function).id)


def started(local: LocalStepwell, data: dict[str, Any] | None = None) -> str:
    event_id = local.send("go", data)
    local.run_until_idle()
    return event_id


def test_a_sleep_ends_at_its_time(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go", id="fn")(lambda ctx: ctx.step.sleep("rest", ctx.event.data["rest"]))
    local = deploy(app)
    assert why(local, started(local, {"rest": "2h"})) == "sleeping until 02:00:00 UTC (step rest)"
    assert why(local, started(local, {"rest": "3d"})) == "sleeping until 2026-01-04 00:00 UTC (step rest)"


def test_an_event_is_waited_for_by_what_it_must_hold(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", id="fn")
    def fn(ctx: Context[Any]) -> None:
        match = {"data.order_id": ctx.event.data["order_id"], "data.amount": 7}
        ctx.step.wait_for_event("paid", event="order/paid", match=match, timeout="14h")

    local = deploy(app)
    local.client.send("order/paid", {"order_id": "before", "amount": 7})
    local.run_until_idle()
    local.advance("5m")
    event_id = started(local, {"order_id": "o-1"})
    waits = "waiting for order/paid where data.amount = 7 and data.order_id = o-1 until 14:05:00 UTC"
    assert why(local, event_id) == f"{waits}; the log has no order/paid since 00:05:00 UTC"
    for order, amount in (("o-2", 7), ("o-3", 7), ("o-1", 8)):
        local.client.send("order/paid", {"order_id": order, "amount": amount})
    local.client.send("order/other", {"order_id": "o-9"})
    local.run_until_idle()
    local.advance("1h")
    told = f"{waits}; 3 near misses: 2 with other order_id, 1 with other amount"
    assert why(local, event_id) == told


def test_near_misses_of_one_kind_are_told_in_a_few_words(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", id="fn")
    def fn(ctx: Context[Any]) -> None:
        ctx.step.wait_for_event("paid", event="paid", match={"data.order_id": "o-1"}, timeout="3d")

    local = deploy(app)
    event_id = started(local)
    for n in (2, 3):
        local.client.send("paid", {"order_id": f"o-{n}"}, id=f"chosen-{n}")
    local.run_until_idle()
    assert why(local, event_id).endswith("; 2 near misses: other order_id")


def test_a_condition_that_does_not_hold_is_a_near_miss_too(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", id="fn")
    def fn(ctx: Context[Any]) -> None:
        where = "async.data.amount > event.data.amount"
        ctx.step.wait_for_event("paid", event="paid", where=where, timeout="1h", since="run_start")

    local = deploy(app)
    event_id = started(local, {"amount": 5})
    local.client.send("paid", {"amount": 4})
    local.run_until_idle()
    waits = "waiting for paid where async.data.amount > event.data.amount until 01:00:00 UTC"
    assert why(local, event_id) == f"{waits}; 1 near miss: the condition does not hold"


def test_near_misses_of_several_kinds_are_told_in_words_that_go_together(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", id="fn")
    def fn(ctx: Context[Any]) -> None:
        where, match = "async.data.amount > event.data.amount", {"data.order": "o-1", "data.shop": "s"}
        ctx.step.wait_for_event("paid", event="paid", match=match, where=where, timeout="1h")

    local = deploy(app)
    event_id = started(local, {"amount": 5})
    for order, shop, amount in [("o-1", "s", 4)] * 3 + [("o-2", "s", 9)] * 2 + [("o-2", "t", 9)]:
        local.client.send("paid", {"order": order, "shop": shop, "amount": amount})
    local.run_until_idle()
    assert why(local, event_id).endswith(
        "; 6 near misses: 3 for which the condition does not hold, 2 with other order, 1 with other order and shop"
    )


def test_an_event_that_came_before_the_wait_and_is_not_in_the_log_is_not_denied(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", id="fn")
    def fn(ctx: Context[Any]) -> None:
        ctx.step.sleep("first", "1m")
        ctx.step.wait_for_event("paid", event="paid", match={"data.n": 1}, timeout="1d", since="run_start")

    app.function(on="paid", id="other")(lambda ctx: None)  # the event stands in the item of its run, and only there
    local = deploy(app)
    event_id = started(local)
    local.advance("10s")
    local.client.send("paid", {"n": 2})
    local.run_until_idle()
    local.advance("2m")
    waits = "waiting for paid where data.n = 1 until 2026-01-02 00:01 UTC"
    assert why(local, event_id) == f"{waits}; the log has no paid since 00:01:00 UTC"
    local.client.send("paid", {"n": 3})
    local.run_until_idle()
    assert why(local, event_id) == f"{waits}; 1 near miss: other n"


def test_a_log_too_long_to_be_read_is_told_of_by_its_end(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go", id="fn")(lambda ctx: ctx.step.wait_for_event("paid", event="paid", timeout="300d"))
    local = deploy(app)
    event_id = started(local)
    local.advance("200d")
    assert why(local, event_id).endswith("; no paid is among the latest events of the log")


def test_looking_for_near_misses_is_bounded(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", id="fn")
    def fn(ctx: Context[Any]) -> None:
        ctx.step.wait_for_event("paid", event="paid", match={"data.n": 0}, timeout="300d")

    local = deploy(app)
    event_id = started(local)
    local.client.send([{"name": "paid", "data": {"n": 1}}, {"name": "noise", "data": {}}])
    local.advance("200d")
    local.client.send([{"name": "paid", "data": {"n": 2}} for _ in range(3)])
    local.run_until_idle()
    before = local.requests
    assert why(local, event_id).endswith("; 3 near misses among the latest events: other n")
    assert (local.requests - before).calls["dynamodb.Query"] <= 7 * 8 + 1


def test_a_condition_too_long_to_be_kept_is_left_out(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", id="fn")
    def fn(ctx: Context[Any]) -> None:
        ctx.step.wait_for_event("paid", event="paid", match={"data.blob": "x" * 900}, timeout="1h")

    local = deploy(app)
    assert why(local, started(local)) == "waiting for paid that matches until 01:00:00 UTC"


def test_a_callback_is_waited_for_and_its_heartbeats_are_told(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", id="fn")
    def fn(ctx: Context[Any]) -> None:
        ctx.step.wait_for_callback("answer", timeout="2h", heartbeat=ctx.event.data.get("beat"))

    local = deploy(app)
    assert why(local, started(local)) == "waiting for the answer to callback answer until 02:00:00 UTC"
    assert why(local, started(local, {"beat": "10m"})) == (
        "waiting for the answer to callback answer until 02:00:00 UTC, if a heartbeat comes by 00:10:00 UTC"
    )


def test_a_child_run_is_waited_for_with_what_it_waits_for_itself(app: Stepwell, deploy: Deploy) -> None:
    child = app.function(on="never", id="child")(lambda ctx: ctx.step.sleep("nap", "3h"))
    app.function(on="go", id="fn")(lambda ctx: ctx.step.invoke(child, timeout="5h"))
    local = deploy(app)
    event_id = started(local)
    named = run_of(local, event_id).steps["child"].child
    assert why(local, event_id) == (
        f"waiting for run {named} of shop/child until 05:00:00 UTC (sleeping until 03:00:00 UTC (step nap))"
    )


def test_a_step_in_a_worker_of_its_own_is_told_by_its_run(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go", id="fn")(lambda ctx: ctx.step.run(heavy.using(retries=9), 1))
    local = deploy(app)
    event_id = started(local)
    named = run_of(local, event_id).steps["heavy"].child
    told = why(local, event_id)
    assert told.startswith(
        f"waiting for step heavy in run {named} (step heavy failed in attempt 1 (ValueError: too heavy)"
    )


def test_a_run_that_invokes_itself_for_ever_is_told_in_finite_words(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", id="fn")
    def fn(ctx: Context[Any]) -> None:
        depth = ctx.event.data.get("depth", 0)
        if depth < 6:
            ctx.step.invoke("shop/fn", {"depth": depth + 1})
        ctx.step.sleep("rest", "1h")

    local = deploy(app)
    assert why(local, started(local)).count("waiting for run") == 4


def test_a_poll_says_when_it_looks_again(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", id="fn")
    def fn(ctx: Context[Any]) -> None:
        def check() -> bool:
            if ctx.event.data.get("fail"):
                raise ValueError("no answer")
            return False

        ctx.step.poll("ready", check, until=bool, every="20m")

    local = deploy(app)
    event_id = started(local)
    assert why(local, event_id) == "polling (step ready): 1 check so far, the next at 00:20:00 UTC"
    local.advance("30m")
    assert why(local, event_id) == "polling (step ready): 2 checks so far, the next at 00:40:00 UTC"
    told = why(local, started(local, {"fail": True}))
    assert told.startswith(
        "polling (step ready): 1 check so far, the last failed (ValueError: no answer), the next at "
    )


def test_a_failed_step_and_a_failed_body_say_what_went_wrong_and_when_they_are_tried_again(
    app: Stepwell, deploy: Deploy
) -> None:
    from stepwell import RetryAfterError

    @app.function(on="go", id="fn")
    def fn(ctx: Context[Any]) -> None:
        def charge() -> None:
            raise RetryAfterError("1h", "the bank is closed")

        if ctx.event.data.get("step"):
            ctx.step.run("charge", charge)
        raise RetryAfterError("2h", "not yet")

    local = deploy(app)
    assert why(local, started(local, {"step": True})) == (
        "step charge failed in attempt 1 (RetryAfterError: the bank is closed); attempt 2 at 01:00:00 UTC"
    )
    assert why(local, started(local)) == (
        "attempt 1 failed: RetryAfterError: not yet; attempt 2 of the function begins at 02:00:00 UTC"
    )


def test_several_waits_are_told_together_the_soonest_first(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", id="fn")
    async def fn(ctx: AsyncContext[Any]) -> None:
        naps = [ctx.step.sleep(f"nap-{n}", f"{n}h") for n in range(5, 0, -1)]
        await asyncio.gather(*naps)

    local = deploy(app)
    told = why(local, started(local))
    assert told.startswith("sleeping until 01:00:00 UTC (step nap-1) and ")
    assert told.count("sleeping until") == 3
    assert told.endswith(" and 2 more steps")


def test_a_run_of_the_future_says_when_it_begins(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go", id="fn")(lambda ctx: None)
    local = deploy(app)
    event_id = local.send("go", ts=local.now() + timedelta(hours=6))
    local.run_until_idle()
    assert why(local, event_id) == "scheduled for 06:00:00 UTC, the time of its event"


def test_a_run_of_the_future_that_may_not_wait_so_long_says_when_it_is_cancelled(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go", id="fn", timeouts=Timeouts(start="10m"))(lambda ctx: None)
    local = deploy(app)
    event_id = local.send("go", ts=local.now() + timedelta(hours=3))
    local.run_until_idle()
    assert why(local, event_id) == (
        "scheduled for 03:00:00 UTC, the time of its event; it is cancelled at 00:10:00 UTC if it has not started by then"
    )


def test_whatever_a_run_waits_for_its_time_limit_is_told(app: Stepwell, deploy: Deploy) -> None:
    from stepwell import RetryAfterError

    limits = Timeouts(finish="2h")
    child = app.function(on="never", id="child", timeouts=Timeouts(finish="1h"))(
        lambda ctx: ctx.step.sleep("nap", "3h")
    )

    @app.function(on="go", id="fn", timeouts=limits)
    def fn(ctx: Context[Any]) -> None:
        if ctx.event.data.get("again"):
            raise RetryAfterError(ctx.event.data["again"], "not yet")
        if ctx.event.data.get("child"):
            ctx.step.invoke(child)
        ctx.step.sleep("rest", "5h")

    local = deploy(app)
    cancelled = "it is cancelled at 02:00:00 UTC if it has not finished by then"
    asleep = started(local)
    assert why(local, asleep) == f"sleeping until 05:00:00 UTC (step rest); {cancelled}"
    assert why(local, started(local, {"again": "1h"})) == (
        "attempt 1 failed: RetryAfterError: not yet; attempt 2 of the function begins at 01:00:00 UTC; " + cancelled
    )
    assert why(local, started(local, {"again": "5h"})) == (
        "attempt 1 failed: RetryAfterError: not yet; attempt 2 of the function would begin too late; " + cancelled
    )
    told = why(local, started(local, {"child": True}))
    inner = "it is cancelled at 01:00:00 UTC if it has not finished by then"
    assert told.endswith(f"(sleeping until 03:00:00 UTC (step nap); {inner}); {cancelled}")
    local.advance("3h")
    assert why(local, asleep) == "not waiting: cancelled at 02:00:00 UTC: not finished within 2h"


def test_a_run_that_stands_in_line_says_until_when_it_may(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go", id="fn", timeouts=Timeouts(start="30m"))(lambda ctx: None)
    local = deploy(app)
    local.client.pause("shop/fn")
    event_id = started(local)
    assert why(local, event_id) == (
        "waiting until its function is resumed, which is paused; first in line; "
        "it is cancelled at 00:30:00 UTC if it has not started by then"
    )


def test_a_key_of_any_length_takes_but_a_line_of_the_answer(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", id="fn", concurrency=Concurrency(1, key="event.data.text"))
    def fn(ctx: Context[Any]) -> None: ...

    local = deploy(app)
    data = {"text": "x" * 100_000}
    gate = occupied(local, "shop/fn", **data)
    event_id = started(local, data)
    assert len(why(local, event_id)) < 400
    release(local, gate)


def test_a_run_whose_worker_was_asked_and_does_not_come_says_when_another_is(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go", id="fn")(lambda ctx: None)
    local = deploy(app, chaos=Chaos(lose=1.0))
    event_id = started(local)
    told = "queued: a worker was asked at 00:00:00 UTC; another will be at 00:01:30 UTC if that one does not come"
    assert why(local, event_id) == told


def test_a_run_that_no_worker_takes_says_why(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go", id="fn")(lambda ctx: None)
    plan = FaultPlan([Fault(FaultKind.REFUSED, operation="lambda.Invoke", label="orchestrator")])
    local = deploy(app, plan=plan)
    told = why(local, started(local))
    assert told.startswith("no worker: worker arn:aws:lambda:")
    assert "could not be invoked" in told
    assert "; asked once so far, again at 00:00:" in told


def test_a_run_that_runs_says_until_when_its_worker_may(app: Stepwell, deploy: Deploy) -> None:
    told: list[str] = []
    app.function(on="go", id="fn")(
        lambda ctx: ctx.step.run("look", lambda: told.append(app.client.why_waiting(ctx.run_id)))
    )
    local = deploy(app)
    play(local)
    assert told == ["running since 00:00:00 UTC; its worker has until 00:15:00 UTC at most"]


def test_a_run_that_has_ended_says_how(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", id="fn", retries=0)
    def fn(ctx: Context[Any]) -> None:
        ctx.step.sleep("rest", "1h")
        if ctx.event.data.get("fail"):
            raise ValueError("no")

    local = deploy(app)
    done, failed, stopped = (started(local, data) for data in ({}, {"fail": True}, {}))
    local.client.cancel(run_of(local, stopped).id)
    local.advance("2h")
    assert why(local, done) == "not waiting: completed at 01:00:00 UTC"
    assert why(local, failed) == "not waiting: failed at 01:00:00 UTC: ValueError: no"
    assert why(local, stopped) == "not waiting: cancelled at 00:00:00 UTC: cancelled by the client"


def test_a_run_that_is_not_there_is_no_answer(app: Stepwell, deploy: Deploy) -> None:
    with pytest.raises(UnknownRun):
        deploy(app).client.why_waiting("shop.01AAAAAAAAAAAAAAAAAAAAAAAA")
