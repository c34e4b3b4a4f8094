"""A run, looked at: whatever message or sweep led here, what is done follows from the run alone."""

from __future__ import annotations

from stepwell.decisions.next import Next, decide
from stepwell.engine.dispatching import ask_again
from stepwell.engine.following import deliver
from stepwell.engine.keeping import outlast
from stepwell.engine.lines import BACKSTOP, enter, follow
from stepwell.engine.overtime import time_out
from stepwell.engine.wake import queue_when, reclaim
from stepwell.ports import Ports
from stepwell.queue import look
from stepwell.records import RunState, RunStatus
from stepwell.store import layout
from stepwell.store.runs import LostRun


def look_at(ports: Ports, run_id: str, *, missed: int | None = None) -> None:
    """Read a run and do what it needs now. `missed` is the epoch of a dispatch whose deadline has passed."""
    run = ports.store.runs.read(run_id)
    if run is None:
        return
    now = ports.now()
    if run.is_live and run.line is not None:
        outlast(ports, run, now + BACKSTOP)
    needed = decide(run, now, missed=missed)
    if needed is Next.QUEUE:
        _queue(ports, run, now)
    elif needed is Next.ASK_AGAIN:
        ask_again(ports, run)
    elif needed is Next.RECLAIM:
        reclaim(ports, run, layout.EXPIRED, "its worker's lease ran out", _seen=run.epoch, _now=now)
    elif needed is Next.POST and run.wake_at is not None:
        ports.queue.send(look(run.id, delay=(run.wake_at - now) / 1000))
    elif needed is Next.TIME_OUT:
        time_out(ports, run)
    elif needed is Next.DELIVER:
        deliver(ports, run)


def _queue(ports: Ports, run: RunState, now: int) -> None:
    if run.line is not None:
        follow(ports, run.line)
    elif not run.gates and run.status is not RunStatus.SCHEDULED:
        queue_when(ports, run.id, layout.RESTING_AND_DUE, _now=now)
    else:
        try:
            enter(ports, run, layout.RESTING_AND_DUE, _now=now)
        except LostRun:
            return
