"""What is due, of whatever kind: the part of the index that the sweeper reads."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from stepwell.store import layout
from stepwell.store.table import Item, Table

Key = tuple[str, str]
"""pk and sk of an item."""


class Due:
    """Keys only, and eventually consistent: whoever gets one reads the item before acting."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def until(self, shard: int, until: int) -> Iterator[Key]:
        """The items of one shard that may be due by `until` (milliseconds), the most overdue first."""
        for key in due_by(self._table, shard, until):
            yield key["pk"], key["sk"]


def due_by(table: Table, shard: int, until: int) -> Iterator[Item]:
    """What may be due by then, the most overdue first: keys of the index. Runs that have ended stand ahead of those that
    live, whenever they are due, so the two are read side by side, each no further than is asked for: who is looked at first
    is not looked at last, and nobody who has too little time for all reads all."""
    pk, last = layout.due_pk(shard), f"{until:015d}"
    spans = ((layout.OWING, layout.OWING + last), ("0", last))
    yield from heapq.merge(
        *(table.query_index(pk, between=span) for span in spans), key=lambda key: layout.due_millis(key["due_sk"])
    )
