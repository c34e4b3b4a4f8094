"""An event, accepted: recorded, matched, its runs created and dispatched, those who wait for it woken.

Every part can be repeated: a redelivery goes through all of it again and changes nothing that is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stepwell.codec import JSON, dumps
from stepwell.decisions.routing import matching
from stepwell.engine.cancelling import cancel_guarded, guarded_paths, note_event
from stepwell.engine.resolve import resolve_waiter
from stepwell.engine.starting import start_run
from stepwell.errors import DuplicateEvent
from stepwell.events import Envelope
from stepwell.ids import event_key, event_millis, run_id
from stepwell.ports import Ports
from stepwell.queue import Message
from stepwell.store.apps import AppRecord
from stepwell.store.events import KeptEvent, received_ulid
from stepwell.store.guards import MARK, is_guard
from stepwell.store.layout import ANY
from stepwell.store.waiters import look_up

PER_MESSAGE = 100
"""Runs created, or waiters looked at, for one message; a wider fan-out goes on with another message."""

Paths = Mapping[tuple[str, str], set[str]]


def accept(
    ports: Ports,
    event: Envelope,
    sent: int,
    apps: Mapping[str, AppRecord],
    paths: Paths,
    *,
    again: bool,
    cursor: Mapping[str, Any] | None = None,
) -> None:
    """Accept an event that was sent at `sent` (milliseconds).

    `again` says that the message has been delivered before; `cursor` where a wide fan-out goes on. Raises
    DuplicateEvent if another event had this id, with other data.
    """
    event = ports.store.events.open(event)
    matched = [(app.id, entry) for app in apps.values() for entry in matching(app.functions, event)]
    waited = guarded_paths(apps, event.name)
    for (app, name), found in paths.items():
        if name == event.name:
            waited[app] = waited.get(app, set()) | found
    key = event_key(event.name, event.id)
    data_digest = event.digest()
    carried = event_millis(event.id)
    received = sent if carried is None else carried
    before: int | None = None
    names = [f"{app}/{entry['id']}" for app, entry in matched]

    if carried is None and (matched or waited):
        kept = KeptEvent(received, data_digest, tuple(names), ports.now())
        first = ports.store.events.keep(event, kept)
        if first is not None:
            if first.digest != data_digest:
                raise DuplicateEvent(_other_data(event))
            received, before = first.received, first.accepted
            matched = [(app, entry) for app, entry in matched if f"{app}/{entry['id']}" in first.functions]
    folded = carried is not None and len(matched) == 1
    awaited = any(not path.startswith(MARK) for found in waited.values() for path in found)
    if cursor is None and (awaited or not matched or (carried is not None and not folded)):
        ports.store.events.log(event, received_ulid(event.id, received, key), names, ports.now())

    came = sent if before is None else received
    begin = cursor["run"] if cursor else 0
    for app, entry in matched[begin : begin + PER_MESSAGE]:
        run = run_id(app, entry["id"], received, key)
        existing = start_run(
            ports, app, entry["id"], run, event, entry=entry, received=came, triggered=True, again=again
        )
        if existing is not None and existing.event_digest != data_digest:
            raise DuplicateEvent(_other_data(event))
    if begin + PER_MESSAGE < len(matched):
        return _go_on(ports, event, sent, run=begin + PER_MESSAGE)
    note_event(ports, event, key, came, waited)
    return _wake_waiters(ports, event, key, received, sent, waited, before, again, cursor)


def _wake_waiters(
    ports: Ports,
    event: Envelope,
    key: str,
    received: int,
    sent: int,
    waited: Mapping[str, set[str]],
    before: int | None,
    again: bool,
    cursor: Mapping[str, Any] | None,
) -> None:
    scope = event.scope()
    places = [(app, path) for app in sorted(waited) for path in sorted({each.lstrip(MARK) for each in waited[app]})]
    begin = places.index(tuple(cursor["place"])) if cursor and "place" in cursor else 0
    after = cursor.get("after") if cursor else None
    seen, last = 0, ""
    for app, path in places[begin:]:
        for waiter in ports.store.waiters.find(app, event.name, path, None if path == ANY else look_up(scope, path)):
            place = f"{waiter.run}#{waiter.step}"
            if after is not None and place <= after:
                continue
            if seen == PER_MESSAGE:
                return _go_on(ports, event, sent, run=1 << 30, place=[app, path], after=last)
            seen, last = seen + 1, place
            if before is not None and waiter.registered > before:
                continue  # a duplicate of an event that had been accepted before this wait began
            if is_guard(waiter):
                cancel_guarded(ports, waiter, event, key, sent if before is None else received)
            else:
                resolve_waiter(ports, waiter, event, key, received if before is None else before, again=again)
        after = None
    return None


def _go_on(ports: Ports, event: Envelope, sent: int, **cursor: Any) -> None:
    body: dict[str, JSON] = {"stepwell": "fanout", "event": event.as_json(), "sent": sent, "cursor": cursor}
    if len(dumps(body)) > 200_000:
        reference = f"events/{event.id}/{ports.ids.token_bytes(8).hex()}"
        ports.payloads.upload(reference, dumps(event.data))
        body["event"] = replace(event, data={}, ref=reference).as_json()
    ports.queue.send(Message(body))


def _other_data(event: Envelope) -> str:
    return (
        f"An event {event.name!r} with id {event.id!r} and other data was accepted before. An id stands for one event: "
        "use another id, or send the same data."
    )
