"""Limits that hold for all instances of the door together.

Lambda runs as many instances as there are requests at a time, so a limit that each keeps by itself is none. The count
stands in the table, one counter for each subject and window of time. An instance draws from it in handfuls of a
twentieth of the limit and spends them without asking again: a busy subject costs about twenty writes a window however
many requests it makes, a quiet one a write for each instance that serves it.

What is exact: in no window are more requests let in than the limit. What is not: as in every count by windows, the end of
one and the beginning of the next may let in twice the limit at once; and what an instance has drawn and not spent is lost
to the others until the window is over, so with many instances the limit may be reached a little early.

If the table does not answer, requests are let in: a limit must not cost anybody an event. Reserved concurrency bounds
what can happen then.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

from stepwell.durations import seconds
from stepwell.ports import Ports
from stepwell.webhooks import Limit

logger = logging.getLogger("stepwell")

HANDFULS = 20
KEPT = 6 * 3600
"""Seconds that a counter is kept beyond its window."""
MOST_KNOWN = 1000


@dataclass(slots=True)
class _Allotment:
    window: int
    left: int
    spent: bool = False
    """Nothing is left of the whole limit in this window."""


class Limiter:
    """What one instance has drawn."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._allotted: dict[str, _Allotment] = {}

    def take(self, subject: str, limit: Limit) -> int:
        """Let one request of `subject` in: 0. If it is above the limit: the whole seconds until it may come again."""
        now, period = self._ports.now(), round(seconds(limit.period) * 1000)
        window = now - now % period
        mine = self._allotted.get(subject)
        if mine is None or mine.window != window:
            if len(self._allotted) >= MOST_KNOWN:
                self._allotted.pop(next(iter(self._allotted)))
            mine = self._allotted[subject] = _Allotment(window, 0)
        if mine.left == 0 and not mine.spent:
            self._draw(subject, limit, mine, period)
        if mine.left == 0:
            return max(1, math.ceil((window + period - now) / 1000))
        mine.left -= 1
        return 0

    def _draw(self, subject: str, limit: Limit, mine: _Allotment, period: int) -> None:
        handful = max(1, limit.count // HANDFULS)
        ttl = (mine.window + period) // 1000 + KEPT
        try:
            total = self._ports.store.rates.draw(subject, mine.window, handful, ttl=ttl)
        except Exception:  # whatever it is, nobody loses an event by it
            logger.warning("the requests of %s cannot be counted and are let in", subject, exc_info=True)
            mine.left = 1
            return
        mine.left = max(0, min(handful, limit.count - (total - handful)))
        mine.spent = mine.left < handful
