"""Runs and steps as users see them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from stepwell.clock import from_millis
from stepwell.codec import loads
from stepwell.engine.inputs import own_event
from stepwell.engine.values import PLAIN, Values
from stepwell.errors import ErrorInfo
from stepwell.events import Envelope, Event
from stepwell.ports import Ports
from stepwell.records import RunState, RunStatus, StepState, StepStatus


@dataclass(frozen=True)
class StepRecord:
    """A checkpoint."""

    id: str
    kind: str
    status: StepStatus
    result: Any
    """Plain JSON."""
    error: ErrorInfo | None
    attempts: int
    """Bodies begun that are known of."""
    started_at: datetime | None
    ended_at: datetime | None
    seq: int | None
    """Its place in the order in which the function saw the resolutions."""
    child: str | None = None
    """The run it started, if it did."""
    until: datetime | None = None
    """When a wait is out of time, or a sleep over."""


class Run:
    """A run, as it was when it was read. Its steps, event and result are read when first asked for."""

    def __init__(
        self, state: RunState, ports: Ports, reload: Callable[[], Mapping[str, StepRecord]], values: Values
    ) -> None:
        self._state = state
        self._ports = ports
        self._values = values
        self._reload = reload

    def __repr__(self) -> str:
        line = f"<Run {self.id} of {self.app}/{self.function}: {self.status.value}"
        if self._state.error:
            line += f", {self._state.error.type}: {self._state.error.message}"
        if self.reason:
            line += f" ({self.reason})"
        return line + ">"

    @property
    def id(self) -> str:
        """The run's id: the app's, a dot, and a time-sortable ULID."""
        return self._state.id

    @property
    def app(self) -> str:
        """The app's id."""
        return self._state.app

    @property
    def function(self) -> str:
        """The function's id."""
        return self._state.function

    @property
    def status(self) -> RunStatus:
        """Where it stands."""
        return self._state.status

    @cached_property
    def event(self) -> Event[dict[str, Any]]:
        """The event that started it; the data as plain JSON."""
        return self._values.receive(own_event(self._ports, self._state)).event()

    @cached_property
    def result(self) -> Any:
        """What the function returned, as plain JSON; None while it has not completed."""
        if self._state.result is None:
            return None
        return loads(self._values.result(self._state, self._ports.payloads.unpack(self._state.result)))

    @cached_property
    def error(self) -> ErrorInfo | None:
        """Why it failed: type, message, traceback, step."""
        return self._values.run_error(self._state)

    @property
    def reason(self) -> str | None:
        """Why it was skipped or cancelled, or what keeps it from going on."""
        return self._state.reason

    @property
    def attempt(self) -> int:
        """Which attempt of the function's body this is, from 1."""
        return self._state.attempt

    @property
    def created_at(self) -> datetime:
        """When its event was accepted."""
        return from_millis(self._state.created)

    @property
    def started_at(self) -> datetime | None:
        """When a worker first took it."""
        return _time(self._state.started)

    @property
    def ended_at(self) -> datetime | None:
        """When it ended."""
        return _time(self._state.ended)

    @property
    def progress(self) -> Mapping[str, Any] | None:
        """What the function last said by ctx.progress: done, total, message."""
        return self._state.progress

    @property
    def tags(self) -> Mapping[str, str]:
        """The tags declared with the function."""
        return self._state.tags

    @property
    def parent_id(self) -> str | None:
        """The run that waits for it, if one does. A detached child and a handler of failures have none."""
        return self._state.parent.run if self._state.parent else None

    @property
    def replay_of(self) -> str | None:
        """The run it replays, if it is a replay."""
        return self._state.replay_of

    @property
    def fork_of(self) -> str | None:
        """The run it was forked from, if it is a fork."""
        return self._state.fork.run if self._state.fork else None

    @property
    def forked_at(self) -> str | None:
        """The step at which it was forked."""
        return self._state.fork.step if self._state.fork else None

    @cached_property
    def steps(self) -> Mapping[str, StepRecord]:
        """Its checkpoints by key, in the order in which they began."""
        return self._reload()


def view(ports: Ports, state: RunState, values: Values = PLAIN) -> Run:
    """A run for users."""

    def steps() -> Mapping[str, StepRecord]:
        found = list(ports.store.runs.steps(state.id))
        places = {key: place for step in found for key, place in step.saw.items()}
        places |= {step.key: step.seq for step in found if step.seq is not None}
        found.sort(key=lambda step: (step.started or 0, places.get(step.key, 1 << 62), step.key))
        return {step.key: step_view(ports, state.id, step, values) for step in found}

    return Run(state, ports, steps, values)


def step_view(ports: Ports, run: str, step: StepState, values: Values = PLAIN) -> StepRecord:
    """A step for users."""
    status, ended = step.status, step.ended
    if step.kind == "sleep" and status is StepStatus.WAITING and (step.until or 0) <= ports.now():
        status, ended = StepStatus.COMPLETED, step.until  # the end of a sleep is never written
    result = None
    if step.result is not None:
        result = loads(values.step_result(run, step, ports.payloads.unpack(step.result)))
        if step.kind == "wait_for_event" and values.chain.all:
            result = values.receive(ports.store.events.open(Envelope.from_json(result))).as_json()
    return StepRecord(
        id=step.id,
        kind=step.kind,
        status=status,
        result=result,
        error=values.open_step(run, step).error,
        attempts=step.attempts,
        started_at=_time(step.started),
        ended_at=_time(ended),
        seq=step.seq,
        child=step.child,
        until=_time(step.until),
    )


def _time(ms: int | None) -> datetime | None:
    return None if ms is None else from_millis(ms)
