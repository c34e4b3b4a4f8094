"""What a run was started with."""

from __future__ import annotations

from stepwell.events import Envelope
from stepwell.ports import Ports
from stepwell.records import RunState


def own_event(ports: Ports, run: RunState) -> Envelope:
    """The event that started the run."""
    stored = run.event if run.event is not None else ports.store.runs.read_input(run.id)
    if stored is None:
        raise LookupError(f"The event of run {run.id} is gone.")
    return ports.store.events.unpack(stored)
