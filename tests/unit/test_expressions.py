"""CEL expressions over events."""

from __future__ import annotations

from typing import Any

import pytest

from stepwell.errors import InvalidOption
from stepwell.expressions import EVENTS, check_expression, expression

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


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("event.user == 1", "event.user"),
        ("event.data.n > 1 && event .amount > 1", "event.amount"),
        ("has(event.user)", "event.user"),
        ("async.user == event.data.user", "async.user"),
    ],
)
def test_a_field_that_no_event_has_is_refused_with_what_may_be_meant(source: str, path: str) -> None:
    meant = path.replace(".", ".data.")
    with pytest.raises(InvalidOption, match=f"asks for {path}, which no event has; .* Did you mean {meant}"):
        check_expression(source, what="where", variables=EVENTS)


@pytest.mark.parametrize(
    "source",
    [
        "event.ts > 1 && event.id != event.name && event.tenant == event.data.user",
        "event.data.event.user == async.data.async.user",
        "event.name == 'event.user'",
        'event.name == "async.user"',
        r"event.name == 'it\'s event.user'",
        "event.exists(field, field == 'data')",
        "event.data.lines.exists(event, event.amount > 1)",
        "event['data'].user == 1",
    ],
)
def test_what_only_looks_like_a_field_of_an_event_is_taken(source: str) -> None:
    assert check_expression(source, what="where", variables=EVENTS) == source


def test_the_event_that_comes_in_is_there_only_where_one_comes_in() -> None:
    with pytest.raises(InvalidOption, match=r"^key: 'async.data.n' names async, .* here there is only event"):
        check_expression("async.data.n", what="key")
    for source in ("event.data.async", "event.name == 'async'", "event.data.l.exists(async, async.n > 1)"):
        assert check_expression(source, what="key") == source


def test_an_expression_is_compiled_once() -> None:
    assert expression("event.data.amount > 7") is expression("event.data.amount > 7")
