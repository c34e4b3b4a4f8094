"""Event keys: made once, shown once, known afterwards by their hash alone.

A key is 192 random bits, so a plain SHA-256 of it can be stored and looked up by: there is nothing to guess, and nothing
in the table that opens the door. Looking up by the hash also means that how long it takes says nothing of the key.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable

from stepwell.errors import InvalidOption
from stepwell.events import RESERVED, check_name
from stepwell.ports import Ports
from stepwell.store.keys import EventKey
from stepwell.webhooks import NAME, Limit

PREFIX = "swk_"
"""What keys begin with, so that scanners for leaked secrets can know them."""
KNOWN = 60_000
"""Milliseconds for which an instance of the door trusts that a key it has seen is still good."""
MOST_KNOWN = 1000


def make_key(
    ports: Ports, name: str, *, events: Iterable[str] = (), limit: Limit | None = None
) -> tuple[str, EventKey]:
    """Make an event key; gives the key itself, which nobody can read again, and what is kept of it.

    name: for people; lower-case letters, digits, '.', '_' and '-'. events: the names that may be sent with it, `order/*` for
    all below; all but the engine's own unless given. Raises InvalidOption, InvalidEvent.
    """
    if not NAME.fullmatch(name):
        raise InvalidOption(
            f"A key is named by lower-case letters, digits, '.', '_' and '-', at most 64; got {name!r}."
        )
    if not isinstance(events, str):
        events = tuple(events)  # what can be gone through once is looked at and kept
    if isinstance(events, str) or not all(isinstance(pattern, str) for pattern in events):
        # A text is a list of its characters, and `*` among them would let everything in.
        raise InvalidOption(f"events= is a list of names, such as ['order/*'], got {events!r}.")
    for pattern in events:
        check_name(pattern.removesuffix("*") or "x")
    key = PREFIX + base64.urlsafe_b64encode(ports.ids.token_bytes(24)).decode()
    kept = EventKey(hash_of(key), name, ports.now(), events, str(limit) if limit else None)
    ports.store.keys.add(kept)
    return key, kept


def hash_of(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def may_send(key: EventKey, name: str) -> bool:
    """Whether events of this name may be sent with the key. The engine's own never."""
    if name.startswith(RESERVED):
        return False
    return not key.events or any(
        name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern for pattern in key.events
    )


class KeyRing:
    """The keys an instance of the door has seen lately. Those it has not found are asked for each time."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._seen: dict[str, tuple[int, EventKey]] = {}

    def find(self, key: str) -> EventKey | None:
        """What is known of the key, None if it opens nothing."""
        hash, now = hash_of(key), self._ports.now()
        seen_at, known = self._seen.get(hash, (0, None))
        if known is not None and now - seen_at < KNOWN:
            return known
        known = self._ports.store.keys.find(hash)
        self._seen.pop(hash, None)
        if known is not None:
            if len(self._seen) >= MOST_KNOWN:
                self._seen.pop(next(iter(self._seen)))
            self._seen[hash] = (now, known)
        return known
