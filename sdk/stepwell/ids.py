"""Names of things: event ids, run ids, and what is derived from them.

* An event id is whatever the sender says, or `evt_` and a ULID, made by `send`. A made id carries its own time, so two
  deliveries of the same event agree on when it was received without asking the table. Any other id needs a record of
  its own.
* A run id is `<app>.<ULID>`: time-sortable, and it begins with the app, which is what lets IAM fence apps from each
  other by leading keys. The ULID's time is the event's, its randomness a hash of event and function, so a duplicate of
  the event meets the run it already has.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import Protocol

from ulid import ULID

_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
APP_ID = re.compile(r"[a-z][a-z0-9-]{0,47}")
FUNCTION_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")
COMPUTE_CLASS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}")


class Ids(Protocol):
    """Where randomness comes from."""

    def ulid(self, ms: int) -> str:
        """A new ULID whose time is `ms`."""
        ...

    def token_bytes(self, count: int) -> bytes:
        """`count` unpredictable bytes."""
        ...


class SystemIds:
    """Ids from the operating system's randomness, drawn per call and never at import (SnapStart would repeat them)."""

    def ulid(self, ms: int) -> str:
        return ulid_of(ms, os.urandom(10))

    def token_bytes(self, count: int) -> bytes:
        return os.urandom(count)


def ulid_of(ms: int, randomness: bytes) -> str:
    """The ULID with this time and these ten bytes of randomness."""
    clamped = min(max(ms, 0), (1 << 48) - 1)
    return str(ULID.from_bytes(clamped.to_bytes(6, "big") + randomness[:10]))


def derived_ulid(ms: int, *parts: str) -> str:
    """A ULID that is always the same for the same time and parts."""
    return ulid_of(ms, digest(*parts))


def ulid_millis(event_id: str) -> int | None:
    """The time a ULID carries in milliseconds, or None if the text is not a ULID."""
    if not _ULID.fullmatch(event_id):
        return None
    return ULID.from_str(event_id).milliseconds


def event_id_of(ulid: str) -> str:
    """The id of an event whose sender chose none."""
    return "evt_" + ulid


def message_event_id(sent_ms: int, message_id: str) -> str:
    """The id of an event whose sender gave it none: the same at every delivery of its message."""
    return event_id_of(derived_ulid(sent_ms, "message", message_id))


def event_millis(event_id: str) -> int | None:
    """The time a made event id carries in milliseconds, None for an id its sender chose."""
    return ulid_millis(event_id[4:]) if event_id.startswith("evt_") else None


def run_millis(run: str) -> int | None:
    """The time a run id carries in milliseconds, under which the run is filed; None if the text is not as run ids are."""
    return ulid_millis(run.rpartition(".")[2])


def digest(*parts: str) -> bytes:
    """SHA-256 of the parts, unambiguously joined."""
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).digest()


def event_key(name: str, event_id: str) -> str:
    """What identifies an event, in 32 characters: its id if that was made, else its name and id together."""
    parts = (event_id,) if event_millis(event_id) is not None else (name, event_id)
    return digest("event", *parts).hex()[:32]


def run_id(app: str, function: str, received_ms: int, key: str) -> str:
    """The id of the run of `function` for the event with this key."""
    return f"{app}.{derived_ulid(received_ms, 'run', key, function)}"


def child_run_id(app: str, function: str, parent: str, step: str) -> str:
    """The id of the run a step of another run starts: the same on every attempt of that step."""
    return f"{app}.{derived_ulid(run_millis(parent) or 0, 'child', parent, step, function)}"


def is_run_id(text: str) -> bool:
    """Whether the text is as run ids are; not whether there is such a run."""
    app, _, ulid = text.rpartition(".")
    return APP_ID.fullmatch(app) is not None and _ULID.fullmatch(ulid) is not None


def app_of(run: str) -> str:
    """The app a run id belongs to."""
    return run.rpartition(".")[0]


def shard_of(text: str, shards: int) -> int:
    """Which of `shards` partitions this belongs to; stable for ever."""
    return digest("shard", text)[0] % shards
