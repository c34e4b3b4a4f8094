"""Which ticks are posted when: each of them ahead of its time, and after an outage the last one only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.decisions.ticks import LEAD, due_at, ticks_to_post
from stepwell.schedules import Schedule

MINUTE, HOUR = 60_000, 3_600_000
HOURLY = Schedule("0 * * * *")
OWNER = "shop/report"


@pytest.mark.parametrize(
    ("now", "posted", "following"),
    [
        (10 * HOUR - LEAD, [10], 11),  # as soon as it is due
        (10 * HOUR - 1, [10], 11),
        (10 * HOUR, [10], 11),  # late, but the only one
        (10 * HOUR + 59 * MINUTE, [10, 11], 12),
        (15 * HOUR + 30 * MINUTE, [15], 16),  # of 10 to 15 the last
        (15 * HOUR + 59 * MINUTE, [15, 16], 17),  # and the next, which is near
        (10 * HOUR - LEAD - 1, [], 10),
    ],
)
def test_ticks_are_posted_ahead_and_of_missed_ones_the_last(now: int, posted: list[int], following: int) -> None:
    ticks, after = ticks_to_post(HOURLY, 10 * HOUR, now, OWNER)
    assert ([tick // HOUR for tick in ticks], after // HOUR) == (posted, following)


def test_a_tick_that_waits_for_its_jitter_is_not_missed_yet() -> None:
    schedule = Schedule("0 * * * *", "UTC", 1800)
    tick = next(hour * HOUR for hour in range(10, 99) if schedule.fires(hour * HOUR, OWNER) > hour * HOUR + 5 * MINUTE)
    ticks, following = ticks_to_post(schedule, tick - 3 * HOUR, tick + MINUTE, OWNER)
    assert (ticks, following) == ([tick - HOUR], tick)
    assert due_at(schedule, tick, OWNER) == schedule.fires(tick, OWNER) - LEAD


@given(
    st.sampled_from(["* * * * *", "*/7 * * * *", "0 * * * *", "30 2 * * *"]),
    st.sampled_from(["UTC", "Europe/Paris", "Australia/Lord_Howe"]),
    st.integers(0, 3600),
    st.integers(1_772_000_000_000, 1_780_000_000_000),
    st.lists(st.integers(1, 40 * HOUR), min_size=1, max_size=8),
)
def test_however_the_sweeper_comes_ticks_rise_and_only_the_last_missed_one_is_late(
    expression: str, tz: str, jitter: int, begin: int, pauses: list[int]
) -> None:
    schedule = Schedule(expression, tz, jitter)
    tick, now, everything = schedule.after(begin), begin, []
    for pause in pauses:
        now += pause
        posted, following = ticks_to_post(schedule, tick, now, OWNER)
        late = [each for each in posted if schedule.fires(each, OWNER) <= now]
        assert len(late) <= 1
        assert due_at(schedule, following, OWNER) > now, "what is due now is posted now"
        missed = schedule.fires(tick, OWNER) <= now
        assert bool(late) == missed
        if late:  # the tick after the one that is made good is still to come
            assert schedule.fires(schedule.after(late[0]), OWNER) > now
        everything += posted
        tick = following
    assert everything == sorted(set(everything))


@given(st.integers(1_772_000_000_000, 1_780_000_000_000), st.integers(0, 59_999), st.integers(0, 300))
def test_a_sweeper_that_comes_every_minute_or_misses_one_posts_each_tick_ahead(
    begin: int, offset: int, jitter: int
) -> None:
    schedule = Schedule("*/2 * * * *", "Europe/Paris", jitter)
    tick = first = schedule.after(begin)
    expected, found = [], []
    for sweep in range(first - LEAD - offset, first + 20 * MINUTE, 2 * MINUTE):
        posted, tick = ticks_to_post(schedule, tick, sweep, OWNER)
        assert all(schedule.fires(each, OWNER) > sweep for each in posted)
        found += posted
    while len(expected) < len(found):
        expected.append(schedule.after(expected[-1]) if expected else first)
    assert found == expected
    assert len(found) >= 9
