"""Slots, given back: every change by which a run stops executing goes through `settle`."""

from __future__ import annotations

from typing import Any

from stepwell.ports import Ports
from stepwell.queue import Message, drain
from stepwell.records import RunState
from stepwell.store.runs import LostRun


def settle(ports: Ports, run: RunState, if_: str, *, keeps: bool = False, **fields: Any) -> None:
    """Change a run that suspends, ends or goes back to rest, and give its slots to whoever waits for them.

    `keeps`: it rests, but keeps its slots.

    `run` is how the run was last seen, `if_` and `fields` as for `Runs.change`. Raises LostRun if the condition does
    not hold. The next in line is called by a message; if that is lost, the sweeper looks at the line within minutes.
    """
    if not run.gates or keeps:
        ports.store.runs.change(run.id, if_, **fields)
        return
    while True:
        try:
            ports.store.gates.leave(run, if_, fields, now=ports.now())
            break
        except LostRun as lost:
            stands = lost.run
            if stands is None or (stands.held, stands.line) == (run.held, run.line):
                raise
            run = stands  # it got or gave back a slot since it was read; whether the condition holds is another matter
    called = calls(ports, run)
    if called:
        ports.queue.send(*called)


def calls(ports: Ports, run: RunState) -> list[Message]:
    """The messages that call the next in line, now that a run which was so has given back its slots, or its place.

    One that stood in the line of one of its gates may have come there from that of another, where somebody stays behind
    it for as long as it waits.
    """
    gates = run.gates if run.held else () if run.line is None else dict.fromkeys((run.line, *run.gates))
    return [drain(gate) for gate in gates if ports.store.gates.waiting(gate) > 0]
