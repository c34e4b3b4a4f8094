"""Random orders placed and called off, in a world that loses, doubles, delays and mixes up, and dies here and there.

The model is one line: an order is called off if, and only if, a cancellation of it was sent after it, or takes effect after
it; one that is sent again is the one it was. Reproduced by its seed: `TEST_SEED=1234 pytest -k random_cancels`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from stepwell import CancelOn, Context, RunStatus, Stepwell
from stepwell.testing import Chaos, Fault, FaultKind, FaultPlan, LocalStepwell
from stepwell.testing.invariants import check

BATCHES, WORLDS = 4, 6


def shop() -> Stepwell:
    app = Stepwell("shop")
    rules = [
        CancelOn("stop", match={"data.order": "event.data.order"}),
        CancelOn("stop-above", where="async.data.amount < event.data.amount"),
    ]

    @app.function(on="go", id="main", cancel_on=rules)
    def main(ctx: Context[Any]) -> str:
        ctx.step.run("begin", lambda: 1)
        ctx.step.sleep("rest", "2d")
        return "went on"

    return app


def play(seed: int) -> None:
    """One world; everything in it follows from the seed."""
    random = Random(f"cancels {seed}")
    plan = FaultPlan(
        [Fault(random.choice(list(FaultKind)), at=random.randint(0, 80)) for _ in range(random.randint(0, 5))]
    )
    chaos = Chaos(**{name: random.choice([0, 0.2, 0.6]) for name in ("duplicate", "delay")}, lose=0.1, reorder=True)
    runs: list[tuple[str, int, int, int]] = []  # event id, sent, order, amount
    stops: list[tuple[str, int, Callable[[int, int], bool]]] = []  # event id, sent, whether it means an order
    said: list[tuple[str, dict[str, Any], str]] = []  # cancellations, and their ids
    with LocalStepwell(shop(), seed=seed, plan=plan, chaos=chaos) as local:

        def say(kind: str) -> None:
            sent, order, amount = round(local.world.clock.now() * 1000), random.randint(1, 3), random.randint(1, 9)
            data, ahead = {"order": order, "amount": amount}, 0
            if kind != "go" and random.random() < 0.3:
                ahead = random.choice([2_503, 61_007, 1_000_511, 5_000_513])
            ts = None if not ahead else local.now() + timedelta(milliseconds=ahead)
            event_id = local.send(kind, data, ts=ts, id=random.choice([None, f"{kind}-{random.random()}"]))
            if kind == "go":
                return runs.append((event_id, sent, order, amount))
            said.append((kind, data, event_id))
            if kind == "stop":
                return stops.append((event_id, sent + ahead, lambda its, _: its == order))
            return stops.append((event_id, sent + ahead, lambda _, its: amount < its))

        for _ in range(random.randint(4, 10)):
            say(random.choice(["go", "go", "stop", "stop", "stop-above"]))
            if random.random() < 0.5:
                local.world.clock.advance(random.choice([0.001, 0.05]))  # nothing is handled in between
            else:
                local.advance(random.choice([0.001, 1, 30, 200]))
        local.advance("5h")
        for _ in range(random.randint(0, 3)):
            say("go")
            local.advance(1)
        for kind, data, event_id in random.sample(said, random.randint(0, len(said))):
            local.send(kind, data, id=event_id)
        local.advance("1d")
        for event_id, sent, order, amount in runs:
            run = local.run(event_id)
            assert run is not None
            meant = [stop for stop, at, means in stops if at > sent and means(order, amount)]
            assert (run.status is RunStatus.CANCELLED) == bool(meant), f"{run!r}, meant by {meant}\n{local.timeline()}"
            assert run.reason is None or str(run.reason).rpartition(" ")[2] in meant
        local.advance("2d")
        assert all(local.run(event_id).status.is_terminal for event_id, *_ in runs)  # type: ignore[union-attr]
        check(local.world.observations)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_random_cancels_end_what_they_mean_and_nothing_else(
    batch: int, record_property: Callable[[str, Any], None]
) -> None:
    chosen = os.environ.get("TEST_SEED")
    seeds = [int(chosen)] if chosen else range(batch * WORLDS, (batch + 1) * WORLDS)
    for seed in seeds:
        try:
            play(seed)
        except Exception as error:
            raise AssertionError(f"seed {seed}: run it alone with TEST_SEED={seed}\n{error}") from error
    record_property("programs", len(seeds))
