"""Workers that die in every kind of function leave nothing behind, and the run goes on."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

from stepwell import AsyncContext, Context, Stepwell
from stepwell.testing import FaultKind, LocalStepwell, crash_sweep, invariants


def work(name: str) -> str:
    return name


async def awork(name: str) -> str:
    await asyncio.sleep(0)
    return name


def parallel_sync(app: Stepwell) -> None:
    @app.function(on="go")
    def process(ctx: Context[Any]) -> list[str]:
        futures = [ctx.step.submit(name, work, name) for name in "abc"]
        return [future.result() for future in futures]


def mapped(app: Stepwell) -> None:
    @app.function(on="go")
    def process(ctx: Context[Any]) -> list[Any]:
        return ctx.step.map(work, ["a", "b", "c"], id="work", max_concurrency=2)


def gathered(app: Stepwell) -> None:
    @app.function(on="go")
    async def process(ctx: AsyncContext[Any]) -> list[str]:
        return list(await asyncio.gather(*(ctx.step.run(name, awork, name) for name in "abc")))


def gathered_threads(app: Stepwell) -> None:
    @app.function(on="go")
    async def process(ctx: AsyncContext[Any]) -> list[str]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ctx.step.run(name, work, name)) for name in "abc"]
        return [task.result() for task in tasks]


SHAPES = [parallel_sync, mapped, gathered, gathered_threads]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("seed", range(2))
def test_a_worker_that_dies_among_parallel_steps(shape: Callable[[Stepwell], None], moment: str, seed: int) -> None:
    app = Stepwell("shop")
    shape(app)
    with LocalStepwell(app, seed=seed) as local:
        getattr(local, f"crash_{moment}")("work" if shape is mapped else "b")
        event_id = local.send("go", {})
        local.advance("1h")
        run = local.run(event_id)
        assert run is not None
        assert (run.status, run.result) == ("completed", ["a", "b", "c"])
        invariants.check(local.world.observations, [*invariants.ALL, invariants.attempts_within(3)])
        assert local.world.turns.steals == 0
    gc.collect()  # an event loop that nobody closed would complain now


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_parallel_steps_survive_a_crash_at_every_call(shape: Callable[[Stepwell], None]) -> None:
    app = Stepwell("shop")
    shape(app)

    def check(run: Any) -> None:
        assert (run.status, run.result) == ("completed", ["a", "b", "c"])

    assert crash_sweep(app, ("go", {}), check=check, kinds=[FaultKind.CRASH_AFTER]) > 5
    gc.collect()
