"""Random events onto a function with a random gate, under random faults: its trace fits the gate's model, whatever happens.

`TEST_SEED=1234 pytest -k random_flow` repeats one; `TEST_PROGRAMS` is how many are tried.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from stepwell import Context, Stepwell
from stepwell.testing import Chaos, Fault, FaultKind, FaultPlan, LocalStepwell
from stepwell.testing.invariants import check
from tests.crash.flow_scenarios import runs_of
from tests.crash.gate_models import KINDS, TENANTS, pausing

FLOWS = int(os.environ.get("TEST_PROGRAMS", "3"))
"""Per kind of gate."""


def run_flow(kind: Callable[[Random], Any], seed: int) -> None:
    """One function and its events in one world; everything in it follows from the seed."""
    random = Random(f"{kind.__name__} {seed}")
    options, holds = kind(random)
    app = Stepwell("flow")

    @app.function(on="go", id="main", **options)
    def main(ctx: Context[Any]) -> list[int]:
        taken = ctx.step.run("first", lambda: [event.data["order"] for event in ctx.events])
        if taken[0] % 2:
            ctx.step.sleep("rest", "15s")
        return list(ctx.step.run("second", lambda: taken))

    faults = [Fault(random.choice(list(FaultKind)), at=random.randint(0, 120)) for _ in range(random.randint(0, 4))]
    chaos = Chaos(**{name: random.choice([0, 0, 0.2]) for name in ("duplicate", "delay", "lose", "reorder")})
    count = random.randint(4, 10)
    latency = random.choice([0, 0, 0.002])
    with LocalStepwell(app, seed=seed, plan=FaultPlan(faults), chaos=chaos, latency=latency) as local:
        for order in range(count):
            if kind is pausing and random.random() < 0.4:
                random.choice([local.client.pause, local.client.resume])("flow/main")
            local.client.send("go", {"order": order, "tenant": random.choice(TENANTS)}, id=f"e-{order}")
            if random.random() < 0.6:
                local.advance(random.choice([0.3, 1, 7, 30]))
        if kind is pausing:
            local.client.resume("flow/main")
        for _ in range(40):
            local.advance("10m")
            runs = runs_of(local)[::-1]
            if len(runs) == count and all(run.status.is_terminal for run in runs):
                break
        assert len(runs) == count, "every event has its run"
        holds(local, runs)
        local.advance("1h")
        check(local.world.observations)


@pytest.mark.parametrize("kind", KINDS, ids=[kind.__name__ for kind in KINDS])
def test_a_random_flow_keeps_what_its_gate_promises(
    kind: Callable[[Random], Any], record_property: Callable[[str, Any], None]
) -> None:
    chosen = os.environ.get("TEST_SEED")
    seeds = [int(chosen)] if chosen else range(FLOWS)
    for seed in seeds:
        try:
            run_flow(kind, seed)
        except Exception as error:
            raise AssertionError(f"seed {seed}: run it alone with TEST_SEED={seed}\n{error}") from error
    record_property("flows", len(seeds))
