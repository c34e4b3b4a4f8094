"""Events, admitted through the gates of a function: its run is created together with what the gates remember of it.

    read the gates -> decide (`decisions.flow`) -> write run and gates in one transaction -> ask a worker, if it may start

A gate that changed in between sends everything back to the beginning, so a decision always rests on what it is written
beside. A redelivered event finds its run in the first read, and no gate counts it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from stepwell.decisions.deadlines import soonest
from stepwell.decisions.flow import Flow, Memory, Verdict, admit, asked_now, mentioned, resolve
from stepwell.decisions.next import DISPATCH_DEADLINE, GRACE, rest
from stepwell.engine.ending import cancel, ended, expiry, followers, skipped
from stepwell.engine.lines import patience, slots_of
from stepwell.events import Envelope
from stepwell.ids import ulid_millis
from stepwell.ports import Ports
from stepwell.queue import look
from stepwell.records import RunState, RunStatus
from stepwell.store.gates import Entry, Full, GateState, Moved, Room

TURNS = 50
"""Events for one gate that are decided at the same moment get their turns one after the other."""


def has_gates(entry: Mapping[str, Any] | None) -> bool:
    """Whether anything stands between an event and the runs of this function."""
    return bool(entry and (entry.get("flow") or entry.get("paused")))


def admit_run(
    ports: Ports, run: RunState, entry: Mapping[str, Any], event: Envelope, *, triggered: bool
) -> tuple[RunState, bool]:
    """The run of an event as it stands in the table now, and whether it is new.

    `run` is what it would be if nothing stood in its way. Not dispatched: that is up to the caller.
    """
    flow = resolve(run.app, entry, event.scope(), triggered=triggered)
    later, paused = run.status is RunStatus.SCHEDULED, bool(entry.get("paused"))
    flow, unasked = asked_now(flow, later=later, paused=paused)
    run = replace(run, unasked=unasked)
    run = replace(run, gates=tuple(slot.gate for slot in flow.slots), priority=flow.priority)
    run = replace(run, batch=run.batch or any(bucket.kind == "batch" for bucket in flow.buckets))
    names = [bucket.gate for bucket in flow.buckets] + list(run.gates)
    for _ in range(TURNS):
        gates, existing = ports.store.gates.read(names, run.id)
        if existing is not None:
            return existing, False
        memories = {bucket.gate: gates[bucket.gate].memory or {} for bucket in flow.buckets if bucket.gate in gates}
        verdict, others = _decide(ports, flow, memories, run, event)
        if verdict.cancels is not None:
            cancel(ports, verdict.cancels, f"singleton: run {run.id} came in its place")
            if verdict.inherits and _has_started(ports, verdict.cancels):
                continue  # just so: its start is used up
        made, written = _write(ports, run, event, entry, verdict, gates, others)
        try:
            existing = ports.store.gates.admit(made, written, now=ports.now())
        except (Moved, Full, Room):
            continue
        if existing is not None:
            return existing, False
        messages = [look(each) for each in _concerned(verdict, made, others)]
        if messages:
            ports.queue.send(*messages)
        return made, True
    raise RuntimeError(f"The gates of {run.app}/{run.function} are contended; the event will be delivered again.")


def _has_started(ports: Ports, run_id: str) -> bool:
    run = ports.store.runs.read(run_id)
    return run is None or run.started is not None


def _concerned(verdict: Verdict, made: RunState, others: Mapping[str, RunState]) -> list[str]:
    """The runs for which something follows from the verdict at once."""
    found = [verdict.joins] if verdict.joins is not None and verdict.completes else []
    if made.owes:
        found.append(made.id)
    if verdict.replaces is not None and followers(others[verdict.replaces], RunStatus.SKIPPED):
        found.append(verdict.replaces)
    return found


def _decide(
    ports: Ports, flow: Flow, memories: Mapping[str, Memory], run: RunState, event: Envelope
) -> tuple[Verdict, dict[str, RunState]]:
    named = mentioned(flow, memories)
    others = ports.store.runs.read_many(named) if named else {}
    received = ulid_millis(run.id.rpartition(".")[2]) or run.created
    later = event.ts if run.status is RunStatus.SCHEDULED else 0
    verdict = admit(flow, memories, others, run=run.id, now=ports.now(), received=received, not_before=later)
    return verdict, others


def _write(
    ports: Ports,
    run: RunState,
    event: Envelope,
    entry: Mapping[str, Any],
    verdict: Verdict,
    gates: Mapping[str, GateState],
    others: Mapping[str, RunState],
) -> tuple[RunState, Entry]:
    """The run as the verdict wants it, and all that is written with it."""
    now = ports.now()
    remembers = [(gates.get(gate, GateState(gate)), memory, until) for gate, memory, until in verdict.remembers]
    written = Entry(remembers=remembers)
    if verdict.status is RunStatus.SKIPPED:
        bare = replace(run, gates=(), batch=False, taken_by=verdict.joins)
        made = skipped(ports, bare, verdict.reason or "")
        if verdict.joins is not None:
            packed = ports.store.events.pack(event, beside=len(verdict.joins) + 60)
            full = now + GRACE if verdict.completes else None
            written = replace(written, joins=(verdict.joins, verdict.place), event=packed, completes=full)
        return made, replace(written, ttl=None if made.owes else expiry(ports, now))
    if verdict.replaces is not None:
        other = others[verdict.replaces]
        if other.line is not None:  # it keeps the other's place, or a line that never empties would keep it for ever
            run = replace(run, priority=run.created - min(run.place, other.place))
        fields = ended(ports, other, RunStatus.SKIPPED, followers(other, RunStatus.SKIPPED))
        written = replace(written, skips=(other.id, {**fields, "reason": verdict.because, "line": None}))
    if verdict.status is RunStatus.SCHEDULED and verdict.wake_at is not None:
        wake_at = soonest(run, verdict.wake_at)
        due, delay = rest(wake_at, now)
        if delay is not None:
            ports.queue.send(look(run.id, delay=delay))
        return replace(run, status=RunStatus.SCHEDULED, wake_at=wake_at, due_at=due, reason=verdict.reason), written
    slots = slots_of(entry, run)
    line = _line(slots, gates)
    if line is not None:
        due, ends = patience(ports, run)
        made = replace(run, status=RunStatus.SCHEDULED, line=line[0], wake_at=ends, due_at=due)
        return made, replace(written, waits=line)
    made = replace(run, status=RunStatus.QUEUED, held=bool(slots), wake_at=None, due_at=now + DISPATCH_DEADLINE)
    return made, replace(written, takes=slots)


def _line(slots: Sequence[tuple[str, int]], gates: Mapping[str, GateState]) -> tuple[str, int] | None:
    """The first gate without room for a newcomer, and its limit."""
    for name, limit in slots:
        gate = gates.get(name, GateState(name))
        if gate.held >= limit or gate.waiting > 0:
            return name, limit
    return None
