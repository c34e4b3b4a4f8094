"""Events, admitted through the gates of a function: its run is created together with what the gates remember of it.

    read the gates -> decide (`decisions.verdicts`) -> write run and gates in one transaction -> ask a worker, if it may start

A gate that changed in between sends everything back to the beginning, so a decision always rests on what it is written
beside. A redelivered event finds its run in the first read, and no gate counts it again. A run that has to make way
(a singleton's, a debounced one) ends in the same transaction: whatever fails, there is the one or the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from stepwell.decisions.deadlines import deadline, soonest
from stepwell.decisions.flow import Flow, Memory, asked_now, resolve
from stepwell.decisions.next import DISPATCH_DEADLINE, GRACE, rest
from stepwell.decisions.verdicts import Verdict, admit, handed_on, mentioned
from stepwell.engine.cancelling import let_go
from stepwell.engine.ending import ended, followers, skipped
from stepwell.engine.keeping import KEEP, expiry, month_ttl, outlast
from stepwell.engine.lines import passes, patience, slots_of
from stepwell.engine.slots import calls
from stepwell.engine.tagging import file_tags, file_taken
from stepwell.events import Envelope
from stepwell.ids import run_millis
from stepwell.ports import Ports
from stepwell.queue import drain, look
from stepwell.records import RunState, RunStatus
from stepwell.store.gate_writes import GateState
from stepwell.store.gates import Entry, Full, Moved, Room

TURNS = 50
"""Events for one gate that are decided at the same moment get their turns one after the other."""

Slots = Sequence[tuple[str, int]]
"""Gates and their limits."""


def has_gates(entry: Mapping[str, Any] | None) -> bool:
    """Whether anything stands between an event and the runs of this function."""
    return bool(entry and (entry.get("flow") or entry.get("paused")))


def admit_run(
    ports: Ports, run: RunState, entry: Mapping[str, Any], event: Envelope, *, triggered: bool, received: int | None
) -> tuple[RunState, bool]:
    """The run of an event as it stands in the table now, and whether it is new.

    `run` is what it would be if nothing stood in its way. `received`: when the queue received the event, unless it is the
    engine's own and carries its time. Not dispatched: that is up to the caller.
    """
    received = (run_millis(run.id) or run.created) if received is None else received
    flow = resolve(run.app, entry, event.scope(), triggered=triggered)
    run = replace(run, gates=tuple(slot.gate for slot in flow.slots), priority=flow.priority)
    run = replace(run, batch=run.batch or any(bucket.kind == "batch" for bucket in flow.buckets))
    slots = slots_of(entry, run)
    names = [bucket.gate for bucket in flow.buckets] + list(run.gates)
    filed = False
    for turn in range(TURNS):
        gates, existing = ports.store.gates.read(names, run.id)
        if existing is not None:
            return existing, False
        memories = {bucket.gate: gates[bucket.gate].memory or {} for bucket in flow.buckets if bucket.gate in gates}
        others = _others(ports, flow, memories)
        line = _line(slots, gates, handed_on(flow, memories, others))
        verdict, asking = _decide(ports, flow, memories, others, run, event, received, waits=line is not None)
        made, written = _write(ports, asking, event, verdict, gates, others, slots, line)
        if verdict.joins is None and not filed:
            file_tags(ports, made, event)
            filed = True
        try:
            existing = ports.store.gates.admit(made, written, now=ports.now())
        except (Moved, Full, Room):
            ports.store.gates.pause(turn)
            continue
        if existing is not None:
            return existing, False
        if verdict.joins is not None:
            file_taken(ports, made, others[verdict.joins])
        _tell(ports, verdict, made, others, line)
        return made, True
    raise RuntimeError(f"The gates of {run.app}/{run.function} are contended; the event will be delivered again.")


def _others(ports: Ports, flow: Flow, memories: Mapping[str, Memory]) -> dict[str, RunState]:
    named = mentioned(flow, memories)
    return ports.store.runs.read_many(named) if named else {}


def _line(slots: Slots, gates: Mapping[str, GateState], freed: Sequence[str]) -> tuple[str, int] | None:
    """The first gate without room for a newcomer, and its limit. Those in `freed` get one slot back with its coming."""
    for name, limit in slots:
        gate = gates.get(name, GateState(name))
        if gate.held - (name in freed) >= limit or gate.waiting > 0:
            return name, limit
    return None


def _decide(
    ports: Ports,
    flow: Flow,
    memories: Mapping[str, Memory],
    others: Mapping[str, RunState],
    run: RunState,
    event: Envelope,
    received: int,
    *,
    waits: bool,
) -> tuple[Verdict, RunState]:
    """The verdict, and the run with what follows from how it was asked for."""
    later = run.status is RunStatus.SCHEDULED
    asked = asked_now(flow, later=later, waits=waits)
    verdict = admit(
        asked,
        memories,
        others,
        run=run.id,
        now=ports.now(),
        received=received,
        not_before=event.ts if later else 0,
        ends=deadline(run),
    )
    throttled, has_asked = (any(each.kind == "throttle" for each in it.buckets) for it in (flow, asked))
    kept = tuple(gate for gate, _, until in verdict.remembers if until is None)
    return verdict, replace(run, unasked=throttled and not has_asked, turn=verdict.turn, memories=kept)


def _write(
    ports: Ports,
    run: RunState,
    event: Envelope,
    verdict: Verdict,
    gates: Mapping[str, GateState],
    others: Mapping[str, RunState],
    slots: Slots,
    line: tuple[str, int] | None,
) -> tuple[RunState, Entry]:
    """The run as the verdict wants it, and all that is written with it."""
    now = ports.now()
    if verdict.status is RunStatus.SKIPPED:
        return _refused(ports, run, event, verdict, gates, others)
    starts = max(now, verdict.wake_at or now)
    written = Entry(remembers=_remembers(ports, run, verdict, gates, starts))
    if verdict.cancels is not None:
        written = replace(written, cancels=_made_way(ports, run, verdict, others[verdict.cancels]))
    if verdict.ahead is not None:
        run = replace(run, priority=run.created - min(run.place, verdict.ahead))
    if verdict.replaces is not None:
        other = others[verdict.replaces]
        fields = ended(ports, other, RunStatus.SKIPPED, followers(other, RunStatus.SKIPPED))
        written = replace(written, skips=(other.id, {**fields, "reason": verdict.because, "line": None}))
    if verdict.status is RunStatus.SCHEDULED and verdict.wake_at is not None:
        wake_at = soonest(run, verdict.wake_at)
        due, delay = rest(wake_at, now)
        if delay is not None:
            ports.queue.send(look(run.id, delay=delay))
        outlast(ports, run, wake_at)
        return replace(run, status=RunStatus.SCHEDULED, wake_at=wake_at, due_at=due, reason=verdict.reason), written
    if line is not None:
        due, ends = patience(ports, run)
        made = replace(run, status=RunStatus.SCHEDULED, line=line[0], wake_at=ends, due_at=due)
        return made, replace(written, waits=line)
    made = replace(run, status=RunStatus.QUEUED, held=bool(slots), wake_at=None, due_at=now + DISPATCH_DEADLINE)
    return made, replace(written, takes=slots)


def _refused(
    ports: Ports,
    run: RunState,
    event: Envelope,
    verdict: Verdict,
    gates: Mapping[str, GateState],
    others: Mapping[str, RunState],
) -> tuple[RunState, Entry]:
    """The run of an event that starts none: refused, or taken along by another run."""
    now = ports.now()
    bare = replace(run, gates=(), batch=False, unasked=False, turn=None, memories=(), taken_by=verdict.joins)
    made = skipped(ports, bare, verdict.reason or "")
    written = Entry(
        remembers=_remembers(ports, run, verdict, gates, now), ttl=None if made.owes else expiry(ports, now)
    )
    if verdict.joins is not None:
        leader = others[verdict.joins]
        # By the run of this event: two that want the same place in a batch at the same time must not share an object.
        key = f"{leader.app}/{leader.id}/{run.id.rpartition('.')[2]}"
        packed = ports.store.events.pack(event, beside=len(leader.id) + 60, key=key)
        written = replace(
            written,
            joins=(leader.id, verdict.place),
            event=packed,
            event_tags=made.tags,
            event_ttl=month_ttl(ports, leader, max(now, leader.wake_at or now)),
            completes=now + GRACE if verdict.completes else None,
        )
    return made, written


def _remembers(
    ports: Ports, run: RunState, verdict: Verdict, gates: Mapping[str, GateState], starts: int
) -> list[tuple[GateState, Memory, int]]:
    """What gates remember from now on, each with its ttl in epoch seconds."""
    return [
        (
            gates.get(gate, GateState(gate)),
            memory,
            month_ttl(ports, run, starts) if until is None else until // 1000 + KEEP,
        )
        for gate, memory, until in verdict.remembers
    ]


def _made_way(ports: Ports, run: RunState, verdict: Verdict, other: RunState) -> tuple[RunState, dict[str, Any], bool]:
    """A run that is cancelled because this one comes, its attributes from then on, and whether it must not have started."""
    fields = ended(ports, other, RunStatus.CANCELLED, followers(other, RunStatus.CANCELLED))
    return other, {**fields, "reason": f"singleton: run {run.id} came in its place"}, verdict.inherits


def _tell(
    ports: Ports,
    verdict: Verdict,
    made: RunState,
    others: Mapping[str, RunState],
    line: tuple[str, int] | None,
) -> None:
    """What follows at once from an admission; if it is cut off, the sweeper comes to all of it."""
    messages = [look(verdict.joins)] if verdict.joins is not None and verdict.completes else []
    if made.owes:
        messages.append(look(made.id))
    if verdict.cancels is not None:
        messages += [look(verdict.cancels), *calls(ports, others[verdict.cancels])]
    replaced = others[verdict.replaces] if verdict.replaces is not None else None
    if replaced is not None and followers(replaced, RunStatus.SKIPPED):
        messages.append(look(replaced.id))
    if line is not None and made.line is not None and passes(ports.store.apps.known, *line):
        messages.append(drain(made.line))
    if messages:
        ports.queue.send(*messages)
    if replaced is not None:
        let_go(ports, replaced)
