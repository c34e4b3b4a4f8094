"""What happens in a local world, as lanes: fed with its observations, one by one, as they come.

A simulated step takes no virtual time, and a virtual day takes no real time. So a moment on these lanes is virtual time
plus the real time that has passed: work is as long as it really was, waiting as long as it virtually was.
"""

from __future__ import annotations

from dataclasses import dataclass

from stepwell.cli.timeline.lanes import Outcome, RunLane, StepLane, Stretch
from stepwell.cli.timeline.recorded import WAITS
from stepwell.cli.words import several
from stepwell.records import OPEN_STEPS, RunState, RunStatus, StepState, StepStatus
from stepwell.store.items import run_from, step_from
from stepwell.store.layout import RUN_SK, STEP_PREFIX
from stepwell.testing.invocations import Invocation
from stepwell.testing.observations import Began, BodyBegan, Crashed, Ended, Observation, Wrote


@dataclass
class Kill:
    """A worker that was killed."""

    worker: str
    run: str | None
    why: str
    at: float
    kept: int
    """Steps of the run (and of the one it is a step of) that were finished by then."""
    resumed_by: str | None = None
    """Who went on with the run."""

    @property
    def kept_words(self) -> str:
        """Where it went on, and what became of the finished steps."""
        if not self.kept:
            return "from where it was cut off"
        steps = "one step" if self.kept == 1 else several(self.kept, "step")
        return f"and the {steps} finished by then did not run again"


class Story:
    """The runs so far. Not thread-safe."""

    def __init__(self) -> None:
        self.runs: dict[str, RunLane] = {}
        self.kills: list[Kill] = []
        self.now = 0.0
        self._bodies: dict[tuple[str, str], list[tuple[Invocation | None, Stretch]]] = {}
        self._waits: dict[tuple[str, str], Stretch] = {}
        self._told: dict[tuple[str, str], StepStatus] = {}

    def note(self, entry: Observation, at: float) -> str | None:
        """One more thing that happened, at that moment of the lanes; one line about it if it is worth one."""
        self.now = max(self.now, at)
        if isinstance(entry, Wrote) and entry.run_id and entry.after is not None:
            if entry.sk == RUN_SK:
                return self._run(run_from(entry.after.plain()), at, at - entry.at)
            if entry.sk.startswith(STEP_PREFIX):
                return self._step(entry.run_id, step_from(entry.after.plain()), at)
        elif isinstance(entry, BodyBegan):
            return self._began(entry, at)
        elif isinstance(entry, Crashed):
            self.kills.append(Kill(str(entry.by), entry.by.run_id, entry.why, at, self._finished(entry.by.run_id)))
            self._left(entry.by, at)
            return f"{entry.by} KILLED {entry.why}"
        elif isinstance(entry, Ended):
            self._left(entry.by, at)
        elif isinstance(entry, Began):
            return self._resumed(entry)
        return None

    def shown(self) -> list[RunLane]:
        """The runs that are drawn by themselves."""
        return [run for run in self.runs.values() if not run.is_call]

    def _finished(self, run: str | None) -> int:
        lane = self.runs.get(run or "")
        family = [each for each in (lane, self.runs.get(lane.parent or "") if lane else None) if each is not None]
        return sum(step.status not in OPEN_STEPS for each in family for step in each.steps.values())

    def _resumed(self, entry: Began) -> str | None:
        for kill in self.kills:
            if kill.resumed_by is None and kill.run is not None and kill.run == entry.by.run_id:
                kill.resumed_by = str(entry.by)
                return f"{entry.by} takes over from {kill.worker}"
        return None

    # ---- runs

    def _run(self, state: RunState, at: float, ahead: float) -> str | None:
        lane = self.runs.get(state.id)
        before = lane.status if lane is not None else None
        if lane is None:
            lane = self.runs[state.id] = RunLane(state.id, state.app, state.function, state.status, at)
        lane.status, lane.attempt, lane.progress = state.status, state.attempt, state.progress
        lane.error, lane.reason = state.error, state.reason
        lane.parent = state.parent.run if state.parent else None
        lane.handles_failure, lane.is_call = state.on_failure, state.call is not None
        if state.parent is not None and lane.is_call:
            self._mirror(lane, state.parent.run, state.parent.step)
        if state.status is RunStatus.RUNNING and before is not RunStatus.RUNNING:
            lane.executions.append(Stretch(at))
            self._end_sleeps(lane, at, ahead)
        if state.status is not RunStatus.RUNNING and lane.executions:
            lane.executions[-1].close(at, Outcome.RECORDED)
        if state.status.is_terminal and lane.ended is None:
            lane.ended = at
            self._end_sleeps(lane, at, ahead)
        return self._run_line(lane, before)

    def _run_line(self, lane: RunLane, before: RunStatus | None) -> str | None:
        if lane.is_call or lane.status is before or lane.status is RunStatus.QUEUED:
            return None
        if lane.status is RunStatus.RUNNING:
            again = sum(stretch.end is not None for stretch in lane.executions)
            return f"{lane.function} {'goes on' if again else 'starts'}"
        if lane.status is RunStatus.SUSPENDED:
            return f"{lane.function} rests; no worker is involved"
        detail = f": {lane.error.type}: {lane.error.message}" if lane.error else ""
        return f"{lane.function} {lane.status.value}{detail}"

    def _mirror(self, child: RunLane, parent: str, key: str) -> None:
        """Let the step of the parent show what its child run does: they are one step to the reader."""
        if parent in self.runs:
            shown = self.runs[parent].steps.setdefault(key, StepLane(key))
            for step in child.steps.values():
                shown.stretches += [each for each in step.stretches if all(each is not one for one in shown.stretches)]

    def _end_sleeps(self, lane: RunLane, at: float, ahead: float) -> None:
        """The end of a sleep is never written: it is over when its time has come and its run goes on."""
        for step in lane.steps.values():
            if step.kind == "sleep" and step.status is StepStatus.WAITING and step.until is not None:
                over = step.until + ahead
                if over <= at + 0.001:
                    step.status = StepStatus.COMPLETED
                    self._end_wait(lane.id, step.key, over)

    # ---- steps

    def _step(self, run: str, state: StepState, at: float) -> str | None:
        if run not in self.runs:
            return None
        lane = self.runs[run]
        step = lane.steps.setdefault(state.key, StepLane(state.key))
        step.kind, step.attempts, step.error, step.child = state.kind, state.attempts, state.error, state.child
        step.until = state.until / 1000 if state.until is not None else None
        if step.status is StepStatus.COMPLETED and state.kind == "sleep":
            return None  # it is over, whatever is written about its retention now
        step.status = state.status
        if state.status is StepStatus.WAITING and state.kind in WAITS:
            if (run, state.key) not in self._waits:
                self._waits[run, state.key] = Stretch(at, outcome=Outcome.WAITED)
                step.stretches.append(self._waits[run, state.key])
        elif state.status is not StepStatus.STARTED:
            self._end_wait(run, state.key, at)
            self._end_bodies(run, state.key, at, _OUTCOMES[state.status])
        if lane.is_call:
            self._show_in_parent(lane)
        if self._told.get((run, state.key)) is state.status or state.status is StepStatus.STARTED:
            return None
        self._told[run, state.key] = state.status
        if lane.is_call and not state.status.is_open:
            return None  # its parent tells it
        detail = f": {state.error.type}: {state.error.message}" if state.error else ""
        words = "in a worker of its own" if state.kind == "run" and state.status is StepStatus.WAITING else None
        return f"{lane.function} {step.key} {words or state.status.value.replace('_', ' ')}{detail}"

    def _began(self, entry: BodyBegan, at: float) -> str | None:
        if entry.run_id not in self.runs:
            return None
        lane = self.runs[entry.run_id]
        step = lane.steps.setdefault(entry.key, StepLane(entry.key))
        if step.status is StepStatus.RETRYING:
            step.status = StepStatus.STARTED
        stretch = Stretch(at)
        step.stretches.append(stretch)
        self._told.pop((entry.run_id, entry.key), None)
        self._bodies.setdefault((entry.run_id, entry.key), []).append((entry.by, stretch))
        if lane.is_call:
            self._show_in_parent(lane)
        return f"{lane.function} {entry.key} began again" if step.bodies > 1 else None

    def _show_in_parent(self, child: RunLane) -> None:
        for parent in self.runs.values():
            for step in parent.steps.values():
                if step.child == child.id:
                    self._mirror(child, parent.id, step.key)

    def _end_wait(self, run: str, key: str, at: float) -> None:
        if (run, key) in self._waits:
            self._waits.pop((run, key)).close(at, Outcome.WAITED)

    def _end_bodies(self, run: str, key: str, at: float, outcome: Outcome) -> None:
        for _, stretch in self._bodies.pop((run, key), ()):
            stretch.close(at, outcome)

    def _left(self, by: Invocation, at: float) -> None:
        """An invocation is over: what it had begun and not recorded is cut off."""
        for key in list(self._bodies):
            for who, stretch in self._bodies[key]:
                if who is by:
                    stretch.close(at, Outcome.CUT_OFF)
        if by.run_id in self.runs and self.runs[by.run_id].executions:
            self.runs[by.run_id].executions[-1].close(at, Outcome.RECORDED)


_OUTCOMES = {
    StepStatus.RETRYING: Outcome.RETRIED,
    StepStatus.WAITING: Outcome.ASKED,
    StepStatus.COMPLETED: Outcome.RECORDED,
    StepStatus.FAILED: Outcome.FAILED,
    StepStatus.TIMED_OUT: Outcome.FAILED,
}
