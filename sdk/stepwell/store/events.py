"""Events that no run item holds: those that matched nothing or much, and those with an id their senders chose."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice

from stepwell.codec import dumps, loads
from stepwell.events import Envelope, large_key
from stepwell.ids import event_millis, ulid_millis, ulid_of
from stepwell.payloads import INLINE_STEP, Payloads
from stepwell.records import Stored
from stepwell.store import layout
from stepwell.store.table import Lost, Table
from stepwell.threads import Threads, together

DAY_MS = 86_400_000
RECENT = 800
"""Logged events that are looked at, to find out what a wait has missed."""
RECENT_DAYS = 7
FIRST_PAGE = 10
"""Logged events read at once of each shard; more if more are asked for."""


@dataclass(frozen=True, slots=True)
class KeptEvent:
    """What the table knows of an event with a chosen id."""

    received: int
    digest: str
    functions: tuple[str, ...]
    """Those it matched when it was first received, as `app/function`."""
    accepted: int
    """When it was first handled, milliseconds."""


class Events:
    """Keeping events, by id and by time."""

    def __init__(self, table: Table, payloads: Payloads, *, retention: float) -> None:
        self._table = table
        self._payloads = payloads
        self._retention = retention

    def keep(self, event: Envelope, kept: KeptEvent) -> KeptEvent | None:
        """Keep an event under the id its sender chose. CREATE: returns None if it is new, else what was kept first."""
        try:
            self._table.put(
                {
                    "pk": layout.event_pk(event.id),
                    "sk": event.name,
                    "received": kept.received,
                    "digest": kept.digest,
                    "functions": list(kept.functions),
                    "accepted": kept.accepted,
                    "ttl": self._ttl(kept.accepted),
                },
                if_=layout.CREATE,
            )
        except Lost as lost:
            first = lost.item or {}
            return KeptEvent(first["received"], first["digest"], tuple(first["functions"]), first["accepted"])
        return None

    def named(self, event_id: str) -> list[tuple[str, KeptEvent]]:
        """The events kept under an id, with their names: the same id under two names is two events."""
        return [
            (item["sk"], KeptEvent(item["received"], item["digest"], tuple(item["functions"]), item["accepted"]))
            for item in self._table.query(layout.event_pk(event_id))
        ]

    def log(self, event: Envelope, ulid: str, functions: Sequence[str], now: int) -> None:
        """List an event by its time. Unconditional: a second delivery writes the same again."""
        pk, sk = layout.log_pk(ulid), f"{ulid}#{event.name}"
        self._table.put(
            {
                "pk": pk,
                "sk": sk,
                "event": self.pack(event, beside=len(pk) + len(sk) + 60),
                "functions": list(functions) or None,
                "ttl": self._ttl(now),
            }
        )

    def logged(self, ulid: str, name: str) -> tuple[str, ...] | None:
        """The functions that the logged event matched, None if it is not in the log."""
        item = self._table.get(layout.log_pk(ulid), f"{ulid}#{name}")
        return None if item is None else tuple(item.get("functions", ()))

    def logged_at(self, place: str) -> Envelope | None:
        """The logged event that stands at this place, `<ULID>#<name>`, None if it is not (or no longer) in the log."""
        item = self._table.get(layout.log_pk(place.partition("#")[0]), place)
        return None if item is None else self.unpack(item["event"])

    def between(self, since: int, until: int) -> Iterator[Envelope]:
        """The logged events received from `since` to `until` (milliseconds), by day, oldest first within a shard.

        Strongly consistent.
        """
        for day, shard in self.partitions(since, until):
            for _, stored in self.logged_in(day, shard, since, until):
                yield self.unpack(stored)

    def partitions(self, since: int, until: int) -> Iterator[tuple[int, int]]:
        """The parts of the log for that time, in order: the beginning of a day (milliseconds), and a shard of it."""
        for day in range(since - since % DAY_MS, until + 1, DAY_MS):
            for shard in range(layout.LOG_SHARDS):
                yield day, shard

    def logged_in(
        self, day: int, shard: int, since: int, until: int, *, after: str = ""
    ) -> Iterator[tuple[str, Stored]]:
        """The logged events of one part, received from `since` to `until`: where each stands, `<ULID>#<name>`, and the
        event, packed. Oldest first, those up to the place `after` left out. Strongly consistent."""
        lowest, highest = ulid_of(since, b"\0" * 10), ulid_of(until, b"\xff" * 10) + "~"
        pk = layout.log_pk(ulid_of(day, b"\0" * 10), shard)
        for item in self._table.query(pk, between=(max(lowest, after), highest)):
            if item["sk"] > after:
                yield item["sk"], item["event"]

    def newest(self, since: int, until: int, name: str | None, *, threads: Threads) -> Iterator[tuple[int, Envelope]]:
        """The logged events received from `since` to `until`, two times of one day, newest first, of this name if one is
        given; each with the time it was received (milliseconds). Strongly consistent."""
        span = (ulid_of(since, b"\0" * 10), ulid_of(until, b"\xff" * 10) + "~")
        shards = [
            self._table.query(layout.log_pk(span[0], shard), between=span, newest_first=True, first_page=FIRST_PAGE)
            for shard in range(layout.LOG_SHARDS)
        ]
        heads = together(threads, [partial(next, shard, None) for shard in shards])
        begun = [chain([head], shard) for head, shard in zip(heads, shards, strict=True) if head is not None]
        for item in heapq.merge(*begun, key=lambda item: str(item["sk"]), reverse=True):
            ulid, _, named = item["sk"].partition("#")
            if name in (None, named):
                yield ulid_millis(ulid) or 0, self.unpack(item["event"])

    def recent(self, name: str, since: int, until: int) -> tuple[list[Envelope], bool]:
        """Logged events of this name received from `since` to `until`, newest first, and whether these are all.

        It looks at so many events of any name at most, on so many days: see RECENT and RECENT_DAYS.
        """
        lowest, highest = ulid_of(since, b"\0" * 10), ulid_of(until, b"\xff" * 10) + "~"
        share, found, complete = RECENT // layout.LOG_SHARDS, [], True
        days = range(until - until % DAY_MS, since - since % DAY_MS - 1, -DAY_MS)
        for day in days[:RECENT_DAYS]:
            for shard in range(layout.LOG_SHARDS):
                pk = layout.log_pk(ulid_of(day, b"\0" * 10), shard)
                items = self._table.query(pk, between=(lowest, highest), newest_first=True, page=share)
                looked = list(islice(items, share))
                complete = complete and len(looked) < share
                found += [item for item in looked if item["sk"].partition("#")[2] == name]
            if not complete:
                break
        events = [self.unpack(item["event"]) for item in sorted(found, key=lambda item: str(item["sk"]), reverse=True)]
        return events, complete and len(days) <= RECENT_DAYS

    def pack(self, event: Envelope, *, beside: int, key: str | None = None, inline: int = INLINE_STEP) -> Stored:
        """An event as it stands in an item; data the sender put in S3 stays there.

        key: where it lies if it is too large for one; otherwise among large events, which workers cannot read.
        """
        what, key = f"event {event.name!r}", key or large_key(event.id, event.name)
        return self._payloads.pack(dumps(event.as_json()), key=key, what=what, beside=beside, inline=inline)

    def unpack(self, stored: Stored) -> Envelope:
        """An event from an item, with its data at hand."""
        return self.open(Envelope.from_json(loads(self._payloads.unpack(stored))))

    def open(self, event: Envelope) -> Envelope:
        """The event with its data fetched, if that lies in S3."""
        return event if event.ref is None else event.with_data(loads(self._payloads.download(event.ref)))

    def _ttl(self, ms: int) -> int:
        return ms // 1000 + round(self._retention)


def received_ulid(event_id: str, received: int, key: str) -> str:
    """The ULID an event is listed under: its id if that is one, else its time and key."""
    return event_id[4:] if event_millis(event_id) is not None else ulid_of(received, bytes.fromhex(key)[:10])
