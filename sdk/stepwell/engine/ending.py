"""How a run ends: one conditional write that decides.

Without followers that one write is all. With followers it sets `owes` and keeps the run due, and a message asks the
orchestrator to tell them (`following`); if that is lost, the sweeper asks again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from stepwell.codec import dumps
from stepwell.decisions.next import GRACE
from stepwell.engine.keeping import expiry
from stepwell.engine.slots import settle
from stepwell.errors import ErrorInfo
from stepwell.ports import Ports
from stepwell.queue import look
from stepwell.records import RunState, RunStatus
from stepwell.store import layout
from stepwell.store.runs import LostRun

PARENT, ON_FAILURE, CHILDREN, EVENT = "parent", "on_failure", "children", "event"


def followers(run: RunState, status: RunStatus) -> list[str]:
    """Who has to be told when the run ends so."""
    owed = []
    if run.parent is not None:
        owed.append(PARENT)
    if status is RunStatus.FAILED and run.on_failure:
        owed.append(ON_FAILURE)
    if status in (RunStatus.CANCELLED, RunStatus.FAILED):
        owed.append(CHILDREN)
    if status.value in run.announces and run.taken_by is None:  # its event was not skipped: it runs with others
        owed.append(EVENT)
    return owed


def ended(
    ports: Ports, run: RunState, status: RunStatus, owes: list[str], error: ErrorInfo | None = None
) -> dict[str, Any]:
    """The attributes of a run that ends now."""
    now = ports.now()
    due_pk, due_sk = layout.due_key(run.id, now + GRACE, owing=True) if owes else layout.done_key(run, status)
    return {
        "status": status.value,
        "ended": now,
        "error": dumps(error.as_json()) if error else None,
        "owes": owes or None,
        "wake_at": None,
        "holder": None,
        "lease_until": None,
        "due_pk": due_pk,
        "due_sk": due_sk,
        "ttl": None if owes else expiry(ports, now),
    }


def fail(ports: Ports, run: RunState, if_: str, error: ErrorInfo, **values: Any) -> None:
    """End a run as failed from outside, under a condition; does nothing if the run is no longer so."""
    owes = followers(run, RunStatus.FAILED)
    try:
        settle(ports, run, if_, **ended(ports, run, RunStatus.FAILED, owes, error), **values)
    except LostRun:
        return
    if owes:
        ports.queue.send(look(run.id))


def cancel(ports: Ports, run_id: str, reason: str, if_: str = layout.LIVE, **values: Any) -> bool:
    """End a live run as cancelled. LIVE, or a condition that implies it: False if it did not hold.

    The orchestrator tells parent and children; asking it comes after the write, and the run stays due until it has.
    """
    run = ports.store.runs.read(run_id)
    if run is None or not run.is_live:
        return False
    fields = ended(ports, run, RunStatus.CANCELLED, followers(run, RunStatus.CANCELLED))
    try:
        settle(ports, run, if_, **fields, reason=reason, **values)
    except LostRun as lost:
        # The answer to our own write may have been lost; what we wrote is the winner then.
        return bool(lost.run and lost.run.status is RunStatus.CANCELLED and lost.run.ended == fields["ended"])
    ports.queue.send(look(run_id))
    return True


def skipped(ports: Ports, run: RunState, reason: str) -> RunState:
    """A run that is refused before it starts, as it is to be created. If it owes its end to somebody (a parent, those who
    listen to `stepwell/run.skipped`), whoever creates it asks the orchestrator to look at it afterwards."""
    now, owes = ports.now(), tuple(followers(run, RunStatus.SKIPPED))
    due_at = now + GRACE if owes else None
    return replace(
        run, status=RunStatus.SKIPPED, reason=reason, ended=now, owes=owes, due_at=due_at, wake_at=None, guards=()
    )


def result_text(ports: Ports, run: RunState) -> str:
    """The JSON text of a completed run's result."""
    return "null" if run.result is None else ports.payloads.unpack(run.result)
