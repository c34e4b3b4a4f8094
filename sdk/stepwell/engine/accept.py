"""An event, accepted: recorded, matched, its runs created and dispatched, those who wait for it woken.

Every part can be repeated: a redelivery goes through all of it again and changes nothing that is done.

What is wide is done in pieces, each continued by a message. Where it goes on is said by name (of a function, of a place
where steps wait), in an order that everybody knows, never by number: a deployment in between may add or remove some.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from stepwell.codec import JSON, parse, sendable
from stepwell.decisions.routing import matching
from stepwell.engine.announcing import with_all_data
from stepwell.engine.cancelling import cancel_guarded, guarded_paths, note_event
from stepwell.engine.resolve import resolve_waiter
from stepwell.engine.starting import start_run
from stepwell.errors import DuplicateEvent, InvalidEvent, Undecided
from stepwell.events import Envelope, check_data, large_key
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


@dataclass(frozen=True, slots=True)
class Routes:
    """Who an event concerns, by the manifests."""

    matched: Mapping[str, tuple[str, Mapping[str, Any]]]
    """The functions it starts, `app/function`, in order; each with its app and its entry."""
    undecided: Mapping[str, str]
    """Those of which that cannot be said, and why."""
    waited: Mapping[str, set[str]]
    """By app, the paths under which somebody may wait for it; those of guards with their mark."""


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

    `again` says that the message has been delivered before; `cursor` where a wide fan-out goes on, if it says so. Raises
    DuplicateEvent if another event had this id, with other data; InvalidEvent and NotSerializable for data in S3 that no
    event can have; and Undecided, when everything else is done, if a condition could not be evaluated.
    """
    event, cursor = _opened(ports, event), cursor or {}
    routes = _routes(apps, paths, event)
    _pass_on(ports, event, sent, routes, again, cursor)
    if routes.undecided and not cursor:
        told = "; ".join(f"{name}: {why}" for name, why in routes.undecided.items())
        raise Undecided(
            f"Whether event {event.name!r} {event.id} starts a function cannot be said. {told}. All others have it. Correct "
            "the condition, deploy, and redrive the event."
        )


def _opened(ports: Ports, event: Envelope) -> Envelope:
    """The event with the data that its sender put in S3, which nobody has looked at yet."""
    if event.ref is None:
        return with_all_data(ports, event)
    try:
        data = parse(ports.payloads.download(event.ref))
    except (ValueError, RecursionError):
        raise InvalidEvent(f"Event {event.name!r}: what lies at {event.ref!r} is not JSON.") from None
    sendable(check_data(data, event.name))
    return event.with_data(data)


def _routes(apps: Mapping[str, AppRecord], paths: Paths, event: Envelope) -> Routes:
    matched: dict[str, tuple[str, Mapping[str, Any]]] = {}
    undecided: dict[str, str] = {}
    for app in apps.values():
        meant, unknown = matching(app.functions, event)
        matched |= {f"{app.id}/{entry['id']}": (app.id, entry) for entry in meant}
        undecided |= {f"{app.id}/{entry['id']}": why for entry, why in unknown}
    waited = guarded_paths(apps, event.name)
    for (name, of), found in paths.items():
        if of == event.name:
            waited[name] = waited.get(name, set()) | found
    return Routes({name: matched[name] for name in sorted(matched)}, undecided, waited)


def _pass_on(ports: Ports, event: Envelope, sent: int, routes: Routes, again: bool, cursor: Mapping[str, Any]) -> None:
    matched, waited = routes.matched, routes.waited
    key = event_key(event.name, event.id)
    data_digest = event.digest()
    carried = event_millis(event.id)
    received = sent if carried is None else carried
    before: int | None = None

    if carried is None and (matched or waited):
        kept = KeptEvent(received, data_digest, (*matched, *routes.undecided), ports.now())
        first = ports.store.events.keep(event, kept)
        if first is not None:
            if first.digest != data_digest:
                raise DuplicateEvent(_other_data(event))
            received, before = first.received, first.accepted
            matched = {name: found for name, found in matched.items() if name in first.functions}
    folded = carried is not None and len(matched) == 1
    awaited = any(not path.startswith(MARK) for found in waited.values() for path in found)
    if not cursor and (awaited or not matched or (carried is not None and not folded)):
        ports.store.events.log(event, received_ulid(event.id, received, key), list(routes.matched), ports.now())

    came = sent if before is None else received
    if "place" not in cursor:
        after, handed_on = cursor.get("function", ""), replace(event, seen=None)
        rest = [name for name in matched if name > after]
        for name in rest[:PER_MESSAGE]:
            app, entry = matched[name]
            run = run_id(app, entry["id"], received, key)
            existing = start_run(
                ports, app, entry["id"], run, handed_on, entry=entry, received=came, triggered=True, again=again
            )
            if existing is not None and existing.event_digest != data_digest:
                raise DuplicateEvent(_other_data(event))
        if len(rest) > PER_MESSAGE:
            return go_on(ports, event, sent, function=rest[PER_MESSAGE - 1])
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
    cursor: Mapping[str, Any],
) -> None:
    scope = event.scope()
    places = sorted({(app, each.lstrip(MARK)) for app, paths in waited.items() for each in paths})
    begin = tuple(cursor.get("place", ("", "")))
    seen, last = 0, ""
    for app, path in places:
        if (app, path) < begin:
            continue
        after = cursor.get("after", "") if (app, path) == begin else ""
        value = None if path == ANY else look_up(scope, path)
        for waiter in ports.store.waiters.find(app, event.name, path, value, after=after):
            if seen == PER_MESSAGE:
                return go_on(ports, event, sent, place=[app, path], after=last)
            seen, last = seen + 1, f"{waiter.run}#{waiter.step}"
            if before is not None and waiter.registered > before:
                continue  # a duplicate of an event that had been accepted before this wait began
            if is_guard(waiter):
                cancel_guarded(ports, waiter, event, key, sent if before is None else received)
            else:
                resolve_waiter(ports, waiter, event, key, received if before is None else before, again=again)
        last = ""
    return None


def go_on(ports: Ports, event: Envelope, sent: int, **cursor: Any) -> None:
    """Have the event accepted by a message of its own: from where the cursor says, from the beginning without one."""
    body: dict[str, JSON] = {"stepwell": "fanout", "event": event.as_json(), "sent": sent, "cursor": cursor}
    if len(sendable(body)) > 200_000:
        reference = large_key(event.id, ports.ids.token_bytes(8).hex())
        ports.payloads.upload(reference, sendable(event.data))
        body["event"] = replace(event, data={}, ref=reference).as_json()
    ports.queue.send(Message(body))


def _other_data(event: Envelope) -> str:
    return (
        f"An event {event.name!r} with id {event.id!r} and other data was accepted before. An id stands for one event: "
        "use another id, or send the same data."
    )
