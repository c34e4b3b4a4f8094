"""Whatever sends gives one id for one event, and a list of ids for a list of events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, assert_type

from stepwell import AsyncContext, Client, Context, Stepwell
from stepwell.testing import LocalStepwell

from .world import OrderPaid

WHEN = datetime(2026, 12, 24, tzinfo=UTC)


def from_outside(app: Stepwell, client: Client, local: LocalStepwell, paid: list[OrderPaid]) -> None:
    for send in (app.send, client.send, local.send):
        assert_type(send(OrderPaid(order_id="o-1")), str)
        assert_type(send(OrderPaid, {"order_id": "o-1"}), str)
        assert_type(send("order/paid", {"order_id": "o-1"}, id="mine", ts=WHEN, tenant="acme"), str)
        assert_type(send({"name": "order/paid", "data": {}}), str)
        assert_type(send([OrderPaid(order_id="o-1"), {"name": "order/paid", "data": {}, "id": "mine"}]), list[str])
        assert_type(send(paid), list[str])
        assert_type(send((OrderPaid(order_id="o-1"),)), list[str])
        assert_type(send(OrderPaid(order_id=order_id) for order_id in "abc"), list[str])

        send(7)  # E: call-overload
        send([7])  # E: list-item
        send(paid, id="mine")  # E: call-overload
        send("order/paid", "o-1")  # E: call-overload


def from_a_function(ctx: Context[Any], paid: list[OrderPaid], unknown: Any) -> None:
    send = ctx.step.send_event
    assert_type(send("an-id", OrderPaid(order_id="o-1")), str)
    assert_type(send("an-id", OrderPaid, {"order_id": "o-1"}), str)
    assert_type(send("an-id", "order/paid", {"order_id": "o-1"}, id="mine", ts=WHEN, tenant="acme"), str)
    assert_type(send("an-id", {"name": "order/paid", "data": {}}), str)
    assert_type(send("an-id", [OrderPaid(order_id="o-1"), {"name": "order/paid", "data": {}}]), list[str])
    assert_type(send("an-id", paid, tenant="acme"), list[str])
    assert_type(send("an-id", (OrderPaid(order_id=order_id) for order_id in "abc")), list[str])
    send("an-id", unknown)

    send("an-id", 7)  # E: call-overload
    send("an-id", [7])  # E: list-item
    send("an-id", paid, id="mine")  # E: call-overload
    send(OrderPaid(order_id="o-1"))  # E: call-overload


async def from_an_async_function(ctx: AsyncContext[Any], paid: list[OrderPaid]) -> None:
    send = ctx.step.send_event
    assert_type(await send("an-id", OrderPaid(order_id="o-1")), str)
    assert_type(await send("an-id", paid), list[str])

    await send("an-id", 7)  # E: call-overload
    send("an-id", paid)  # E: unused-coroutine
