"""A run, created and dispatched. Creating it again finds the one that is there and changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stepwell.codec import JSON, canonical, dumps, loads
from stepwell.decisions.next import DISPATCH_DEADLINE, rest
from stepwell.engine.ending import kept_until
from stepwell.engine.wake import dispatch
from stepwell.events import Envelope
from stepwell.ids import digest
from stepwell.payloads import INLINE_RUN
from stepwell.ports import Ports
from stepwell.queue import look
from stepwell.records import Parent, RunState, RunStatus


def start_run(
    ports: Ports,
    app: str,
    function: str,
    run: str,
    event: Envelope,
    *,
    entry: Mapping[str, Any] | None = None,
    parent: Parent | None = None,
    call: str | None = None,
    compute: str | None = None,
    replay_of: str | None = None,
    again: bool = False,
) -> RunState | None:
    """Create a run and ask a worker for it; the run that was already there, if there was one.

    A run whose event lies in the future is scheduled instead.
    """
    if entry is None:
        record = ports.store.apps.current()[0].get(app)
        entry = record.function(function) if record else None
    now = ports.now()
    state = RunState(
        id=run,
        app=app,
        function=function,
        status=RunStatus.QUEUED,
        created=now,
        seed=ports.ids.token_bytes(16).hex(),
        event_id=event.id,
        event_name=event.name,
        event_digest=digest(canonical(event.data)).hex()[:16],
        compute=compute or (entry or {}).get("compute", "default"),
        due_at=now + DISPATCH_DEADLINE,
        parent=parent,
        call=call,
        replay_of=replay_of,
        on_failure=bool(entry and entry.get("on_failure")),
    )
    state = _with_event(ports, state, event)
    if event.ts > now + 1000 and parent is None:
        due, delay = rest(event.ts, now)
        if delay is not None:
            ports.queue.send(look(run, delay=delay))
        state = replace(state, status=RunStatus.SCHEDULED, wake_at=event.ts, due_at=due)
    existing = ports.store.runs.create(state)
    if existing is None:
        if state.status is RunStatus.QUEUED:
            dispatch(ports, state)
    elif existing.status is RunStatus.QUEUED and existing.epoch == 0 and (again or existing.seed == state.seed):
        dispatch(ports, existing)  # created by a delivery that was cut off before it could ask, or by ourselves
    return None if existing is None or existing.seed == state.seed else existing


def start_child(ports: Ports, body: Mapping[str, JSON], *, again: bool) -> None:
    """Create the child run that a step asked for."""
    data = body["data"] if "data" in body else loads(ports.payloads.download(body["data_ref"]))
    parent = Parent(**body["parent"]) if body.get("parent") else None
    name = body.get("event", "stepwell/function.invoked")
    event = Envelope(body["event_id"], name, data, body["ts"], body.get("tenant"))
    start_run(
        ports,
        body["app"],
        body["function"],
        body["run"],
        event,
        parent=parent,
        call=body.get("call"),
        compute=body.get("compute"),
        replay_of=body.get("replay_of"),
        again=again,
    )


def _with_event(ports: Ports, run: RunState, event: Envelope) -> RunState:
    """The run with its event in it, or beside it if it is too large to be billed at every change of the run."""
    text = dumps(event.as_json())
    if len(text) <= INLINE_RUN:
        return replace(run, event=text)
    stored = ports.payloads.pack(
        text, key=f"{run.app}/{run.id}/event", what=f"event {event.name!r}", beside=len(run.id) + 20
    )
    ports.store.runs.put_input(run.id, stored, ttl=kept_until(ports, max(ports.now(), event.ts)))
    return run
