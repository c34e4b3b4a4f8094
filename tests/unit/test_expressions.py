"""CEL expressions over events."""

from __future__ import annotations

from typing import Any

import pytest

from stepwell.errors import InvalidOption
from stepwell.expressions import check_expression, expression

EVENT = {
    "id": "e-1",
    "name": "order/created",
    "data": {
        "amount": 101,
        "price": 1.5,
        "vip": True,
        "tags": ["a", "b"],
        "who": {"mail": "ada@example.com"},
        "no": None,
    },
    "ts": 1_767_225_600_000,
    "tenant": None,
}


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("event.data.amount", 101),
        ("event.data.amount * 2 + 1", 203),
        ("event.data.price", 1.5),
        ("event.data.vip", True),
        ("event.data.tags", ["a", "b"]),
        ("event.data.who", {"mail": "ada@example.com"}),
        ("event.data.who.mail.endsWith('.com')", True),
        ("event.data.no", None),
        ("event.tenant", None),
        ("event.ts > 0", True),
        ("size(event.data.tags)", 2),
        ("event.data.vip ? 10 : 0", 10),
        ("async.data.n == event.data.amount", True),
        ("'a' in event.data.tags", True),
        ("has(event.data.missing)", False),
    ],
)
def test_an_expression_gives_plain_json(source: str, value: Any) -> None:
    found = expression(source).value(EVENT, {"data": {"n": 101}})
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("source", ["event.data.missing", "event.data.amount + 'x'", "1 / 0", "async.data.n"])
def test_what_cannot_be_evaluated_is_a_value_error_and_as_a_condition_does_not_hold(source: str) -> None:
    with pytest.raises(ValueError):
        expression(source).value(EVENT)
    assert not expression(source).holds(EVENT)


@pytest.mark.parametrize("source", ["event.data.amount", "'true'", "event.data.tags", "null"])
def test_only_true_is_true(source: str) -> None:
    assert not expression(source).holds(EVENT)


@pytest.mark.parametrize("source", ["event.data.", "event.data.amount >", "nobody.data", "", "  ", None, 7])
def test_what_is_no_expression_is_refused_naming_where_it_stood(source: Any) -> None:
    with pytest.raises(InvalidOption, match=r"^where"):
        check_expression(source, what="where")


def test_what_is_wrong_with_an_expression_is_told_in_one_line() -> None:
    with pytest.raises(InvalidOption) as caught:
        check_expression("event.data.x = 1", what="where")
    assert caught.value.message == (
        "where: 'event.data.x = 1' is not a CEL expression: token recognition error at: '= ' (character 14)."
    )


def test_an_expression_is_compiled_once() -> None:
    assert expression("event.data.amount > 7") is expression("event.data.amount > 7")
