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

from stepwell.decisions.deadlines import deadline
from stepwell.decisions.flow import UNLIMITED, pause_gate, slot_limits
from stepwell.decisions.next import DISPATCH_DEADLINE, rest
from stepwell.engine.dispatching import dispatch
from stepwell.engine.due import Action
from stepwell.ports import Ports
from stepwell.queue import drain, look
from stepwell.records import RunState, RunStatus
from stepwell.store import layout
from stepwell.store.apps import AppRecord, entry_of
from stepwell.store.due import Key
from stepwell.store.gates import Full, Room
from stepwell.store.runs import LostRun

STARTS = 50
"""Runs started for one message; a line that moves further goes on with another message."""
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
    """Queue a resting run if the condition holds and all its gates have room; else the gate in whose line it stands.

    Raises LostRun if the run is no longer as it was seen.
    """
    apps = ports.store.apps.current()[0] if apps is None else apps
    slots = slots_of(entry_of(apps, run.app, run.function) or {}, run)
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


def follow(ports: Ports, gate: str) -> None:
    """Let the line of a gate move up, first come first, as far as it has room."""
    apps, _ = ports.store.apps.current()
    gates, _ = ports.store.gates.read([gate])
    if gate not in gates or gates[gate].waiting <= 0:
        return
    held, started = gates[gate].held, 0
    for place, run_id in ports.store.gates.line(gate):
        if started == STARTS:
            ports.queue.send(drain(gate))
            return
        run = ports.store.runs.read(run_id)
        if run is None or not run.is_live:
            ports.store.gates.strike(gate, place, now=ports.now())  # it was cancelled while it waited
            continue
        if run.line != gate:
            held += 1  # another call of this line was faster, and took the slot
            continue
        slots = slots_of(entry_of(apps, run.app, run.function) or {}, run)
        if held >= dict(slots).get(gate, UNLIMITED):
            return
        try:
            refused = enter(ports, run, layout.RESTING, apps=apps)
        except LostRun:
            continue
        if refused == gate:
            return
        if refused is None:
            held, started = held + 1, started + 1


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
