"""A run as the client reads it, as a lane."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from stepwell.cli.timeline.lanes import Outcome, RunLane, StepLane, Stretch
from stepwell.records import StepStatus

if TYPE_CHECKING:
    from stepwell.views import Run, StepRecord

WAITS = frozenset({"sleep", "wait_for_event", "callback", "invoke"})
"""Kinds of steps that have no body."""

_OUTCOMES = {
    StepStatus.COMPLETED: Outcome.RECORDED,
    StepStatus.FAILED: Outcome.FAILED,
    StepStatus.TIMED_OUT: Outcome.FAILED,
    StepStatus.RETRYING: Outcome.RETRIED,
}


def lane_of(run: Run) -> RunLane:
    """The lane of a run. Of a step only its beginning and its end are known, not each of its attempts."""
    return RunLane(
        id=run.id,
        app=run.app,
        function=run.function,
        status=run.status,
        created=run.created_at.timestamp(),
        ended=_seconds(run.ended_at),
        attempt=run.attempt,
        progress=run.progress,
        error=run.error,
        reason=run.reason,
        parent=run.parent_id,
        steps={key: _step(key, step) for key, step in run.steps.items()},
    )


def _step(key: str, step: StepRecord) -> StepLane:
    stretches = []
    if step.started_at is not None:
        begin, end = step.started_at.timestamp(), _seconds(step.ended_at)
        if step.status is StepStatus.RETRYING and end is None:
            end = begin  # its last attempt is over; when, the record does not say
        outcome = _OUTCOMES.get(step.status, Outcome.OPEN)
        stretches.append(Stretch(begin, end, Outcome.WAITED if step.kind in WAITS else outcome))
    return StepLane(key, step.kind, step.status, step.attempts, stretches, _seconds(step.until), step.error, step.child)


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
