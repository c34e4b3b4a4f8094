"""Workers, asked to take a run; and what happens when nobody can be asked."""

from __future__ import annotations

import logging

from botocore.exceptions import BotoCoreError, ClientError

from stepwell.decisions.deadlines import soonest
from stepwell.decisions.next import DISPATCH_DEADLINE, rest
from stepwell.decisions.retries import MAX_MISFIRES, misfire_delay
from stepwell.engine.ending import fail
from stepwell.engine.overtime import remind
from stepwell.engine.slots import settle
from stepwell.errors import ErrorInfo
from stepwell.ports import Ports
from stepwell.queue import look
from stepwell.records import RunState, RunStatus
from stepwell.store import layout
from stepwell.store.runs import LostRun

logger = logging.getLogger("stepwell")


def dispatch(ports: Ports, run: RunState) -> None:
    """Ask a worker to take a queued run. That nobody can be asked is noted on the run, which is asked for again later."""
    remind(ports, run)
    worker = ports.store.apps.worker(run.app, run.compute)
    if worker is None:
        return misfire(ports, run, f"app {run.app!r} has no registered worker of compute class {run.compute!r}")
    try:
        ports.invoker.start(worker, {"run": run.id, "epoch": run.epoch})
    except (ClientError, BotoCoreError) as error:
        return misfire(ports, run, f"worker {worker} could not be invoked: {error}")
    return None


def ask_again(ports: Ports, run: RunState) -> None:
    """The dispatch deadline has passed: the invocation was lost, or Lambda was too busy to start it."""
    try:
        run = ports.store.runs.change(
            run.id, layout.QUEUED, due=ports.now() + DISPATCH_DEADLINE, misfires=run.misfires + 1, _seen=run.epoch
        )
    except LostRun:
        return
    dispatch(ports, run)


def misfire(ports: Ports, run: RunState, why: str) -> None:
    """No worker took the run: try again later. It fails only when that has gone on for 24 hours.

    A bad deploy, a worker that cannot import its code, a function or app that is gone for now: none of them is the
    run's fault.
    """
    misfires = run.misfires + 1
    logger.error("run %s reaches no worker (attempt %d): %s", run.id, misfires, why)
    if misfires > MAX_MISFIRES:
        error = ErrorInfo("Undeliverable", f"No worker could take this run for 24 hours. The last reason: {why}.")
        return fail(ports, run, layout.QUEUED, error, _seen=run.epoch)
    now = ports.now()
    wake_at = soonest(run, now + round(misfire_delay(misfires) * 1000))
    due, delay = rest(wake_at, now)
    ports.queue.send(look(run.id, delay=delay or 0))
    try:
        settle(
            ports,
            run,
            layout.QUEUED,
            due=due,
            status=(RunStatus.SUSPENDED if run.epoch else RunStatus.SCHEDULED).value,
            wake_at=wake_at,
            misfires=misfires,
            reason=f"no worker: {why}"[:500],
            _seen=run.epoch,
        )
    except LostRun:
        return None
    return None
