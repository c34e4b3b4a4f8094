"""Runs, found by their tags."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from stepwell.ids import ulid_of
from stepwell.store import layout
from stepwell.store.table import Lost, Table


class Filed(NamedTuple):
    """A run under a tag."""

    run: str
    taken: bool
    """For an event that it has taken along for certain; otherwise the run itself says whether it has the tag."""


class Tags:
    """Filing runs under their tags, and finding them there."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def file(self, app: str, run: str, tags: Mapping[str, str], *, ttl: int, taken: bool = False) -> None:
        """File a run under each of these tags until `ttl` (epoch seconds): a write unit a tag. LONGER: filing it again for
        less changes nothing. `taken`: they are those of an event that it has taken along, which it does not have itself."""
        for name, value in tags.items():
            item = {"pk": layout.tag_pk(app, name, value), "sk": run, "ttl": ttl, **({"taken": True} if taken else {})}
            with suppress(Lost):
                self._table.put(item, if_=layout.LONGER, values={":ttl": ttl})

    def find(self, app: str, name: str, value: str, *, since: int, until: int) -> Iterator[Filed]:
        """The runs filed under a tag that were created from `since` to `until` (milliseconds), newest first: one paged
        Query, strongly consistent. A run may be gone, or may never have come to be."""
        lowest, highest = ulid_of(since, b"\0" * 10), ulid_of(until, b"\xff" * 10)
        span = (f"{app}.{lowest}", f"{app}.{highest}")
        for item in self._table.query(layout.tag_pk(app, name, value), between=span, newest_first=True):
            yield Filed(item["sk"], item.get("taken", False))
