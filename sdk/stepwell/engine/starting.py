"""A run, created and dispatched. Creating it again finds the one that is there and changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stepwell.codec import JSON, dumps, loads
from stepwell.decisions.deadlines import soonest
from stepwell.decisions.listening import is_run_event
from stepwell.decisions.next import DISPATCH_DEADLINE, rest
from stepwell.engine.admission import admit_run, has_gates
from stepwell.engine.announcing import ends_listened
from stepwell.engine.cancelling import caught, file_guards
from stepwell.engine.dispatching import dispatch
from stepwell.engine.forking import branch_off
from stepwell.engine.keeping import kept_until
from stepwell.engine.tagging import file_tags, file_taken, tagged
from stepwell.events import INVOKED, Envelope
from stepwell.ids import app_of
from stepwell.payloads import INLINE_RUN
from stepwell.ports import Ports
from stepwell.queue import look
from stepwell.records import Fork, Parent, RunState, RunStatus, Stored
from stepwell.store.apps import entry_of
from stepwell.store.guards import guard_name


def start_run(
    ports: Ports,
    app: str,
    function: str,
    run: str,
    event: Envelope,
    *,
    entry: Mapping[str, Any] | None = None,
    parent: Parent | None = None,
    child: bool = False,
    call: str | None = None,
    compute: str | None = None,
    replay_of: str | None = None,
    received: int | None = None,
    triggered: bool = False,
    quiet: bool = False,
    fork: Fork | None = None,
    batch: bool = False,
    again: bool = False,
) -> RunState | None:
    """Create a run and ask a worker for it; the run that was already there, if there was one.

    A run whose event lies in the future is scheduled instead. `triggered` says that an event or a schedule started it,
    rather than somebody who asked for this very run: only then may flow control drop it, collect it or merge it.
    `received` is when the queue received what starts it; `quiet` that a run event is among its ancestors.
    """
    if entry is None:
        entry = entry_of(ports.store.apps.current()[0], app, function)
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
        event_digest=event.digest(),
        compute=compute or (entry or {}).get("compute", "default"),
        due_at=now + DISPATCH_DEADLINE,
        parent=parent,
        child=child,
        call=call,
        replay_of=replay_of,
        fork=fork,
        batch=batch,
        on_failure=bool(entry and entry.get("on_failure")),
        start_within=_limit(entry, "start"),
        finish_within=_limit(entry, "finish"),
        quiet=quiet or is_run_event(event.name),
    )
    if not state.quiet and call is None:
        state = replace(state, announces=ends_listened(ports.store.apps.known.values(), state, event))
    state = tagged(_with_event(ports, state, event), entry, event)
    gated = entry is not None and has_gates(entry) and call is None
    if event.ts > now + 1000 and parent is None:
        wake_at = soonest(state, event.ts)
        due, delay = rest(wake_at, now)
        state = replace(state, status=RunStatus.SCHEDULED, wake_at=wake_at, due_at=due)
        if delay is not None and not gated:
            ports.queue.send(look(run, delay=delay))
    guards = file_guards(ports, state, entry, event, now if received is None else received)
    state = replace(state, guards=tuple(guard_name(guard) for guard in guards))
    if entry is not None and gated:  # which also decides when it is looked at
        stands, new = admit_run(ports, state, entry, event, triggered=triggered, received=received)
    else:
        file_tags(ports, state, event)
        existing = ports.store.runs.create(state)
        stands, new = (state, True) if existing is None else (existing, False)
    ours = stands.seed == state.seed  # otherwise the answer to our own write was lost
    if guards and caught(ports, guards, stands):
        return None if new or ours else stands  # an event that cancels it was faster
    if stands.status is RunStatus.QUEUED and stands.epoch == 0 and (new or again or ours):
        dispatch(ports, stands)  # again: created by a delivery that was cut off before it could ask
    if (again or (ours and not new)) and stands.taken_by is not None:
        if stands.tags:
            file_taken(ports, stands, ports.store.runs.read(stands.taken_by))
        ports.queue.send(look(stands.taken_by))
    return None if new or ours else stands


def start_child(ports: Ports, body: Mapping[str, JSON], *, again: bool) -> None:
    """Create the run that a step or a client asked for."""
    data = body["data"] if "data" in body else loads(ports.payloads.download(body["data_ref"]))
    parent = Parent(**body["parent"]) if body.get("parent") else None
    fork = branch_off(ports, body.get("fork"))
    again_of = fork.run if fork is not None else body.get("replay_of")
    name = body.get("event", INVOKED)
    event = Envelope(body["event_id"], name, data, body["ts"], body.get("tenant"), trace=body.get("trace"))
    start_run(
        ports,
        body["app"],
        body["function"],
        body["run"],
        event,
        parent=parent,
        child=bool(body.get("child")),
        call=body.get("call"),
        compute=body.get("compute"),
        replay_of=body.get("replay_of"),
        received=body.get("sent"),
        quiet=bool(body.get("quiet")),
        fork=fork,
        batch=again_of is not None and with_members(ports, again_of, body["run"]),
        again=again,
    )


def with_members(ports: Ports, old: str, new: str) -> bool:
    """Whether a run took other events along, which the one that replays, forks or handles it takes along as well.

    What lies in S3 is copied, too: the bucket deletes by age, and that of the old run's objects does not begin anew.
    """
    members = [_copied(ports, new, n, event) for n, event in enumerate(ports.store.gates.members(old), start=1)]
    ports.store.gates.keep_members(new, members, ttl=kept_until(ports, ports.now()))
    return bool(members)


def _copied(ports: Ports, new: str, place: int, event: Stored) -> Stored:
    if not isinstance(event, Mapping):
        return event
    key = f"{app_of(new)}/{new}/member-{place}"
    ports.payloads.copy(event["s3"], key)
    return {**event, "s3": key}


def _limit(entry: Mapping[str, Any] | None, name: str) -> int | None:
    """A time limit of the function, in milliseconds."""
    limits = (entry or {}).get("timeouts", {})
    return round(limits[name] * 1000) if name in limits else None


def _with_event(ports: Ports, run: RunState, event: Envelope) -> RunState:
    """The run with its event in it, or beside it if it is too large to be billed at every change of the run."""
    text = dumps(event.as_json())
    if len(text) <= INLINE_RUN:
        return replace(run, event=text)
    stored = ports.payloads.pack(
        text,
        key=f"{run.app}/{run.id}/event",
        what=f"event {event.name!r}",
        beside=len(run.id) + 20,
        enveloped=True,
    )
    ports.store.runs.put_input(run.id, stored, ttl=kept_until(ports, max(ports.now(), event.ts)))
    return run
