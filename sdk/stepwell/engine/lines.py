"""Lines: a run that may go on takes its slots, or stands in line for the one that is missing.

    take all slots at once --- room ---> queued, a worker is asked
            |
            full ---> into the line of the gate that refused (out of the one it stood in), with its old rank

Slots are taken together or not at all, and nobody holds one while waiting for another: so two limits cannot block each
other. A run stands in one line at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

from stepwell.decisions.deadlines import deadline, soonest
from stepwell.decisions.flow import UNLIMITED, Bucket, is_pause, limits_of, pause_gate, resolve, slot_limits
from stepwell.decisions.next import DISPATCH_DEADLINE, rest
from stepwell.decisions.verdicts import has_missed, throttled, throttling
from stepwell.engine.dispatching import dispatch
from stepwell.engine.due import Action
from stepwell.engine.ending import fail
from stepwell.engine.inputs import own_event
from stepwell.engine.keeping import KEEP, outlast
from stepwell.errors import ErrorInfo
from stepwell.ports import Ports
from stepwell.queue import drain, look
from stepwell.records import RunState, RunStatus
from stepwell.store import layout
from stepwell.store.apps import AppRecord, gates_of
from stepwell.store.due import Key
from stepwell.store.gate_writes import GateState, Turn
from stepwell.store.gates import Full, Moved, Place, Room
from stepwell.store.runs import LostRun

STARTS = 50
"""Runs of a line that are read for one message; the next one goes on behind them."""
PLACES = 25 + 100 + 400
"""Places of a line that are looked at for one message: three pages. Those whose turn it cannot be are gone past without
reading their runs: a smaller limit is reached, or enough of their sort have gone on to wait for another gate."""
BACKSTOP = 86_400_000
"""Milliseconds after which a run that stands in a line is looked at by itself, and the line of a function that is paused.
The gate of a limit is looked at every minute, and that of a pause when it ends."""
TURNS = 10
ELSEWHERE = ""
"""Where a run waits that is not what it was any more."""


Apps = Mapping[str, AppRecord]


def slots_of(entry: Mapping[str, Any], run: RunState) -> list[tuple[str, int]]:
    """The gates whose slots the run needs yet, and their limits by today's code, in the order in which they are asked: the
    smallest first, as it has to wait for that longest. A paused function has none for starts."""
    if entry.get("paused") and run.epoch == 0 and run.call is None:
        return [(pause_gate(run.app, run.function), 0)]
    slots = [] if run.held else slot_limits(entry, run.gates)
    return sorted(((slot.gate, slot.limit) for slot in slots), key=lambda slot: (slot[1], slot[0]))


def patience(ports: Ports, run: RunState) -> tuple[int, int | None]:
    """When to look at a run that stands in line, and when it is out of time there, if ever; that look is posted."""
    now, ends = ports.now(), deadline(run)
    if ends is None:
        return now + BACKSTOP, None
    due, delay = rest(ends, now)
    if delay is not None:
        ports.queue.send(look(run.id, delay=delay))
    return min(due, now + BACKSTOP), ends


def enter(ports: Ports, run: RunState, if_: str, *, apps: Apps | None = None, **values: Any) -> str | None:
    """Queue a resting run if the condition holds, its throttle lets it and all its gates have room; else the gate for which
    it waits.

    Its turn at the throttle and its slots are taken by one write, so neither is used up for nothing. Who has to stand in a
    line gives up the turn it may have had: it asks again when it could start. Raises LostRun if the run is no longer as it
    was seen.
    """
    apps = ports.store.apps.current()[0] if apps is None else apps
    entry = gates_of(apps, run.app, run.function)
    slots = slots_of(entry, run)
    throttle = _throttle(ports, run, entry)
    for number in range(TURNS):  # each turn is a gate that changed between two writes
        now = ports.now()
        turn = None
        if throttle is not None and not entry.get("paused"):
            late = not run.unasked and has_missed(run.turn, throttle.policy, now)
            if run.unasked or late:
                starts, turn = _turn(ports, throttle, now, late=late)
                if starts > now:
                    try:
                        _put_off(ports, run, if_, starts, turn, throttling(throttle), now, values)
                    except Moved:
                        ports.store.gates.pause(number)
                        continue
                    return throttle.gate
        asked: dict[str, Any] = {} if turn is None else {"unasked": None, "turn": now}
        try:
            ports.store.gates.take(
                run, slots, if_, due=now + DISPATCH_DEADLINE, now=now, throttle=turn, **{**asked, **values}
            )
        except Moved:
            ports.store.gates.pause(number)
            continue
        except Full as full:
            if full.gate == run.line:
                return full.gate
            try:
                _stand(ports, run, full, if_, now, unasked=throttle is not None, **values)
            except Room:
                continue
            if passes(apps, full.gate, full.limit):
                ports.queue.send(drain(full.gate))
            return full.gate
        dispatch(ports, replace(run, status=RunStatus.QUEUED, held=bool(run.gates), line=None, wake_at=None))
        return None
    raise RuntimeError(f"The gates of run {run.id} change too fast; the message will be delivered again.")


def _throttle(ports: Ports, run: RunState, entry: Mapping[str, Any]) -> Bucket | None:
    """The throttle that stands before the start of this run, if it has not started and there is one."""
    if run.epoch or "throttle" not in (entry.get("flow") or {}):
        return None
    flow = resolve(run.app, entry, own_event(ports, run).scope(), triggered=False)
    return next((bucket for bucket in flow.buckets if bucket.kind == "throttle"), None)


def _turn(ports: Ports, throttle: Bucket, now: int, *, late: bool) -> tuple[int, Turn]:
    """When the throttle would let the next one start (of those who are `late`), and what to write if it is this one."""
    state = ports.store.gates.read([throttle.gate])[0].get(throttle.gate, GateState(throttle.gate))
    starts, memory, until = throttled(state.memory or {}, throttle.policy, now, late=late)
    return starts, (state, memory, until // 1000 + KEEP)


def _put_off(
    ports: Ports,
    run: RunState,
    if_: str,
    starts: int,
    turn: Turn,
    reason: str,
    now: int,
    values: Mapping[str, Any],
) -> None:
    """Let a run wait for its turn at the throttle, or until it is out of time if its turn comes no sooner: then it takes
    none, since those behind it can use it. Raises LostRun, Moved."""
    wake_at = soonest(run, starts)
    taken = wake_at == starts
    due, delay = rest(wake_at, now)
    if delay is not None:
        ports.queue.send(look(run.id, delay=delay))
    outlast(ports, run, wake_at)
    fields = {"wake_at": wake_at, "due": due, "reason": reason, "unasked": None, **values}
    fields["turn"] = starts if taken else None
    ports.store.gates.put_off(run, if_, turn if taken else None, fields, now=now)


def _stand(ports: Ports, run: RunState, full: Full, if_: str, now: int, *, unasked: bool, **values: Any) -> None:
    """Put a run into the line of a gate that is full. Raises LostRun, Room."""
    due, wake_at = patience(ports, run)
    more: dict[str, Any] = {"unasked": True, "turn": None} if unasked else {}
    ports.store.gates.wait(run, full.gate, full.limit, if_, due=due, wake_at=wake_at, now=now, **{**more, **values})


def follow(ports: Ports, gate: str, *, after: str = "") -> None:
    """Let the line of a gate move up, first come first, as far as it has room; from behind the place `after`, if one is
    given.

    Where functions share a gate and one of them has a smaller limit, those of the others go past its runs as long as it
    is their number that is not reached. A run that cannot be handled does not hold up those behind it.

    One that has room here and none at another of its gates goes into the line there. Of those that would wait for the
    same other gate only so many go as have room here: the rest would have to come back as soon as the first of them runs.
    """
    apps, _ = ports.store.apps.current()
    gates, _ = ports.store.gates.read([gate])
    if gate not in gates or gates[gate].waiting <= 0:
        return
    limits, held = limits_on(apps, gate), gates[gate].held
    ahead: Counter[str] = Counter()
    looked = met = gone = passed = 0
    for place in islice(ports.store.gates.line(gate, after=after), PLACES):
        if met >= STARTS:
            break
        looked += 1
        after, told = place.sk, _told(apps, gate, place)
        if told is not None and held >= told[gate]:
            if held >= max({told[gate]} | limits):
                return
            passed += 1
            continue
        if told is not None and _crowded(ahead, told, gate, held):
            continue
        run = ports.store.runs.read(place.run)
        if run is None or not run.is_live:
            ports.store.gates.strike(gate, place.sk, now=ports.now())  # it was cancelled while it waited
            met, gone = met + 1, gone + 1
            continue
        if run.line != gate:
            held += 1  # another call of this line was faster, and took the slot
            continue
        met += 1
        slots = dict(slots_of(gates_of(apps, run.app, run.function), run))
        limit = slots.get(gate, UNLIMITED)
        if held < limit and not _crowded(ahead, slots, gate, held):
            refused = _move_up(ports, run, apps)
            if refused == gate:
                held = max(held, limit)
            elif refused is not None and _is_after(refused, gate, slots):
                ahead[refused] += 1
            else:  # it runs, or stands where it has nothing to come back from
                held, gone = held + (refused is None), gone + 1
        if held >= max({limit} | limits):
            return
    if met >= STARTS or (looked == PLACES and (gone or passed)):
        ports.queue.send(drain(gate, after=after))
    elif gone and looked < PLACES and ports.store.gates.waiting(gate) > 0:
        ports.queue.send(drain(gate))  # some came after the last page was read


def _told(apps: Apps, gate: str, place: Place) -> dict[str, int] | None:
    """The limits of a run by what its place in a line tells of it, None if the run itself has to be asked."""
    entry = None if place.function is None else gates_of(apps, gate.partition("#")[0], place.function)
    if entry is None or entry.get("paused"):
        return None
    limits = {slot.gate: slot.limit for slot in slot_limits(entry, place.gates or (gate,))}
    return {**limits, gate: UNLIMITED} if is_pause(gate) else limits


def _is_after(other: str, gate: str, limits: Mapping[str, int]) -> bool:
    """Whether a run asks another gate after this one."""
    return other in limits and (limits[other], other) > (limits.get(gate, UNLIMITED), gate)


def _crowded(ahead: Mapping[str, int], limits: Mapping[str, int], gate: str, held: int) -> bool:
    """Whether as many as this gate has room for have gone to wait for another gate that the run needs, too."""
    room = limits.get(gate, UNLIMITED) - held
    return any(ahead[other] >= room for other in limits if _is_after(other, gate, limits))


def _move_up(ports: Ports, run: RunState, apps: Apps) -> str | None:
    """Let one run that stands in a line go on, if it can; else the gate for which it waits now, or ELSEWHERE."""
    try:
        return enter(ports, run, layout.RESTING, apps=apps)
    except LostRun:
        return ELSEWHERE
    except LookupError as error:  # its event is gone, and with it all that it could do
        fail(ports, run, layout.RESTING, ErrorInfo("Undeliverable", str(error)))
        return ELSEWHERE


def passes(apps: Apps, gate: str, limit: int) -> bool:
    """Whether a run with this limit may go past others in the line of a gate, so that it has to be called at once: who
    stands before it may wait for longer than it has to."""
    return limit > min(limits_on(apps, gate), default=limit)


def limits_on(apps: Apps, gate: str) -> set[int]:
    """The limits that the functions of an app put on a gate: several numbers, if they share it and do not agree."""
    app = gate.partition("#")[0]
    return limits_of(apps[app].functions if app in apps else (), gate)


def overdue_lines(ports: Ports, keys: Sequence[Key], now: int) -> list[Action]:
    """In the sweeper: call the next in line once more, in case that the call was lost; forget lines that are empty."""
    gates, _ = ports.store.gates.read(pk.removeprefix(layout.GATE_PREFIX) for pk, _ in keys)
    apps = ports.store.apps.current()[0] if any(is_pause(gate) for gate in gates) else {}
    actions = []
    for gate in gates.values():
        if gate.due_at is None or gate.due_at > now:
            continue  # the index was behind
        closed = is_pause(gate.id) and _is_paused(apps, gate.id)
        messages = (drain(gate.id),) if gate.waiting > 0 and not closed else ()
        due = now + (BACKSTOP if closed else layout.LINE_PATIENCE)
        actions.append(Action(partial(ports.store.gates.postpone, gate, due=due, now=now), messages))
    return actions


def _is_paused(apps: Apps, gate: str) -> bool:
    app, function = gate.split("#")[:2]
    return app in apps and function in apps[app].paused
