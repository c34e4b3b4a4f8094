"""Random programs under random faults, each reproduced by its seed: `TEST_SEED=1234 pytest -k random_program`."""

from __future__ import annotations

import os
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from stepwell import RunStatus
from stepwell.testing import Chaos, Fault, FaultKind, FaultPlan, LocalStepwell
from stepwell.testing.invariants import check
from tests.crash.programs import Trouble, apps, generate, predict

BATCHES = 8
PROGRAMS = int(os.environ.get("TEST_PROGRAMS", "6"))
"""Per batch. Set TEST_PROGRAMS for a longer search."""


def run_program(seed: int) -> None:
    """One program in one world; everything in it follows from the seed."""
    random = Random(f"program {seed}")
    program = generate(random)
    plan = FaultPlan(
        [Fault(random.choice(list(FaultKind)), at=random.randint(0, 60)) for _ in range(random.randint(0, 4))]
    )
    chaos = Chaos(**{name: random.choice([0, 0, 0.2]) for name in ("duplicate", "delay", "lose", "reorder")})
    event = random.choice(["program/sync", "program/async"])
    with LocalStepwell(*apps(Trouble()), seed=seed, plan=plan, chaos=chaos) as local:
        event_id = local.send(event, {"program": program})
        local.advance("1h")
        run = local.run(event_id)
        for _ in range(60):
            if run is not None and run.status.is_terminal:
                break
            local.advance("6h")
            run = local.run(event_id)
        assert run is not None
        assert run.status is RunStatus.COMPLETED, f"{run!r}\n{local.timeline()}"
        assert run.result == predict(program), f"{program}\n{local.timeline()}"
        local.advance("2d")
        check(local.world.observations)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_a_random_program_gives_what_its_model_predicts(
    batch: int, record_property: Callable[[str, Any], None]
) -> None:
    chosen = os.environ.get("TEST_SEED")
    seeds = [int(chosen)] if chosen else range(batch * PROGRAMS, (batch + 1) * PROGRAMS)
    for seed in seeds:
        try:
            run_program(seed)
        except Exception as error:
            raise AssertionError(f"seed {seed}: run it alone with TEST_SEED={seed}\n{error}") from error
    record_property("programs", len(seeds))
