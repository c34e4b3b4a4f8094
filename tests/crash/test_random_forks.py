"""Random programs, forked at every step: `TEST_SEED=1234 pytest -k random_fork`."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import pytest

from stepwell import Run, RunStatus
from stepwell.store.items import step_from
from stepwell.store.layout import STEP_PREFIX
from stepwell.testing import LocalStepwell
from stepwell.testing.invariants import check
from stepwell.testing.observations import BodyBegan, Wrote
from tests.crash.programs import Trouble, apps, generate, predict

BATCHES = 4
PROGRAMS = int(os.environ.get("TEST_PROGRAMS", "3"))
"""Per batch. Set TEST_PROGRAMS for a longer search."""


def fork_everywhere(seed: int) -> int:
    """One program, run to its end, and then forked without edits at each of its steps; how many those were."""
    random = Random(f"fork {seed}")
    program = generate(random)
    event = random.choice(["program/sync", "program/async"])
    with LocalStepwell(*apps(Trouble()), seed=seed) as local:
        event_id = local.send(event, {"program": program, "name": "it"})
        run = end(local, lambda: local.run(event_id))
        forks = {key: local.client.fork(run.id, key) for key in run.steps}
        for key, fork in forks.items():
            forked = end(local, partial(local.client.run, fork))
            assert forked.result == run.result == predict(program), f"forked at {key}: {program}"
            began = {entry.key for entry in local.world.observations.of(BodyBegan) if entry.run_id == fork}
            again = began & done_before(local, run.id, key)
            assert not again, f"forked at {key}, but {again} began again: {program}\n{local.timeline()}"
        check(local.world.observations)
    return len(forks)


def done_before(local: LocalStepwell, run: str, key: str) -> set[str]:
    """The steps of a run that were done when the step `key` had not even begun, so that none of them may run again."""
    done: set[str] = set()
    for entry in local.world.observations.about(run):
        if isinstance(entry, BodyBegan) and entry.key == key:
            return done
        if isinstance(entry, Wrote) and entry.after is not None and entry.sk.startswith(STEP_PREFIX):
            step = step_from(entry.after.plain())
            if step.key == key:
                return done
            if not step.status.is_open:
                done.add(step.key)
    return done


def end(local: LocalStepwell, look: Callable[[], Run | None]) -> Run:
    for _ in range(40):
        local.advance("2h")
        run = look()
        if run is not None and run.status.is_terminal:
            assert run.status is RunStatus.COMPLETED, f"{run!r}\n{local.timeline()}"
            return run
    raise AssertionError(f"it never ends\n{local.timeline()}")


@pytest.mark.parametrize("batch", range(BATCHES))
def test_a_random_fork_gives_what_its_original_gave_and_reruns_nothing_before(
    batch: int, record_property: Callable[[str, Any], None]
) -> None:
    chosen = os.environ.get("TEST_SEED")
    seeds = [int(chosen)] if chosen else range(batch * PROGRAMS, (batch + 1) * PROGRAMS)
    forks = 0
    for seed in seeds:
        try:
            forks += fork_everywhere(seed)
        except Exception as error:
            raise AssertionError(f"seed {seed}: run it alone with TEST_SEED={seed}\n{error}") from error
    record_property("forks", forks)
