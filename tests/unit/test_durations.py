"""Durations as users write them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.durations import seconds, spoken
from stepwell.errors import InvalidOption


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("500ms", 0.5), ("30s", 30), ("10m", 600), ("1h30m", 5400), ("3d", 259200), ("2w", 1209600), (" 1h 5m ", 3900),
        ("1.5h", 5400), ("0s", 0), (timedelta(days=1, seconds=2), 86402), (7, 7), (0.25, 0.25), (0, 0),
    ],
)  # fmt: skip
def test_a_duration_is_text_a_number_of_seconds_or_a_timedelta(written: Any, expected: float) -> None:
    assert seconds(written) == expected


@pytest.mark.parametrize(
    "written",
    ["", " ", "10", "m", "10 minutes", "-5s", "1h x", "x 1h", "1,5h", -1, timedelta(seconds=-1), float("nan"),
     float("inf"), True, None, [1], b"5s"],
)  # fmt: skip
def test_anything_else_is_refused_naming_what_it_was_for(written: Any) -> None:
    with pytest.raises(InvalidOption, match=r"^timeout: "):
        seconds(written, what="timeout")


@given(st.integers(1, 10**8))
def test_what_is_spoken_can_be_read_again(value: int) -> None:
    assert seconds(spoken(value)) == value


def test_less_than_a_second_is_spoken_in_milliseconds() -> None:
    assert [spoken(value) for value in (0, 0.0004, 0.25, 1, 90061)] == ["0ms", "0ms", "250ms", "1s", "1d1h1m1s"]
