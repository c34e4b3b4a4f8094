"""How many requests somebody has made: one counter for each subject and window of time, shared by all instances."""

from __future__ import annotations

from stepwell.store import layout
from stepwell.store.table import Table


class Rates:
    """The counters."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def draw(self, subject: str, window: int, count: int, *, ttl: int) -> int:
        """Add to the counter of the window that begins at `window` (milliseconds); its value afterwards.

        Unconditional and atomic. A repeated write (a lost answer) counts twice, which only makes the limit stricter.
        """
        pk, sk = layout.rate_key(subject, window)
        item = self._table.update(pk, sk, add={"used": count}, set_={"ttl": ttl}, returning="ALL_NEW")
        return int(item["used"])
