"""When schedules tick: over a whole year against another library, minute by minute around changes of clocks, and by law."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwell.errors import InvalidOption
from stepwell.schedules import Schedule

MINUTE = 60_000
DAY = 86_400


def ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def ticks(schedule: Schedule, begin: int, end: int) -> list[int]:
    """All ticks after `begin` and before `end`."""
    found, tick = [], begin
    while (tick := schedule.after(tick)) < end:
        found.append(tick)
    return found


def told(schedule: Schedule, begin: datetime, count: int) -> list[str]:
    """The next ticks in the wall-clock time of the zone."""
    found, tick = [], ms(begin)
    for _ in range(count):
        tick = schedule.after(tick)
        found.append(schedule.local(tick))
    return found


# ---- what is said of changes of clocks


@pytest.mark.parametrize(
    ("expression", "tz", "begin", "expected"),
    [
        # Paris, 29 March: 02:00 to 03:00 is skipped. 25 October: 02:00 to 03:00 comes twice.
        (
            "30 2 * * *",
            "Europe/Paris",
            datetime(2026, 3, 28),
            ["2026-03-28T02:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"],
        ),
        (
            "30 2 * * *",
            "Europe/Paris",
            datetime(2026, 10, 24),
            ["2026-10-24T02:30:00+02:00", "2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"],
        ),
        (
            "0 * * * *",
            "Europe/Paris",
            datetime(2026, 3, 29),
            ["2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-29T04:00:00+02:00"],
        ),
        (
            "0 * * * *",
            "Europe/Paris",
            datetime(2026, 10, 25),
            ["2026-10-25T01:00:00+02:00", "2026-10-25T02:00:00+02:00", "2026-10-25T03:00:00+01:00"],
        ),
        (
            "*/30 * * * *",
            "Europe/Paris",
            datetime(2026, 10, 25, 1, 45),
            ["2026-10-25T02:00:00+02:00", "2026-10-25T02:30:00+02:00", "2026-10-25T03:00:00+01:00"],
        ),
        (
            "0,15 2,3 * * *",
            "Europe/Paris",
            datetime(2026, 3, 29),
            ["2026-03-29T03:00:00+02:00", "2026-03-29T03:15:00+02:00", "2026-03-30T02:00:00+02:00"],
        ),
        # Lord Howe Island changes its clocks by half an hour: 02:00 to 02:30 is skipped, 01:30 to 02:00 comes twice.
        (
            "0 * * * *",
            "Australia/Lord_Howe",
            datetime(2026, 10, 4, 0, 30),
            ["2026-10-04T01:00:00+10:30", "2026-10-04T02:30:00+11:00", "2026-10-04T03:00:00+11:00"],
        ),
        (
            "45 1 * * *",
            "Australia/Lord_Howe",
            datetime(2026, 4, 5),
            ["2026-04-05T01:45:00+11:00", "2026-04-06T01:45:00+10:30"],
        ),
        # In Santiago midnight itself is skipped, so the day begins at one.
        (
            "0 0 * * *",
            "America/Santiago",
            datetime(2026, 9, 5, 12),
            ["2026-09-06T01:00:00-03:00", "2026-09-07T00:00:00-03:00"],
        ),
        # Samoa crossed the date line: there was no 30 December 2011.
        (
            "0 8 30 12 *",
            "Pacific/Apia",
            datetime(2011, 12, 1),
            ["2011-12-31T00:00:00+14:00", "2012-12-30T08:00:00+14:00"],
        ),
    ],
)
def test_each_local_time_ticks_once_a_skipped_one_at_the_jump_a_repeated_one_the_first_time(
    expression: str, tz: str, begin: datetime, expected: list[str]
) -> None:
    schedule = Schedule.checked(expression, tz)
    assert told(schedule, begin.replace(tzinfo=ZoneInfo(tz)), len(expected)) == expected


# ---- a year against another library

YEAR = [
    "0 0 * * *",
    "0 8 * * *",
    "15 1 * * *",
    "0 2 * * *",
    "30 2 * * *",
    "45 1 * * 0",
    "30 23 * * *",
    "30 1,2,3 * * *",
    "0 2,3 * * *",
    "0 0-4 * * *",
    "*/30 1-3 * * *",
    "0 9 * * 1-5",
    "0 0 1 * *",
    "0 12 13 * 5",
    "30 2 * 3,4,10,11 SUN",
]


AUTUMN = {
    "Europe/Paris": datetime(2026, 10, 25),
    "America/New_York": datetime(2026, 11, 1),
    "Australia/Lord_Howe": datetime(2026, 4, 5),
}
"""When clocks are put back."""


def by_croniter(expression: str, begin: datetime, end: datetime) -> tuple[list[int], list[datetime]]:
    """Its ticks; and apart from them those at local times that come for the second time."""
    ticks, second_times = [], []
    other = croniter(expression, begin)
    while (moment := other.get_next(datetime)) < end:
        if moment.fold:
            second_times.append(moment)
        else:
            ticks.append(ms(moment))
    return ticks, second_times


@pytest.mark.parametrize("tz", AUTUMN)
@pytest.mark.parametrize("expression", YEAR)
def test_a_year_is_as_croniter_has_it_but_for_what_comes_twice(expression: str, tz: str) -> None:
    """The one difference: croniter lets a repeated local time tick twice, which is what we promise not to do."""
    begin, end = datetime(2026, 1, 1, tzinfo=ZoneInfo(tz)), datetime(2027, 1, 1, tzinfo=ZoneInfo(tz))
    theirs, second_times = by_croniter(expression, begin, end)

    assert ticks(Schedule.checked(expression, tz), ms(begin), ms(end)) == theirs
    assert {moment.date() for moment in second_times} <= {AUTUMN[tz].date()}


@pytest.mark.parametrize("tz", AUTUMN)
@pytest.mark.parametrize("expression", ["0 * * * *", "*/15 * * * *"])
@pytest.mark.parametrize("month", [3, 4, 10, 11])
def test_every_hour_and_quarter_is_as_croniter_has_it_but_for_what_comes_twice(
    expression: str, tz: str, month: int
) -> None:
    """And for one full hour on Lord Howe, skipped for half an hour: croniter drops it, with us it ticks at the jump."""
    zone = ZoneInfo(tz)
    begin, end = datetime(2026, month, 1, tzinfo=zone), datetime(2026, month, 9, tzinfo=zone)
    if tz == "Europe/Paris":
        begin, end = begin + timedelta(days=20), end + timedelta(days=20)
    ours = ticks(Schedule.checked(expression, tz), ms(begin), ms(end))
    theirs, _ = by_croniter(expression, begin, end)

    assert [tick for tick in theirs if tick not in ours] == []
    dropped = [datetime.fromtimestamp(tick / 1000, zone).isoformat() for tick in ours if tick not in theirs]
    half_skipped = (expression, tz, month) == ("0 * * * *", "Australia/Lord_Howe", 10)
    assert dropped == (["2026-10-04T02:30:00+11:00"] if half_skipped else [])


# ---- minute by minute, by another way of reckoning

ZONES = [
    "Europe/Paris",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Santiago",
    "America/St_Johns",  # half an hour beside its neighbours
    "Africa/Casablanca",  # goes back for Ramadan
    "Antarctica/Troll",  # jumps by two hours
    "Pacific/Apia",  # skipped a day
    "Asia/Pyongyang",  # changed its standard time by half an hour, twice
    "Asia/Kolkata",
    "UTC",
]


@cache
def changes(tz: str) -> list[int]:
    """The hours from 2005 to 2035 in which the clocks of a zone change, in seconds."""
    zone = ZoneInfo(tz)

    def offset(second: int) -> timedelta | None:
        return datetime.fromtimestamp(second, zone).utcoffset()

    first = round(datetime(2005, 1, 1, tzinfo=UTC).timestamp())
    days = [day for day in range(first, first + 30 * 365 * DAY, DAY) if offset(day) != offset(day + DAY)]
    return [hour for day in days for hour in range(day, day + DAY, 3600) if offset(hour) != offset(hour + 3600)]


@dataclass(frozen=True)
class Fields:
    """A schedule as sets, and its expression."""

    minutes: Sequence[int]
    hours: Sequence[int]
    weekdays: Sequence[int]

    @property
    def expression(self) -> str:
        def listed(values: Sequence[int], count: int) -> str:
            return "*" if len(values) == count else ",".join(map(str, values))

        return f"{listed(self.minutes, 60)} {listed(self.hours, 24)} * * {listed(self.weekdays, 7)}"

    def names(self, local: datetime) -> bool:
        return local.minute in self.minutes and local.hour in self.hours and local.isoweekday() % 7 in self.weekdays


def sets(values: Sequence[int]) -> st.SearchStrategy[Sequence[int]]:
    some = st.lists(st.sampled_from(values), min_size=1, max_size=4, unique=True).map(sorted)
    return st.one_of(some, st.just(values))


FIELDS = st.builds(Fields, sets(range(60)), sets(range(24)), sets(range(7)))


@st.composite
def moments(draw: st.DrawFn) -> tuple[str, int]:
    """A zone, and a time (seconds), most often one at which its clocks change."""
    tz = draw(st.sampled_from(ZONES))
    around = changes(tz) or [1_780_002_000]
    return tz, draw(st.sampled_from(around))


def by_the_minute(fields: Fields, tz: str, begin: int, end: int) -> list[int]:
    """The ticks from one instant (seconds) to another, found by looking at the clock each minute."""
    zone = ZoneInfo(tz)
    found = []
    shown = datetime.fromtimestamp(begin - 60, zone)
    for second in range(begin, end, 60):
        before, shown = shown, datetime.fromtimestamp(second, zone)
        now = shown.replace(tzinfo=None)
        skipped = before.replace(tzinfo=None) + timedelta(minutes=1)
        named = False
        while skipped < now:
            named = named or fields.names(skipped)
            skipped += timedelta(minutes=1)
        if named or (shown.fold == 0 and fields.names(now)):
            found.append(second * 1000)
    return found


@given(FIELDS, moments())
@settings(max_examples=80)
def test_a_schedule_ticks_exactly_when_a_clock_on_the_wall_says_so(fields: Fields, moment: tuple[str, int]) -> None:
    tz, change = moment
    begin, end = change - 14 * 3600, change + 14 * 3600
    schedule = Schedule.checked(fields.expression, tz)

    assert ticks(schedule, begin * 1000 - 1, end * 1000) == by_the_minute(fields, tz, begin, end)


# ---- laws


@given(FIELDS, moments(), st.integers(-100_000_000, 100_000_000))
def test_the_next_tick_is_later_ticks_rise_and_none_is_double(
    fields: Fields, moment: tuple[str, int], distance: int
) -> None:
    tz, change = moment
    schedule, now = Schedule.checked(fields.expression, tz), change * 1000 + distance
    found = [now]
    for _ in range(5):
        found.append(schedule.after(found[-1]))
    assert found == sorted(set(found))
    assert all(tick % MINUTE == 0 for tick in found[1:])


@given(FIELDS, moments(), st.integers(-100_000_000, 100_000_000))
def test_the_last_tick_is_the_one_before_the_next(fields: Fields, moment: tuple[str, int], distance: int) -> None:
    tz, change = moment
    schedule, now = Schedule.checked(fields.expression, tz), change * 1000 + distance
    last = schedule.last(now)
    assert last is not None
    assert last <= now < schedule.after(last)
    assert schedule.last(last) == last
    assert schedule.after(last - 1) == last


@given(FIELDS, moments(), st.integers(0, 200_000), st.text(max_size=5))
def test_jitter_is_stable_within_its_bound_and_keeps_the_order(
    fields: Fields, moment: tuple[str, int], jitter: int, owner: str
) -> None:
    tz, change = moment
    schedule = Schedule.checked(fields.expression, tz, jitter)
    tick = schedule.after(change * 1000)
    fires = schedule.fires(tick, owner)
    assert fires == Schedule.checked(fields.expression, tz, jitter).fires(tick, owner)
    assert tick <= fires <= tick + jitter * 1000
    assert fires <= schedule.after(tick)


def test_jitter_spreads_ticks_and_functions() -> None:
    schedule = Schedule.checked("0 8 * * *", "UTC", "10m")
    days = ticks(schedule, 0, 100 * 86_400_000)
    delays = [schedule.fires(day, "shop/report") - day for day in days]
    assert len(set(delays)) > 80
    assert min(delays) < 60_000
    assert max(delays) > 540_000
    assert len({schedule.fires(days[0], f"shop/fn-{n}") for n in range(100)}) > 80


def test_without_jitter_a_tick_fires_on_the_minute() -> None:
    assert Schedule.checked("0 8 * * *", "UTC").fires(60_000, "shop/report") == 60_000


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 0 L * *", ["2026-01-31", "2026-02-28", "2026-03-31"]),
        ("0 0 * * FRI#2", ["2026-01-09", "2026-02-13", "2026-03-13"]),
        ("0 0 29 2 *", ["2028-02-29", "2032-02-29", "2036-02-29"]),
        ("0 0 13 * 5", ["2026-01-02", "2026-01-09", "2026-01-13"]),  # two days given: either will do
        ("0 0 * JAN,feb 7", ["2026-01-04", "2026-01-11", "2026-01-18"]),
    ],
)
def test_days_may_be_named_in_all_the_ways_of_cron(expression: str, expected: list[str]) -> None:
    days = told(Schedule.checked(expression, "UTC"), datetime(2026, 1, 1, tzinfo=UTC), 3)
    assert [day[:10] for day in days] == expected


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        # January 2026 begins with a Thursday; its Mondays are the 5th, 12th, 19th and 26th.
        ("13 * FRI", [2, 9, 13, 16, 23, 30]),  # neither begins with a star: either will do
        ("1-31/10 * MON", [1, 5, 11, 12, 19, 21, 26, 31]),
        ("L * MON", [5, 12, 19, 26, 31]),
        ("5,12 * 1-2", [5, 6, 12, 13, 19, 20, 26, 27]),
        ("13 * *", [13]),  # one begins with a star: both have to hold
        ("* * MON", [5, 12, 19, 26]),
        ("*/2 * MON", [5, 19]),
        ("*/10 * MON", []),
        ("13-19 * */3", [14, 17, 18]),
        ("*/2 * */2", [1, 3, 11, 13, 15, 17, 25, 27, 29, 31]),
        ("*,13 * MON", [5, 12, 19, 26]),
        ("13,* * MON", list(range(1, 32))),  # a star further on counts for nothing
    ],
)
def test_either_day_will_do_unless_one_of_the_fields_begins_with_a_star(days: str, expected: list[int]) -> None:
    schedule = Schedule.checked(f"0 0 {days}", "UTC")
    begin, end = datetime(2025, 12, 31, 12, tzinfo=UTC), datetime(2026, 1, 31, 12, tzinfo=UTC)
    found = ticks(schedule, ms(begin), ms(end))
    assert [datetime.fromtimestamp(tick / 1000, UTC).day for tick in found] == expected


# ---- what is refused


@pytest.mark.parametrize(
    ("expression", "tz", "says"),
    [
        ("", "UTC", "has 0 fields, not five: minute (0-59)"),
        ("0 8 * *", "UTC", "has 4 fields"),
        ("0 0 8 * * *", "UTC", "has 6 fields, not five"),
        ("0 0 8 * * *", "UTC", "no seconds"),
        ("@daily", "UTC", "has 1 field, not five"),
        ("60 * * * *", "UTC", "bad minute"),
        ("0 24 * * *", "UTC", "bad hour"),
        ("0 0 32 * *", "UTC", "bad day-of-month"),
        ("0 0 * 13 *", "UTC", "bad month"),
        ("0 0 * * 8", "UTC", "bad day-of-week"),
        ("*/0 * * * *", "UTC", "bad minute"),
        ("5-1 * * * *", "UTC", "bad minute"),
        ("soon * * * *", "UTC", "bad minute"),
        ("9" * 300 + " * * * *", "UTC", "longer than 256 characters"),
        ("0 0 31 2 *", "UTC", "never fires"),
        ("0 0 31 4,6,9,11 *", "UTC", "never fires"),
        ("0 8 * * *", "Europe/Pariss", "Did you mean 'Europe/Paris'?"),
        ("0 8 * * *", "Middle Earth", "is no time zone"),
        ("0 8 * * *", "", "is no time zone"),
        ("0 8 * * *", "../etc/passwd", "is no time zone"),
        ("0 8 * * *", "/etc/localtime", "is no time zone"),
        ("0 8 * * *", "Europe", "is no time zone"),
    ],
)
def test_what_can_never_tick_is_refused_saying_why(expression: str, tz: str, says: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        Schedule.checked(expression, tz)
    assert says in caught.value.message
    assert len(caught.value.message) < 400


FIELD = st.from_regex(
    r"(\*|[0-9]{1,2}(-[0-9]{1,2})?|[A-Z]{3}|L|LW|[0-7]#[0-6])(/[0-9]{1,2})?(,[0-9]{1,2})?", fullmatch=True
)


@given(st.lists(FIELD, min_size=4, max_size=6).map(" ".join))
def test_any_text_either_ticks_or_is_refused(text: str) -> None:
    try:
        schedule = Schedule.checked(text, "UTC")
    except InvalidOption:
        return
    first = schedule.after(0)
    assert schedule.last(first) == first


def test_white_space_makes_no_difference_and_the_trigger_is_plain() -> None:
    schedule = Schedule.checked("  0   8 * *\t* ", "Europe/Paris", timedelta(minutes=5))
    assert schedule.as_json() == {"cron": "0 8 * * *", "tz": "Europe/Paris", "jitter": 300.0}
    assert Schedule.from_json(schedule.as_json()) == schedule
    assert Schedule.checked("0 8 * * *", "UTC").as_json() == {"cron": "0 8 * * *", "tz": "UTC"}


def test_where_the_system_has_no_zones_the_package_serves() -> None:
    """As in Lambda, whose own runtime has none."""
    program = """
from stepwell.schedules import Schedule
schedule = Schedule.checked("30 2 * * *", "Europe/Paris")
print(schedule.local(schedule.after(1_774_720_800_000)), Schedule.checked("0 0 * * *", "UTC").after(0))
"""
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONTZPATH": ""},
    )  # fmt: skip
    assert (run.stdout, run.stderr) == ("2026-03-29T03:00:00+02:00 86400000\n", "")
