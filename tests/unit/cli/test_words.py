"""Times, counts and values in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from stepwell.cli import words
from stepwell.errors import InvalidOption

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0ms"),
        (0.0324, "32ms"),
        (0.9996, "1s"),
        (1, "1s"),
        (4.21, "4.2s"),
        (9.96, "10s"),
        (59.6, "1m"),
        (3600, "1h"),
        (3661, "1h1m"),
        (86_400 + 3, "1d"),
        (93_784, "1d2h"),
        (-1, "0ms"),
    ],
)
def test_a_duration_has_at_most_two_units_and_no_false_precision(seconds: float, said: str) -> None:
    assert words.duration(seconds) == said


@pytest.mark.parametrize(
    ("back", "said"),
    [
        (timedelta(0), "just now"),
        (timedelta(seconds=12), "12s ago"),
        (timedelta(hours=3, minutes=59), "3h ago"),
        (timedelta(days=6), "6d ago"),
        (timedelta(days=40), "2026-01-20"),
        (timedelta(minutes=-5), "in 5m"),
    ],
)
def test_a_moment_is_told_by_how_long_ago_it_was_until_only_its_date_matters(back: timedelta, said: str) -> None:
    assert words.ago(NOW - back, NOW) == said


def test_the_date_is_left_out_for_what_happened_today() -> None:
    assert words.moment(NOW - timedelta(hours=1), NOW) == "11:00:00"
    assert words.moment(NOW - timedelta(days=1), NOW) == "2026-02-28 12:00"
    assert words.moment(None, NOW) == ""


@pytest.mark.parametrize(
    ("count", "noun", "said"),
    [(1, "run", "1 run"), (0, "run", "0 runs"), (1800, "step", "1,800 steps"), (2, "step body", "2 step bodies")],
)
def test_counts_agree_with_their_nouns(count: int, noun: str, said: str) -> None:
    assert words.several(count, noun) == said


def test_a_preview_is_one_line_of_json_that_is_never_longer_than_asked() -> None:
    assert words.preview({"a": 1, "b": "ü"}) == '{"a": 1, "b": "ü"}'
    assert words.preview({"text": "x" * 100}, 20) == '{"text": "xxxxxxxxx…'
    assert words.cut("two\n  lines", 20) == "two lines"


def test_a_time_is_given_as_an_age_or_in_iso_8601_where_naive_means_utc() -> None:
    assert words.point_in_time("90m", now=NOW, option="--since") == NOW - timedelta(minutes=90)
    assert words.point_in_time("2026-02-01T10:00", now=NOW, option="--since") == datetime(2026, 2, 1, 10, tzinfo=UTC)
    assert words.point_in_time("2026-02-01T10:00+02:00", now=NOW, option="--since") == datetime(
        2026, 2, 1, 8, tzinfo=UTC
    )
    with pytest.raises(InvalidOption, match=r"--since: 'yesterday' is neither a duration .* nor a time"):
        words.point_in_time("yesterday", now=NOW, option="--since")


def test_programs_get_times_in_utc_with_milliseconds() -> None:
    assert words.iso(NOW) == "2026-03-01T12:00:00.000Z"
    assert words.iso(None) is None
