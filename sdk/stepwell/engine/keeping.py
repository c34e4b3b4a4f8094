"""How long things are kept, and that nothing of a live run expires: not beside it, and not elsewhere under its name.

What ends is kept for the retention. What belongs to a live run is written with a ttl well past its next wake-up, because
nobody will come back to it just to say that it has ended. A run that rests longer than that prolongs it first
(`outlast`): the worker that lets go of it, the orchestrator that lets it wait for its time, and, for one that stands in a
line, whoever looks at it there now and then.

Beside a run lie its event, the events it takes along, its checkpoints; elsewhere stand its tags, its guards and the
gates that remember it. All of it is prolonged by the month of the run's life, so a rest within a month costs nothing.
"""

from __future__ import annotations

from stepwell.ports import Ports
from stepwell.records import RunState

KEEP = 30 * 86400
"""Seconds that what belongs to a live run is kept beyond the retention of ended runs."""
_MONTH = KEEP * 1000
_DAY = 86_400_000


def kept_until(ports: Ports, latest: int) -> int:
    """The ttl, in epoch seconds, of what belongs to a live run that goes on by `latest` (milliseconds)."""
    return latest // 1000 + round(ports.config.retention) + KEEP


def expiry(ports: Ports, now: int) -> int:
    """When what ended now may be removed, in epoch seconds."""
    return now // 1000 + round(ports.config.retention)


def month_ttl(ports: Ports, run: RunState, latest: int) -> int:
    """The ttl, in epoch seconds, for what a run that goes on by `latest` (milliseconds) needs in that month of its life:
    it covers the next month as well, and the retention."""
    return (run.created + (_month(run, latest) + 2) * _MONTH) // 1000 + round(ports.config.retention)


def outlast(ports: Ports, run: RunState, until: int) -> None:
    """Before the run rests until `until` (milliseconds): nothing of it may expire before it has gone on and ended.

    A rest into a later month of its life prolongs everything for that month. What is written during a month lasts for it
    anyway. A run that works at the turn of two months was let go of, or is, within a day of it.
    """
    latest = until + _DAY
    if _month(run, latest) <= _month(run, ports.now() - _DAY):
        return
    ttl = month_ttl(ports, run, latest)
    for sk, expires in ports.store.runs.beside(run.id):
        if expires < ttl - KEEP:  # it would not last until the next rest into a later month
            ports.store.runs.prolong(run.id, sk, ttl)
    if run.tags:
        ports.store.tags.file(run.app, run.id, run.tags, ttl=ttl)
    for tags in {tuple(sorted(tags.items())) for tags in (ports.store.gates.member_tags(run.id) if run.batch else ())}:
        ports.store.tags.file(run.app, run.id, dict(tags), ttl=ttl, taken=True)
    for name in run.guards:
        ports.store.guards.prolong(run.app, run.id, name, ttl)
    for gate in (*run.memories, *(run.gates if run.held else ())):
        ports.store.gates.prolong(gate, ttl)


def _month(run: RunState, moment: int) -> int:
    """In which month of its life the run is then."""
    return max(0, moment - run.created) // _MONTH
