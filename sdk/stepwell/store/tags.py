"""Runs, found by their tags."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress

from stepwell.ids import ulid_of
from stepwell.store import layout
from stepwell.store.table import Lost, Table


class Tags:
    """Filing runs under their tags, and finding them there."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def file(self, app: str, run: str, tags: Mapping[str, str], *, ttl: int) -> None:
        """File a run under each of its tags until `ttl` (epoch seconds): a write unit a tag. LONGER: filing it again for
        less changes nothing."""
        for name, value in tags.items():
            item = {"pk": layout.tag_pk(app, name, value), "sk": run, "ttl": ttl}
            with suppress(Lost):
                self._table.put(item, if_=layout.LONGER, values={":ttl": ttl})

    def find(self, app: str, name: str, value: str, *, since: int, until: int) -> Iterator[str]:
        """The runs filed under a tag that were created from `since` to `until` (milliseconds), newest first: one paged
        Query, strongly consistent. A run may be gone, or may never have come to be."""
        lowest, highest = ulid_of(since, b"\0" * 10), ulid_of(until, b"\xff" * 10)
        span = (f"{app}.{lowest}", f"{app}.{highest}")
        for item in self._table.query(layout.tag_pk(app, name, value), between=span, newest_first=True):
            yield item["sk"]
