"""map and poll: each item, each argument is one that the function takes; what comes of it is what the function gives."""

from __future__ import annotations

from functools import partial
from typing import Any, assert_type

from stepwell import AsyncContext, Context, StepError

from .world import Charge, bank, charge, charge_async, charge_options, charge_step, count, count_async


def each_item(ctx: Context[Any], orders: list[dict[str, Any]], unknown: Any) -> None:
    map = ctx.step.map
    assert_type(map(charge, ["o-1"]), list[Charge])
    assert_type(map(charge, (order_id for order_id in "abc"), id="an-id", max_concurrency=3), list[Charge])
    assert_type(map(charge_async, ["o-1"]), list[Charge])
    assert_type(map(charge_step, ["o-1"], spread=True), list[Charge])
    assert_type(map(charge_options, {"o-1"}), list[Charge])
    assert_type(map(charge_options.using(retries=0), ["o-1"]), list[Charge])
    assert_type(map(bank.charge_step, ["o-1"]), list[Charge])
    assert_type(map(partial(charge, amount=3), ["o-1"]), list[Charge])
    assert_type(map(lambda n: n * 2, [1, 2], id="an-id"), list[int])
    assert_type(map(count, orders), list[int])
    assert_type(map(count_async, orders), list[int])
    assert_type(map(count_async, unknown), list[int])
    assert_type(map(unknown, ["o-1"]), list[Any])
    either: list[Charge | StepError] = map(charge, ["o-1"])
    assert_type(either[0], Charge | StepError)

    map(charge, [1])  # E: arg-type
    map(charge_async, [1])  # E: arg-type
    map(charge_step, [1])  # E: arg-type
    map(charge_options, [1])  # E: arg-type
    map(bank.charge_step, [1])  # E: arg-type
    map(count_async, [1])  # E: arg-type
    map(charge, "o-1", spreed=True)  # E: call-overload


def failures_are_results_only_where_they_are_tolerated(ctx: Context[Any], orders: list[dict[str, Any]]) -> None:
    map = ctx.step.map
    assert_type(map(charge, ["o-1"], tolerated_failures=1), list[Charge | StepError])
    assert_type(map(charge_async, ["o-1"], tolerated_failures=0.5), list[Charge | StepError])
    assert_type(map(charge_step, ["o-1"], tolerated_failures=1), list[Charge | StepError])
    assert_type(map(count_async, orders, tolerated_failures=1), list[int | StepError])

    map(charge, [1], tolerated_failures=1)  # E: arg-type
    map(charge_async, [1], tolerated_failures=1)  # E: arg-type
    map(charge, ["o-1"], tolerated_failures="all")  # E: call-overload
    map(charge, ["o-1"], tolerated_failures=1)[0].id  # E: union-attr


def polled(ctx: Context[Any], order: dict[str, Any]) -> None:
    poll = ctx.step.poll
    assert_type(poll("an-id", charge, "o-1", until=lambda found: found.id == "c"), Charge)
    assert_type(poll("an-id", charge, "o-1", 3, until=lambda found: found.id == "c", every="1m", timeout=60), Charge)
    assert_type(poll("an-id", charge_async, "o-1", until=lambda found: found.id == "c"), Charge)
    assert_type(poll("an-id", charge_step, "o-1", until=lambda found: found.id == "c"), Charge)
    assert_type(poll("an-id", charge_options, "o-1", until=lambda found: found.id == "c"), Charge)
    assert_type(poll("an-id", bank.charge_step, "o-1", until=lambda found: found.id == "c"), Charge)
    assert_type(poll("an-id", count, order, until=bool), int)
    assert_type(poll("an-id", count_async, order, until=lambda n: n > 3), int)
    assert_type(poll("an-id", lambda: 5, until=lambda n: n > 3), int)

    poll("an-id", charge, 1, until=bool)  # E: arg-type
    poll("an-id", charge, until=bool)  # E: arg-type
    poll("an-id", charge_async, 1, until=bool)  # E: arg-type
    poll("an-id", charge_step, 1, until=bool)  # E: arg-type
    poll("an-id", charge, "o-1")  # E: call-overload
    poll("an-id", charge, "o-1", until=lambda found: found.amount > 3)  # E: arg-type
    poll("an-id", charge_async, "o-1", until=lambda found: found.amount > 3)  # E: attr-defined
    poll("an-id", count, order, until=lambda n: "not a condition")  # E: arg-type


async def in_an_async_function(ctx: AsyncContext[Any], orders: list[dict[str, Any]]) -> None:
    step = ctx.step
    assert_type(await step.map(charge, ["o-1"]), list[Charge])
    assert_type(await step.map(charge_async, ["o-1"]), list[Charge])
    assert_type(await step.map(charge_async, ["o-1"], tolerated_failures=1), list[Charge | StepError])
    assert_type(await step.map(count_async, orders), list[int])
    assert_type(await step.poll("an-id", charge, "o-1", until=lambda found: found.id == "c"), Charge)
    assert_type(await step.poll("an-id", count_async, {}, until=lambda n: n > 3), int)

    await step.map(charge, [1])  # E: arg-type
    await step.map(charge_async, [1])  # E: arg-type
    await step.poll("an-id", charge, 1, until=bool)  # E: arg-type
    step.map(charge, ["o-1"])  # E: unused-coroutine
    step.poll("an-id", charge, "o-1", until=bool)  # E: unused-coroutine
