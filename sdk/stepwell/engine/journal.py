"""What a run remembers, during one invocation: its checkpoints, and the order in which the function saw them.

Every resolution has a place in that order (`seq`), and a replay hands them out in the same order, so code that asks
"which was first?" gets the same answer each time. A resolution that the invocation writes itself gets its place with
the write. One from outside (an event, a callback, the end of a sleep) gets its place when the function first sees it;
that costs no write of its own, because it is noted in the next checkpoint (`saw`): as long as nothing was recorded
after it, nothing depends on it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace

from stepwell.decisions.deadlines import out_of_time
from stepwell.engine.keeping import kept_until
from stepwell.engine.overtime import time_out
from stepwell.engine.values import PLAIN, Values
from stepwell.errors import NonDeterminism, TamperedValue
from stepwell.ports import Ports
from stepwell.records import RunState, RunStatus, StepState
from stepwell.store.layout import HELD
from stepwell.store.runs import LostRun


class Superseded(BaseException):
    """The run is no longer this invocation's: cancelled, or taken over. Not an Exception, so that user code, which
    has nothing more to do, does not catch it."""


class Journal:
    """The checkpoints of one run, held by one invocation."""

    def __init__(self, ports: Ports, run: RunState, steps: Iterable[StepState], values: Values = PLAIN) -> None:
        self._ports = ports
        self._values = values
        self._lock = threading.Lock()
        self._unplaced: dict[str, int] = {}
        self._checked = ports.clock.now()
        self._order: list[str] = []
        self._next = 0
        self.run = run
        self.steps: dict[str, StepState] = {}
        self.places: dict[str, int] = {}
        self.written = 0
        """Checkpoints and marks this invocation has made."""
        self.delivered: set[str] = set()
        self._unmet: set[str] = set()
        self.fatal: NonDeterminism | TamperedValue | None = None
        """Raised in the function, and the end of the run even if the function catches it."""
        self.load(steps)

    def load(self, steps: Iterable[StepState]) -> None:
        """Take over what the table holds, at the claim or after a wake-up that came in between."""
        for step in steps:
            self.steps[step.key] = step
            self._unmet.add(step.key)
            if step.seq is not None:
                self.places[step.key] = step.seq
            self.places.update(step.saw)
        self._order = sorted(self.places, key=self.places.__getitem__)
        self._seq = max(self.places.values(), default=0)

    # ---- reading

    def find(self, key: str, kind: str, shape: str, args: str) -> StepState | None:
        """The record of this step. Raises NonDeterminism if what is recorded is something else."""
        step = self.steps.get(key)
        self._unmet.discard(key)
        if step is None:
            self._unmet.clear()
        if step is None or (step.kind == kind and step.shape in (shape, "")):
            return step
        if step.kind == kind and self._values.same_arguments(self.run.id, step, shape):
            return step
        recorded = f"{step.kind}({self._values.shown_arguments(self.run.id, step)})"
        self.fatal = NonDeterminism(
            f"Step {key!r} was recorded as {recorded}, but the code now asks for {kind}({args}). A step that has run "
            "keeps its kind and its arguments: give the new one another id, make its arguments come from the event, "
            "from earlier steps or from ctx.now(), ctx.uuid() and ctx.random(), or let the old runs finish first."
        )
        raise self.fatal

    def is_next(self, key: str) -> bool:
        """Whether all that the function saw before this resolution has been handed out again."""
        while self._next < len(self._order) and self._order[self._next] in self.delivered:
            self._next += 1
        return self._next < len(self._order) and self._order[self._next] == key

    def place(self, key: str) -> int | None:
        """The place of a resolution in the order, None if the function has not seen it."""
        return self.places.get(key)

    @property
    def latest(self) -> int:
        """The place of the latest resolution there is; 0 if there is none."""
        with self._lock:
            return self._seq

    def hand_out(self, key: str) -> None:
        """The function sees this resolution now. One from outside gets its place, to be noted with the next write."""
        with self._lock:
            if key in self.delivered:
                return
            self.delivered.add(key)
            if key not in self.places:
                self._seq += 1
                self.places[key] = self._unplaced[key] = self._seq

    # ---- writing

    def record(self, step: StepState, *, beat_by: int | None = None) -> StepState:
        """Write a checkpoint and give back the one that stands: this one, or whichever was first.

        With `beat_by` the write stands only if no heartbeat has come since then. Raises Superseded if the one that was
        first belongs to a newer holder.
        """
        with self._lock:
            before = self.steps.get(step.key)
            saw = {**(before.saw if before else {}), **self._unplaced}
            noted = tuple(self._unplaced)
            self._unplaced.clear()
            seq = None
            if not step.status.is_open:
                self._seq += 1
                seq = self._seq
        step = replace(step, epoch=self.run.epoch, seq=seq, saw=saw, ttl=step.ttl or self._ttl(step))
        first = self._ports.store.runs.record(self.run.id, step, beat_by=beat_by)
        if first is not None:
            if first.epoch > self.run.epoch:
                raise Superseded
            self.check(strict=True)
            with self._lock:
                self._unplaced.update({key: self.places[key] for key in noted})
            step = first
        with self._lock:
            self.steps[step.key] = step
            self.written += 1
            if step.seq is not None:
                self.places[step.key] = step.seq
        self.in_time()
        return step

    def _ttl(self, step: StepState) -> int:
        latest = max(self._ports.now(), step.until or 0, step.retry_at or 0)
        return kept_until(self._ports, latest)

    # ---- being the holder

    def check(self, *, strict: bool = False) -> None:
        """Make sure that the run is still this invocation's, reading it again if it was last seen too long ago.

        Raises Superseded. This is what stops a cancelled or superseded holder before its next step.
        """
        self.in_time()
        if not strict and self._ports.fresh(self.run.id, self._checked):
            return
        seen = self._ports.clock.now()
        run = self._ports.store.runs.read(self.run.id)
        if run is None or run.epoch != self.run.epoch or run.status is not RunStatus.RUNNING:
            raise Superseded
        self._checked = seen

    def in_time(self) -> None:
        """Make sure that the run is not out of time; if it is, end it and raise Superseded. Asks the clock alone."""
        if out_of_time(self.run, self._ports.now()):
            time_out(self._ports, self.run)
            raise Superseded

    def note_progress(self, progress: str) -> None:
        """Write how far the function says it is. HELD: a holder that lost the run says nothing any more."""
        try:
            self._ports.store.runs.change(self.run.id, HELD, progress=progress, _epoch=self.run.epoch)
        except LostRun:
            raise Superseded from None

    @property
    def replaying(self) -> bool:
        """Whether the function has yet to come to where it was: a step it had begun it has not asked for again.

        That includes the wait it rests at, so what stands before that wait is not taken for new. A step that was never
        asked for before ends it.
        """
        return bool(self._unmet) or self.behind()

    def behind(self) -> bool:
        """Whether something the function saw before has not been handed out again yet."""
        self.is_next("")
        return self._next < len(self._order)
