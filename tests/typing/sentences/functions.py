"""Declared functions keep their types: called directly, invoked, or told of a failure."""

from __future__ import annotations

from typing import Any, assert_type

from stepwell import AsyncContext, Context, Cron, Failure, Stepwell, Trigger

from .world import Charge, OrderCreated, OrderPaid, app, charge, pay, pay_async


def the_context_knows_its_event(ctx: Context[OrderCreated], both: AsyncContext[OrderCreated | OrderPaid]) -> None:
    assert_type(ctx.event.data, OrderCreated)
    assert_type(ctx.event.data.amount, int)
    assert_type(ctx.events[0].data, OrderCreated)
    assert_type(both.event.data.order_id, str)

    ctx.event.data.email  # E: attr-defined
    both.event.data.amount  # E: union-attr


def helper(ctx: Context[OrderCreated | OrderPaid]) -> None: ...


def a_helper_for_several_kinds_of_events_takes_each(ctx: Context[OrderCreated], other: Context[Failure]) -> None:
    helper(ctx)

    helper(other)  # E: arg-type


def a_declared_function_is_called_like_the_plain_one(
    ctx: Context[OrderCreated], later: AsyncContext[OrderCreated], other: Context[OrderPaid]
) -> None:
    assert_type(pay(ctx), Charge)
    assert_type(pay(ctx=ctx), Charge)

    pay()  # E: call-arg
    pay(other)  # E: arg-type
    pay(later)  # E: arg-type
    pay_async(ctx)  # E: arg-type


async def an_async_one_is_awaited(ctx: AsyncContext[OrderCreated]) -> None:
    assert_type(await pay_async(ctx), Charge)


def invoked(ctx: Context[Any], unknown: Any) -> None:
    invoke = ctx.step.invoke
    assert_type(invoke(pay), Charge)
    assert_type(invoke(pay, {"order_id": "o-1"}, id="an-id", timeout="1h"), Charge)
    assert_type(invoke(pay_async, OrderCreated(order_id="o-1", amount=3)), Charge)
    assert_type(invoke("other-app/fn", {"order_id": "o-1"}), Any)
    assert_type(invoke(pay, {"order_id": "o-1"}, detached=True), str)
    assert_type(invoke("other-app/fn", detached=True), str)
    assert_type(invoke(app.functions["pay"]), Any)
    invoke(unknown)

    invoke(charge)  # E: call-overload
    invoke(7)  # E: call-overload
    invoke(pay, detached=True, timeout="1h")  # E: call-overload
    invoke(pay, timeout=Charge())  # E: call-overload


async def invoked_async(ctx: AsyncContext[Any]) -> None:
    invoke = ctx.step.invoke
    assert_type(await invoke(pay), Charge)
    assert_type(await invoke(pay_async, {"order_id": "o-1"}), Charge)
    assert_type(await invoke("other-app/fn"), Any)
    assert_type(await invoke(pay, detached=True), str)

    invoke(pay)  # E: unused-coroutine
    await invoke(charge)  # E: call-overload


def declared(app: Stepwell) -> None:
    app.function(on="order/created")(pay.fn)
    app.function(on=[OrderCreated, "order/*", Trigger("refund/*"), Cron("0 8 * * *")], retries=5)(pay.fn)
    app.function(on=(OrderCreated, OrderPaid))(lambda ctx: None)

    app.function()(pay.fn)  # E: call-arg
    app.function(on=7)(pay.fn)  # E: arg-type
    app.function(on=OrderCreated, retrys=5)(pay.fn)  # E: call-arg
    app.function(on=OrderCreated)("no function")  # E: arg-type


def handler(ctx: Context[Failure]) -> None:
    assert_type(ctx.event.data.error.message, str)


async def async_handler(ctx: AsyncContext[Failure]) -> None: ...


def handler_of_something_else(ctx: Context[OrderCreated]) -> None: ...


def told_of_a_failure(app: Stepwell) -> None:
    app.function(on=OrderCreated, on_failure=handler)(pay.fn)
    app.function(on=OrderCreated, on_failure=async_handler)(pay.fn)
    app.function(on=OrderCreated, on_failure=lambda ctx: None)(pay.fn)

    app.function(on=OrderCreated, on_failure=handler_of_something_else)(pay.fn)  # E: arg-type
