"""CEL expressions over events."""

from __future__ import annotations

from typing import Any

import pytest

from stepwell.errors import InvalidOption
from stepwell.expressions import EVENTS, CannotEvaluate, check_expression, expression

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


LARGE = 10**20
"""More than 64 bits hold."""
ENDLESS = "event.data.l.all(a, event.data.l.all(b, event.data.l.all(c, a + b + c >= 0)))"


@pytest.mark.parametrize(
    "large",
    [LARGE, -LARGE, 1 << 64, -(1 << 63) - 1, 10**400, -(10**400)],
    ids=["large", "-large", "65 bits", "-64 bits", "huge", "-huge"],
)
@pytest.mark.parametrize("where", [{"x": 0}, {"x": [{"y": 0}]}, {"x": {"y": [0]}}], ids=["field", "list", "object"])
def test_a_number_of_any_size_that_an_expression_does_not_mention_changes_nothing(large: int, where: Any) -> None:
    def put(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: put(inner) for name, inner in value.items()}
        return [put(inner) for inner in value] if isinstance(value, list) else large

    data = {**EVENT["data"], "beside": put(where)}  # type: ignore[dict-item]
    for source, value in {
        "event.data.amount * 2": 202,
        "event.data.who.mail.endsWith('.com')": True,
        "event.data.amount": 101,
        "async.data.n == event.data.amount": True,
    }.items():
        found = expression(source).value({**EVENT, "data": data}, {"data": {"n": 101, "wei": large}})
        assert found == value
    assert not expression("event.data.missing > 1").holds({"data": data})


def test_a_number_of_more_than_64_bits_counts_as_a_double() -> None:
    event = {"data": {"wei": LARGE, "huge": 10**400, "least": -(10**400)}}
    assert expression("event.data.wei > 5 && event.data.wei == 1e20").value(event) is True
    assert expression("event.data.wei / 4.0").value(event) == 2.5e19
    assert expression("event.data.huge > event.data.wei && event.data.least < 0").value(event) is True
    assert expression("event.data.wei == 1").value(event) is False


def test_a_field_named_by_its_path_alone_keeps_all_its_digits() -> None:
    assert expression("event.data.id").value({"data": {"id": LARGE + 1}}) == LARGE + 1
    for source in ("event.data.id.x", "event.data.l.x", "event.data.nothing", "async.data.id"):
        with pytest.raises(ValueError):
            expression(source).value({"data": {"id": LARGE, "l": [{"x": 1}]}})


def test_half_a_surrogate_pair_that_an_expression_does_not_mention_changes_nothing() -> None:
    event = {"data": {"x": "\ud800", "\ud800": 1, "kind": "a"}}
    assert expression("event.data.kind == 'a' && has(event.data.x)").value(event) is True


def test_what_could_not_be_evaluated_is_told_apart_from_what_has_no_value_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    event = {"data": {"l": list(range(100)), "s": "text"}}
    for source in ("event.data.missing > 1", "event.data.s > 1", "1 / 0 == 1", "int(event.data.s) > 1"):
        with pytest.raises(ValueError) as caught:
            expression(source).value(event)
        assert not isinstance(caught.value, CannotEvaluate)
    assert caplog.records == []
    with pytest.raises(CannotEvaluate, match=r"cannot be evaluated: .*budget"):
        expression(ENDLESS).value(event)
    assert not expression(ENDLESS).holds(event)
    assert [entry.levelname for entry in caplog.records] == ["ERROR"] * 2


def test_an_expression_is_compiled_once() -> None:
    assert expression("event.data.amount > 7") is expression("event.data.amount > 7")
