"""Races: whichever branch won the first time wins on every replay."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stepwell import AsyncContext, RunStatus, Stepwell

from .support import Deploy, play, run_of


def racing(app: Stepwell, seen: list[str]) -> None:
    """A function that waits for an event and a sleep and goes a way that depends on which was first."""

    @app.function(on="go")
    async def fn(ctx: AsyncContext[Any]) -> Any:
        paid = asyncio.create_task(ctx.step.wait_for_event("paid", event="paid", timeout="9d"), name="paid")
        late = asyncio.create_task(ctx.step.sleep("late", "1h"), name="late")
        done, _ = await asyncio.wait({paid, late}, return_when=asyncio.FIRST_COMPLETED)
        (first,) = done
        seen.append(first.get_name())
        await ctx.step.run(f"first-{first.get_name()}", lambda: None)
        await ctx.step.sleep("rest", "1d")
        await asyncio.wait({paid, late})
        await ctx.step.run("both", lambda: None)
        return seen[-1]


@pytest.mark.parametrize(("paid_after", "winner"), [("30m", "paid"), ("2h", "late")])
def test_the_first_of_two_waits_stays_the_first(app: Stepwell, deploy: Deploy, paid_after: str, winner: str) -> None:
    seen: list[str] = []
    racing(app, seen)
    local = deploy(app)
    event_id = local.send("go")
    local.advance(paid_after)
    local.send("paid")
    local.advance("3d")
    run = run_of(local, event_id)
    assert (run.status, run.result) == (RunStatus.COMPLETED, winner)
    assert set(seen) == {winner}
    assert len(seen) >= 2, "it was replayed"
    assert f"first-{winner}" in run.steps
    assert len(run.steps) == 5


@pytest.mark.parametrize("seed", range(6))
def test_parallel_steps_that_end_in_any_order_are_replayed_in_that_order(
    app: Stepwell, deploy: Deploy, seed: int
) -> None:
    orders: list[list[int]] = []

    @app.function(on="go")
    async def fn(ctx: AsyncContext[Any]) -> list[int]:
        order: list[int] = []

        async def branch(n: int) -> None:
            await ctx.step.run("one", lambda: local.world.turns.pause())
            order.append(n)
            await ctx.step.run("two", lambda: local.world.turns.pause())
            order.append(n)

        await asyncio.gather(*(branch(n) for n in range(4)))
        orders.append(list(order))
        await ctx.step.sleep("rest", "1h")
        await ctx.step.run("after", lambda: None)
        await ctx.step.sleep("again", "1h")
        return order

    local = deploy(app, seed=seed)
    run = play(local, wait="3h")
    assert run.status == RunStatus.COMPLETED
    assert len(orders) == 3
    assert orders[0] == orders[1] == orders[2]


def test_a_time_limit_made_of_a_race_keeps_its_decision_even_if_the_event_comes_before_the_replay(
    app: Stepwell, deploy: Deploy
) -> None:
    decisions: list[str] = []

    @app.function(on="go")
    async def fn(ctx: AsyncContext[Any]) -> str:
        answer = asyncio.create_task(ctx.step.wait_for_event("answer", event="answer", timeout="9d"))
        limit = asyncio.create_task(ctx.step.sleep("limit", "1h"))
        await asyncio.wait({answer, limit}, return_when=asyncio.FIRST_COMPLETED)
        decision = "answered" if answer.done() else "gave up"
        decisions.append(decision)
        await ctx.step.run("decided", lambda: decision)
        await ctx.step.sleep("rest", "1h")
        return decision

    local = deploy(app)
    event_id = local.send("go")
    local.advance("61m")
    assert decisions == ["gave up"]
    local.send("answer")
    local.advance("3h")
    assert run_of(local, event_id).result == "gave up"
    assert set(decisions) == {"gave up"}


def test_a_finished_result_nobody_took_stays_available(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go")
    async def fn(ctx: AsyncContext[Any]) -> list[str]:
        tasks = [asyncio.create_task(ctx.step.run(f"part-{n}", lambda n=n: f"{n}")) for n in range(3)]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        first = {task.result() for task in done}
        await ctx.step.sleep("rest", "1h")
        return sorted(first | {await task for task in pending})

    assert play(deploy(app), wait="2h").result == ["0", "1", "2"]
