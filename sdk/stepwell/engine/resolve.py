"""Waits, resolved from outside: by an event, by a child run.

Always in this order, so that a crash anywhere in between is repaired by the redelivery of the same message: the step
(one conditional write; the first resolution wins), then the run is woken, then the waiter goes.
"""

from __future__ import annotations

from collections.abc import Mapping

from stepwell.codec import JSON, canonical, dumps
from stepwell.engine.inputs import own_event
from stepwell.engine.wake import wake
from stepwell.errors import ErrorInfo
from stepwell.events import Envelope
from stepwell.expressions import expression
from stepwell.ids import digest
from stepwell.payloads import INLINE_STEP
from stepwell.ports import Ports
from stepwell.records import RunState, RunStatus, StepState, StepStatus, Stored
from stepwell.store.waiters import Waiter, meets

STEP_OVERHEAD = 320
"""Bytes of a step item besides its result, roughly: what compression has to look at."""


def waiter_takes(ports: Ports, waiter: Waiter, event: Envelope, run: RunState | None) -> bool:
    """Whether the event is what the waiter waits for. `event` in its condition is the run's own event."""
    scope = event.scope()
    if not all(meets(scope, path, value) for path, value in waiter.match.items()):
        return False
    if waiter.where is None:
        return True
    return expression(waiter.where).holds(own_event(ports, run).scope() if run else {}, scope)


def resolve_waiter(ports: Ports, waiter: Waiter, event: Envelope, key: str, happened: int, *, again: bool) -> bool:
    """Give the event to a waiter if it takes it; says whether the wait was resolved by this event.

    `happened` is when the event was received first, or took effect (milliseconds): at or after the time-out it comes too
    late.
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
        result=pack_result(ports, waiter.run, waiter.step, dumps(event.as_json()), key, enveloped=True),
        by=key,
        ttl=waiter.until // 1000 + round(ports.config.retention),
    )
    first = ports.store.runs.resolve(waiter.run, step)
    ours = first is None or first.by == key
    if ours:
        wake(ports, waiter.run, again=again or first is not None)
    ports.store.waiters.remove(waiter)
    return ours


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


def pack_result(
    ports: Ports, run: str, step: str, text: str, by: str, *, beside: int = STEP_OVERHEAD, enveloped: bool = False
) -> Stored:
    """A result as it is to stand in a step item of this run; the S3 key is unique to who resolved it."""
    key = f"{run.rpartition('.')[0]}/{run}/{digest(step, by).hex()[:24]}"
    what = f"the result of step {step!r}"
    return ports.payloads.pack(text, key=key, what=what, beside=beside, inline=INLINE_STEP, enveloped=enveloped)


def shape_of(kind: str, arguments: Mapping[str, JSON] | list[JSON] | str | None) -> str:
    """The fingerprint of a step: what it is and what it was given."""
    return digest(kind, arguments if isinstance(arguments, str) else canonical(arguments)).hex()[:16]
