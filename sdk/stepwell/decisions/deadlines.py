"""When a run is out of time (`timeouts=`), and what follows from it for when somebody has to look at it."""

from __future__ import annotations

from stepwell.durations import spoken
from stepwell.records import RunState


def deadline(run: RunState) -> int | None:
    """When the run, as it is now, is out of time; None if never. Milliseconds.

    Until its first start that is the time it has for starting, from then on the time it has for finishing.
    """
    if run.started is None:
        return None if run.start_within is None else run.created + run.start_within
    return None if run.finish_within is None else run.started + run.finish_within


def out_of_time(run: RunState, now: int) -> bool:
    """Whether a live run is out of time."""
    ends = deadline(run)
    return ends is not None and ends <= now


def started_late(run: RunState) -> bool:
    """Whether a worker took the run for the first time after its time for starting was over."""
    if run.started is None or run.start_within is None or run.epoch > 1:
        return False
    return run.created + run.start_within <= run.started


def soonest(run: RunState, wake_at: int) -> int:
    """When to look at a run that rests until `wake_at`: then, or when it is out of time if that comes first."""
    ends = deadline(run)
    return wake_at if ends is None else min(wake_at, ends)


def not_started(run: RunState) -> str:
    """The reason of a run that did not start in time."""
    return f"not started within {spoken((run.start_within or 0) / 1000)}"


def not_finished(run: RunState) -> str:
    """The reason of a run that did not finish in time."""
    return f"not finished within {spoken((run.finish_within or 0) / 1000)}"
