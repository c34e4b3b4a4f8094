"""Functions whose starts wait: the line of a gate without a single slot, for as long as it takes."""

from __future__ import annotations

from stepwell.decisions.flow import pause_gate
from stepwell.ports import Ports
from stepwell.queue import drain


def pause(ports: Ports, app: str, function: str) -> None:
    """Let new runs of a function wait, whatever starts them."""
    ports.store.apps.pause(app, function, ports.now())


def resume(ports: Ports, app: str, function: str) -> None:
    """Start what waited, and what comes. Repeating it is harmless.

    The sweeper looks at the line of a paused function but a few times a day. So it is told first to look soon: who is cut
    off after that has the line looked at in any case.
    """
    gate = pause_gate(app, function)
    ports.store.gates.hasten(gate, now=ports.now())
    ports.store.apps.resume(app, function)
    ports.queue.send(drain(gate))
