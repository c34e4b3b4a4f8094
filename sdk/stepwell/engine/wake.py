"""Runs, moved on: asked for, woken, reclaimed. Every function may be repeated and may find that others were faster."""

from __future__ import annotations

import logging
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from stepwell.decisions.next import DISPATCH_DEADLINE, rest
from stepwell.decisions.retries import MAX_CRASHES, MAX_MISFIRES, crash_delay, misfire_delay
from stepwell.engine.ending import fail
from stepwell.errors import ErrorInfo
from stepwell.ports import Ports
from stepwell.queue import look
from stepwell.records import RunState, RunStatus
from stepwell.store import layout
from stepwell.store.runs import LostRun

logger = logging.getLogger("stepwell")


def wake(ports: Ports, run_id: str, *, again: bool = False) -> None:
    """Something the run waits for has happened.

    Suspended: it is queued and a worker asked. Running: the wake-up is counted, so that the holder does not suspend
    over it. `again` says that this may be the repetition of a wake-up that was cut off, so a queued run is asked for
    once more.
    """
    for _ in range(5):  # each turn of the loop is a state that changed between two writes
        try:
            queue_when(ports, run_id, layout.ASLEEP, strict=True)
            return
        except LostRun as lost:
            run = lost.run
        if run is None or run.status is RunStatus.SCHEDULED or not run.is_live:
            return
        if run.status is RunStatus.QUEUED:
            if again:
                dispatch(ports, run)
            return
        try:
            ports.store.runs.count_wake(run_id)
            return
        except LostRun:
            continue
    raise RuntimeError(f"Run {run_id} changes too fast to be woken; the message will be delivered again.")


def queue_when(ports: Ports, run_id: str, if_: str, *, strict: bool = False, **values: Any) -> None:
    """Queue the run if the condition holds, and ask a worker. With `strict` a refusal is raised as LostRun."""
    try:
        run = ports.store.runs.change(
            run_id, if_, due=ports.now() + DISPATCH_DEADLINE, status=RunStatus.QUEUED.value, wake_at=None, **values
        )
    except LostRun:
        if strict:
            raise
        return
    dispatch(ports, run)


def dispatch(ports: Ports, run: RunState) -> None:
    """Ask a worker to take a queued run. That nobody can be asked is noted on the run, which is asked for again later."""
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
    now, delay = ports.now(), misfire_delay(misfires)
    due, _ = rest(now + round(delay * 1000), now)
    ports.queue.send(look(run.id, delay=delay))
    try:
        ports.store.runs.change(
            run.id,
            layout.QUEUED,
            due=due,
            status=(RunStatus.SUSPENDED if run.epoch else RunStatus.SCHEDULED).value,
            wake_at=now + round(delay * 1000),
            misfires=misfires,
            reason=f"no worker: {why}"[:500],
            _seen=run.epoch,
        )
    except LostRun:
        return None
    return None


def crashed(ports: Ports, run_id: str, epoch: int, request: str, why: str) -> None:
    """A worker invocation died. It frees the run only if the run is still that invocation's."""
    run = ports.store.runs.read(run_id)
    if run is None:
        return
    if run.status is RunStatus.RUNNING and run.lease is not None and run.lease.holder.startswith(request + "/"):
        reclaim(ports, run, layout.BREAK, why, _holder=run.lease.holder)
    elif run.status is RunStatus.QUEUED and run.epoch == epoch:
        misfire(ports, run, why)


def reclaim(ports: Ports, run: RunState, if_: str, why: str, **values: int | str) -> None:
    """Take a run from its dead holder and queue it again; end it if that keeps happening without progress.

    Progress is a new checkpoint or a new start mark, so a step that kills its worker is charged attempts and ends as
    failed by itself, long before this limit.
    """
    progressed = sum(1 + step.attempts for step in ports.store.runs.steps(run.id))
    crashes = 1 if progressed > run.progressed else run.crashes + 1
    logger.warning("run %s lost its worker (crash %d in a row): %s", run.id, crashes, why)
    if crashes > MAX_CRASHES:
        message = f"{crashes} invocations in a row died without recording anything. The last one: {why}"
        return fail(ports, run, if_, ErrorInfo("NoProgress", message[:2000]), **values)
    now = ports.now()
    wake_at = now + round(crash_delay(crashes) * 1000)
    fields: dict[str, Any] = {
        "holder": None,
        "lease_until": None,
        "crashes": crashes,
        "progressed": progressed,
        **values,
    }
    if wake_at > now:
        due, delay = rest(wake_at, now)
        ports.queue.send(look(run.id, delay=delay or 0))
        status = RunStatus.SUSPENDED
    else:
        due, status = now + DISPATCH_DEADLINE, RunStatus.QUEUED
    try:
        run = ports.store.runs.change(
            run.id, if_, due=due, status=status.value, wake_at=wake_at if wake_at > now else None, **fields
        )
    except LostRun:
        return None
    if run.status is RunStatus.QUEUED:
        dispatch(ports, run)
    return None
