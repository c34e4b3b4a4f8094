"""Search by content: a condition over events, as they were before a middleware encrypted them."""

from __future__ import annotations

from stepwell.engine.inputs import own_event
from stepwell.engine.values import Values
from stepwell.errors import KeyUnavailable, TamperedValue
from stepwell.events import SEALED, Envelope
from stepwell.expressions import Expression
from stepwell.ports import Ports
from stepwell.records import RunState


class Content:
    """A condition that events are held against. One that cannot be read, or evaluated for an event, does not hold."""

    def __init__(self, ports: Ports, values: Values, where: Expression) -> None:
        self._ports = ports
        self._values = values
        self._where = where

    def of_event(self, event: Envelope) -> bool:
        """Whether the condition holds for this event.

        What is still encrypted is not judged by the part in clear: it would be another event to the condition.
        """
        try:
            opened = self._values.receive(self._ports.store.events.open(event))
        except (KeyUnavailable, TamperedValue):
            return False
        return SEALED not in opened.data and self._where.holds(opened.scope())

    def of_run(self, run: RunState) -> bool:
        """Whether it holds for the event that started the run, or for one that its batch took along."""
        try:
            event = own_event(self._ports, run)
        except LookupError:  # it has expired before its run
            return False
        if self.of_event(event):
            return True
        store = self._ports.store
        return run.batch and any(self.of_event(store.events.unpack(each)) for each in store.gates.members(run.id))
