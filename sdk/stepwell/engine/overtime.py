"""Runs that are out of time (`timeouts=`) end as cancelled, whoever notices it first.

A run that rests is looked at when its time is over, because it never rests longer than that (`soonest`). For one that
is queued or running a message is posted, once nobody else would look before that (`remind`). A worker that holds such a
run asks its own clock, before each body and after each record. None of this costs a write.
"""

from __future__ import annotations

from stepwell.decisions.deadlines import deadline, not_finished, not_started
from stepwell.engine.ending import cancel
from stepwell.ports import Ports
from stepwell.queue import look
from stepwell.records import RunState
from stepwell.store import layout


def time_out(ports: Ports, run: RunState) -> bool:
    """End a run that is out of time; False if it has ended, or has started after all."""
    if run.started is None:
        return cancel(ports, run.id, not_started(run), layout.UNSTARTED, _seen=0)
    return cancel(ports, run.id, not_finished(run))


def came_too_late(ports: Ports, run: RunState) -> bool:
    """End a run that its worker took only after its time for starting was over: it has not started, then."""
    return cancel(ports, run.id, not_started(run), layout.HELD, _epoch=run.epoch, started=None)


def remind(ports: Ports, run: RunState) -> None:
    """Post a look at the run for when its time is over, if that is before the sweeper would look at it anyway."""
    ends, now = deadline(run), ports.now()
    if ends is not None and run.due_at is not None and now < ends < run.due_at:
        ports.queue.send(look(run.id, delay=(ends - now) / 1000))
