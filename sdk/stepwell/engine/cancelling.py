"""`cancel_on`: a live run is cancelled when an event comes that was received after it.

For each rule a guard is filed before the run is created; see `stepwell.store.guards` for why no order of events, and no
crash between any two calls, loses a cancel. A guard stands in its run's item too, and one that does not cancels nothing:
it was left over by a start that came to nothing, or by other rules of another deployment.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from stepwell.codec import JSON
from stepwell.engine.announcing import with_all_data
from stepwell.engine.ending import cancel
from stepwell.engine.keeping import month_ttl
from stepwell.engine.resolve import waiter_takes
from stepwell.events import Envelope
from stepwell.expressions import expression
from stepwell.ports import Ports
from stepwell.records import RunState
from stepwell.store.apps import AppRecord
from stepwell.store.guards import LET_GO, MARK, PREFIX, Note, guard_name
from stepwell.store.layout import ANY
from stepwell.store.waiters import Waiter, look_up

logger = logging.getLogger("stepwell")

FOREVER = 10 * 366 * 86_400_000
"""Milliseconds that a rule without a time-out holds: longer than any run."""
_PLAIN = re.compile(r"event(\.[A-Za-z_]\w*)+")


# ---- the run's side


def file_guards(
    ports: Ports, run: RunState, entry: Mapping[str, Any] | None, event: Envelope, received: int
) -> list[Waiter]:
    """File the guards of a run that is about to be created. `received` is when the queue received what starts it."""
    guards = []
    for number, rule in enumerate((entry or {}).get("cancel_on", ())):
        match = _resolved(rule.get("match", {}), event.scope())
        if match is None:
            continue  # the run's event lacks what the rule compares: no event can be meant
        timeout = rule.get("timeout")
        guard = Waiter(
            app=run.app,
            run=run.id,
            step=f"{PREFIX}{number}",
            id="",
            shape="",
            event=rule["event"],
            until=run.created + (FOREVER if timeout is None else round(timeout * 1000)),
            registered=received,
            match=match,
            where=rule.get("where"),
        )
        ports.store.guards.file(guard, ttl=month_ttl(ports, run, max(run.created, event.ts)))
        guards.append(guard)
    return guards


def caught(ports: Ports, guards: Iterable[Waiter], run: RunState) -> bool:
    """After the run was created: whether it is over already. It is cancelled if its event came in the meantime.

    `run` is the one that stands there, which an earlier delivery may have created under other rules.
    """
    filed = {guard_name(guard): guard for guard in guards}
    over = not run.is_live
    for name in filed if over else filed.keys() - set(run.guards):
        ports.store.guards.let_go(run.app, run.id, name, ports.now())
    if over:
        return True
    return any(_caught_by(ports, filed[name], run) for name in run.guards if name in filed)


def _caught_by(ports: Ports, guard: Waiter, run: RunState) -> bool:
    for note in ports.store.guards.notes(guard):
        if note.came >= guard.until or (note.came == guard.registered and note.run != run.id):
            continue  # too late; or handled before the run in the very millisecond in which both came
        event = with_all_data(ports, ports.store.events.unpack(note.event))
        if _means(ports, guard, event, run):
            cancel(ports, run.id, _reason(event))
            return True
    return False


def let_go(ports: Ports, run: RunState) -> None:
    """The run has ended: its guards are of no use any more. Only tidying up, so a failure is no failure of the run."""
    for name in run.guards:
        try:
            ports.store.guards.let_go(run.app, run.id, name, ports.now())
        except (ClientError, BotoCoreError) as error:
            logger.warning("run %s left a guard behind: %s", run.id, error)


# ---- the event's side


def guarded_paths(apps: Mapping[str, AppRecord], name: str) -> dict[str, set[str]]:
    """By app, the paths under which runs may be guarded against events of this name, each with its mark.

    From the manifests, so that the rules hold from the moment of deployment. Rules that are gone, of runs that still
    live, are found by their announcement.
    """
    found: dict[str, set[str]] = {}
    for app in apps.values():
        for entry in app.functions:
            for rule in entry.get("cancel_on", ()):
                if rule["event"] == name:
                    found.setdefault(app.id, set()).add(MARK + min(rule.get("match", {}), default=ANY))
    return found


def note_event(ports: Ports, event: Envelope, key: str, came: int, waited: Mapping[str, Iterable[str]]) -> None:
    """Note the event in each place where it may be looked for by a run that is just being created. `came` is when it was
    received first, or took effect."""
    for app, paths in waited.items():
        for path in paths:
            if path.startswith(MARK):
                _note(ports, app, event, key, came, path.removeprefix(MARK), None)


def cancel_guarded(ports: Ports, guard: Waiter, event: Envelope, key: str, came: int) -> None:
    """Cancel the run of a guard that an event has met, if the event is meant and came after the run was accepted.

    An event that came too late leaves the guard where it is: one that came in time may still be on its way.
    """
    if guard.until == LET_GO:
        return ports.store.waiters.remove(guard)
    if not guard.registered <= came < guard.until:
        return None
    run = ports.store.runs.read(guard.run)
    if run is None:
        # It is just being created, or its start was cut off and comes again: it will find this note, or we find it now.
        _note(ports, guard.app, event, key, came, guard.place()[0], guard.run)
        run = ports.store.runs.read(guard.run)
        if run is None and ports.now() < guard.registered + round(ports.config.retention * 1000):
            return None
    if run is not None and run.is_live and guard_name(guard) in run.guards:
        if not _means(ports, guard, event, run):
            return None
        cancel(ports, run.id, _reason(event))
    return ports.store.waiters.remove(guard)


def _means(ports: Ports, guard: Waiter, event: Envelope, run: RunState) -> bool:
    """Whether the event is one that cancels the run; the one that started it never is."""
    if (event.id, event.name) == (run.event_id, run.event_name):
        return False
    return waiter_takes(ports, guard, event, run)


def _note(ports: Ports, app: str, event: Envelope, key: str, came: int, path: str, run: str | None) -> None:
    value = None if path == ANY else look_up(event.scope(), path)
    stored = ports.store.events.pack(event, beside=200)
    ports.store.guards.note(app, event.name, path, value, Note(came, stored, run), key, ports.now())


def _reason(event: Envelope) -> str:
    return f"cancelled by {event.name} {event.id}"


def _resolved(match: Mapping[str, JSON], scope: dict[str, JSON]) -> dict[str, JSON] | None:
    """The values to compare with: those that begin with `event.` are taken from the run's own event.

    None if one of these is missing or null there.
    """
    found: dict[str, JSON] = {}
    for path, value in match.items():
        if not isinstance(value, str) or not value.startswith("event."):
            found[path] = value
            continue
        own = _own(value, scope)
        if own is None:
            return None
        found[path] = own
    return found


def _own(source: str, scope: dict[str, JSON]) -> JSON:
    if _PLAIN.fullmatch(source):
        return look_up({"event": scope}, source)
    try:
        return expression(source).value(scope)
    except ValueError:
        return None
