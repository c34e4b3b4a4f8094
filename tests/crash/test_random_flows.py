"""Random events onto a function with random gates, under random faults: each gate's promise holds whatever happens.

`TEST_SEED=1234 pytest -k random_flow` repeats one; `TEST_PROGRAMS` is how many are tried.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from stepwell import (
    Batch,
    Concurrency,
    Context,
    Debounce,
    RateLimit,
    Run,
    RunStatus,
    Singleton,
    Stepwell,
    Throttle,
)
from stepwell.records import LIVE
from stepwell.store.layout import RUN_SK
from stepwell.testing import Chaos, Fault, FaultKind, FaultPlan, LocalStepwell
from stepwell.testing.invariants import check, concurrency_within
from stepwell.testing.observations import Wrote
from tests.crash.flow_scenarios import runs_of

FLOWS = int(os.environ.get("TEST_PROGRAMS", "3"))
"""Per kind of gate."""
TENANTS = ("a", "b")
KEY = "event.data.tenant"

Runs = list[Run]


def tenant_of(run: Run) -> str:
    return str(run.event.data["tenant"])


def by_tenant(runs: Runs) -> dict[str, Runs]:
    found: dict[str, Runs] = defaultdict(list)
    for run in runs:
        found[tenant_of(run)].append(run)
    return found


def started(run: Run) -> float:
    assert run.started_at is not None
    return run.started_at.timestamp()


def received(run: Run) -> str:
    """The time in the run's ULID: when the queue received its event."""
    return run.id.rpartition(".")[2][:10]


# ---- each kind of gate: how a function declares it, and what must be true in the end


def slots(random: Random) -> tuple[dict[str, Any], Callable[[LocalStepwell, Runs], None]]:
    limit, shared = random.randint(1, 3), random.randint(1, 4)
    options = {"concurrency": [Concurrency(limit, key=KEY), Concurrency(shared, scope="app")]}

    def holds(local: LocalStepwell, runs: Runs) -> None:
        assert {run.status for run in runs} == {RunStatus.COMPLETED}
        tenants = {run.id: tenant_of(run) for run in runs}
        check(local.world.observations, [concurrency_within(limit, lambda item: tenants[item["pk"][4:]])])
        check(local.world.observations, [concurrency_within(shared, lambda item: "app")])

    return options, holds


def throttle(random: Random) -> tuple[dict[str, Any], Callable[[LocalStepwell, Runs], None]]:
    period, burst = random.choice([10, 60]), random.randint(1, 3)

    def holds(local: LocalStepwell, runs: Runs) -> None:
        assert {run.status for run in runs} == {RunStatus.COMPLETED}
        for group in by_tenant(runs).values():
            # A start that a fault held up comes later than it might; so only from the first to the last is sure.
            times = sorted(map(started, group))
            accepted = min(run.created_at.timestamp() for run in group)
            assert times[-1] >= accepted + (len(times) - burst) * period - 1

    return {"throttle": Throttle(1, period, burst=burst, key=KEY)}, holds


def rate_limit(random: Random) -> tuple[dict[str, Any], Callable[[LocalStepwell, Runs], None]]:
    limit = random.randint(1, 3)

    def holds(local: LocalStepwell, runs: Runs) -> None:
        for group in by_tenant(runs).values():
            taken = sorted(run.created_at.timestamp() for run in group if run.status is RunStatus.COMPLETED)
            assert taken
            for early, late in zip(taken, taken[limit:], strict=False):
                assert late - early >= 60, "more starts in a period than the limit"
            for run in group:
                if run.status is RunStatus.SKIPPED:
                    at = run.created_at.timestamp()
                    assert sum(at - 60 <= other <= at for other in taken) >= limit, "skipped although there was room"

    return {"rate_limit": RateLimit(limit, "1m", key=KEY)}, holds


def idempotency(random: Random) -> tuple[dict[str, Any], Callable[[LocalStepwell, Runs], None]]:
    def holds(local: LocalStepwell, runs: Runs) -> None:
        for group in by_tenant(runs).values():
            assert Counter(run.status for run in group)[RunStatus.COMPLETED] == 1

    return {"idempotency": KEY}, holds


def singleton(random: Random) -> tuple[dict[str, Any], Callable[[LocalStepwell, Runs], None]]:
    mode: Any = random.choice(["skip", "cancel"])
    ends = RunStatus.SKIPPED if mode == "skip" else RunStatus.CANCELLED

    def holds(local: LocalStepwell, runs: Runs) -> None:
        for group in by_tenant(runs).values():
            assert {run.status for run in group} <= {RunStatus.COMPLETED, ends}
        tenants = {run.id: tenant_of(run) for run in runs}
        live: dict[str, set[str]] = defaultdict(set)
        for write in local.world.observations.of(Wrote):
            if write.sk == RUN_SK and write.run_id and write.after:
                lives = RunStatus(write.after.attributes["status"]["S"]) in LIVE
                (live[tenants[write.run_id]].add if lives else live[tenants[write.run_id]].discard)(write.run_id)
                assert all(len(each) <= 1 for each in live.values()), "two runs lived at once"

    return {"singleton": Singleton(mode, key=KEY)}, holds


def debounce(random: Random) -> tuple[dict[str, Any], Callable[[LocalStepwell, Runs], None]]:
    def holds(local: LocalStepwell, runs: Runs) -> None:
        for group in by_tenant(runs).values():
            assert {run.status for run in group} <= {RunStatus.COMPLETED, RunStatus.SKIPPED}
            assert any(run.status is RunStatus.COMPLETED for run in group)
            # Whatever was skipped was skipped for an event that was received later, or in the same millisecond.
            latest = max(map(received, group))
            assert any(run.status is RunStatus.COMPLETED for run in group if received(run) == latest)

    return {"debounce": Debounce("20s", timeout="2m", key=KEY)}, holds


def batch(random: Random) -> tuple[dict[str, Any], Callable[[LocalStepwell, Runs], None]]:
    size = random.randint(1, 4)

    def holds(local: LocalStepwell, runs: Runs) -> None:
        whole = [run for run in runs if run.status is RunStatus.COMPLETED]
        assert {run.status for run in runs} <= {RunStatus.COMPLETED, RunStatus.SKIPPED}
        taken = [order for run in whole for order in run.result]
        assert sorted(taken) == sorted(run.event.data["order"] for run in runs), "each event is in one batch"
        assert all(len(run.result) <= size for run in whole)

    return {"batch": Batch(size, "1m", key=KEY)}, holds


KINDS = [slots, throttle, rate_limit, idempotency, singleton, debounce, batch]


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
    with LocalStepwell(app, seed=seed, plan=FaultPlan(faults), chaos=chaos) as local:
        for order in range(count):
            local.client.send("go", {"order": order, "tenant": random.choice(TENANTS)}, id=f"e-{order}")
            if random.random() < 0.6:
                local.advance(random.choice([1, 7, 30]))
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
