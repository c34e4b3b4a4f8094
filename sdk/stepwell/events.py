"""Events: what starts functions and wakes those that wait.

On the queue an event is `{"name": str, "data": object, "id"?, "ts"?, "tenant"?}`, so that any AWS client can send one.
Inside it is an Envelope: the same with every field settled. A function sees an Event, with typed data if its trigger
names a model.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from stepwell.clock import MAX_MILLIS, from_millis, millis
from stepwell.codec import JSON, canonical, deeper_than
from stepwell.errors import InvalidEvent
from stepwell.ids import digest, event_millis

T_co = TypeVar("T_co", covariant=True)

MAX_NAME = 256
MAX_NAME_BYTES = 900
"""In UTF-8: a name is part of sort keys, of which DynamoDB takes 1,024 bytes (DynamoDB quotas)."""
MAX_ID = 256
MAX_DEPTH = 100
"""How deep lists and objects may stand in each other in an event's data. What reads and writes them (json, pydantic, CEL)
gives up, or crashes, somewhere beyond twice of that."""
LATEST = 366 * 86_400_000
"""Milliseconds by which an event may take effect later than now. Nothing is kept for longer than a run may rest."""
EARLIEST_MADE = 1_577_836_800_000
"""2020-01-01: no id that Stepwell has made carries an earlier time."""
SKEW = 300_000
"""Milliseconds by which the clocks of senders may be ahead of ours."""
MAX_TENANT = 128
"""The limit of a MessageGroupId, which a tenant becomes."""
LARGE_EVENTS = "events/"
"""Where senders put data too large for a message. Anything else in the bucket belongs to runs, and is not for them."""
RESERVED = "stepwell/"
"""Events under this prefix are the engine's own."""
CRON_TICK = RESERVED + "cron.tick"
"""The event of a run that a schedule has started."""
INVOKED = RESERVED + "function.invoked"
RUN_EVENT = RESERVED + "run."
"""The events that tell of the end of a run, to its handler for failures and to all who listen, begin with this."""
SCOPE = ("id", "name", "data", "ts", "tenant")
"""What expressions and `match` can look at in an event."""
SEALED = "$sealed"
"""The field of an event's data that holds what a middleware has encrypted: nothing of it is to be looked at."""

_NAME = re.compile(r"[^\s\x00-\x1f#*\ud800-\udfff]+")
_HALF = re.compile(r"[\ud800-\udfff]")
_TRACE = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_GROUP = re.compile(r"[A-Za-z0-9!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]+")


@dataclass(frozen=True, slots=True)
class Event(Generic[T_co]):
    """An event as a function sees it."""

    id: str
    name: str
    data: T_co
    ts: datetime
    """When it happened, or is to take effect (UTC)."""
    tenant: str | None = None
    trace: str | None = None
    """What caused it, as a W3C traceparent, if its sender traces."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """An event as the engine keeps it: data as plain JSON, times in milliseconds."""

    id: str
    name: str
    data: dict[str, JSON]
    ts: int
    tenant: str | None = None
    ref: str | None = None
    """Where the data lies in S3, if the event was too large for the queue."""
    trace: str | None = None
    """A W3C traceparent."""
    dated: bool = field(default=True, compare=False)
    """Whether its sender has given it a time. If not, the queue's stands in: a clock that is ahead would date it ahead."""
    seen: dict[str, JSON] | None = field(default=None, compare=False)
    """What conditions see of the data, if that is more than is handed on. Neither stored nor sent."""

    def as_json(self) -> dict[str, JSON]:
        """The form that is stored and sent; absent fields cost nothing."""
        body: dict[str, JSON] = {"id": self.id, "name": self.name}
        if self.dated:
            body["ts"] = self.ts
        if self.ref is None:
            body["data"] = self.data
        else:
            body["data_ref"] = self.ref
        if self.tenant is not None:
            body["tenant"] = self.tenant
        if self.trace is not None:
            body["trace"] = self.trace
        return body

    @classmethod
    def from_json(cls, body: dict[str, JSON]) -> Envelope:
        """The other way round, for what as_json wrote."""
        data, reference = body.get("data") or {}, body.get("data_ref")
        return cls(body["id"], body["name"], data, body["ts"], body.get("tenant"), reference, body.get("trace"))

    def with_data(self, data: dict[str, JSON]) -> Envelope:
        """The same event with its data at hand instead of a reference to it."""
        return replace(self, data=data, ref=None)

    def event(self) -> Event[Any]:
        """As a function sees it, the data untyped."""
        return Event(self.id, self.name, self.data, from_millis(self.ts), self.tenant, self.trace)

    def digest(self) -> str:
        """Of the data, to tell a duplicate from another event with the same id.

        What is encrypted does not count: encrypted twice, the same data looks different each time.
        """
        return digest(canonical({name: value for name, value in self.data.items() if name != SEALED})).hex()[:16]

    def scope(self) -> dict[str, JSON]:
        """What an expression sees as `event`."""
        data = self.data if self.seen is None else self.seen
        return {"id": self.id, "name": self.name, "data": data, "ts": self.ts, "tenant": self.tenant}


def parse_envelope(body: JSON, *, default_id: str, received_ms: int, refuse_own: bool = True) -> Envelope:
    """Check an event from the queue, where none of the engine's own travels in this form.

    `default_id` and `received_ms` stand in for what the sender left out; what it says of its time is held against the
    latter. refuse_own: unless the caller does that itself. Raises InvalidEvent saying which field is wrong and what it
    should be.
    """
    if not isinstance(body, dict):
        raise InvalidEvent(f"An event is a JSON object with a name and data, not {_kind(body)}.")
    name = check_name(body.get("name"))
    if refuse_own:
        check_sender(name)
    reference = body.get("data_ref")
    if reference is not None and not isinstance(reference, str):
        raise InvalidEvent(f"Event {name!r}: data_ref must be text, not {_kind(reference)}.")
    if reference is not None and not reference.startswith(LARGE_EVENTS):
        raise InvalidEvent(f"Event {name!r}: data_ref leads to {reference[:80]!r}, not below {LARGE_EVENTS!r}.")
    data = check_data(body.get("data", {} if reference else None), name)
    event_id = default_id if body.get("id") is None else check_id(body["id"])
    ts = received_ms if body.get("ts") is None else event_ts(body["ts"], received_ms)
    trace = body.get("trace")
    if not isinstance(trace, str) or not _TRACE.fullmatch(trace):
        trace = None  # a trace that cannot be read is no reason to refuse an event (W3C Trace Context, 3.2.2)
    return Envelope(event_id, name, data, ts, check_tenant(body.get("tenant")), reference, trace)


def check_name(name: JSON) -> str:
    """The name if it is one: text without white space, `#` or `*`, at most 256 characters (900 bytes in UTF-8)."""
    if not isinstance(name, str) or not name:
        raise InvalidEvent(f"An event needs a name such as 'order/created', got {name!r:.80}.")
    if len(name) > MAX_NAME or not _NAME.fullmatch(name) or len(name.encode()) > MAX_NAME_BYTES:
        raise InvalidEvent(
            f"Event name {name[:80]!r}: at most {MAX_NAME} characters, no white space, '#' or '*', and at most "
            f"{MAX_NAME_BYTES} bytes in UTF-8."
        )
    return name


def check_sender(name: str, sender: str = "A sender") -> str:
    """The name if `sender`, who is not the engine, may send events of it. Raises InvalidEvent."""
    if name.startswith(RESERVED):
        raise InvalidEvent(
            f"{sender} cannot send {name!r}: events below {RESERVED!r} are the engine's own, and who listens to them "
            "trusts what they say. Choose a name of your own."
        )
    return name


def check_id(event_id: JSON) -> str:
    """The id if it is one: text of 1 to 256 characters."""
    if not isinstance(event_id, str) or not 0 < len(event_id) <= MAX_ID or _HALF.search(event_id):
        raise InvalidEvent(f"An event id is text of 1 to {MAX_ID} characters, got {str(event_id)[:80]!r}.")
    return event_id


def check_made(event_id: str, now: int) -> str:
    """The id, if what it says of its time can be true. Raises InvalidEvent.

    An id that looks made by Stepwell (`evt_` and a ULID) is believed: its time is when the event was received, under which
    its runs are filed. So one from another hand must not say what cannot be. It may say any time since there are such ids,
    for messages come again after days and weeks.
    """
    carried = event_millis(event_id)
    if carried is not None and not EARLIEST_MADE <= carried <= now + SKEW:
        raise InvalidEvent(
            f"The id {event_id} looks made by Stepwell, and the time in it lies "
            f"{'in the future' if carried > now else 'before 2020'}. Leave id out, or use one of your own."
        )
    return event_id


def check_data(data: JSON, name: str) -> dict[str, JSON]:
    """The data of an event if they can be: an object, not nested too deeply. Raises InvalidEvent."""
    if not isinstance(data, dict):
        raise InvalidEvent(f"Event {name!r}: data must be a JSON object, not {_kind(data)}.")
    if deeper_than(data, MAX_DEPTH):
        raise InvalidEvent(
            f"Event {name!r}: in data, lists and objects stand in each other more than {MAX_DEPTH} deep. Send them flatter, "
            "or as text."
        )
    return data


def check_tenant(tenant: JSON) -> str | None:
    """The tenant if it is one: what SQS allows as a message group (AWS SQS API, MessageGroupId)."""
    if tenant is None:
        return None
    if not isinstance(tenant, str) or len(tenant) > MAX_TENANT or not _GROUP.fullmatch(tenant):
        raise InvalidEvent(f"A tenant is 1 to {MAX_TENANT} letters, digits or punctuation, got {str(tenant)[:80]!r}.")
    return tenant


def event_ts(value: JSON, now: int) -> int:
    """The time of an event, given as to `parse_ts`: from 1970 on, at most 366 days after `now` (milliseconds).

    One place for all who send: nothing of a run is kept for longer than that before it starts. Raises InvalidEvent.
    """
    ts = parse_ts(value)
    if ts > now + LATEST + SKEW:
        raise InvalidEvent(
            f"ts: {_shown(value)} is more than {LATEST // 86_400_000} days ahead. An event may take effect within a year; "
            "nothing is kept for longer. Send it later, or let a function sleep and send it."
        )
    return ts


def parse_ts(value: JSON) -> int:
    """Milliseconds of a time given as ISO 8601 text or as milliseconds since the epoch. Naive means UTC.

    From 1970 to 9999. Raises InvalidEvent.
    """
    ms: float | None = None
    if type(value) is int or (isinstance(value, float) and math.isfinite(value)):
        ms = value
    elif isinstance(value, datetime | str):
        try:
            moment = datetime.fromisoformat(value) if isinstance(value, str) else value
            ms = millis((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
        except (OverflowError, ValueError):  # Overflow: on the last day of the calendar, in a zone that is beyond it
            ms = None
    if ms is None:
        raise InvalidEvent(f"ts: {_shown(value)} is neither ISO 8601 nor milliseconds since the epoch.")
    if not 0 <= ms <= MAX_MILLIS:
        raise InvalidEvent(
            f"ts: {_shown(value)} lies {'before 1970' if ms < 0 else 'after 9999'}. Times are ISO 8601, or milliseconds "
            "since the epoch."
        )
    return round(ms)


def _shown(value: JSON) -> str:
    """A value in a message about it."""
    text = value.isoformat() if isinstance(value, datetime) else str(value)
    return repr(text[:80])


def large_key(event_id: str, rest: str) -> str:
    """Where something of an event lies in S3. Keys have 1,024 bytes at most (Amazon S3 user guide, object key names)."""
    key = f"{LARGE_EVENTS}{event_id}/{rest}"
    return key if len(key.encode()) <= 1000 else f"{LARGE_EVENTS}{digest(event_id, rest).hex()}"


def _kind(value: JSON) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
