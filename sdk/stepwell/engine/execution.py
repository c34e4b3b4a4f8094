"""The worker: one invocation of one run.

    claim -> load the checkpoints -> call the function -> settle: ended, failed, or suspended until something happens

Claiming and settling are conditional writes on the run; in between only checkpoints are written. Whatever goes wrong on
the way, the run is left as it was, under a lease that ends by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from stepwell.codec import dumps
from stepwell.decisions.deadlines import soonest, started_late
from stepwell.decisions.next import rest
from stepwell.decisions.retries import MAX_MISFIRES, MAX_STALLS, backoff_delay, misfire_delay
from stepwell.engine.async_driver import AsyncDriver
from stepwell.engine.cancelling import let_go
from stepwell.engine.core import Core, Scope, StepHooks, Suspended, Unavailable, Withheld, current
from stepwell.engine.ending import ended, followers
from stepwell.engine.inputs import all_events, as_heard
from stepwell.engine.journal import Journal, Superseded
from stepwell.engine.keeping import outlast
from stepwell.engine.overtime import came_too_late, remind
from stepwell.engine.slots import settle
from stepwell.engine.sync_driver import SyncDriver
from stepwell.engine.values import PLAIN, Values
from stepwell.errors import (
    ErrorInfo,
    NoProgress,
    RetryAfterError,
    StepError,
    StepwellError,
    SuspensionSwallowed,
    Undeliverable,
    UnknownFunction,
)
from stepwell.middleware.base import Place
from stepwell.payloads import INLINE_STEP
from stepwell.ports import Ports
from stepwell.queue import look
from stepwell.records import Lease, RunState, RunStatus, StepState
from stepwell.store import layout
from stepwell.store.runs import LostRun

logger = logging.getLogger("stepwell")

LEASE_MARGIN = 30_000
"""Milliseconds a lease outlasts its Lambda: whoever finds it over knows the holder is dead, clocks a little apart or not."""

Driver = SyncDriver | AsyncDriver


@dataclass(frozen=True, slots=True)
class Program:
    """A function, ready to be run."""

    start: Callable[[Core, Driver], Any]
    """Calls the user's function with its context; for an async one, makes its coroutine."""
    encode: Callable[[Any], str]
    retries: int
    backoff: dict[str, Any] | None
    is_async: bool
    identity: str | None = None
    """What stays the same when the run is replayed, if it is not the event and the function."""
    values: Values = PLAIN
    """Through the app's middleware."""


Programs = Callable[[RunState], Program]
"""Finds the function of a run. Raises UnknownFunction."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """What Lambda says of this invocation."""

    request: str
    remaining: Callable[[], float]
    """Seconds until it is ended."""


def execute(
    ports: Ports,
    programs: Programs,
    run_id: str,
    epoch: int,
    invocation: Invocation,
    hooks: StepHooks,
    *,
    end_process: Callable[[], None],
) -> str:
    """Take the run that was dispatched with this epoch and bring it as far as it goes; says how it ended."""
    now = ports.now()
    # Lambda may deliver one asynchronous invocation twice, under one request id: the holder needs a name of its own.
    holder = f"{invocation.request}/{ports.ids.token_bytes(6).hex()}"
    lease = Lease(holder, now + round(invocation.remaining() * 1000) + LEASE_MARGIN)
    try:
        run = ports.store.runs.claim(run_id, seen=epoch, lease=lease, now=now)
    except LostRun as lost:
        stands = lost.run.status.value if lost.run else "unknown"
        logger.info("run %s is not to be taken: it is %s", run_id, stands)
        return "lost"
    if started_late(run):
        came_too_late(ports, run)
        return "superseded"
    if epoch == 0:
        remind(ports, run)
    try:
        program = programs(run)
    except UnknownFunction as unknown:
        return _misfire(ports, run, unknown.message)
    event, *others = all_events(ports, run)
    # A run that was never claimed before has only the checkpoints it was made with: a holder writes the first other one.
    new = epoch == 0 and run.fork is None
    steps: list[StepState] = [] if new else list(ports.store.runs.steps(run_id))
    while True:
        journal = Journal(ports, run, steps, program.values)
        core = Core(
            ports,
            run,
            journal,
            event,
            remaining=invocation.remaining,
            hooks=hooks,
            identity=program.identity,
            others=others,
            values=program.values,
        )
        try:
            journal.in_time()
            outcome = _attempt(core, program)
        except Superseded:
            logger.info("run %s was cancelled or taken over", run_id)
            return _superseded(core)
        except Unavailable as outage:  # Lambda reports the failure, and the run is taken up again from its checkpoints
            raise RuntimeError(f"run {run_id}: {outage}") from outage
        except Withheld as withheld:
            return _misfire(ports, run, str(withheld))
        if outcome is None:
            outcome = _superseded(core)
        if core.overrun:
            logger.error("a step of run %s ran past its time-out and cannot be ended; ending the process", run_id)
            end_process()
        if outcome != "woken":
            logger.info("run %s: %s, %d checkpoints written", run_id, outcome, journal.written)
            return outcome
        current_run = ports.store.runs.read(run_id)
        if current_run is None or current_run.epoch != run.epoch or current_run.status is not RunStatus.RUNNING:
            return "superseded"
        run, steps = current_run, list(ports.store.runs.steps(run_id))


def _superseded(core: Core) -> str:
    """The run is somebody else's, or over. What was recorded in the meantime may name children nobody knew of."""
    if core.journal.written and any(step.child and step.status.is_open for step in core.journal.steps.values()):
        core.ports.queue.send(look(core.run.id, left=True))
    return "superseded"


def _attempt(core: Core, program: Program) -> str | None:
    """Call the function once and settle what came of it."""
    driver: Driver = AsyncDriver(core) if program.is_async else SyncDriver(core)
    token = current.set(Scope(core))
    try:
        core.events = as_heard([core.values.receive(event) for event in core.events])
        core.event = core.events[0]
        with core.around_run() if core.values.chain.all else nullcontext():
            value = _call(core, driver, program)
    except Suspended:
        return _suspended(core, driver.wake_at or core.ports.now())
    except (Exception, SystemExit) as error:
        return _raised(core, program, error)
    finally:
        current.reset(token)
    if core.journal.fatal is not None:
        return _failed(core, core.describe(core.journal.fatal))
    if core.suspending:
        return _failed(core, core.describe(_swallowed()))
    try:
        result = core.ports.payloads.pack(
            core.values.encode(program.encode(value), Place("result", core.run.id)),
            key=f"{core.run.app}/{core.run.id}/result-{core.run.epoch}",
            what=f"the result of function {core.run.function!r}",
            beside=700,
            inline=INLINE_STEP,
        )
    except StepwellError as error:
        return _failed(core, core.describe(error))
    return _end(core, RunStatus.COMPLETED, result=None if result == "null" else result)


def _call(core: Core, driver: Driver, program: Program) -> Any:
    """The function, and what it has left running."""
    if isinstance(driver, AsyncDriver):
        return driver.run(lambda: program.start(core, driver))
    try:
        value = program.start(core, driver)
        if not core.suspending:  # otherwise it has swallowed its suspension, and is told so
            driver.drain()
        return value
    finally:
        driver.join()


def _swallowed() -> SuspensionSwallowed:
    return SuspensionSwallowed(
        "The function caught the signal that suspends it and went on. Catch `Exception`, never everything: a bare "
        "`except:` or `except BaseException` around a ctx.step call takes the signal for an error."
    )


def _raised(core: Core, program: Program, error: BaseException) -> str | None:
    """The function raised: try again later, or fail."""
    if core.journal.fatal is not None:
        error = core.journal.fatal
    elif core.suspending:
        error = _swallowed()
    info = core.describe(error)
    final = core.is_final(error) or isinstance(error, StepError)
    if final or core.run.attempt > program.retries:
        return _failed(core, info)
    if isinstance(error, RetryAfterError):
        delay = core.retry_delay(error, None, core.run.attempt, "body")
    else:
        chance = core.chance("body", core.run.attempt)
        delay = round(backoff_delay(program.backoff, core.run.attempt, chance) * 1000)
    told = info.type if core.values.seals else f"{info.type}: {info.message}"
    reason = f"attempt {core.run.attempt} failed: {told}"[:300]
    return _suspended(core, core.ports.now() + delay, attempt=core.run.attempt + 1, reason=reason)


def _failed(core: Core, error: ErrorInfo) -> str | None:
    return _end(core, RunStatus.FAILED, error=core.values.close_error(error, Place("error", core.run.id)))


def _end(core: Core, status: RunStatus, *, error: ErrorInfo | None = None, result: Any = None) -> str | None:
    """The one terminal write. None if the run is no longer ours."""
    core.journal.in_time()
    owes = followers(core.run, status)
    fields = ended(core.ports, core.run, status, owes, error)
    try:
        settle(
            core.ports,
            core.run,
            layout.HELD,
            _epoch=core.run.epoch,
            **fields,
            **_tidy(core),
            result=result,
            reason=None,
        )
    except LostRun as lost:
        ours = lost.run and (lost.run.status, lost.run.epoch, lost.run.ended) == (
            status,
            core.run.epoch,
            fields["ended"],
        )
        if not ours:
            return None
    if owes:
        core.ports.queue.send(look(core.run.id))
    else:
        let_go(core.ports, core.run)
    return status.value


def _suspended(core: Core, wake_at: int, **fields: Any) -> str | None:
    """Let go of the run until `wake_at`. "woken" if something happened meanwhile, None if it is no longer ours."""
    run, now = core.run, core.ports.now()
    stalls = run.stalls + 1 if core.closing and not core.journal.written else 0
    if stalls > MAX_STALLS:
        error = NoProgress(
            f"{stalls} invocations in a row ran out of time without recording a step. The code between two steps takes "
            "longer than a Lambda may run: put it into steps."
        )
        return _failed(core, core.describe(error))
    core.journal.in_time()
    wake_at = soonest(run, wake_at)
    outlast(core.ports, run, wake_at)
    due, delay = rest(wake_at, now)
    if delay is not None:
        core.ports.queue.send(look(run.id, delay=delay))
    change = {
        "status": RunStatus.SUSPENDED.value,
        "wake_at": wake_at,
        "holder": None,
        "lease_until": None,
        "stalls": stalls or None,
        "reason": None,
        **_tidy(core),
        **fields,
    }
    try:
        keeps = _works_elsewhere(core)
        settle(core.ports, run, layout.SUSPEND, keeps=keeps, due=due, _epoch=run.epoch, _wakes=run.wakes, **change)
    except LostRun as lost:
        stands = lost.run
        if stands is None or stands.epoch != run.epoch:
            return None
        if stands.status is RunStatus.RUNNING:
            return "woken"
        return None if stands.status.is_terminal else "suspended"  # our own write, whose answer was lost
    return "suspended"


def _works_elsewhere(core: Core) -> bool:
    """Whether steps of this run are being executed in workers of their own. Then so is the run, and it keeps its slots: a
    limit that ended where a step names another class of worker would not limit the most expensive work there is."""
    return any(step.kind == "run" and step.child and step.status.is_open for step in core.journal.steps.values())


def _tidy(core: Core) -> dict[str, Any]:
    """What is no longer true once an invocation has come to its end."""
    progress = dumps(core.progress) if core.progress else None
    tidy: dict[str, Any] = {"crashes": None, "progressed": None, "misfires": None}
    return {**tidy, "progress": progress} if progress else tidy


def _misfire(ports: Ports, run: RunState, why: str) -> str:
    """The code of this run, or the key of its values, is not here (any more): let go of it, in case it comes back."""
    misfires, now = run.misfires + 1, ports.now()
    logger.error("run %s: %s", run.id, why)
    if misfires > MAX_MISFIRES:
        info = ErrorInfo(Undeliverable.__name__, f"For 24 hours: {why}")
        owes = followers(run, RunStatus.FAILED)
        fields = ended(ports, run, RunStatus.FAILED, owes, info)
    else:
        wake_at = soonest(run, now + round(misfire_delay(misfires) * 1000))
        due, delay = rest(wake_at, now)
        ports.queue.send(look(run.id, delay=delay or 0))
        fields = {
            "status": RunStatus.SUSPENDED.value,
            "wake_at": wake_at,
            "holder": None,
            "lease_until": None,
            "misfires": misfires,
            "reason": why[:500],
            "due": due,
        }
        owes = []
    try:
        settle(ports, run, layout.HELD, _epoch=run.epoch, **fields)
    except LostRun:
        return "superseded"
    if owes:
        ports.queue.send(look(run.id))
    return "misfired"
