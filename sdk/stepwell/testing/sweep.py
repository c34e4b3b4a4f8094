"""Crash a function at every point at which it can be crashed, and see whether it still does what it should.

A clean run shows at which calls to AWS anything can go wrong. Then, for each of these calls and each kind of fault, the
same is played again in a fresh world, where exactly that happens, until the run has ended and nothing is left of it.
Worlds are deterministic, so the call with a number is the same call each time, and every failure can be repeated.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stepwell.testing import invariants
from stepwell.testing.calls import Call
from stepwell.testing.faults import READS, Fault, FaultKind, FaultPlan
from stepwell.testing.local import LocalStepwell
from stepwell.views import Run

if TYPE_CHECKING:
    from stepwell.app import Stepwell

FAR_AWAY = 400 * 86_400.0
"""Virtual seconds within which a run has to end."""
AFTERWARDS = 3600.0
"""Virtual seconds in which late messages, doubled wake-ups and the records of crashes may still do harm."""


class SweepFailed(AssertionError):
    """A function did not survive a fault; the message says which one, where, and how to see it again."""


def crash_sweep(
    app: Stepwell | Sequence[Stepwell],
    event: Any,
    *,
    check: Callable[[Run], None],
    play: Callable[[LocalStepwell, str], None] | None = None,
    kinds: Collection[FaultKind] = tuple(FaultKind),
    function: str | None = None,
    every: int = 1,
    first: int = 0,
    seed: int = 0,
) -> int:
    """Run a function with every kind of fault at every call to AWS; gives the number of fault points tried.

    event: what starts it, a model or (name, data). check: is given the run when it has ended, and raises if anything is
    not as it should be; state of your own, such as a fake's list of charges, should be checked and reset there. play: does
    what the function waits for, given the world and the event's id (it is called once, right after the event was
    handled). function: which function's run is meant, if the event starts several. every: only each so many-th of the
    fault points, to be quick, beginning with `first` (from 0); an odd number meets crashes before and after in turn.

    Stepwell's own promises are checked as well. Raises SweepFailed, from whatever `check` has raised.
    """
    apps = tuple(app) if isinstance(app, Sequence) else (app,)

    known: list[str] = []  # the run's id, the same in every world

    def once(plan: FaultPlan) -> Sequence[Call]:
        with LocalStepwell(*apps, seed=seed, plan=plan) as local:
            name, data = event if isinstance(event, tuple) else (event, None)
            event_id = local.send(name, data)
            local.run_until_idle()
            if play is not None:
                play(local, event_id)
            run = _ended(local, event_id, function, known[0] if known else None)
            known[:] = [run.id]
            check(run)
            invariants.check(local.world.observations)
            return local.world.calls

    calls = once(FaultPlan())
    points = [(call, kind) for call in calls for kind in FaultKind if kind in kinds and _differs(kind, call)]
    points = points[first::every]
    with _many_worlds():
        for call, kind in points:
            fault = Fault(kind, at=call.number)
            try:
                once(FaultPlan([fault]))
            except Exception as error:
                raise SweepFailed(_told(fault, call, seed, error)) from error
    return len(points)


@contextmanager
def _many_worlds() -> Iterator[None]:
    """Hundreds of worlds, made and thrown away.

    What stood before them is kept from the garbage collector, which would otherwise look through all of the AWS SDK again
    and again; and the log is kept quiet, since every fault is an error that Stepwell rightly reports.
    """
    logger = logging.getLogger("stepwell")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        logger.setLevel(level)


def _differs(kind: FaultKind, call: Call) -> bool:
    """Whether that fault can happen there. To die after a read is to die before it."""
    return kind.applies_to(call) and not (kind is FaultKind.CRASH_AFTER and call.operation in READS)


def _ended(local: LocalStepwell, event_id: str, function: str | None, known: str | None) -> Run:
    """The run, when it has ended and all that a fault has left behind is over."""
    deadline = local.world.clock.now() + FAR_AWAY
    local.run_until_idle()
    while not _has_ended(local, event_id, function, known):
        at = local.world.next_at()
        if at is None or at > deadline:
            what = repr(local.run(event_id, function) or "no run")
            coming = "; ".join(what for _, what in local.world.agenda.describe()[:3]) or "nothing"
            raise AssertionError(f"The run never ends: {what}. Still to come: {coming}.\n{local.timeline()}")
        local.world.step()
    local.advance(AFTERWARDS)
    run = local.run(event_id, function)
    assert run is not None
    return run


def _has_ended(local: LocalStepwell, event_id: str, function: str | None, known: str | None) -> bool:
    if known is not None:  # looking at what was seen to be written is much cheaper than reading it
        return local.has_ended(known)
    run = local.run(event_id, function)
    return run is not None and run.status.is_terminal


def _told(fault: Fault, call: Call, seed: int, error: Exception) -> str:
    return (
        f"{fault.kind.value} at {call}\n"
        f"  {type(error).__name__}: {error}\n"
        f"Repeat it: LocalStepwell(app, seed={seed}, plan=FaultPlan([Fault(FaultKind.{fault.kind.name}, at={fault.at})]))"
    )
