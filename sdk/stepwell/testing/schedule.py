"""The rule of EventBridge that invokes the sweeper every minute."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from stepwell.store.layout import due_millis

MINUTE = 60.0


class EveryMinute:
    """When the sweeper is invoked next, and with what."""

    def __init__(self, now: float, *, account: str, region: str) -> None:
        self._account, self._region = account, region
        self._last = now

    def next_at(self, now: float, due: Collection[str]) -> float | None:
        """The next full minute at which the sweeper could find any of what is `due` (keys of the index), None if none.

        The minutes before it are skipped: the sweeper would read an index that holds nothing for it.
        """
        if not due:
            return None
        earliest = max(self._last + 0.001, min(map(due_millis, due)) / 1000, now)
        return -(-earliest // MINUTE) * MINUTE

    def event(self, at: datetime, event_id: str) -> dict[str, Any]:
        """What the rule invokes the sweeper with, now."""
        self._last = at.timestamp()
        return {
            "version": "0",
            "id": event_id,
            "detail-type": "Scheduled Event",
            "source": "aws.events",
            "account": self._account,
            "time": at.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "region": self._region,
            "resources": [f"arn:aws:events:{self._region}:{self._account}:rule/stepwell-sweeper"],
            "detail": {},
        }
