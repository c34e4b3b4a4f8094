"""Plain asyncio in `async def` functions: gather, TaskGroup, nested tasks, all of whose steps are remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from stepwell import AsyncContext, Callback, RunStatus, StepError, Stepwell

from .support import Deploy, invocations_of, play, run_of


def test_gathered_branches_suspend_and_go_on_each_in_its_own_time(app: Stepwell, deploy: Deploy) -> None:
    bodies: list[str] = []

    @app.function(on="go")
    async def fn(ctx: AsyncContext[Any]) -> list[str]:
        async def branch(name: str, length: str) -> str:
            await ctx.step.run("before", bodies.append, f"{name} before")
            await ctx.step.sleep("rest", length)
            await ctx.step.run("after", bodies.append, f"{name} after {ctx.now():%H}")
            return name

        return await asyncio.gather(branch("a", "2h"), branch("b", "1h"), branch("c", "2h"))

    local = deploy(app)
    run = play(local, wait="3h")
    assert run.result == ["a", "b", "c"]
    assert bodies[3] == "b after 01"
    assert sorted(bodies) == ["a after 02", "a before", "b after 01", "b before", "c after 02", "c before"]
    assert set(run.steps) == {f"branch{n}/{s}" for n in ("", ":1", ":2") for s in ("before", "rest", "after")}
    assert invocations_of(local, run) == 3


def test_steps_gathered_without_tasks_of_ones_own_have_their_identity_from_the_call(
    app: Stepwell, deploy: Deploy
) -> None:
    @app.function(on="go")
    async def fn(ctx: AsyncContext[Any]) -> list[int]:
        return await asyncio.gather(*(ctx.step.run("part", lambda n=n: n) for n in range(3)))

    run = play(deploy(app))
    assert run.result == [0, 1, 2]
    assert {key: step.result for key, step in run.steps.items()} == {"part": 0, "part:1": 1, "part:2": 2}


def test_callbacks_gathered_without_tasks_of_ones_own_have_their_identity_from_the_call_too(
    app: Stepwell, deploy: Deploy
) -> None:
    tokens: dict[str, str] = {}

    @app.function(on="go")
    async def fn(ctx: AsyncContext[Any]) -> list[Any]:
        def hand_out(name: str) -> Callable[[Callback], None]:
            return lambda callback: tokens.update({name: callback.token})

        first, *waited = await asyncio.gather(
            ctx.step.create_callback("asked", timeout="1d"),
            ctx.step.wait_for_callback("asked", timeout="1d", submit=hand_out("left")),
            ctx.step.wait_for_callback("asked", timeout="1d", submit=hand_out("right")),
        )
        tokens["first"] = first.token
        return [*waited, await first.wait()]

    local = deploy(app)
    event_id = local.send("go")
    local.run_until_idle()
    for name in ("left", "right"):
        local.client.complete_callback(tokens[name], name)
    local.run_until_idle()
    local.client.complete_callback(tokens["first"], "first")
    local.run_until_idle()
    run = run_of(local, event_id)
    assert run.result == ["left", "right", "first"]
    assert set(run.steps) == {"asked", "asked:1", "asked:2", "asked.submit", "asked.submit:1"}
    assert [run.steps[key].result for key in ("asked", "asked:1", "asked:2")] == ["first", "left", "right"]


def test_a_task_group_works_and_its_failure_fails_the_run(app: Stepwell, deploy: Deploy) -> None:
    def fails() -> None:
        raise ValueError("bad")

    @app.function(on="go", retries=0)
    async def fn(ctx: AsyncContext[Any]) -> Any:
        async with asyncio.TaskGroup() as group:
            sleeping = group.create_task(ctx.step.sleep("rest", "1h"))
            working = group.create_task(ctx.step.run("work", lambda: 5))
        assert sleeping.done()
        if ctx.event.data.get("fail"):
            async with asyncio.TaskGroup() as group:
                group.create_task(ctx.step.run(fails))
                group.create_task(ctx.step.sleep("never over", "9d"))
        return working.result()

    local = deploy(app)
    assert play(local, wait="2h").result == 5
    run = play(local, {"fail": True}, wait="2h")
    assert run.status == RunStatus.FAILED
    assert run.error is not None
    assert (run.error.type, run.error.message, run.error.step) == ("ValueError", "bad", "fails") or (
        run.error.type == "ExceptionGroup"
    )


def test_nested_tasks_have_branches_within_branches(app: Stepwell, deploy: Deploy) -> None:
    bodies: list[str] = []

    @app.function(on="go")
    async def fn(ctx: AsyncContext[Any]) -> Any:
        async def leaf(name: str) -> str:
            await ctx.step.sleep("rest", "1h")
            await ctx.step.run("work", bodies.append, name)
            return name

        async def twig(name: str) -> list[str]:
            await ctx.step.run("work", bodies.append, name)
            return await asyncio.gather(leaf(f"{name}1"), leaf(f"{name}2"))

        return await asyncio.gather(twig("a"), twig("b"))

    run = play(deploy(app), wait="2h")
    assert run.result == [["a1", "a2"], ["b1", "b2"]]
    assert sorted(bodies) == ["a", "a1", "a2", "b", "b1", "b2"]
    assert {"twig/work", "twig:1/work", "twig/leaf/work", "twig:1/leaf:1/work"} <= set(run.steps)


def test_one_failure_in_a_gather_is_caught_and_the_other_results_are_kept(app: Stepwell, deploy: Deploy) -> None:
    def fails() -> None:
        raise ValueError("bad")

    @app.function(on="go", retries=1)
    async def fn(ctx: AsyncContext[Any]) -> Any:
        found = await asyncio.gather(
            ctx.step.run(fails), ctx.step.run("fine", lambda: 1), ctx.step.sleep("rest", "1h"), return_exceptions=True
        )
        return [each.message if isinstance(each, StepError) else each for each in found]

    assert play(deploy(app), wait="2h").result == ["bad", 1, None]


def test_a_submitted_step_begins_at_once_and_is_awaited_later(app: Stepwell, deploy: Deploy) -> None:
    began: list[str] = []

    @app.function(on="go")
    async def fn(ctx: AsyncContext[Any]) -> Any:
        aside = ctx.step.submit("aside", lambda: began.append("aside"))
        await ctx.step.sleep("rest", "1h")
        await ctx.step.run("after", lambda: began.append("after"))
        await aside

    assert play(deploy(app), wait="2h").status == RunStatus.COMPLETED
    assert began == ["aside", "after"]


def test_sync_and_async_bodies_run_beside_each_other(app: Stepwell, deploy: Deploy) -> None:
    met: list[str] = []

    async def waits() -> str:
        for _ in range(1000):
            if "sync" in met:
                break
            await asyncio.sleep(0.001)
        return "async saw " + ",".join(met)

    @app.function(on="go")
    async def fn(ctx: AsyncContext[Any]) -> Any:
        return await asyncio.gather(ctx.step.run(waits), ctx.step.run("sync", lambda: met.append("sync")))

    assert play(deploy(app)).result == ["async saw sync", None]


def test_waits_of_all_kinds_beside_each_other_resolve_each_for_itself(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="never")
    async def child(ctx: AsyncContext[Any]) -> str:
        await ctx.step.sleep("work", "30m")
        return "child"

    @app.function(on="go")
    async def fn(ctx: AsyncContext[Any]) -> Any:
        async def look() -> str:
            found = await ctx.step.poll("look", lambda: len(looks) or looks.append(1), until=bool, every="20m")
            return f"found {found}"

        looks: list[int] = found_looks
        found = await asyncio.gather(
            ctx.step.wait_for_event("paid", event="order/paid", timeout="2h"),
            ctx.step.wait_for_event("never", event="order/never", timeout="1h"),
            ctx.step.invoke(child),
            ctx.step.sleep("rest", "40m"),
            look(),
        )
        return [found[0].data, *found[1:]]

    found_looks: list[int] = []
    local = deploy(app)
    event_id = local.send("go")
    local.advance("10m")
    local.send("order/paid", {"n": 1})
    local.advance("2h")
    assert run_of(local, event_id).result == [{"n": 1}, None, "child", None, "found 1"]


def test_a_cancelled_task_leaves_its_wait_behind_and_the_run_ends(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go")
    async def fn(ctx: AsyncContext[Any]) -> str:
        waiting = asyncio.create_task(ctx.step.wait_for_event("paid", event="order/paid", timeout="9d"))
        await ctx.step.sleep("rest", "1h")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await ctx.step.sleep("more", "1h")
        return "went on"

    assert play(deploy(app), wait="3h").result == "went on"


def test_a_short_timer_of_ones_own_is_waited_for_and_a_long_one_ended_by_suspending(
    app: Stepwell, deploy: Deploy
) -> None:
    @app.function(on="go")
    async def fn(ctx: AsyncContext[Any]) -> str:
        try:
            async with asyncio.timeout(0.01):
                await ctx.step.sleep("short", "1h")
        except TimeoutError:
            async with asyncio.timeout(600):
                await ctx.step.sleep("long", "1h")
            return "both"
        return "slept"

    assert play(deploy(app), wait="3h").result in ("both", "slept")
