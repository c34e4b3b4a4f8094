"""What the commands print as JSON. Names are those of the Python API; times are ISO 8601 in UTC."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwell.cli.words import iso

if TYPE_CHECKING:
    from stepwell.events import Event
    from stepwell.views import Run, StepRecord


def run_shape(run: Run) -> dict[str, Any]:
    """A run as it stands in a list: nothing that has to be read for it alone."""
    return {
        "id": run.id,
        "app": run.app,
        "function": run.function,
        "status": run.status.value,
        "attempt": run.attempt,
        "created_at": iso(run.created_at),
        "started_at": iso(run.started_at),
        "ended_at": iso(run.ended_at),
        "progress": dict(run.progress) if run.progress else None,
        "error": run.error.as_json() if run.error else None,
        "reason": run.reason,
        "tags": dict(run.tags),
        "parent_id": run.parent_id,
        "replay_of": run.replay_of,
        "fork_of": run.fork_of,
        "forked_at": run.forked_at,
    }


def whole_run_shape(run: Run) -> dict[str, Any]:
    """A run with its event, its result and its steps."""
    return run_shape(run) | {
        "event": event_shape(run.event),
        "result": run.result,
        "steps": [{"key": key, **step_shape(step)} for key, step in run.steps.items()],
    }


def step_shape(step: StepRecord) -> dict[str, Any]:
    """A step."""
    return {
        "id": step.id,
        "kind": step.kind,
        "status": step.status.value,
        "attempts": step.attempts,
        "started_at": iso(step.started_at),
        "ended_at": iso(step.ended_at),
        "until": iso(step.until),
        "result": step.result,
        "error": step.error.as_json() if step.error else None,
        "child": step.child,
        "seq": step.seq,
    }


def event_shape(event: Event[Any]) -> dict[str, Any]:
    """An event."""
    return {"id": event.id, "name": event.name, "ts": iso(event.ts), "tenant": event.tenant, "data": event.data}
