"""Those who have to be told that a run has ended: its parent, its failure handler, its children, all who listen.

Telling is idempotent, so it is simply repeated until the last write, which clears `owes`, has taken effect. Whoever cannot
be told does not keep the others from it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

from stepwell.decisions.listening import RUN_EVENTS
from stepwell.engine.accept import PER_MESSAGE, accept, go_on
from stepwell.engine.announcing import cause, error_json, run_event
from stepwell.engine.cancelling import let_go
from stepwell.engine.ending import CHILDREN, EVENT, ON_FAILURE, PARENT, cancel
from stepwell.engine.inputs import event_json
from stepwell.engine.keeping import expiry
from stepwell.engine.resolve import resolve_child
from stepwell.engine.starting import start_run, with_members
from stepwell.errors import DuplicateEvent, ErrorInfo, Undecided
from stepwell.events import Envelope
from stepwell.ids import child_run_id, derived_ulid, event_id_of
from stepwell.ports import Ports
from stepwell.queue import children
from stepwell.records import Parent, RunState, RunStatus, StepStatus
from stepwell.store import layout
from stepwell.store.runs import LostRun

logger = logging.getLogger("stepwell")

CASCADING = frozenset({RunStatus.CANCELLED, RunStatus.FAILED})
"""The ends that cancel the children a run waits for."""


def deliver(ports: Ports, run: RunState, *, children_told: bool = False) -> None:
    """Tell everybody the run owes its end to, then clear the debt. Repeating it is harmless.

    Many children are cancelled in pieces, each continued by a message (`go_on_with_children`). The debt is cleared by
    whoever comes to their end; if a message is lost, the sweeper has all of it begun anew.
    """
    failures: list[Exception] = []
    with _apart(failures):
        if PARENT in run.owes and run.parent is not None:
            resolve_child(ports, run)
    with _apart(failures):
        if ON_FAILURE in run.owes:
            _start_failure_handler(ports, run)
    with _apart(failures):
        if CHILDREN in run.owes and not children_told and not _cancel_children(ports, run):
            return
    with _apart(failures):
        if EVENT in run.owes:
            _announce(ports, run)
    if failures:
        raise failures[0]
    if run.owes:
        let_go(ports, run)
        due_pk, due_sk = layout.done_key(run, run.status)
        try:
            ports.store.runs.change(
                run.id, layout.ENDED, due_pk=due_pk, due_sk=due_sk, owes=None, ttl=expiry(ports, ports.now())
            )
        except LostRun:
            return


@contextmanager
def _apart(failures: list[Exception]) -> Iterator[None]:
    """One that cannot be told must not keep the others from being told."""
    try:
        yield
    except Exception as error:
        failures.append(error)


def _announce(ports: Ports, run: RunState) -> None:
    event = run_event(ports, run)
    apps, paths = ports.store.apps.current([event.name])
    try:
        accept(ports, event, event.ts, apps, paths, again=True)
    except DuplicateEvent:  # delivered before, by a release that says other things of a run
        logger.warning("the end of run %s had been announced in other words", run.id)
    except Undecided:  # all others have it. It needs a message of its own, which can become a dead letter
        go_on(ports, event, event.ts)


def _start_failure_handler(ports: Ports, run: RunState) -> None:
    handler = f"{run.function}.on-failure"
    own = cause(ports, run)
    data = {
        "run_id": run.id,
        "function": run.function,
        "error": error_json(run.error or ErrorInfo("Unknown", "")),
        "event": event_json(own),
    }
    event_id = event_id_of(derived_ulid(run.ended or 0, "failure", run.id))
    envelope = Envelope(event_id, RUN_EVENTS[RunStatus.FAILED], data, run.ended or ports.now(), trace=own.trace)
    handling = child_run_id(run.app, handler, run.id, "on_failure")
    batch = run.batch and with_members(ports, run.id, handling)
    start_run(ports, run.app, handler, handling, envelope, batch=batch, child=True)


def abandon(ports: Ports, run_id: str) -> None:
    """Cancel children that a worker asked for while its run was ended under its hands.

    Whoever told the children of that end may have looked before the worker recorded them.
    """
    run = ports.store.runs.read(run_id)
    if run is not None and run.status in CASCADING:
        _cancel_children(ports, run)


def outlived(ports: Ports, child: str, parent: Parent) -> None:
    """Cancel a child whose parent had ended before the child was created: nobody else would find it.

    Unless the parent had stopped waiting for it by then: this may be a late duplicate of what asked for the child.
    """
    run = ports.store.runs.read(parent.run)
    if run is None or run.status not in CASCADING:
        return
    step = ports.store.runs.step(run.id, parent.step)
    if step is None or step.status.is_open:
        cancel(ports, child, _orphaned(run))


def _orphaned(parent: RunState) -> str:
    return f"its parent {parent.id} ended as {parent.status.value}"


def go_on_with_children(ports: Ports, run_id: str, after: str) -> None:
    """Cancel the children of the steps after this one; at their end, tell all the others the run owes its end to."""
    run = ports.store.runs.read(run_id)
    if run is not None and run.status in CASCADING and _cancel_children(ports, run, after=after):
        deliver(ports, run, children_told=True)


def _cancel_children(ports: Ports, run: RunState, *, after: str = "") -> bool:
    """Cancel the children that the run waits for; False if there are more, which a message will ask for."""
    steps = ports.store.runs.steps(run.id, after=after)
    waiting = (step for step in steps if step.child and step.status is StepStatus.WAITING)
    piece = list(islice(waiting, PER_MESSAGE + 1))
    asked, more = piece[:PER_MESSAGE], piece[PER_MESSAGE:]
    for child in ports.store.runs.read_many(step.child or "" for step in asked).values():
        if child.is_live:
            cancel(ports, child.id, _orphaned(run))
    if more:
        ports.queue.send(children(run.id, after=asked[-1].key))
    return not more
