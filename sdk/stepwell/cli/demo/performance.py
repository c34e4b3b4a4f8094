"""One pipeline, played once."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from stepwell.cli.demo.catalogue import Pipeline
from stepwell.cli.demo.proof import Proof, prove, what_went_wrong
from stepwell.cli.demo.recorder import Recorder
from stepwell.cli.demo.stages import Stage
from stepwell.cli.friendly import debug
from stepwell.cli.timeline.lanes import RunLane
from stepwell.cli.timeline.story import Kill, Story
from stepwell.testing import CrashNeverHappened, LocalStepwell
from stepwell.testing.meter import Requests


@dataclass
class Performance:
    """How it went."""

    pipeline: Pipeline
    said: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """What did not end as it should. Empty: all well."""
    runs: list[RunLane] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    proof: Proof | None = None
    requests: Requests = field(default_factory=Requests)
    resources: dict[str, str] = field(default_factory=dict)
    """What it ran on, in the local AWS: kind to name."""
    setup_seconds: float = 0.0
    real_seconds: float = 0.0
    virtual_seconds: float = 0.0


def perform(
    pipeline: Pipeline, *, seed: int, stage: Stage, timer: Callable[[], float] = time.perf_counter
) -> Performance:
    """Play it in a world of its own. What goes wrong is in the `problems` of the result; nothing is raised."""
    result = Performance(pipeline)
    begun = timer()
    try:
        with LocalStepwell(*pipeline.apps, seed=seed) as local:
            result.setup_seconds = timer() - begun
            recorder = Recorder(local.world.clock.now(), timer, stage.hear)
            local.world.observations = recorder
            _plan_crash(local, pipeline)
            with stage.playing(pipeline, recorder):
                _play(local, pipeline, recorder, stage, result)
            _look(local, recorder, result)
    except CrashNeverHappened:
        pass  # the proof says so already, in its own words
    except Exception as error:  # the world's own complaints: it never became idle, threads were left behind
        if debug.get():
            raise
        result.problems.append(f"{type(error).__name__}: {error}")
    stage.ended(result)
    return result


def _plan_crash(local: LocalStepwell, pipeline: Pipeline) -> None:
    if pipeline.crash is not None:
        plan = local.crash_after if pipeline.crash.after else local.crash_before
        plan(pipeline.crash.step)


def _play(local: LocalStepwell, pipeline: Pipeline, recorder: Recorder, stage: Stage, result: Performance) -> None:
    def say(text: str) -> None:
        result.said.append(text)
        with recorder.paused():
            stage.say(text)

    try:
        # What a pipeline prints is not the command's output.
        with contextlib.redirect_stdout(sys.stderr) if stage.owns_stdout else contextlib.nullcontext():
            result.problems += pipeline.play(local, say)
    except Exception as error:
        if debug.get():
            raise
        result.problems.append(f"the play broke off: {type(error).__name__}: {error}")


def _look(local: LocalStepwell, recorder: Recorder, result: Performance) -> None:
    story: Story = recorder.story
    result.real_seconds = recorder.real_seconds
    result.virtual_seconds = local.world.clock.now() - recorder.begin
    result.proof = prove(story, recorder)
    result.problems += what_went_wrong(story, result.proof)
    result.problems += [f"a dead letter: {letter.reason}" for letter in local.dead_letters()]
    result.runs, result.kills = story.shown(), story.kills
    result.requests = local.requests
    made = local.world.aws.resources
    result.resources = {
        "table": made.table,
        "queue": made.queue_url.rpartition("/")[2],
        "dead-letter queue": made.dlq_url.rpartition("/")[2],
        "bucket": made.bucket,
        "Lambdas": ", ".join(function.name for function in local.world.lambdas.functions),
    }


@contextmanager
def quiet_logging(*, show: bool) -> Iterator[None]:
    """Keep what the engine and the examples log off the screen, unless it is wanted: the timeline shows the same."""
    root, handler = logging.getLogger(), logging.NullHandler()
    if not show:
        root.addHandler(handler)  # with any handler at all, Python prints no warnings on its own
    try:
        yield
    finally:
        root.removeHandler(handler)
