"""What a run was started with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stepwell.clock import iso
from stepwell.codec import JSON
from stepwell.decisions.listening import is_run_event
from stepwell.events import Envelope
from stepwell.ports import Ports
from stepwell.records import RunState


def own_event(ports: Ports, run: RunState) -> Envelope:
    """The event that started the run; of a batch, the first."""
    stored = run.event if run.event is not None else ports.store.runs.read_input(run.id)
    if stored is None:
        raise LookupError(f"The event of run {run.id} is gone.")
    return ports.store.events.unpack(stored)


def all_events(ports: Ports, run: RunState) -> list[Envelope]:
    """The event that started the run, and those that a batch took along."""
    others = ports.store.gates.members(run.id) if run.batch else ()
    return [own_event(ports, run), *map(ports.store.events.unpack, others)]


def as_heard(events: Sequence[Envelope]) -> list[Envelope]:
    """All events of a run, received, as its function hears them.

    The failure of a batch is news of one event, with all that the batch had in it. They lie beside the handler's run as
    they lay beside the batch's, since together they may be larger than any event.
    """
    news, *others = events
    if others and is_run_event(news.name) and "status" not in news.data:  # other news of a run's end has one
        return [replace(news, data={**news.data, "events": [news.data["event"], *map(event_json, others)]})]
    return [news, *others]


def event_json(event: Envelope) -> dict[str, JSON]:
    """The event that started a run, as those get it who are told of the run's end."""
    return {**event.as_json(), "ts": iso(event.ts)}
