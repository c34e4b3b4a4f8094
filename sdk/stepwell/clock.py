"""Time, passed in. Nothing below the handlers asks the operating system what time it is."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

MAX_MILLIS = 253_402_300_799_999
"""The last millisecond of the year 9999, the last that a datetime can hold."""


class Clock(Protocol):
    """What the engine needs of time."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...


class SystemClock:
    """The clock of the machine. Lambda hosts are kept within milliseconds of each other by AWS's time service."""

    def now(self) -> float:
        return time.time()


def millis(seconds: float) -> int:
    """Stored times are whole milliseconds: small, exact, and sortable as text when padded."""
    return round(seconds * 1000)


def from_millis(ms: int) -> datetime:
    """An aware datetime in UTC from stored milliseconds; the nearest there is, from 1970 to 9999.

    A ULID can carry a time up to the year 10889. What was stored with one must still be listed, and ended.
    """
    return datetime.fromtimestamp(min(max(ms, 0), MAX_MILLIS) / 1000, UTC)


def iso(ms: int) -> str:
    """ISO 8601 in UTC, for people."""
    return from_millis(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")
