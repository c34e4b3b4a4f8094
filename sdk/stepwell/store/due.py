"""What is due, of whatever kind: the part of the index that the sweeper reads."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter

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


def due_by(table: Table, shard: int, until: int) -> list[Item]:
    """What may be due by then, the most overdue first: keys of the index. Runs that have ended stand ahead of those that
    live, whenever they are due, so all is read and then put in order: who is looked at first is not looked at last."""
    keys = table.query_index(layout.due_pk(shard), between=(layout.OWING, f"{until:015d}"))
    due = ((layout.due_millis(key["due_sk"]), key) for key in keys)
    return [key for _, key in sorted((each for each in due if each[0] <= until), key=itemgetter(0))]
