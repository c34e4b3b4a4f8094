"""Events as models: checked where they are sent, and again where they run."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from typing import Any

import boto3
import pytest

from stepwell import Context, EventModel, NotSerializable, RunStatus, Stepwell, StepwellError, Trigger

from .support import Deploy, play, run_of


class Item(EventModel):
    sku: str
    price: Decimal


class OrderCreated(EventModel, name="order/created"):
    order_id: str
    items: tuple[Item, ...] = ()
    due: datetime | None = None


class OrderAmended(OrderCreated, name="order/amended"):
    reason: str


def _nothing(ctx: Context[Any]) -> None:
    return None


def test_a_typed_event_arrives_as_its_model(app: Stepwell, deploy: Deploy) -> None:
    seen: list[Any] = []
    app.function(on=OrderCreated, id="fn")(lambda ctx: seen.append(ctx.event.data))
    local = deploy(app)
    order = OrderCreated(order_id="o-1", items=(Item(sku="a", price=Decimal("1.10")),), due=local.now())
    event_id = local.send(order)
    local.run_until_idle()
    assert seen == [order]
    run = run_of(local, event_id)
    assert run.event.name == "order/created"
    assert run.event.data["items"] == [{"sku": "a", "price": "1.10"}], "people and clients see plain JSON"


def test_each_trigger_brings_its_own_model(app: Stepwell, deploy: Deploy) -> None:
    seen: list[Any] = []
    app.function(on=[OrderCreated, OrderAmended, "order/*"], id="fn")(lambda ctx: seen.append(ctx.event.data))
    local = deploy(app)
    created, amended = OrderCreated(order_id="1"), OrderAmended(order_id="1", reason="late")
    for event in (created, amended):
        local.send(event)
        local.run_until_idle()
    local.send("order/paid", {"order_id": 1})
    local.run_until_idle()
    assert seen == [created, amended, {"order_id": 1}]


def test_a_trigger_with_a_model_and_a_condition_has_both(app: Stepwell, deploy: Deploy) -> None:
    seen: list[str] = []
    app.function(on=Trigger(OrderCreated, where="event.data.order_id != 'o-2'"), id="fn")(
        lambda ctx: seen.append(ctx.event.data.order_id)
    )
    local = deploy(app)
    local.client.send([OrderCreated(order_id=f"o-{n}") for n in (1, 2, 3)])
    local.run_until_idle()
    assert sorted(seen) == ["o-1", "o-3"]


def test_a_model_can_be_sent_with_its_data_apart(app: Stepwell, deploy: Deploy) -> None:
    app.function(on=OrderCreated, id="fn")(_nothing)
    local = deploy(app)
    event_id = local.send(OrderCreated, {"order_id": "o-1"})
    local.run_until_idle()
    assert run_of(local, event_id).event.data["order_id"] == "o-1"


def test_a_model_that_was_changed_into_something_invalid_is_refused_at_send(app: Stepwell, deploy: Deploy) -> None:
    local = deploy(_listening(app))
    order = OrderCreated(order_id="o-1")
    order.order_id = 7  # type: ignore[assignment]
    with pytest.raises(StepwellError, match="order_id"):
        local.send(order)


def test_data_that_its_model_refuses_ends_the_run_once_naming_the_field(app: Stepwell, deploy: Deploy) -> None:
    local = deploy(_listening(app))
    event_id = local.send("order/created", {"order_id": "o-1", "items": [{"sku": "a"}]})
    local.advance("1d")
    run = run_of(local, event_id)
    assert run.status == RunStatus.FAILED
    assert run.attempt == 1
    assert run.error is not None
    assert run.error.type == "InvalidEvent"
    assert "items.0.price" in run.error.message
    assert "OrderCreated" in run.error.message
    assert event_id in run.error.message


def test_dates_decimals_and_models_may_stand_in_plain_data(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go", id="fn")(lambda ctx: ctx.event.data)
    local = deploy(app)
    run = play(local, {"at": local.now(), "price": Decimal("1.10"), "item": Item(sku="a", price=Decimal(2))})
    assert run.result == {"at": "2026-01-01T00:00:00Z", "price": "1.10", "item": {"sku": "a", "price": "2"}}


def test_data_that_cannot_be_json_is_refused_at_send(app: Stepwell, deploy: Deploy) -> None:
    local = deploy(_listening(app))
    with pytest.raises(NotSerializable, match="data of event 'go'"):
        local.send("go", {"lock": object()})


def test_any_aws_client_can_send_an_event(app: Stepwell, deploy: Deploy) -> None:
    local = deploy(_listening(app))
    sqs = boto3.client("sqs")
    body = {"name": "order/created", "data": {"order_id": "o-1"}, "ts": "2026-01-01T00:00:00+01:00", "tenant": "acme"}
    sqs.send_message(QueueUrl=local.queue_url, MessageBody=json.dumps(body))
    local.run_until_idle()
    (run,) = local.client.runs()
    assert run.status == RunStatus.COMPLETED
    assert run.event.id.startswith("evt_")
    assert (run.event.tenant, run.event.ts.isoformat()) == ("acme", "2025-12-31T23:00:00+00:00")


def _listening(app: Stepwell) -> Stepwell:
    app.function(on=OrderCreated, id="fn")(_nothing)
    return app
