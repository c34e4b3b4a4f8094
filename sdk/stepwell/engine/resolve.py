"""Waits, resolved from outside: by an event, by a child run.

Always in this order, so that a crash anywhere in between is repaired by the redelivery of the same message: the step
(one conditional write; the first resolution wins), then the run is woken, then the waiter goes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict

from stepwell.codec import JSON, canonical, dumps
from stepwell.decisions.routing import name_matches
from stepwell.engine.inputs import own_event
from stepwell.engine.listing import list_runs
from stepwell.engine.wake import wake
from stepwell.errors import ErrorInfo
from stepwell.events import Envelope
from stepwell.expressions import expression
from stepwell.ids import digest, event_key
from stepwell.payloads import INLINE_STEP
from stepwell.ports import Ports
from stepwell.queue import Message
from stepwell.records import RunState, RunStatus, StepState, StepStatus, Stored
from stepwell.store.waiters import Waiter, look_up

STEP_OVERHEAD = 320
"""Bytes of a step item besides its result, roughly: what compression has to look at."""


def waiter_takes(ports: Ports, waiter: Waiter, event: Envelope, run: RunState | None) -> bool:
    """Whether the event is what the waiter waits for. `event` in its condition is the run's own event."""
    scope = event.scope()
    if any(look_up(scope, path) != value for path, value in waiter.match.items()):
        return False
    if waiter.where is None:
        return True
    return expression(waiter.where).holds(own_event(ports, run).scope() if run else {}, scope)


def resolve_waiter(ports: Ports, waiter: Waiter, event: Envelope, key: str, happened: int, *, again: bool) -> bool:
    """Give the event to a waiter if it takes it; says whether the wait was resolved by this event.

    `happened` is when the event was received (milliseconds): an event at or after the time-out comes too late.
    """
    run = ports.store.runs.read(waiter.run)
    if run is None or not run.is_live or happened >= waiter.until:
        ports.store.waiters.remove(waiter)
        return False
    if not waiter_takes(ports, waiter, event, run):
        return False
    step = StepState(
        key=waiter.step,
        id=waiter.id,
        kind="wait_for_event",
        status=StepStatus.COMPLETED,
        shape=waiter.shape,
        epoch=0,
        started=waiter.registered,
        ended=max(ports.now(), waiter.registered),
        until=waiter.until,
        result=pack_result(ports, waiter.run, waiter.step, dumps(event.as_json()), key),
        by=key,
        ttl=waiter.until // 1000 + round(ports.config.retention),
    )
    first = ports.store.runs.resolve(waiter.run, step)
    ours = first is None or first.by == key
    if ours:
        wake(ports, waiter.run, again=again or first is not None)
    ports.store.waiters.remove(waiter)
    return ours


def look_back_messages(waiter: Waiter, *, first_time: bool) -> list[Message]:
    """Ask the orchestrator to look for events that came before the wait began.

    The first time ever that somebody waits on this path, events that were being handled at that very moment may not
    have seen the announcement of the wait; so the past is looked at once more a little later.
    """
    body = {"stepwell": "lookback", "waiter": asdict(waiter) | {"match": dict(waiter.match)}, "thorough": first_time}
    return [Message(body, delay) for delay in ((0, 5) if first_time else (0,))]


def look_back(ports: Ports, waiter: Waiter, *, thorough: bool, again: bool) -> None:
    """Give the waiter the earliest event since its run was created that it takes, if there is one.

    `thorough`: nobody waited on this path before, so the event may be kept only in the item of the run it started.
    """
    run = ports.store.runs.read(waiter.run)
    if run is None or not run.is_live:
        return
    since = min(run.created, run.fork.started) if run.fork else run.created
    found = [event for event in ports.store.events.between(since, ports.now()) if event.name == waiter.event]
    if thorough:
        found += [event for event in _folded(ports, waiter.event, since) if event.id != run.event_id]
    for event in sorted(found, key=lambda event: event.ts):
        key = event_key(event.name, event.id)
        if event.id != run.event_id and resolve_waiter(ports, waiter, event, key, run.created, again=again):
            return


def _folded(ports: Ports, name: str, since: int) -> Iterator[Envelope]:
    """Events of this name that stand in the items of the runs they started, from `since` on."""
    listening = [
        (app.id, entry["id"])
        for app in ports.store.apps.current()[0].values()
        for entry in app.functions
        if any(name_matches(trigger.get("event") or "", name) for trigger in entry["triggers"])
    ]
    runs = list_runs(ports.store, listening, since=since, until=ports.now())
    for run in runs:
        again = run.replay_of is not None or run.fork is not None  # then its event came earlier than it did
        if run.event_name == name and run.created >= since and not again:
            yield own_event(ports, run)


def resolve_child(ports: Ports, child: RunState) -> None:
    """Give a child run's end to the step of its parent that waits for it."""
    parent = child.parent
    if parent is None:
        return
    now = ports.now()
    result, error = None, None
    if child.status is RunStatus.COMPLETED:
        text = "null" if child.result is None else ports.payloads.unpack(child.result)
        result = pack_result(ports, parent.run, parent.step, text, child.id)
    elif child.status is RunStatus.FAILED:
        error = child.error or ErrorInfo("Unknown", "the child run failed")
    else:
        error = ErrorInfo("RunCancelled", child.reason or f"the child run was {child.status.value}")
    step = StepState(
        key=parent.step,
        id=parent.id,
        kind=parent.kind,
        status=StepStatus.FAILED if error else StepStatus.COMPLETED,
        shape=parent.shape,
        epoch=0,
        attempts=1,
        started=child.created,
        ended=now,
        result=result,
        error=error,
        child=child.id,
        by=child.id,
        ttl=now // 1000 + 2 * round(ports.config.retention),
    )
    first = ports.store.runs.resolve(parent.run, step)
    if first is None or first.by == child.id:
        wake(ports, parent.run, again=first is not None)


def pack_result(ports: Ports, run: str, step: str, text: str, by: str, *, beside: int = STEP_OVERHEAD) -> Stored:
    """A result as it is to stand in a step item of this run; the S3 key is unique to who resolved it."""
    key = f"{run.rpartition('.')[0]}/{run}/{digest(step, by).hex()[:24]}"
    return ports.payloads.pack(text, key=key, what=f"the result of step {step!r}", beside=beside, inline=INLINE_STEP)


def shape_of(kind: str, arguments: Mapping[str, JSON] | list[JSON] | str | None) -> str:
    """The fingerprint of a step: what it is and what it was given."""
    return digest(kind, arguments if isinstance(arguments, str) else canonical(arguments)).hex()[:16]
