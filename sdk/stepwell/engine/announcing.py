"""The end of a run as an event: `stepwell/run.finished`, `.failed`, `.cancelled`, `.skipped`.

Which of them somebody listens to is settled when the run starts (`ends_listened`); whoever delivers what the run owes
accepts the event like any other. Its id follows from the run's, so delivering it again starts nothing twice.

What a middleware has encoded stays encoded: the engine copies the result, the error and the data of the run's event as
they are stored, each for the place it was encoded for, and whoever listens decodes them with that middleware or not at all.

No loops: a run that such an event has started is quiet. It announces nothing, and neither do the runs it invokes, nor what
repeats any of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from stepwell.codec import JSON, deeper_than, loads, sendable
from stepwell.decisions.listening import RUN_EVENTS, is_run_event, listened
from stepwell.engine.inputs import event_json, own_event
from stepwell.errors import ErrorInfo, NotSerializable
from stepwell.events import MAX_DEPTH, Envelope
from stepwell.ids import derived_ulid, event_id_of
from stepwell.ports import Ports
from stepwell.records import RunState
from stepwell.store.apps import AppRecord

MOST = 65_536
"""Characters of JSON that the result, and the data of the run's event, may each have to stand in a run event."""

OMITTED_DATA = "event.data"
"""How it is called in `omitted`, if it has more."""


def ends_listened(apps: Iterable[AppRecord], run: RunState, event: Envelope) -> tuple[str, ...]:
    """The ends of a run that is about to be created that somebody listens to, by their status."""
    functions: list[Mapping[str, Any]] = [entry for app in apps for entry in app.functions]
    return tuple(status.value for status in listened(functions, _known(run, event), event.tenant))


def run_event(ports: Ports, run: RunState) -> Envelope:
    """The event of an ended run: the same whenever it is made."""
    own, ended = cause(ports, run), run.ended or run.created
    data = _known(run, own) | {
        "status": run.status.value,
        "result": None,
        "error": error_json(run.error) if run.error else None,
        "reason": run.reason,
        "tags": dict(run.tags),
    }
    omitted: list[JSON] = []
    seen = None
    if not _fits(own.data):
        seen = {**data, "event": {**data["event"]}}
        data["event"]["data"] = {}
        omitted.append(OMITTED_DATA)
    if run.result is not None:
        size = run.result["size"] if isinstance(run.result, Mapping) else 0
        if size <= MOST and _fits(result := loads(ports.payloads.unpack(run.result))):
            data["result"] = result
            seen = seen and {**seen, "result": result}
        else:
            omitted.append("result")
    if omitted:
        data["omitted"] = omitted
    event_id, name = event_id_of(derived_ulid(ended, "ended", run.id)), RUN_EVENTS[run.status]
    return Envelope(event_id, name, data, ended, own.tenant, trace=own.trace, seen=seen)


def with_all_data(ports: Ports, event: Envelope) -> Envelope:
    """A run event as conditions are to see it: those that asked for the data of the run's event held when the run was
    accepted, and are not to fail at its end because the data is left out. Any other event is as it is."""
    if event.seen is not None or not is_run_event(event.name) or OMITTED_DATA not in event.data.get("omitted", ()):
        return event
    run = ports.store.runs.read(event.data["run_id"])
    return event if run is None else replace(event, seen=run_event(ports, run).seen)


def cause(ports: Ports, run: RunState) -> Envelope:
    """The event that started a run that has ended; without its data, should they have expired meanwhile."""
    try:
        return own_event(ports, run)
    except LookupError:
        return Envelope(run.event_id, run.event_name, {}, run.created)


def error_json(error: ErrorInfo) -> dict[str, JSON]:
    """The error of a run for them. It has a message, though that may say no more than that it is encrypted."""
    return {**error.as_json(), "message": error.message}


def _fits(value: JSON) -> bool:
    """Whether a value can stand in the event: it is not too much, and can be sent, which NaN, for one, cannot."""
    try:
        return len(sendable(value)) <= MOST and not deeper_than(value, MAX_DEPTH)
    except NotSerializable:
        return False


def _known(run: RunState, event: Envelope) -> dict[str, JSON]:
    """What is known of the run's event before it has ended."""
    return {
        "run_id": run.id,
        "app": run.app,
        "function": run.function,
        "event": event_json(event),
        "parent_id": run.parent.run if run.parent else None,
    }
