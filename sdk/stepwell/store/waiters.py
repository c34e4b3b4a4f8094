"""Steps that wait for events, found by what they wait for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stepwell.codec import JSON, canonical, loads
from stepwell.store import layout
from stepwell.store.table import Item, Table

_KEEP = 7 * 86400
"""Seconds a waiter outlives its time-out before TTL may remove it."""


@dataclass(frozen=True, slots=True)
class Waiter:
    """A step of a run that waits for an event. It holds all that is needed to resolve the step, even unrecorded."""

    app: str
    run: str
    step: str
    id: str
    shape: str
    event: str
    until: int
    registered: int
    match: Mapping[str, JSON]
    """Paths into the event, such as `data.order_id`, and the values they must have."""
    where: str | None = None

    def place(self) -> tuple[str, JSON]:
        """The path and value it is filed under: the first path in order, or any."""
        path = min(self.match, default=layout.ANY)
        return path, self.match.get(path)


class Waiters:
    """Filing and finding waiters."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._filed: set[tuple[str, str, str]] = set()

    def file(self, waiter: Waiter) -> bool:
        """File a waiter; says whether this path of this event was never waited on before. Repeating it is harmless.

        The path is announced first: an event that does not see the announcement was received before the wait.
        """
        new = self.announce(waiter.app, waiter.event, waiter.place()[0])
        self._table.put(self.item(waiter))
        return new

    def item(self, waiter: Waiter) -> Item:
        """The item of a waiter."""
        return {
            "pk": layout.waiter_pk(waiter.app, waiter.event, *waiter.place()),
            "sk": f"{waiter.run}#{waiter.step}",
            "id": waiter.id,
            "shape": waiter.shape,
            "until": waiter.until,
            "registered": waiter.registered,
            "match": canonical(dict(waiter.match)),
            "where": waiter.where,
            "ttl": waiter.until // 1000 + _KEEP,
        }

    def announce(self, app: str, event: str, path: str) -> bool:
        """Say that somebody waits on this path, for good; whether nobody did before (as far as this process knows)."""
        if (app, event, path) in self._filed:  # announcements are never taken back
            return False
        before = self._table.update(
            layout.paths_pk(app, event), layout.PATHS_SK, add={"paths": {path}}, returning="ALL_OLD"
        )
        self._filed.add((app, event, path))
        return path not in before.get("paths", ())

    def find(self, app: str, event: str, path: str, value: JSON, *, after: str = "") -> Iterator[Waiter]:
        """The waiters filed under this path and value, or those that stand after the place `after` (`<run>#<step>`);
        strongly consistent, page by page."""
        pk = layout.waiter_pk(app, event, path, value)
        for item in self._table.query(pk, after=after):
            yield _waiter(app, event, item)

    def remove(self, waiter: Waiter) -> None:
        """Take a waiter out of the file; it may be gone already."""
        self._table.delete(layout.waiter_pk(waiter.app, waiter.event, *waiter.place()), f"{waiter.run}#{waiter.step}")


def look_up(scope: Mapping[str, Any], path: str) -> JSON:
    """The value at a dotted path of an event, None if there is none."""
    value: Any = scope
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def meets(scope: Mapping[str, Any], path: str, value: JSON) -> bool:
    """Whether an event has this value at the path. Compared as the keys of waiters are, whichever path one is filed under:
    by the JSON text, so that 1, 1.0, true and "1" are four values."""
    return canonical(look_up(scope, path)) == canonical(value)


def _waiter(app: str, event: str, item: Item) -> Waiter:
    run, _, step = item["sk"].partition("#")
    return Waiter(
        app=app,
        run=run,
        step=step,
        id=item["id"],
        shape=item["shape"],
        event=event,
        until=item["until"],
        registered=item["registered"],
        match=loads(item["match"]),
        where=item.get("where"),
    )
