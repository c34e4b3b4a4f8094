"""The proof, from the whole trace of a world: bodies that began against results that were recorded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from stepwell.cli.timeline.lanes import Outcome, RunLane
from stepwell.cli.timeline.story import Story
from stepwell.ids import child_run_id
from stepwell.records import RunStatus
from stepwell.testing import invariants
from stepwell.testing.observations import Observations


@dataclass(frozen=True, slots=True)
class Proof:
    """What the trace says."""

    bodies: int
    """Bodies of steps that began."""
    recorded: int
    """... whose result, or final failure, was recorded."""
    retried: int
    """... that failed and were tried again."""
    asked: int
    """... of polls whose condition did not hold yet."""
    cut_off: int
    """... that died with their worker."""
    ran_again: tuple[str, ...]
    """Bodies that began although their step was finished: never, says the promise."""
    broken: tuple[str, ...]
    """Other promises that the trace breaks."""
    promises: int
    """How many were checked."""

    @property
    def unexplained(self) -> int:
        """Bodies that are none of these."""
        return self.bodies - self.recorded - self.retried - self.asked - self.cut_off


def prove(story: Story, observations: Observations) -> Proof:
    """Count, and check every promise that can be checked on a trace."""
    ends: dict[Outcome, int] = dict.fromkeys(Outcome, 0)
    for stretch in _bodies(story):
        ends[stretch] += 1
    ran_again = tuple(invariants.no_body_after_its_result(observations))
    others = [law for law in invariants.ALL if law is not invariants.no_body_after_its_result]
    return Proof(
        bodies=sum(ends.values()),
        recorded=ends[Outcome.RECORDED] + ends[Outcome.FAILED],
        retried=ends[Outcome.RETRIED],
        asked=ends[Outcome.ASKED],
        cut_off=ends[Outcome.CUT_OFF],
        ran_again=ran_again,
        broken=tuple(violation for law in others for violation in law(observations)),
        promises=len(invariants.ALL),
    )


def _bodies(story: Story) -> Iterator[Outcome]:
    for run in story.runs.values():
        for step in run.steps.values():
            if step.child is not None:
                continue  # its body is its child run's, which is counted by itself
            for stretch in step.stretches:
                if stretch.outcome is not Outcome.WAITED:
                    yield stretch.outcome


def what_went_wrong(story: Story, proof: Proof) -> list[str]:
    """Everything that did not end as it should, in sentences."""
    problems = [f"a finished step ran again: {each}" for each in proof.ran_again]
    problems += [f"a promise was broken: {each}" for each in proof.broken]
    if proof.unexplained:
        problems.append(f"{proof.unexplained} bodies began of which nobody knows how they ended")
    if not story.kills:
        problems.append("no worker was killed, so nothing was proved about crashes")
    problems += [f"{run.function} ({run.id}) {end}" for run in story.runs.values() if (end := _bad_end(run, story))]
    return problems


def _bad_end(run: RunLane, story: Story) -> str:
    """How a run ended that did not end well; empty for a good end."""
    if not run.status.is_terminal:
        return f"was left {run.status.value}"
    if run.status is RunStatus.COMPLETED or run.parent is not None:
        return ""  # what a child's failure means is for its parent to say
    if run.status is RunStatus.FAILED and run.handles_failure:
        handler = story.runs.get(child_run_id(run.app, f"{run.function}.on-failure", run.id, "on_failure"))
        if handler is not None and handler.status is RunStatus.COMPLETED:
            return ""
    why = f": {run.error.type}: {run.error.message}" if run.error else f": {run.reason}" if run.reason else ""
    return f"ended as {run.status.value}{why}"
