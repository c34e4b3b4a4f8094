"""What a timeline shows: runs, their steps, and on each step the stretches of time in which something went on.

Times are seconds since the epoch. Lanes are filled by whoever watches, so they are mutable; drawing only reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from stepwell.errors import ErrorInfo
from stepwell.records import RunStatus, StepStatus


class Outcome(StrEnum):
    """How a stretch of time ended."""

    OPEN = "open"
    RECORDED = "recorded"
    """The result of this body is the step's."""
    FAILED = "failed"
    """The step failed with this body."""
    RETRIED = "retried"
    """This body failed; another follows."""
    ASKED = "asked"
    """The check of a poll, which did not hold yet."""
    CUT_OFF = "cut off"
    """The worker died."""
    WAITED = "waited"
    """Nothing runs: a sleep, or a wait for an event, an answer or another run; also while it lasts."""


@dataclass
class Stretch:
    """A stretch of time."""

    begin: float
    end: float | None = None
    outcome: Outcome = Outcome.OPEN

    def close(self, at: float, outcome: Outcome) -> None:
        """It ended; the first end stands."""
        if self.end is None:
            self.end, self.outcome = at, outcome


@dataclass
class StepLane:
    """One step."""

    key: str
    kind: str = "run"
    status: StepStatus = StepStatus.STARTED
    attempts: int = 0
    """As recorded."""
    stretches: list[Stretch] = field(default_factory=list)
    until: float | None = None
    error: ErrorInfo | None = None
    child: str | None = None
    """The run that it started."""

    def count(self, outcome: Outcome) -> int:
        """How many of its stretches ended so."""
        return sum(stretch.outcome is outcome for stretch in self.stretches)

    @property
    def bodies(self) -> int:
        """How often its body began, as far as it was watched."""
        return len(self.stretches) - self.count(Outcome.WAITED)


@dataclass
class RunLane:
    """One run."""

    id: str
    app: str
    function: str
    status: RunStatus
    created: float
    ended: float | None = None
    attempt: int = 1
    progress: Mapping[str, Any] | None = None
    error: ErrorInfo | None = None
    reason: str | None = None
    parent: str | None = None
    handles_failure: bool = False
    """Whether a handler follows if it fails."""
    is_call: bool = False
    """Whether it is one step of its parent, in a worker of its own: drawn there, not by itself."""
    steps: dict[str, StepLane] = field(default_factory=dict)
    executions: list[Stretch] = field(default_factory=list)
    """When a worker held it."""

    def busy(self, now: float) -> Iterator[tuple[float, float]]:
        """The stretches in which something ran for it."""
        for stretch in self.executions:
            yield stretch.begin, stretch.end if stretch.end is not None else now
        for step in self.steps.values():
            for stretch in step.stretches:
                if stretch.outcome is not Outcome.WAITED:
                    yield stretch.begin, stretch.end if stretch.end is not None else now
