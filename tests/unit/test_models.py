"""Typed events, apart from any queue."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from stepwell import EventModel
from stepwell.errors import InvalidEvent, InvalidOption
from stepwell.events import Envelope
from stepwell.models import event_body, name_of, typed_event


class Order(EventModel, name="order/created"):
    order_id: str
    at: datetime | None = None


class BigOrder(Order):
    size: int = 1


class Nameless(EventModel):
    n: int


def test_a_model_has_the_name_it_was_given_and_a_subclass_that_of_its_base() -> None:
    assert [name_of(event) for event in ("x", Order, BigOrder)] == ["x", "order/created", "order/created"]


@pytest.mark.parametrize("event", [Nameless, 5, None, dict, Order(order_id="1")])
def test_what_has_no_event_name_is_refused(event: Any) -> None:
    with pytest.raises(InvalidOption):
        name_of(event)


@pytest.mark.parametrize("name", ["", "a b", "order/*", "a#b"])
def test_a_name_that_is_none_is_refused_where_the_class_is_written(name: str) -> None:
    with pytest.raises(InvalidEvent):
        type("Bad", (EventModel,), {}, name=name)


def test_the_data_of_an_event_to_send_is_plain_json() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert event_body(Order(order_id="1", at=at), None) == (
        "order/created",
        {"order_id": "1", "at": "2026-01-01T00:00:00Z"},
    )
    assert event_body(Order, {"order_id": "1"}) == ("order/created", {"order_id": "1", "at": None})
    assert event_body("x", {"at": at, "order": Order(order_id="1")})[1]["order"]["order_id"] == "1"
    assert event_body("x", Order(order_id="1")) == ("x", {"order_id": "1", "at": None})  # type: ignore[arg-type]
    assert event_body("x", None) == ("x", {})


@pytest.mark.parametrize(
    ("event", "data"),
    [("x", [1]), ("x", "text"), ("", {}), (None, {}), (7, {}), (Order, {}), (Order, {"order_id": 5}),
     (Order(order_id="1"), {"n": 1})],
)  # fmt: skip
def test_an_event_that_cannot_be_sent_is_refused(event: Any, data: Any) -> None:
    with pytest.raises(ValueError):
        event_body(event, data)


def test_a_function_sees_its_model_or_hears_which_fields_do_not_fit() -> None:
    found = typed_event(Envelope("e-1", "order/created", {"order_id": "1", "later": True}, 0), Order)
    assert found.data == Order(order_id="1"), "fields of a newer sender are ignored"
    with pytest.raises(
        InvalidEvent, match=r"'order/created' \(e-1, 1970-01-01T00:00:00.000Z\).*Order: order_id: .*at: "
    ):
        typed_event(Envelope("e-1", "order/created", {"order_id": 1, "at": "never"}, 0), Order)
    assert typed_event(Envelope("e-1", "x", {"any": 1}, 0), None).data == {"any": 1}
