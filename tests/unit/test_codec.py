"""JSON as it is stored and sent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.codec import (
    WRITE_UNIT,
    canonical,
    deeper_than,
    dumps,
    loads,
    parse,
    sendable,
    squeeze,
    units,
    unsqueeze,
)
from stepwell.errors import NotSerializable


def values(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[Any]:
    text = st.text(st.characters(codec="utf-8"))
    return st.recursive(
        st.none() | st.booleans() | st.integers() | numbers | text,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
        max_leaves=20,
    )


JSON_VALUES = values(st.floats(allow_nan=False))


@given(JSON_VALUES)
def test_what_is_written_can_be_read_again(value: Any) -> None:
    assert loads(dumps(value)) == value
    assert loads(canonical(value)) == value


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), st.integers()))
def test_equal_objects_have_one_canonical_text_whatever_the_order_of_their_keys(value: dict[str, int]) -> None:
    assert canonical(value) == canonical(dict(reversed(value.items())))


def test_text_is_as_short_as_it_can_be() -> None:
    assert dumps({"a": [1, "ż"]}) == '{"a":[1,"ż"]}'


@pytest.mark.parametrize("value", [object(), {1: {2, 3}}, b"x", "\ud800", float])
def test_what_is_no_json_is_refused(value: Any) -> None:
    with pytest.raises(NotSerializable):
        dumps(value)


@given(values(st.floats(allow_nan=False, allow_infinity=False)))
def test_what_is_sent_is_json_to_everybody_and_says_the_same(value: Any) -> None:
    assert parse(sendable(value)) == value


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (float("nan"), "it is nan"),
        ({"order": {"lines": [1, {"price": float("inf")}]}}, "order.lines[1].price is inf"),
        ({"a": [-float("inf")]}, "a[0] is -inf"),
        ({"a": ["x\ud800y"]}, "a[0] holds half of a surrogate pair"),
        ({"a": {"\udfff": 1}}, "a has a name that holds half of a surrogate pair"),
        ({"a": object()}, "object"),
    ],
)
def test_what_cannot_be_sent_is_refused_saying_where_it_stands(value: Any, says: str) -> None:
    with pytest.raises(NotSerializable) as caught:
        sendable(value)
    assert says in caught.value.message


def test_what_is_only_stored_may_be_no_number() -> None:
    assert str(loads(dumps({"mean": float("nan")}))["mean"]) == "nan"


def test_what_sqs_does_not_take_is_spelled_out_and_means_the_same() -> None:
    value = {"\ufffe": "a\uffffb\\\uffff", "control": "\x00\x1f\t\n"}
    text = sendable(value)
    assert not {character for character in text if character < " " or character in "\ufffe\uffff"}
    assert loads(text) == value


@pytest.mark.parametrize("text", ["NaN", '{"x": Infinity}', "[-Infinity]", "nul", "", "{"])
def test_what_others_have_written_is_read_as_json_alone(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


def test_what_is_nested_too_deeply_to_be_written_is_refused() -> None:
    deep: Any = 1
    for _ in range(50_000):
        deep = [deep]
    for write in (dumps, sendable):
        with pytest.raises(NotSerializable, match="nested too deeply"):
            write(deep)


@given(JSON_VALUES, st.integers(0, 5))
def test_how_deep_a_value_is(value: Any, most: int) -> None:
    def depth(inner: Any) -> int:
        children = inner.values() if isinstance(inner, dict) else inner if isinstance(inner, list) else None
        return 0 if children is None else 1 + max(map(depth, children), default=0)

    assert deeper_than(value, most) == (depth(value) > most)


def test_a_value_that_holds_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(NotSerializable):
        dumps(endless)


@given(st.text(st.characters(codec="utf-8"), max_size=3000), st.integers(0, 3000))
def test_squeezing_loses_nothing_and_never_costs_more(text: str, beside: int) -> None:
    stored = squeeze(text, beside)
    assert unsqueeze(stored) == text
    size = len(stored) if isinstance(stored, bytes) else len(stored.encode())
    assert units(beside + size) <= units(beside + len(text.encode()))


def test_text_is_compressed_only_if_that_saves_a_write_unit() -> None:
    assert isinstance(squeeze("x" * (WRITE_UNIT - 100), 100), str)
    assert isinstance(squeeze("x" * (WRITE_UNIT - 99), 100), bytes)
    assert isinstance(squeeze("x" * 50, 2 * WRITE_UNIT - 51), str), "nothing is saved here"


def test_units_are_kilobytes_begun() -> None:
    assert [units(size) for size in (0, 1, 1024, 1025, 10_240)] == [1, 1, 1, 2, 10]
