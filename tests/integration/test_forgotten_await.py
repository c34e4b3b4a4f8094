"""A forgotten `await` in an `async def` function: the run fails, naming the step, instead of leaving it out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from stepwell import AsyncContext, Run, RunStatus, Stepwell

from .support import Deploy, play

Forget = Callable[[AsyncContext[Any]], Awaitable[Any]]


def work(n: int = 0) -> int:
    return n


def forgotten(run: Run, name: str, call: str) -> None:
    assert run.status == RunStatus.FAILED, run
    assert run.error is not None
    assert run.error.type == "MisplacedStep"
    assert f"Step {name!r} was never awaited" in run.error.message
    assert f"`await {call}`" in run.error.message
    assert run.attempt == 1


VERBS: dict[str, tuple[str, Forget]] = {
    "run": ("work", lambda ctx: ctx.step.run(work, 1)),
    "map": ("work", lambda ctx: ctx.step.map(work, [1, 2])),
    "sleep": ("nap", lambda ctx: ctx.step.sleep("nap", "1h")),
    "sleep_until": ("nap", lambda ctx: ctx.step.sleep_until("nap", datetime(2027, 1, 1, tzinfo=UTC))),
    "wait_for_event": ("paid", lambda ctx: ctx.step.wait_for_event("paid", event="order/paid", timeout="1h")),
    "create_callback": ("asked", lambda ctx: ctx.step.create_callback("asked", timeout="1h")),
    "wait_for_callback": ("asked", lambda ctx: ctx.step.wait_for_callback("asked", timeout="1h")),
    "poll": ("look", lambda ctx: ctx.step.poll("look", work, until=bool)),
    "invoke": ("shop/fn", lambda ctx: ctx.step.invoke("shop/fn", id="shop/fn")),
    "send_event": ("tell", lambda ctx: ctx.step.send_event("tell", "order/told")),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_step_that_was_never_awaited_fails_the_run_naming_it(app: Stepwell, deploy: Deploy, verb: str) -> None:
    name, forget = VERBS[verb]

    @app.function(on="go", retries=3)
    async def fn(ctx: AsyncContext[Any]) -> str:
        forget(ctx)
        return await ctx.step.run("after", lambda: "done")

    run = play(deploy(app), wait="1d")
    forgotten(run, name, f"ctx.step.{verb}(...)")
    assert list(run.steps) == ["after"]


def test_the_answer_of_a_callback_that_was_never_awaited_is_missed_too(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go")
    async def fn(ctx: AsyncContext[Any]) -> None:
        callback = await ctx.step.create_callback("asked", timeout="1h")
        callback.wait()

    forgotten(play(deploy(app)), "asked", "callback.wait()")


def test_it_is_missed_on_a_replay_after_a_sleep_and_not_before(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go")
    async def fn(ctx: AsyncContext[Any]) -> None:
        ctx.step.run(work, 1)
        await ctx.step.sleep("nap", "1h")

    local = deploy(app)
    run = play(local)
    assert run.status == RunStatus.SUSPENDED
    local.advance("1h")
    forgotten(local.client.run(run.id), "work", "ctx.step.run(...)")


def test_a_task_that_forgot_is_told_like_the_function(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go")
    async def fn(ctx: AsyncContext[Any]) -> None:
        async def branch() -> None:
            ctx.step.run(work, 1)

        await asyncio.gather(branch())

    forgotten(play(deploy(app)), "branch/work", "ctx.step.run(...)")


def test_the_error_of_the_function_comes_before_what_it_forgot(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", retries=0)
    async def fn(ctx: AsyncContext[Any]) -> None:
        ctx.step.run(work, 1)
        raise ValueError("the real one")

    run = play(deploy(app))
    assert run.error is not None
    assert (run.error.type, run.error.message) == ("ValueError", "the real one")


def test_steps_given_to_asyncio_are_awaited_by_it(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go")
    async def fn(ctx: AsyncContext[Any]) -> list[Any]:
        task = asyncio.create_task(ctx.step.run("task", work, 1))
        async with asyncio.TaskGroup() as group:
            grouped = group.create_task(ctx.step.run("grouped", work, 2))
        gathered = await asyncio.gather(ctx.step.run("gathered", work, 3), ctx.step.submit("submitted", work, 4))
        limited = await asyncio.wait_for(ctx.step.run("limited", work, 5), 60)
        later = ctx.step.run("later", work, 6)
        return [await task, grouped.result(), *gathered, limited, await later]

    assert play(deploy(app)).result == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("way", ["task", "limited", "submit", "listed", "held"])
def test_what_a_task_was_given_and_did_not_come_to_is_not_forgotten(app: Stepwell, deploy: Deploy, way: str) -> None:
    async def all_of(steps: list[Any]) -> None:
        for each in steps:
            await each

    async def after(first: Any, second: Any) -> None:
        await first
        await second

    @app.function(on="go")
    async def fn(ctx: AsyncContext[Any]) -> str:
        kept: Any = None
        if way == "task":
            kept = asyncio.create_task(ctx.step.run(work, 1))
        elif way == "limited":
            kept = asyncio.create_task(asyncio.wait_for(ctx.step.run(work, 1), 60))
        elif way == "submit":
            kept = ctx.step.submit(work, 1)
        elif way == "listed":
            kept = asyncio.create_task(all_of([ctx.step.run(work, 1)]))
        else:
            kept = asyncio.create_task(after(ctx.step.sleep("nap", "1d"), ctx.step.run(work, 1)))
            await ctx.step.run("meanwhile", lambda: None)
        assert not kept.done()
        return "done"

    assert play(deploy(app)).result == "done"


def test_what_was_cut_short_on_the_way_to_its_await_is_not_forgotten(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go")
    async def fn(ctx: AsyncContext[Any]) -> list[str]:
        async def cut(length: str) -> None:
            later = ctx.step.run("later", work)
            await ctx.step.sleep("nap", length)
            await later

        async def broken() -> None:
            later = ctx.step.run("later", work)
            raise LookupError(f"before {later.__name__}")

        task = asyncio.create_task(cut("2h"))
        await ctx.step.sleep("short", "1h")
        task.cancel()
        return [type(each).__name__ for each in await asyncio.gather(task, broken(), return_exceptions=True)]

    assert play(deploy(app), wait="3h").result == ["CancelledError", "LookupError"]


def test_a_task_that_was_cancelled_before_it_began_forgot_nothing(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", retries=0)
    async def fn(ctx: AsyncContext[Any]) -> str:
        async def broken() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(ctx.step.run("unbegun", work))
                raise LookupError("before it began")

        with pytest.raises(ExceptionGroup):
            await broken()
        return "caught"

    assert play(deploy(app)).result == "caught"
