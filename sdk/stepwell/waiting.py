"""Why a run waits, in one sentence.

CASES are asked in order, each about a run as a whole; the first that has an answer gives it. A run that rests at its
steps is told step by step, by what each waits for. A new reason to wait is a new case.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Any

from stepwell.clock import from_millis
from stepwell.codec import JSON, canonical
from stepwell.decisions.deadlines import deadline, not_finished, not_started
from stepwell.decisions.flow import UNLIMITED, pause_gate, policy_of, slot_limits
from stepwell.decisions.next import DISPATCH_DEADLINE
from stepwell.decisions.verdicts import short
from stepwell.decisions.wanted import Wanted, wanted
from stepwell.engine.announcing import with_all_data
from stepwell.engine.execution import LEASE_MARGIN
from stepwell.engine.inputs import own_event
from stepwell.engine.values import PLAIN, Values, error_place
from stepwell.errors import ErrorInfo, MiddlewareFailed, TamperedValue
from stepwell.events import Envelope
from stepwell.expressions import expression
from stepwell.middleware.base import Place
from stepwell.ports import Ports
from stepwell.records import RunState, RunStatus, StepState, StepStatus
from stepwell.store.apps import entry_of
from stepwell.store.waiters import meets

SHOWN = 3
"""Steps that are told of in full; of the rest only how many there are."""
SKEW = 60_000
"""Milliseconds by which another clock may be ahead of this one."""
DEPTH = 3
"""How far down the child runs are followed."""


@dataclass(frozen=True)
class Look:
    """A run that is being looked at."""

    ports: Ports
    run: RunState
    now: int
    values: Values = PLAIN
    depth: int = 0

    def at(self, ms: int | None) -> str:
        """A time for people: of day, with its date if that is another one."""
        if ms is None:
            return "some time"
        moment, today = from_millis(ms), from_millis(self.now).date()
        return f"{moment:%H:%M:%S} UTC" if moment.date() == today else f"{moment:%Y-%m-%d %H:%M} UTC"

    @property
    def entry(self) -> Mapping[str, Any]:
        """The run's function in today's manifest; empty if it is gone."""
        return entry_of(self.ports.store.apps.current()[0], self.run.app, self.run.function) or {}

    @property
    def goes_on(self) -> str | None:
        """When the run, which rests until then, goes on by itself; None if its time is over before that."""
        return None if self.run.wake_at == deadline(self.run) else self.at(self.run.wake_at)

    @cached_property
    def open_steps(self) -> list[StepState]:
        """What the function rests at, what ends first before the rest."""
        steps = [step for step in self.ports.store.runs.steps(self.run.id) if step.status.is_open]
        here = [step for step in steps if step.kind != "sleep" or (step.until or 0) > self.now]
        return sorted(here, key=lambda step: (step.retry_at or step.until or 1 << 62, step.started or 0, step.key))


def why(ports: Ports, run: RunState, values: Values = PLAIN) -> str:
    """What the run waits for. Errors that are encrypted are told by their class alone, unless `values` can read them."""
    return _told(Look(ports, run, ports.now(), values))


def _told(look: Look) -> str:
    answers = (answer for case in CASES if (answer := case(look)) is not None)
    return next(answers, look.run.status.value) + _limit(look)


def _limit(look: Look) -> str:
    """When a time limit ends the run, whatever else it waits for."""
    run, ends = look.run, deadline(look.run)
    if ends is None or not run.is_live:
        return ""
    if ends <= look.now:
        why = not_started(run) if run.started is None else not_finished(run)
        return f"; its time is over since {look.at(ends)}, and it is cancelled within a minute or two: {why}"
    return (
        f"; it is cancelled at {look.at(ends)} if it has not {'started' if run.started is None else 'finished'} by then"
    )


# ---- the run as a whole


def _ended(look: Look) -> str | None:
    run = look.run
    if run.is_live:
        return None
    why = f": {_error(look, run.error)}" if run.error else f": {run.reason}" if run.reason else ""
    return f"not waiting: {run.status.value} at {look.at(run.ended)}{why}"


def _no_worker(look: Look) -> str | None:
    run = look.run
    if not run.misfires or run.status not in (RunStatus.SCHEDULED, RunStatus.SUSPENDED) or run.wake_at is None:
        return None
    why = run.reason or "no worker could take it"
    again = f", again at {look.goes_on}" if look.goes_on else ""
    return f"{why}; asked {_times(run.misfires)} so far{again}"


def _in_line(look: Look) -> str | None:
    run = look.run
    if run.line is None:
        return None
    line = look.ports.store.gates.line(run.line, first_page=400)
    before = sum(1 for _ in takewhile(lambda place: place.run != run.id, line))
    place = "first in line" if not before else f"{before} in line before it"
    if run.line == pause_gate(run.app, run.function):
        return f"waiting until its function is resumed, which is paused; {place}"
    entry = look.entry
    slot = next((slot for slot in slot_limits(entry, run.gates) if slot.gate == run.line), None)
    if slot is None or slot.limit == UNLIMITED:
        return f"waiting for a slot of a limit that is gone from the code; {place}"
    policy, value = policy_of(run.line, entry, own_event(look.ports, run).scope())
    whose = "" if policy.get("key") is None else f" for {policy['key']} = {short(canonical(value))}"
    where = "the app" if policy.get("scope") == "app" else "the function"
    several = "the only slot" if slot.limit == 1 else f"one of the {slot.limit} slots"
    return f"waiting for {several} of {where}{whose}; {place}"


def _scheduled(look: Look) -> str | None:
    run = look.run
    if run.status is not RunStatus.SCHEDULED:
        return None
    if run.reason is not None:
        return f"{run.reason}; it {f'starts at {look.goes_on}' if look.goes_on else 'would start too late'}"
    dated = own_event(look.ports, run).ts
    if dated <= look.now:
        return f"scheduled for {look.at(run.wake_at)}"
    return f"scheduled for {look.at(dated)}, the time of its event"


def _queued(look: Look) -> str | None:
    run = look.run
    if run.status is not RunStatus.QUEUED:
        return None
    if run.due_at is None or run.due_at <= look.now:
        return "queued: the worker that was asked has not come, another is asked within a minute or two"
    # Who queues a run has it looked at when Lambda must have dropped the invocation; the sweeper, which asks again, too.
    asked = f" at {look.at(run.due_at - DISPATCH_DEADLINE)}" if run.due_at - DISPATCH_DEADLINE <= look.now else ""
    return f"queued: a worker was asked{asked}; another will be at {look.at(run.due_at)} if that one does not come"


def _running(look: Look) -> str | None:
    run = look.run
    if run.status is not RunStatus.RUNNING or run.lease is None:
        return None
    begun = f" since {look.at(run.started)}" if run.epoch == 1 else f", first started at {look.at(run.started)}"
    over = run.lease.until - LEASE_MARGIN
    if run.lease.until < look.now:
        return (
            f"running{begun}, but its worker is gone since {look.at(over)}; it is taken up again within a minute or two"
        )
    return f"running{begun}; its worker has until {look.at(over)} at most"


def _body_again(look: Look) -> str | None:
    run = look.run
    if run.attempt == 1 or run.wake_at is None or not (run.reason or "").startswith("attempt "):
        return None
    begins = f"begins at {look.goes_on}" if look.goes_on else "would begin too late"
    return f"{run.reason}; attempt {run.attempt} of the function {begins}"


def _crashed(look: Look) -> str | None:
    run = look.run
    if not run.crashes or run.wake_at is None or run.wake_at <= look.now:
        return None
    again = f"is taken up again at {look.goes_on}" if look.goes_on else "would be taken up again too late"
    return f"its worker has died {_times(run.crashes)} in a row; it {again}"


def _steps(look: Look) -> str | None:
    steps = look.open_steps
    if not steps:
        return None
    reasons = [_step(look, step) for step in steps[:SHOWN]]
    more = len(steps) - len(reasons)
    return " and ".join(reasons) + (f" and {more} more step{'s' if more > 1 else ''}" if more else "")


def _goes_on(look: Look) -> str | None:
    run = look.run
    if run.wake_at is None or run.wake_at <= look.now:
        return "about to go on: a worker is asked within a minute or two"
    return f"resting until {look.at(run.wake_at)}"


Case = Callable[[Look], str | None]
CASES: list[Case] = [
    _ended,
    _no_worker,
    _in_line,
    _scheduled,
    _queued,
    _running,
    _body_again,
    _crashed,
    _steps,
    _goes_on,
]


# ---- one step


def _step(look: Look, step: StepState) -> str:
    if step.status is StepStatus.RETRYING:
        return _poll(look, step) if step.kind == "poll" else _retry(look, step)
    if step.status is StepStatus.STARTED:
        return f"step {step.key} was cut off in attempt {step.attempts} and is tried again"
    if step.kind == "sleep":
        return f"sleeping until {look.at(step.until)} (step {step.key})"
    if step.kind == "wait_for_event":
        return _event(look, step)
    if step.kind == "callback":
        beat = f", if a heartbeat comes by {look.at(step.beat_by)}" if step.beat_by else ""
        return f"waiting for the answer to callback {step.key} until {look.at(step.until)}{beat}"
    return _child(look, step)


def _retry(look: Look, step: StepState) -> str:
    error = f" ({_error(look, step.error, step)})" if step.error else ""
    return f"step {step.key} failed in attempt {step.attempts}{error}; attempt {step.attempts + 1} at {look.at(step.retry_at)}"


def _poll(look: Look, step: StepState) -> str:
    last = f", the last failed ({_error(look, step.error, step)})" if step.error and step.failures else ""
    checks = "1 check" if step.attempts == 1 else f"{step.attempts} checks"
    return f"polling (step {step.key}): {checks} so far{last}, the next at {look.at(step.retry_at)}"


def _child(look: Look, step: StepState) -> str:
    until = f" until {look.at(step.until)}" if step.until else ""
    child = look.ports.store.runs.read(step.child) if step.child else None
    if child is None:
        return f"waiting for run {step.child} (step {step.key}){until}, which has been asked for and does not exist yet"
    named = (
        f"run {child.id} of {child.app}/{child.function}"
        if child.call is None
        else f"step {step.key} in run {child.id}"
    )
    if not child.is_live:
        return f"waiting for {named}{until}, which has {_ENDED[child.status]}; its result is on its way"
    if look.depth >= DEPTH:
        return f"waiting for {named}{until}, which is {child.status.value}"
    return f"waiting for {named}{until} ({_told(Look(look.ports, child, look.now, look.values, look.depth + 1))})"


_ENDED = {
    RunStatus.COMPLETED: "completed",
    RunStatus.FAILED: "failed",
    RunStatus.CANCELLED: "been cancelled",
    RunStatus.SKIPPED: "been skipped",
}


# ---- waiting for an event


def _event(look: Look, step: StepState) -> str:
    wait = wanted(step)
    until = f"until {look.at(step.until)}"
    if wait is None:
        return f"waiting for the event of step {step.key} {until}"
    conditions = [f"{path} = {_value(value)}" for path, value in wait.match.items()]
    conditions += [wait.where] if wait.where else []
    where = " where " + " and ".join(conditions) if conditions else "" if wait.whole else " that matches"
    return f"waiting for {wait.event}{where} {until}{_misses(look, step, wait) if wait.whole else ''}"


def _misses(look: Look, step: StepState, wait: Wanted) -> str:
    """The events of that name that came and were not it, counted by what was other about them.

    They are those in the log. There every event of a name stands that is waited for, from the beginning of the first wait
    for it on; one that came earlier may stand in the item of the run it started alone. So what the log does not have is said
    of the log, and from then on.
    """
    begun = step.started or look.run.created
    since = look.run.created if wait.since_start else begun
    events, complete = look.ports.store.events.recent(wait.event, since, look.now, skew=SKEW)
    events = [with_all_data(look.ports, event) for event in events]
    own = own_event(look.ports, look.run).scope() if wait.where else {}
    others = Counter(other for event in events if (other := _other(event, wait, own)) is not None)
    if not others:
        if events:
            return ""
        if not complete:
            return f"; no {wait.event} is among the latest events of the log"
        return f"; the log has no {wait.event} since {look.at(begun)}"
    count, among = others.total(), "" if complete else " among the latest events"
    kinds = ", ".join(_kind(other, 0 if len(others) == 1 else n) for other, n in others.most_common(SHOWN))
    return f"; {count} near miss{'es' if count > 1 else ''}{among}: {kinds}"


def _other(event: Envelope, wait: Wanted, own: dict[str, JSON]) -> str | None:
    """In which values the event is not what is waited for, none if only the condition does not hold; None if it is just
    that, and on its way to the run."""
    scope: dict[str, Any] = event.scope()
    paths = [path for path, value in wait.match.items() if not meets(scope, path, value)]
    if paths:
        return " and ".join(path.removeprefix("data.") for path in paths)
    return "" if wait.where and not expression(wait.where).holds(own, scope) else None


def _kind(other: str, count: int) -> str:
    """A kind of near miss; of several kinds how many there are of it."""
    if not other:
        return f"{count} for which the condition does not hold" if count else "the condition does not hold"
    return f"{count} with other {other}" if count else f"other {other}"


def _error(look: Look, error: ErrorInfo, step: StepState | None = None) -> str:
    """An error in a few words. One that cannot be decrypted is no reason to say nothing of the rest."""
    place = Place("error", look.run.id) if step is None else error_place(look.run.id, step)
    with suppress(MiddlewareFailed, TamperedValue):
        error = look.values.open_error(error, place)
    return error.type if error.sealed is not None else f"{error.type}: {error.message}"


def _value(value: JSON) -> str:
    return short(value if isinstance(value, str) else canonical(value))


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
