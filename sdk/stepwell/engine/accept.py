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
from stepwell.engine.receiving import Receipt, other_data, receive
from stepwell.engine.resolve import resolve_waiter
from stepwell.engine.starting import start_run
from stepwell.errors import DuplicateEvent, InvalidEvent, Undecided
from stepwell.events import Envelope, check_data, large_key
from stepwell.ids import event_key, event_millis, run_id
from stepwell.ports import Ports
from stepwell.queue import Message, effect
from stepwell.store.apps import AppRecord
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
    """Accept an event that the queue received at `sent` (milliseconds).

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


def take_effect(ports: Ports, place: str, *, again: bool) -> None:
    """Let the dated event that is listed at this place meet all who wait for it now, or are cancelled by it.

    Who begins to wait at this very moment, after the time of the event, is not meant, whoever of us is faster. If it looks
    back, it finds the event in the log.
    """
    found = ports.store.events.dated(place)
    if found is None:
        return None
    (event, kept), now = found, ports.now()
    key = event_key(event.name, event.id)
    receipt = Receipt(kept.received, kept.received, kept.effect, kept.effect, kept.dated)
    if receipt.is_ahead(now):  # this clock is behind that of the queue
        return ports.queue.send(effect(place, delay=(kept.effect - now) / 1000))
    # Unless its acceptance was cut off, or by an earlier release, it is listed.
    if not ports.store.events.lists_effect(event, key, kept.effect):
        ports.store.events.log_effect(event, key, kept.effect)
    waited = _waited(*ports.store.apps.current([event.name]), event.name)
    note_event(ports, event, key, receipt.effect, waited)
    return _wake_waiters(ports, event, key, receipt, waited, again, {})


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
    return Routes({name: matched[name] for name in sorted(matched)}, undecided, _waited(apps, paths, event.name))


def _waited(apps: Mapping[str, AppRecord], paths: Paths, name: str) -> dict[str, set[str]]:
    waited = guarded_paths(apps, name)
    for (app, of), found in paths.items():
        if of == name:
            waited[app] = waited.get(app, set()) | found
    return waited


def _pass_on(ports: Ports, event: Envelope, sent: int, routes: Routes, again: bool, cursor: Mapping[str, Any]) -> None:
    matched, waited = routes.matched, routes.waited
    key, data_digest = event_key(event.name, event.id), event.digest()
    paths = {path for found in waited.values() for path in found}
    carried = event_millis(event.id)
    of_id = {name: run_id(app, entry["id"], carried or 0, key) for name, (app, entry) in matched.items()}
    receipt = receive(ports, event, sent, of_id, routes.undecided, waited=paths, cursor=cursor)
    if receipt.functions is not None:
        matched = {name: found for name, found in matched.items() if name in receipt.functions}
    if "place" not in cursor:
        after, handed_on = cursor.get("function", ""), replace(event, seen=None)
        rest = [name for name in matched if name > after]
        for name in rest[:PER_MESSAGE]:
            app, entry = matched[name]
            run = run_id(app, entry["id"], receipt.received, key)
            existing = start_run(
                ports, app, entry["id"], run, handed_on, entry=entry, received=receipt.sent, triggered=True, again=again
            )
            if existing is not None and existing.event_digest != data_digest:
                raise DuplicateEvent(other_data(event))
            if existing is not None and carried is not None:
                receipt = receipt.after_run(existing.created)
        if len(rest) > PER_MESSAGE:
            return go_on(ports, event, receipt.sent, function=rest[PER_MESSAGE - 1], **receipt.cursor())
        if receipt.is_ahead(ports.now()):
            return None  # it will meet the others when it takes effect
        note_event(ports, event, key, receipt.effect, waited)
    return _wake_waiters(ports, event, key, receipt, waited, again, cursor)


def _wake_waiters(
    ports: Ports,
    event: Envelope,
    key: str,
    receipt: Receipt,
    waited: Mapping[str, set[str]],
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
                more: dict[str, Any] = {"place": [app, path], "after": last, **receipt.cursor()}
                return go_on(ports, event, receipt.sent, **more)
            seen, last = seen + 1, f"{waiter.run}#{waiter.step}"
            if is_guard(waiter):
                cancel_guarded(ports, waiter, event, key, receipt.effect)
            elif receipt.before is None or waiter.registered <= receipt.before:
                resolve_waiter(ports, waiter, event, key, receipt.effect, again=again)
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
