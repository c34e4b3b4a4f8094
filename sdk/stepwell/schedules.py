"""Schedules: when a cron expression ticks, in the wall-clock time of a zone.

An expression names local dates and times. Each of them ticks once, whatever the clocks do:

    a local time that is skipped     ticks at the jump, the first instant after the gap
    a local time that comes twice    ticks the first time
    several on one instant           are one tick (02:00 and 03:00, when 02:00 is skipped)

So a schedule of every hour or quarter of an hour has no tick in the hour that is repeated, and one at each hour that
passes when one is skipped. What has to run at even distances takes tz="UTC".

The calendar is cronsim's, over local times without a zone; the zone is put on here, because libraries that do both differ
in what they make of a change of clocks. Neither is imported before the first schedule, so what has none pays nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any

from stepwell.clock import from_millis
from stepwell.durations import Duration, seconds
from stepwell.errors import InvalidOption
from stepwell.ids import digest

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

FIELDS = "minute (0-59), hour (0-23), day of month (1-31), month (1-12), day of week (0-7, 0 and 7 are Sunday)"
MAX_EXPRESSION = 256
"""Characters; an expression stands in a key of the table, and the longest sensible ones are half of that."""
_SOME_DAY = datetime(2026, 1, 1)  # noqa: DTZ001 - a wall-clock time
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A cron expression in a time zone. Times are milliseconds since the epoch; ticks are whole minutes of local time."""

    expression: str
    """Five fields, single spaces between them."""
    tz: str = "UTC"
    """An IANA name."""
    jitter: float = 0.0
    """Seconds; how much later than its tick a run begins at most."""

    @classmethod
    def checked(cls, expression: str, tz: str, jitter: Duration | None = None) -> Schedule:
        """The schedule as a user wrote it. Raises InvalidOption, saying what is wrong, if it could never tick."""
        schedule = cls(" ".join(expression.split()), tz, round(seconds(jitter or 0, what="jitter"), 3))
        shown = f"Cron({expression[:80]!r})"
        if 0 < schedule.jitter < 1:
            raise InvalidOption(
                f"{shown}: jitter={jitter!r} is less than a second, and ticks are delayed by whole seconds."
            )
        count = len(schedule.expression.split())
        if len(schedule.expression) > MAX_EXPRESSION:
            raise InvalidOption(f"{shown}... is longer than {MAX_EXPRESSION} characters.")
        if count != 5:
            more = " There are no seconds: a tick is a whole minute." if count == 6 else ""
            raise InvalidOption(f"{shown} has {count} field{'' if count == 1 else 's'}, not five: {FIELDS}.{more}")
        try:
            first = next(schedule._local_times(_SOME_DAY), None)
        except ValueError as error:
            raise InvalidOption(f"{shown}: {str(error).lower()}. The five fields are {FIELDS}.") from None
        if first is None:
            raise InvalidOption(f"{shown} never fires: there is no such day.")
        _zone(tz)
        return schedule

    @classmethod
    def from_json(cls, trigger: Mapping[str, Any]) -> Schedule:
        """The schedule of a trigger in a manifest."""
        return cls(trigger["cron"], trigger["tz"], trigger.get("jitter", 0.0))

    def as_json(self) -> dict[str, Any]:
        """The trigger as a manifest keeps it."""
        trigger: dict[str, Any] = {"cron": self.expression, "tz": self.tz}
        return trigger | ({"jitter": self.jitter} if self.jitter else {})

    def after(self, ms: int) -> int:
        """The first tick after `ms`. Raises InvalidOption if there is none in fifty years."""
        zone = _zone(self.tz)
        # Local times that have passed may come again, but their ticks were the first time; so the search begins here.
        for local in self._local_times(from_millis(ms).astimezone(zone).replace(tzinfo=None)):
            tick = _instant(local, zone)
            if tick > ms:
                return tick
        raise InvalidOption(f"Cron({self.expression!r}) never fires again.")

    def last(self, ms: int) -> int | None:
        """The last tick at `ms` or before, None if there was none in fifty years."""
        zone = _zone(self.tz)
        now = from_millis(ms).replace(microsecond=0)
        local = now.astimezone(zone)
        # In the repeated hour the clock shows less than it has shown: what it showed just before has ticked as well.
        offsets = [each.utcoffset() or timedelta() for each in (local, local.replace(fold=0))]
        shown = (now + max(offsets)).replace(tzinfo=None)
        for each in self._local_times(shown + _SECOND, backwards=True):
            tick = _instant(each, zone)
            if tick <= ms:
                return tick
        return None

    def fires(self, tick: int, owner: str) -> int:
        """When a run of this tick is to begin: the tick and its jitter.

        Always the same for one tick and `owner`, and always before the next tick, so ticks keep their order.
        """
        if not self.jitter:
            return tick
        room = min(int(self.jitter), (self.after(tick) - tick) // 1000 - 1)  # whole seconds: SQS delays by no less
        chance = int.from_bytes(digest("jitter", owner, str(tick))[:8], "big")
        return tick + ((room + 1) * chance >> 64) * 1000

    def local(self, tick: int) -> str:
        """A tick in the wall-clock time of the zone, as ISO 8601 with its offset."""
        return from_millis(tick).astimezone(_zone(self.tz)).isoformat()

    def _local_times(self, start: datetime, *, backwards: bool = False) -> Iterator[datetime]:
        """The local times the expression names after `start`, or before it. Raises ValueError for a bad expression."""
        from cronsim import CronSim, CronSimError

        try:
            times: Iterator[datetime] = CronSim(self.expression, start, reverse=backwards)
        except CronSimError as error:
            # The day is also called bad if each field is fine and only no month of these has so many days.
            minute, hour, day, _, weekday = self.expression.split()
            with suppress(CronSimError):
                CronSim(f"{minute} {hour} {day} * {weekday}", start)
                if "day-of-month" in str(error):
                    return iter(())
            raise ValueError(str(error)) from None
        return times


def _zone(name: str) -> ZoneInfo:
    """The time zone of this name: the system's, or where it has none (as in Lambda) that of the package tzdata."""
    from zoneinfo import ZoneInfo, available_timezones

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # what is no name at all fails in other ways than what is not known
        from difflib import get_close_matches

        close = get_close_matches(name, available_timezones(), n=1)
        meant = f" Did you mean {close[0]!r}?" if close else ""
        raise InvalidOption(
            f"tz={name!r} is no time zone; write an IANA name, such as 'Europe/Paris'.{meant}"
        ) from None


def _instant(local: datetime, zone: tzinfo) -> int:
    """When a local time comes, the first time if it comes twice; when it is skipped, the jump."""
    second = round(local.replace(tzinfo=zone).timestamp())
    if _local(second, zone) != local:
        # Skipped. By the offset of before the jump it would lie after it, by that of after the jump before it.
        earlier = round(local.replace(tzinfo=zone, fold=1).timestamp())
        between = range(earlier, second + 1)
        second = between[bisect_left(between, True, key=lambda each: _local(each, zone) > local)]
    return second * 1000


def _local(second: int, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(second, UTC).astimezone(zone).replace(tzinfo=None)
