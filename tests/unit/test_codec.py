"""JSON as it is stored and sent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.codec import WRITE_UNIT, canonical, dumps, loads, squeeze, units, unsqueeze
from stepwell.errors import NotSerializable

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=20,
)


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
