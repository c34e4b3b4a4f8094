"""Time that moves only when a test says so, and ids and keys that a seed decides."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from random import Random

from stepwell.ids import digest, ulid_of

DEFAULT_START = datetime(2026, 1, 1, tzinfo=UTC)
"""Where the clock of a world stands unless told otherwise: always the same, so that no test depends on the day."""


class VirtualClock:
    """The clock of a local world. It never goes back."""

    def __init__(self, start: datetime | None = None) -> None:
        begin = DEFAULT_START if start is None else start
        if not isinstance(begin, datetime):
            raise TypeError(
                f"start is a datetime with a time zone, such as datetime(2026, 1, 1, tzinfo=UTC); got {start!r}"
            )
        if begin.tzinfo is None:
            raise ValueError(f"start={begin.isoformat()} has no time zone; use datetime(..., tzinfo=UTC)")
        self._now = begin.timestamp()

    def now(self) -> float:
        """Seconds since the epoch, in virtual time."""
        return self._now

    def set(self, now: float) -> None:
        """Move to `now` (epoch seconds); a time that has passed already is an error."""
        if now < self._now:
            raise ValueError(f"the clock cannot go back from {self._now} to {now}")
        self._now = now

    def advance(self, seconds: float) -> None:
        """Move forward by `seconds`."""
        self.set(self._now + seconds)

    def datetime(self) -> datetime:
        """The virtual time, aware, in UTC."""
        return datetime.fromtimestamp(self._now, UTC)


class SeededIds:
    """Ids that are the same in every run of the same test."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def ulid(self, ms: int) -> str:
        """A new ULID whose time is `ms`."""
        return ulid_of(ms, self._random.randbytes(10))

    def token_bytes(self, count: int) -> bytes:
        """`count` bytes of the seed's sequence: repeatable, so never a secret."""
        return self._random.randbytes(count)


class SeededKeys:
    """The callback keys of a local world: there from the beginning, and the same in every run of the same test."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def read(self, app: str) -> str:
        """The key of an app: repeatable, so never a secret."""
        return base64.b64encode(digest("callback key", str(self._seed), app)).decode()

    def create(self, app: str, text: str) -> bool:
        """It has one."""
        return False
