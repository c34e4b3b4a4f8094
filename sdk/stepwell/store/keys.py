"""Event keys: who may send events over HTTP. Only a hash of each is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stepwell.store import layout
from stepwell.store.table import Item, Lost, Table


@dataclass(frozen=True, slots=True)
class EventKey:
    """What is known of an event key. The key itself is not."""

    hash: str
    """SHA-256 of the key, hexadecimal."""
    name: str
    """For people, and the group of its events in the fair queue."""
    created: int
    """Milliseconds."""
    events: tuple[str, ...] = ()
    """The names it may send, `order/*` for all below; empty: all."""
    limit: str | None = None
    """Such as `100/1s`; None: the usual one."""

    @property
    def id(self) -> str:
        """What it is called in lists, and revoked by."""
        return self.hash[:12]


class Keys:
    """The event keys. One partition: there are few, and each instance of the door keeps those it knows for a minute."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def add(self, key: EventKey) -> None:
        """Keep a new key. CREATE; a repeated write meets itself."""
        item = {
            "pk": layout.KEYS_PK,
            "sk": layout.key_sk(key.hash),
            "name": key.name,
            "created": key.created,
            "events": list(key.events) or None,
            "limit": key.limit,
        }
        try:
            self._table.put(item, if_=layout.CREATE)
        except Lost as lost:
            if lost.item is None or _key(lost.item) != key:
                raise

    def find(self, hash: str) -> EventKey | None:
        """The key with this hash, strongly consistent: a new one works at once."""
        item = self._table.get(layout.KEYS_PK, layout.key_sk(hash))
        return None if item is None else _key(item)

    def all(self) -> Sequence[EventKey]:
        """All of them, the oldest first."""
        return sorted((_key(item) for item in self._table.query(layout.KEYS_PK)), key=lambda key: key.created)

    def remove(self, hash: str) -> None:
        """Revoke a key. Removing one that is gone changes nothing."""
        self._table.delete(layout.KEYS_PK, layout.key_sk(hash))


def _key(item: Item) -> EventKey:
    return EventKey(
        hash=item["sk"].removeprefix(layout.KEY_PREFIX),
        name=item["name"],
        created=item["created"],
        events=tuple(item.get("events", ())),
        limit=item.get("limit"),
    )
