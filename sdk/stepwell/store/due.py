"""What is due, of whatever kind: the part of the index that the sweeper reads."""

from __future__ import annotations

from collections.abc import Iterator

from stepwell.store.table import Table

Key = tuple[str, str]
"""pk and sk of an item."""


class Due:
    """Keys only, and eventually consistent: whoever gets one reads the item before acting."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def until(self, shard: int, until: int) -> Iterator[Key]:
        """The items of one shard that may be due by `until` (milliseconds), the most overdue first."""
        for key in self._table.query_index(f"DUE#{shard}", between=("0", f"{until:015d}")):
            yield key["pk"], key["sk"]
