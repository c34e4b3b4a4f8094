"""Events that no run item holds alone: those that matched nothing or much, that somebody may wait for or be cancelled by,
that take effect later, and those with an id their senders chose.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice

from stepwell.codec import dumps, loads
from stepwell.events import Envelope, large_key
from stepwell.ids import event_millis, ulid_millis, ulid_of
from stepwell.payloads import INLINE_STEP, Payloads
from stepwell.records import Stored
from stepwell.store import layout
from stepwell.store.due import Key
from stepwell.store.table import Item, Lost, Table
from stepwell.threads import Threads, together

DAY_MS = 86_400_000
RECENT = 800
"""Logged events that are looked at, to find out what a wait has missed."""
RECENT_DAYS = 7
FIRST_PAGE = 10
"""Logged events read at once of each shard; more if more are asked for."""
AT_ONCE = 1000
"""Milliseconds by which an event may be dated ahead and still take effect at once."""


@dataclass(frozen=True, slots=True)
class KeptEvent:
    """What is known of the first acceptance of an event. All times are milliseconds."""

    received: int
    """When the queue received it."""
    digest: str
    functions: tuple[str, ...]
    """Those it matched then, as `app/function`."""
    accepted: int
    """When it was first handled."""
    effect: int
    """When it takes effect: as soon as it was received, unless it is dated later."""

    @property
    def dated(self) -> bool:
        """Whether it took effect only some time after it was first handled. Who handles it may have a clock that is behind
        that of the queue, so only an event that its sender has dated can be."""
        return self.effect > max(self.received, self.accepted) + AT_ONCE

    @property
    def lasts(self) -> int:
        """The last moment at which it does something by itself."""
        return max(self.accepted, self.effect)


def effect_of(event: Envelope, received: int) -> int:
    """When an event that was received then takes effect."""
    return event.ts if event.ts > received + AT_ONCE else received


class Events:
    """Keeping events, by id and by time."""

    def __init__(self, table: Table, payloads: Payloads, *, retention: float) -> None:
        self._table = table
        self._payloads = payloads
        self._retention = retention

    def keep(self, event: Envelope, kept: KeptEvent) -> KeptEvent | None:
        """Keep an event under the id its sender chose. CREATE: returns None if it is new, else what was kept first."""
        return self._first({"pk": layout.event_pk(event.id), "sk": event.name}, kept)

    def named(self, event_id: str) -> list[tuple[str, KeptEvent]]:
        """The events kept under an id, with their names: the same id under two names is two events."""
        return [(item["sk"], _kept(item)) for item in self._table.query(layout.event_pk(event_id))]

    def log(self, event: Envelope, ulid: str, kept: KeptEvent, *, due: int | None = None) -> KeptEvent | None:
        """List an event by its time. CREATE: returns None if it is new, else what was listed first.

        due: when the sweeper is to see to it that it takes effect, milliseconds.
        """
        pk, sk = layout.log_pk(ulid), f"{ulid}#{event.name}"
        item: Item = {"pk": pk, "sk": sk, "event": self.pack(event, beside=len(pk) + len(sk) + 130)}
        if due is not None:
            item["due_pk"], item["due_sk"] = layout.due_key(f"{pk}#{sk}", due)
        return self._first(item, kept)

    def log_effect(self, event: Envelope, key: str, effect: int) -> None:
        """List a dated event once more, by the time at which it takes effect: there a wait that looks back finds it from
        then on. Unconditional: repeated it is the same."""
        pk, sk = _effect_key(event, key, effect)
        stored = self.pack(event, beside=len(pk) + len(sk) + 60)
        self._table.put({"pk": pk, "sk": sk, "event": stored, "took_effect": True, "ttl": self._ttl(effect)})

    def lists_effect(self, event: Envelope, key: str, effect: int) -> bool:
        """Whether a dated event is listed by the time at which it takes effect."""
        return self._table.get(*_effect_key(event, key, effect)) is not None

    def dated(self, place: str) -> tuple[Envelope, KeptEvent] | None:
        """The dated event that is listed at this place, `<ULID>#<name>`, by the time it was received; None if there is
        none (any longer)."""
        item = self._table.get(layout.log_pk(place.partition("#")[0]), place)
        if item is None or not _is_dated(item):
            return None
        return self.unpack(item["event"]), _kept(item)

    def due(self, keys: Iterable[Key]) -> Iterator[tuple[Key, int, int]]:
        """Those of the dated events with these keys that stand in the index: when each is due, and takes effect."""
        for item in self._table.batch_get(keys):
            if "due_sk" in item:
                yield (item["pk"], item["sk"]), int(item["due_sk"]), _kept(item).effect

    def posted(self, key: Key, seen: int) -> None:
        """Somebody has been asked to let a dated event take effect at its time: it leaves the index. SEEN_DUE."""
        values = {":seen_due": f"{seen:015d}"}
        with suppress(Lost):
            self._table.update(*key, remove=("due_pk", "due_sk"), if_=layout.SEEN_DUE, values=values, returning="NONE")

    def logged_at(self, place: str) -> Envelope | None:
        """The logged event that stands at this place, `<ULID>#<name>`, None if it is not (or no longer) in the log."""
        item = self._table.get(layout.log_pk(place.partition("#")[0]), place)
        return None if item is None else self.unpack(item["event"])

    def partitions(self, since: int, until: int) -> Iterator[tuple[int, int]]:
        """The parts of the log for that time, in order: the beginning of a day (milliseconds), and a shard of it."""
        for day in range(since - since % DAY_MS, until + 1, DAY_MS):
            for shard in range(layout.LOG_SHARDS):
                yield day, shard

    def logged_in(
        self, day: int, shard: int, since: int, until: int, *, after: str = ""
    ) -> Iterator[tuple[str, Stored]]:
        """The logged events of one part that took effect from `since` to `until`: where each stands, `<ULID>#<name>`, and
        the event, packed. Oldest first, those up to the place `after` left out. Strongly consistent."""
        lowest, highest = ulid_of(since, b"\0" * 10), ulid_of(until, b"\xff" * 10) + "~"
        pk = layout.log_pk(ulid_of(day, b"\0" * 10), shard)
        for item in self._table.query(pk, between=(lowest, highest), after=after):
            if not _is_dated(item):
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
            if name in (None, named) and "took_effect" not in item:
                yield ulid_millis(ulid) or 0, self.unpack(item["event"])

    def recent(self, name: str, since: int, now: int, *, skew: int) -> tuple[list[Envelope], bool]:
        """Logged events of this name that took effect from `since` to `now`, newest first, and whether these are all.

        It looks at so many events of any name at most, on so many days: see RECENT and RECENT_DAYS. Clocks may differ by
        `skew`: what was received somewhat later is there by now, and only what is dated is not.
        """
        until = now + skew
        lowest, highest = ulid_of(since, b"\0" * 10), ulid_of(until, b"\xff" * 10) + "~"
        share, found, complete = RECENT // layout.LOG_SHARDS, [], True
        days = range(until - until % DAY_MS, since - since % DAY_MS - 1, -DAY_MS)
        for day in days[:RECENT_DAYS]:
            for shard in range(layout.LOG_SHARDS):
                pk = layout.log_pk(ulid_of(day, b"\0" * 10), shard)
                items = self._table.query(pk, between=(lowest, highest), newest_first=True, page=share)
                looked = list(islice(items, share))
                complete = complete and len(looked) < share
                found += [
                    item
                    for item in looked
                    if item["sk"].partition("#")[2] == name and not _is_dated(item) and not _is_to_come(item, now)
                ]
            if not complete:
                break
        events = [self.unpack(item["event"]) for item in sorted(found, key=lambda item: str(item["sk"]), reverse=True)]
        return events, complete and len(days) <= RECENT_DAYS

    def pack(self, event: Envelope, *, beside: int, key: str | None = None, inline: int = INLINE_STEP) -> Stored:
        """An event as it stands in an item; data the sender put in S3 stays there.

        key: where it lies if it is too large for one; otherwise among large events, which workers cannot read.
        """
        return self._payloads.pack(
            dumps(event.as_json()),
            key=key or large_key(event.id, event.name),
            what=f"event {event.name!r}",
            beside=beside,
            inline=inline,
            enveloped=True,
        )

    def unpack(self, stored: Stored) -> Envelope:
        """An event from an item, with its data at hand."""
        return self.open(Envelope.from_json(loads(self._payloads.unpack(stored))))

    def open(self, event: Envelope) -> Envelope:
        """The event with its data fetched, if that lies in S3."""
        return event if event.ref is None else event.with_data(loads(self._payloads.download(event.ref)))

    def _first(self, item: Item, kept: KeptEvent) -> KeptEvent | None:
        """Put what is known of the first acceptance. CREATE: None if this is the first, else that which was."""
        item |= {
            "received": kept.received,
            "digest": kept.digest,
            "functions": list(kept.functions) or None,
            "accepted": kept.accepted,
            "effect": kept.effect if kept.effect != kept.received else None,
            "ttl": self._ttl(kept.lasts),
        }
        try:
            self._table.put(item, if_=layout.CREATE)
        except Lost as lost:
            return _kept(lost.item or item)
        return None

    def _ttl(self, ms: int) -> int:
        return ms // 1000 + round(self._retention)


def _kept(item: Item) -> KeptEvent:
    """What an item says of the first acceptance. Of what earlier releases logged it is the time in the key."""
    listed = ulid_millis(item["sk"].partition("#")[0]) or 0
    received: int = item.get("received", listed)
    accepted: int = item.get("accepted", listed)
    effect: int = item.get("effect", received)
    return KeptEvent(received, item.get("digest", ""), tuple(item.get("functions", ())), accepted, effect)


def _is_dated(item: Item) -> bool:
    """Whether the item of the log is of an event that takes effect later than it was received."""
    return "effect" in item and _kept(item).dated


def _is_to_come(item: Item, now: int) -> bool:
    """Whether the item of the log is of an event that has yet to take effect, listed by the time at which it will."""
    return "took_effect" in item and (ulid_millis(item["sk"].partition("#")[0]) or 0) > now + AT_ONCE


def _effect_key(event: Envelope, key: str, effect: int) -> Key:
    """Where a dated event is listed by the time at which it takes effect."""
    ulid = ulid_of(effect, bytes.fromhex(key)[:10])
    return layout.log_pk(ulid), f"{ulid}#{event.name}"


def received_ulid(event_id: str, received: int, key: str) -> str:
    """The ULID an event is listed under: its id if that is one, else its time and key."""
    return event_id[4:] if event_millis(event_id) is not None else ulid_of(received, bytes.fromhex(key)[:10])
