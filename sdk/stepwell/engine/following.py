"""Those who have to be told that a run has ended: its parent, its failure handler, its children.

Telling is idempotent, so it is simply repeated until the last write, which clears `owes`, has taken effect.
"""

from __future__ import annotations

from stepwell.clock import iso
from stepwell.engine.ending import CHILDREN, ON_FAILURE, PARENT, cancel, expiry
from stepwell.engine.resolve import resolve_child
from stepwell.engine.starting import start_run
from stepwell.errors import ErrorInfo
from stepwell.events import Envelope
from stepwell.ids import child_run_id, derived_ulid, event_id_of
from stepwell.ports import Ports
from stepwell.records import RunState, StepStatus
from stepwell.store import layout
from stepwell.store.runs import LostRun


def deliver(ports: Ports, run: RunState) -> None:
    """Tell everybody the run owes its end to, then clear the debt. Repeating it is harmless."""
    if PARENT in run.owes and run.parent is not None:
        resolve_child(ports, run)
    if ON_FAILURE in run.owes:
        _start_failure_handler(ports, run)
    if CHILDREN in run.owes:
        _cancel_children(ports, run)
    if run.owes:
        due_pk, due_sk = layout.done_key(run.id, run.app, run.function, run.status)
        try:
            ports.store.runs.change(
                run.id, layout.ENDED, due_pk=due_pk, due_sk=due_sk, owes=None, ttl=expiry(ports, ports.now())
            )
        except LostRun:
            return


def _start_failure_handler(ports: Ports, run: RunState) -> None:
    handler = f"{run.function}.on-failure"
    error = run.error or ErrorInfo("Unknown", "")
    stored = run.event if run.event is not None else ports.store.runs.read_input(run.id)
    event = ports.store.events.unpack(stored) if stored is not None else None
    data = {
        "run_id": run.id,
        "function": run.function,
        "error": error.as_json(),
        "event": {**event.as_json(), "ts": iso(event.ts)} if event else None,
    }
    event_id = event_id_of(derived_ulid(run.ended or 0, "failure", run.id))
    envelope = Envelope(event_id, "stepwell/run.failed", data, run.ended or ports.now())
    start_run(ports, run.app, handler, child_run_id(run.app, handler, run.id, "on_failure"), envelope)


def _cancel_children(ports: Ports, run: RunState) -> None:
    for step in ports.store.runs.steps(run.id):
        if step.child and step.status is StepStatus.WAITING:
            cancel(ports, step.child, f"its parent {run.id} ended as {run.status.value}")
