"""Lines: a run that may go on takes its slots, or stands in line for the one that is missing.

    take all slots at once --- room ---> queued, a worker is asked
            |
            full ---> into the line of the gate that refused (out of the one it stood in), with its old rank

Slots are taken together or not at all, and nobody holds one while waiting for another: so two limits cannot block each
other. A run stands in one line at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from stepwell.decisions.deadlines import deadline, soonest
from stepwell.decisions.flow import UNLIMITED, pause_gate, resolve, slot_limits, throttled, throttling
from stepwell.decisions.next import DISPATCH_DEADLINE, rest
from stepwell.engine.dispatching import dispatch
from stepwell.engine.due import Action
from stepwell.engine.inputs import own_event
from stepwell.ports import Ports
from stepwell.queue import drain, look
from stepwell.records import RunState, RunStatus
from stepwell.store import layout
from stepwell.store.apps import AppRecord, gates_of
from stepwell.store.due import Key
from stepwell.store.gates import Full, GateState, Moved, Room
from stepwell.store.runs import LostRun

STARTS = 50
"""Runs moved for one message; a line that moves further goes on with another message."""
BACKSTOP = 21_600_000
"""Milliseconds after which a run that stands in a line is looked at by itself. Its gate is looked at every minute."""
TURNS = 10


Apps = Mapping[str, AppRecord]


def slots_of(entry: Mapping[str, Any], run: RunState) -> list[tuple[str, int]]:
    """The gates whose slots the run needs now, and their limits by today's code. A paused function has none for starts."""
    if entry.get("paused") and run.epoch == 0 and run.call is None:
        return [(pause_gate(run.app, run.function), 0)]
    return [(slot.gate, slot.limit) for slot in slot_limits(entry, run.gates)]


def patience(ports: Ports, run: RunState) -> tuple[int, int | None]:
    """When to look at a run that stands in line, and when it is out of time there, if ever; that look is posted."""
    now, ends = ports.now(), deadline(run)
    if ends is None:
        return now + BACKSTOP, None
    due, delay = rest(ends, now)
    if delay is not None:
        ports.queue.send(look(run.id, delay=delay))
    return due, ends


def enter(ports: Ports, run: RunState, if_: str, *, apps: Apps | None = None, **values: Any) -> str | None:
    """Queue a resting run if the condition holds and all its gates have room; else the gate for which it waits.

    Raises LostRun if the run is no longer as it was seen.
    """
    apps = ports.store.apps.current()[0] if apps is None else apps
    entry = gates_of(apps, run.app, run.function)
    slots = slots_of(entry, run)
    if run.unasked and not entry.get("paused"):
        run, throttle = _ask_throttle(ports, run, entry, if_, values)
        if throttle is not None:
            return throttle
    for _ in range(TURNS):  # each turn is a gate that changed between two writes
        now = ports.now()
        try:
            ports.store.gates.take(run, slots, if_, due=now + DISPATCH_DEADLINE, now=now, **values)
        except Full as full:
            if full.gate == run.line:
                return full.gate
            try:
                due, wake_at = patience(ports, run)
                ports.store.gates.wait(run, full.gate, full.limit, if_, due=due, wake_at=wake_at, now=now, **values)
            except Room:
                continue
            return full.gate
        dispatch(ports, replace(run, status=RunStatus.QUEUED, held=bool(run.gates), line=None, wake_at=None))
        return None
    raise RuntimeError(f"The gates of run {run.id} change too fast; the message will be delivered again.")


def _ask_throttle(
    ports: Ports, run: RunState, entry: Mapping[str, Any], if_: str, values: Mapping[str, Any]
) -> tuple[RunState, str | None]:
    """Let a run that has not asked its throttle do so; the run then, and the gate if it has to wait for its turn."""
    if not entry:
        return run, None  # its function is gone: it finds no worker either
    flow = resolve(run.app, entry, own_event(ports, run).scope(), triggered=False)
    for bucket in flow.buckets:
        for _ in range(TURNS):
            now = ports.now()
            state = ports.store.gates.read([bucket.gate])[0].get(bucket.gate, GateState(bucket.gate))
            starts, tat = throttled((state.memory or {}).get("tat"), bucket.policy, now)
            wake_at = soonest(run, starts)
            due, delay = rest(wake_at, now)
            if starts > now and delay is not None:
                ports.queue.send(look(run.id, delay=delay))
            reason = throttling(bucket) if starts > now else None
            fields = {"wake_at": wake_at, "due": due, "reason": reason, "unasked": None, **values}
            try:
                ports.store.gates.ask(run, if_, state, {"tat": tat}, tat, fields, now=now)
            except Moved:
                continue
            asked = replace(run, unasked=False, line=None, wake_at=wake_at, due_at=due, reason=reason)
            return asked, bucket.gate if starts > now else None
        raise RuntimeError(f"The throttle of run {run.id} is contended; the message will be delivered again.")
    return run, None


def follow(ports: Ports, gate: str) -> None:
    """Let the line of a gate move up, first come first, as far as it has room."""
    apps, _ = ports.store.apps.current()
    gates, _ = ports.store.gates.read([gate])
    if gate not in gates or gates[gate].waiting <= 0:
        return
    held, started, struck = gates[gate].held, 0, 0
    for place, run_id in ports.store.gates.line(gate):
        if started + struck >= STARTS:
            ports.queue.send(drain(gate))
            return
        run = ports.store.runs.read(run_id)
        if run is None or not run.is_live:
            ports.store.gates.strike(gate, place, now=ports.now())  # it was cancelled while it waited
            struck += 1
            continue
        if run.line != gate:
            held += 1  # another call of this line was faster, and took the slot
            continue
        slots = slots_of(gates_of(apps, run.app, run.function), run)
        if held >= dict(slots).get(gate, UNLIMITED):
            return
        try:
            refused = enter(ports, run, layout.RESTING, apps=apps)
        except LostRun:
            continue
        if refused == gate:
            return
        started += 1
        if refused is None:
            held += 1
    if started and ports.store.gates.waiting(gate) > 0:
        ports.queue.send(drain(gate))  # who came into the line after its last page was read would wait for the sweeper


def overdue_lines(ports: Ports, keys: Sequence[Key], now: int) -> list[Action]:
    """In the sweeper: call the next in line once more, in case that the call was lost; forget lines that are empty."""
    gates, _ = ports.store.gates.read(pk.removeprefix(layout.GATE_PREFIX) for pk, _ in keys)
    actions = []
    for gate in gates.values():
        if gate.due_at is None or gate.due_at > now:
            continue  # the index was behind
        messages = (drain(gate.id),) if gate.waiting > 0 else ()
        move = partial(ports.store.gates.postpone, gate, due=now + layout.LINE_PATIENCE, now=now)
        actions.append(Action(move, messages))
    return actions
