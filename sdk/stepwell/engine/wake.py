"""Runs, moved on: asked for, woken, reclaimed. Every function may be repeated and may find that others were faster."""

from __future__ import annotations

import logging
from typing import Any

from stepwell.decisions.deadlines import soonest
from stepwell.decisions.next import DISPATCH_DEADLINE, rest
from stepwell.decisions.retries import MAX_CRASHES, crash_delay
from stepwell.engine.dispatching import dispatch, misfire
from stepwell.engine.ending import fail
from stepwell.engine.lines import enter
from stepwell.engine.slots import settle
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
            queue_when(ports, run_id, layout.ASLEEP_UNGATED, strict=True)
            return
        except LostRun as lost:
            run = lost.run
        if run is None or run.status is RunStatus.SCHEDULED or not run.is_live:
            return
        if run.status is RunStatus.SUSPENDED:
            if run.line is not None:
                return  # it goes on when its turn comes
            try:
                enter(ports, run, layout.ASLEEP)
                return
            except LostRun:
                continue
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
    wake_at = soonest(run, now + round(crash_delay(crashes) * 1000))
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
    fields |= {"due": due, "status": status.value, "wake_at": wake_at if wake_at > now else None}
    try:
        if status is RunStatus.SUSPENDED:
            settle(ports, run, if_, **fields)
        else:  # it keeps its slots: the next worker goes on where this one died
            dispatch(ports, ports.store.runs.change(run.id, if_, **fields))
    except LostRun:
        return None
    return None
