"""sleep, wait_for_event and callbacks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from stepwell import AsyncContext, Callback, Context, Event, step

from .world import OrderCreated, OrderPaid


def slept(ctx: Context[Any]) -> None:
    ctx.step.sleep("an-id", "10m")
    ctx.step.sleep("an-id", timedelta(minutes=10))
    ctx.step.sleep("an-id", duration=600)
    ctx.step.sleep_until("an-id", datetime.now(UTC))

    ctx.step.sleep("10m")  # E: call-arg
    ctx.step.sleep("an-id", datetime.now(UTC))  # E: arg-type
    ctx.step.sleep_until("an-id", "tomorrow")  # E: arg-type


def an_event_has_the_type_of_its_model(ctx: Context[Any], unknown: Any) -> None:
    wait = ctx.step.wait_for_event
    paid = wait("an-id", event=OrderPaid, timeout="3d", match={"data.order_id": "o-1"}, since="run_start")
    assert_type(paid, Event[OrderPaid] | None)
    if paid is not None:
        assert_type(paid.data.order_id, str)
        paid.data.amount  # E: attr-defined
    named = wait("an-id", event="order/paid", timeout=timedelta(days=3), where="async.data.amount > 100")
    assert_type(named, Event[dict[str, Any]] | None)
    if named is not None:
        assert_type(named.data["order_id"], Any)
    wait("an-id", event=unknown, timeout="3d")

    wait("an-id", event=OrderPaid, timeout="3d").data  # E: union-attr
    wait("an-id", event=OrderPaid)  # E: call-overload
    wait("an-id", event=int, timeout="3d")  # E: type-var
    wait("an-id", event=OrderPaid(order_id="o-1"), timeout="3d")  # E: call-overload
    wait("an-id", event=OrderPaid, timeout="3d", since="yesterday")  # E: call-overload


def hand_out(callback: Callback) -> None:
    assert_type(callback.token, str)
    assert_type(callback.url, str)


@step(retries=5)
def hand_out_as_a_step(callback: Callback) -> None: ...


async def hand_out_async(callback: Callback) -> None: ...


def not_for_callbacks(order_id: str) -> None: ...


def answered(ctx: Context[Any]) -> None:
    callback = ctx.step.create_callback("an-id", timeout="2d", heartbeat=None)
    assert_type(callback, Callback[Any])
    assert_type(callback.token, str)
    assert_type(callback.wait(), Any)
    hand_out(callback)
    ctx.step.run(hand_out, callback)
    ctx.step.wait_for_callback("an-id", timeout="2d", submit=hand_out)
    ctx.step.wait_for_callback("an-id", timeout="2d", submit=hand_out_as_a_step.using(retries=1))
    ctx.step.wait_for_callback("an-id", timeout="2d", submit=hand_out_async, heartbeat="1m")
    ctx.step.wait_for_callback("an-id", timeout="2d", submit=lambda callback: callback.token)

    ctx.step.create_callback("an-id")  # E: call-arg
    ctx.step.wait_for_callback("an-id", timeout="2d", submit=not_for_callbacks)  # E: arg-type


async def in_an_async_function(ctx: AsyncContext[Any]) -> None:
    step = ctx.step
    await step.sleep("an-id", "10m")
    assert_type(await step.wait_for_event("an-id", event=OrderPaid, timeout="3d"), Event[OrderPaid] | None)
    assert_type(await step.wait_for_event("an-id", event="a", timeout="3d"), Event[dict[str, Any]] | None)
    callback = await step.create_callback("an-id", timeout="2d")
    hand_out(callback)
    assert_type(await callback.wait(), Any)
    assert_type(await step.wait_for_callback("an-id", timeout="2d", submit=hand_out), Any)

    callback.wait()  # E: unused-coroutine
    callback.wait()["url"]  # E: index
    step.sleep("an-id", "10m")  # E: unused-coroutine
    await step.sleep("an-id", datetime.now(UTC))  # E: arg-type
    await step.wait_for_callback("an-id", timeout="2d", submit=not_for_callbacks)  # E: arg-type


def an_event_of_a_kind_is_an_event_of_any_wider_kind(event: Event[OrderCreated]) -> Event[OrderCreated | OrderPaid]:
    return event
