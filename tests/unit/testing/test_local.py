"""LocalStepwell: the real Lambdas, a clock one can move, crashes one can choose."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from stepwell import AsyncContext, Context, EventModel, RunFailed, RunStatus, StepError, StepTimeout, Stepwell, step
from stepwell.testing import CrashNeverHappened, Fault, FaultKind, FaultPlan, LocalStepwell, invariants

NOTHING: Callable[..., None] = lambda *args: None  # noqa: E731


class OrderCreated(EventModel, name="order/created"):
    order_id: str
    amount: int = 1


class Shop:
    """An app with one function made of `steps`, and a record of which bodies ran."""

    def __init__(self, body: Callable[[Context[Any], Shop], Any] | None = None, **options: Any) -> None:
        self.app = Stepwell("shop")
        self.bodies: list[str] = []

        @self.app.function(on="order/created", **options)
        def process(ctx: Context[Any]) -> Any:
            if body is not None:
                return body(ctx, self)
            ctx.step.run("charge", self.does("charge"))
            ctx.step.run("ship", self.does("ship"))
            return "done"

    def does(self, name: str, value: Any = None) -> Callable[[], Any]:
        def work() -> Any:
            self.bodies.append(name)
            return value

        return work


def handled(local: LocalStepwell, event_id: str) -> Any:
    local.run_until_idle()
    run = local.run(event_id)
    assert run is not None
    invariants.check(local.world.observations)
    return run


def test_an_event_runs_the_function_step_by_step() -> None:
    shop = Shop()
    with LocalStepwell(shop.app) as local:
        event_id = local.send("order/created", {"order_id": "o-1"})
        assert shop.bodies == []
        run = handled(local, event_id)
        assert run.status is RunStatus.COMPLETED
        assert run.result == "done"
        assert list(run.steps) == ["charge", "ship"]
        assert shop.bodies == ["charge", "ship"]


def test_the_app_and_its_client_talk_to_the_world_inside_the_block_only() -> None:
    shop = Shop()
    with LocalStepwell(shop.app) as local:
        event_id = shop.app.send(OrderCreated(order_id="o-1"))
        assert handled(local, event_id).status == "completed"
        assert [run.id for run in shop.app.client.runs_of_event(event_id)] == [handled(local, event_id).id]
    assert shop.app._client is None


def test_a_world_inside_a_world_gives_the_app_back() -> None:
    shop = Shop()
    with LocalStepwell(shop.app) as outer:
        with LocalStepwell(shop.app, seed=1) as inner:
            event_id = shop.app.send("order/created", {})
            assert handled(inner, event_id).status == "completed"
        other = shop.app.send("order/created", {})
        assert handled(outer, other).status == "completed"
        with pytest.raises(LookupError, match="no event"):
            outer.run(event_id)


def test_a_sleep_is_over_when_the_clock_says_so() -> None:
    def body(ctx: Context[Any], shop: Shop) -> None:
        ctx.step.run("before", shop.does("before"))
        ctx.step.sleep("night", "3d")
        ctx.step.run("after", shop.does("after"))

    shop = Shop(body)
    with LocalStepwell(shop.app, start=datetime(2026, 5, 1, tzinfo=UTC)) as local:
        event_id = local.send("order/created", {})
        assert handled(local, event_id).status == "suspended"
        local.advance(timedelta(days=3) - timedelta(seconds=1))
        assert shop.bodies == ["before"]
        local.advance("1s")
        assert shop.bodies == ["before", "after"]
        assert local.now() == datetime(2026, 5, 4, tzinfo=UTC)
        assert handled(local, event_id).status == "completed"


def test_a_failing_step_is_retried_in_virtual_time() -> None:
    def body(ctx: Context[Any], shop: Shop) -> Any:
        return ctx.step.run("flaky", flaky)

    def flaky() -> int:
        shop.bodies.append("flaky")
        if len(shop.bodies) < 3:
            raise ConnectionError("not yet")
        return len(shop.bodies)

    shop = Shop(body)
    with LocalStepwell(shop.app) as local:
        event_id = local.send("order/created", {})
        local.advance("1h")
        run = handled(local, event_id)
        assert (run.status, run.result, run.steps["flaky"].attempts) == ("completed", 3, 3)


def test_a_mocked_step_does_not_run_its_body() -> None:
    shop = Shop(lambda ctx, shop: ctx.step.run("charge", shop.does("charge")))
    with LocalStepwell(shop.app) as local:
        local.mock_step("charge", returns={"id": "c-1"})
        assert handled(local, local.send("order/created", {})).result == {"id": "c-1"}
        local.mock_step("charge", calls=lambda: "called")
        assert handled(local, local.send("order/created", {})).result == "called"
        assert shop.bodies == []


def test_a_mock_that_raises_is_a_step_that_fails() -> None:
    shop = Shop(lambda ctx, shop: ctx.step.run("charge", shop.does("charge")), retries=0)
    with LocalStepwell(shop.app) as local:
        local.mock_step("charge", raises=ValueError("declined"))
        run = handled(local, local.send("order/created", {}))
        assert run.status is RunStatus.FAILED
        assert (run.error.type, run.error.message) == ("ValueError", "declined")


def test_a_mock_needs_exactly_one_answer() -> None:
    with LocalStepwell(Shop().app) as local:
        with pytest.raises(TypeError, match="exactly one"):
            local.mock_step("charge")
        with pytest.raises(TypeError, match="exactly one"):
            local.mock_step("charge", returns=None, raises=ValueError())


def test_a_mock_that_raises_no_exception_or_calls_no_function_is_refused() -> None:
    with LocalStepwell(Shop().app) as local:
        with pytest.raises(TypeError, match=r"raises= takes an exception.* got 'x'"):
            local.mock_step("charge", raises="x")
        with pytest.raises(TypeError, match=r"calls= takes a function.* got 5"):
            local.mock_step("charge", calls=5)


@pytest.mark.parametrize("crash", ["crash_after", "crash_before"])
def test_a_crash_that_never_happened_fails_the_test_naming_the_steps_that_began(crash: str) -> None:
    def play() -> None:
        with LocalStepwell(Shop().app) as local:
            getattr(local, crash)("nope")
            getattr(local, crash)("charge")
            local.send("order/created", {})
            local.advance("20m")

    with pytest.raises(CrashNeverHappened, match=rf"{crash}\('nope'\) has killed no worker.* began: charge, ship\."):
        play()


def test_a_test_that_has_failed_is_not_told_of_crashes_that_never_happened() -> None:
    def play() -> None:
        with LocalStepwell(Shop().app) as local:
            local.crash_after("nope")
            raise LookupError("the real one")

    with pytest.raises(LookupError, match="the real one"):
        play()


def test_no_crash_at_all_is_refused() -> None:
    with LocalStepwell(Shop().app) as local:
        for crash in (local.crash_after, local.crash_before):
            with pytest.raises(ValueError, match="times is a number from 1, got 0"):
                crash("charge", times=0)


def test_a_mock_stands_for_every_item_of_a_map() -> None:
    shop = Shop(lambda ctx, shop: ctx.step.map(str.upper, ["a", "b"], id="shout"))
    with LocalStepwell(shop.app) as local:
        local.mock_step("shout", calls=lambda item: f"<{item}>")
        assert handled(local, local.send("order/created", {})).result == ["<a>", "<b>"]


@pytest.mark.parametrize(("crash", "bodies"), [("after", ["charge", "charge", "ship"]), ("before", ["charge", "ship"])])
def test_a_worker_that_dies_beside_a_step_is_replaced(crash: str, bodies: list[str]) -> None:
    shop = Shop()
    with LocalStepwell(shop.app) as local:
        getattr(local, f"crash_{crash}")("charge")
        event_id = local.send("order/created", {})
        local.advance("20m")
        assert handled(local, event_id).status == "completed"
        assert shop.bodies == bodies


def test_a_step_that_kills_its_worker_every_time_ends_as_failed() -> None:
    shop = Shop(lambda ctx, shop: ctx.step.run("charge", shop.does("charge")), retries=1)
    with LocalStepwell(shop.app) as local:
        local.crash_after("charge", times=100)
        event_id = local.send("order/created", {})
        local.advance("1d")
        assert handled(local, event_id).status is RunStatus.FAILED
        assert len(shop.bodies) <= 1 + 3


def test_a_handler_that_fails_is_redelivered_and_never_raised_to_the_test() -> None:
    shop = Shop()
    with LocalStepwell(shop.app, plan=FaultPlan([Fault(FaultKind.REFUSED, at=n) for n in range(4)])) as local:
        event_id = local.send("order/created", {})
        local.run_until_idle()
        local.advance("1h")
        assert handled(local, event_id).status == "completed"
        assert shop.bodies == ["charge", "ship"]


def test_an_event_that_matched_nothing_has_no_run() -> None:
    with LocalStepwell(Shop().app) as local:
        event_id = local.send("nobody/cares", {})
        local.run_until_idle()
        assert local.run(event_id) is None


def test_asking_for_a_run_says_what_there_is() -> None:
    app = Stepwell("shop")
    app.function(on="order/created", id="first")(lambda ctx: None)
    app.function(on="order/created", id="second")(lambda ctx: None)
    app.function(on="other", id="third")(lambda ctx: None)
    with LocalStepwell(app) as local:
        event_id = local.send("order/created", {})
        with pytest.raises(LookupError, match=r"not been handled yet: call local\.run_until_idle"):
            local.run(event_id)
        local.run_until_idle()
        with pytest.raises(LookupError, match=r"started 2 runs.*first \(completed\), second \(completed\)"):
            local.run(event_id)
        with pytest.raises(LookupError, match="a function 'frist'; there are first, second, third"):
            local.run(event_id, function="frist")
        with pytest.raises(LookupError, match=rf"no event 'nonsense'.*\n  order/created {event_id}"):
            local.run("nonsense")
        first = local.run(event_id, function="first")
        assert first is not None
        assert first.function == "first"
        assert local.run(event_id, function="third") is None


def test_what_cannot_be_handled_is_a_dead_letter_that_stays_when_looked_at() -> None:
    with LocalStepwell(Shop().app) as local:
        boto3.client("sqs").send_message(QueueUrl=local.queue_url, MessageBody="not json")
        local.run_until_idle()
        for _ in range(2):
            (letter,) = local.dead_letters()
            assert (letter.code, letter.body) == ("not-json", "not json")
            assert "not JSON" in letter.reason
            assert letter.sent_at == local.now()
            (same,) = local.client.dead_letters()
            assert (same.id, same.sent_at) == (letter.id, letter.sent_at)


def test_any_aws_client_can_send_an_event() -> None:
    shop = Shop()
    with LocalStepwell(shop.app) as local:
        body = json.dumps({"name": "order/created", "data": {}, "id": "mine"})
        boto3.client("sqs").send_message(QueueUrl=local.queue_url, MessageBody=body)
        local.run_until_idle()
        assert shop.bodies == ["charge", "ship"]


def test_waiting_for_a_result_moves_the_clock() -> None:
    def body(ctx: Context[Any], shop: Shop) -> str:
        ctx.step.sleep("long", "30d")
        return "slept"

    shop = Shop(body)
    with LocalStepwell(shop.app) as local:
        run = local.client.invoke("shop/process", {})
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            local.client.result(run, timeout=3600)
        assert local.client.result(run) == "slept"
        assert local.now() == datetime(2026, 1, 31, tzinfo=UTC)
        assert time.monotonic() - began < 10


def test_waiting_for_what_nobody_will_send_says_so() -> None:
    def body(ctx: Context[Any], shop: Shop) -> Any:
        ctx.step.wait_for_callback("answer", timeout="10d")

    shop = Shop(body, retries=0)
    with LocalStepwell(shop.app) as local:
        run = local.client.invoke("shop/process", {})
        with pytest.raises(TimeoutError):
            local.client.result(run, timeout=timedelta(days=1))
        with pytest.raises(RunFailed, match="StepTimeout"):
            local.client.result(run)


def test_apps_live_side_by_side() -> None:
    first, second = Stepwell("first"), Stepwell("second")
    seen: list[str] = []
    first.function(on="order/created", id="f")(lambda ctx: ctx.step.run("a", lambda: seen.append("first")))
    second.function(on="order/created", id="g")(lambda ctx: ctx.step.run("b", lambda: seen.append("second")))
    with LocalStepwell(first, second) as local:
        event_id = local.send("order/created", {})
        local.run_until_idle()
        assert sorted(seen) == ["first", "second"]
        assert {run.function for run in local.client.runs_of_event(event_id)} == {"f", "g"}


def test_parallel_steps_may_meet_in_real_time() -> None:
    barrier = threading.Barrier(3, timeout=10)

    def body(ctx: Context[Any], shop: Shop) -> Any:
        futures = [ctx.step.submit(f"part-{n}", lambda: barrier.wait() >= 0) for n in range(3)]
        return [future.result() for future in futures]

    shop = Shop(body)
    with LocalStepwell(shop.app) as local:
        assert handled(local, local.send("order/created", {})).result == [True, True, True]


def test_async_steps_overlap_and_their_order_is_the_seeds() -> None:
    def order(seed: int) -> list[str]:
        app, trace = Stepwell("shop"), list[str]()

        def work(name: str) -> Callable[[], None]:
            return lambda: trace.append(name)

        @app.function(on="order/created")
        async def process(ctx: AsyncContext[Any]) -> None:
            await asyncio.gather(*(branch(ctx, name) for name in "abc"))

        async def branch(ctx: AsyncContext[Any], name: str) -> None:
            for n in range(3):
                await ctx.step.run(f"{name}{n}", work(f"{name}{n}"))

        with LocalStepwell(app, seed=seed) as local:
            assert handled(local, local.send("order/created", {})).status == "completed"
            assert local.world.turns.steals == 0
        return trace

    orders = [order(seed) for seed in (1, 2, 3)]
    assert orders == [order(seed) for seed in (1, 2, 3)]
    assert all(sorted(trace) == sorted(orders[0]) for trace in orders)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_step_out_of_time_times_out_in_real_time(asynchronous: bool) -> None:
    release = threading.Event()
    app = Stepwell("shop")

    @step(timeout=0.05, retries=0)
    def slow() -> None:
        release.wait(10)

    def outcome(error: StepError) -> str:
        return type(error).__name__

    if asynchronous:

        @app.function(on="order/created")
        async def process_async(ctx: AsyncContext[Any]) -> str:
            try:
                await ctx.step.run(slow)
            except StepTimeout as error:
                return outcome(error)
            return "in time"

    else:

        @app.function(on="order/created")
        def process(ctx: Context[Any]) -> str:
            try:
                ctx.step.run(slow)
            except StepTimeout as error:
                return outcome(error)
            return "in time"

    began = time.monotonic()
    with LocalStepwell(app) as local:
        event_id = local.send("order/created", {})
        local.advance("30m")
        run = handled(local, event_id)
        assert (run.status, run.result) == ("completed", "StepTimeout")
        assert time.monotonic() - began < 5
        release.set()


def test_a_cancel_shows_at_once() -> None:
    def body(ctx: Context[Any], shop: Shop) -> None:
        ctx.step.run("first", lambda: shop.app.client.cancel(ctx.run_id))
        ctx.step.run("second", shop.does("second"))

    shop = Shop(body)
    with LocalStepwell(shop.app) as local:
        assert handled(local, local.send("order/created", {})).status is RunStatus.CANCELLED
        assert shop.bodies == []


def test_a_run_of_five_small_steps_costs_what_the_design_says() -> None:
    def body(ctx: Context[Any], shop: Shop) -> None:
        for n in range(5):
            ctx.step.run(f"step-{n}", shop.does(f"step-{n}", {"n": n}))

    shop = Shop(body)
    with LocalStepwell(shop.app) as local:
        handled(local, local.send("order/created", {"order_id": "warm up"}))
        before = local.requests
        event_id = local.send("order/created", {"order_id": "o-1"})
        local.run_until_idle()
        spent = local.requests - before
        assert handled(local, event_id).status == "completed"
        assert spent.write_units <= 11
        assert spent.read_units <= 2
        assert spent.sqs <= 3
        assert spent.invocations == {"consumer": 1, "orchestrator": 1, "worker": 1}


def test_looking_at_runs_through_local_is_free() -> None:
    with LocalStepwell(Shop().app) as local:
        run = handled(local, local.send("order/created", {}))
        before = local.requests
        assert (run.result, len(run.steps), local.dead_letters()) == ("done", 2, [])
        assert local.requests == before


def test_the_timeline_tells_what_happened() -> None:
    with LocalStepwell(Shop().app) as local:
        local.crash_after("charge")
        local.send("order/created", {})
        local.advance("20m")
        story = local.timeline()
    assert "CRASHED after the body of charge" in story
    assert "STEP#ship: started (epoch 2) -> completed (epoch 2)" in story


def test_what_is_no_app_or_no_time_is_refused() -> None:
    with pytest.raises(TypeError, match=r"LocalStepwell takes apps.* got 'x'"):
        LocalStepwell("x")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"start is a datetime with a time zone.* got '2026'"):
        LocalStepwell(Shop().app, start="2026")  # type: ignore[arg-type]


def test_a_world_without_an_app_is_refused() -> None:
    with pytest.raises(TypeError, match="at least one app"):
        LocalStepwell()
