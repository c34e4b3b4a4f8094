"""Steps that are submitted and never asked for their results: part of the run all the same, in both faces."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from stepwell import AsyncContext, Context, RunStatus, StepError, Stepwell

from .support import Declare, Deploy, play


def fails() -> None:
    raise ValueError("nobody looked")


async def fails_async() -> None:
    raise ValueError("nobody looked")


BODIES = [fails, fails_async]


def test_the_run_does_not_end_before_them(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    attempts: list[str] = []

    def slow_to_work() -> str:
        attempts.append("slow")
        if attempts.count("slow") < 3:
            raise ValueError("not yet")
        return "worked"

    async def another() -> str:
        await asyncio.sleep(0.001)
        return "worked, too"

    def body(ctx: Any) -> Any:
        ctx.step.submit(slow_to_work)
        ctx.step.submit(another)
        yield None
        return "returned"

    declare(app, body)
    local = deploy(app)
    run = play(local)
    assert (run.status, run.steps["another"].result) == (RunStatus.SUSPENDED, "worked, too")
    local.advance("1m")
    run = local.client.run(run.id)
    assert (run.status, run.result) == (RunStatus.COMPLETED, "returned")
    assert run.steps["slow_to_work"].result == "worked"


@pytest.mark.parametrize("step", BODIES)
def test_the_run_fails_with_them(app: Stepwell, declare: Declare, deploy: Deploy, step: Callable[[], Any]) -> None:
    def body(ctx: Any) -> Any:
        ctx.step.submit(step)
        yield None
        return "returned"

    declare(app, body, retries=1)
    run = play(deploy(app), wait="1m")
    assert run.status == RunStatus.FAILED
    assert run.error is not None
    assert (run.error.type, run.error.message, run.error.step) == ("ValueError", "nobody looked", step.__name__)
    assert run.attempt == 1, "the step has had its retries"


@pytest.mark.parametrize("step", BODIES)
@pytest.mark.parametrize("wait", ["0s", "1h"], ids=["at once", "replayed"])
def test_whether_their_failure_counts_does_not_depend_on_when_it_came(
    app: Stepwell, declare: Declare, deploy: Deploy, step: Callable[[], Any], wait: str
) -> None:
    def body(ctx: Any) -> Any:
        ctx.step.submit(step)
        if wait != "0s":
            yield ctx.step.sleep("long after", wait)
        yield ctx.step.run("meanwhile", lambda: None)
        return "returned"

    declare(app, body, retries=0)
    run = play(deploy(app), wait="2h")
    assert run.status == RunStatus.FAILED
    assert run.error is not None
    assert (run.error.message, run.error.step) == ("nobody looked", step.__name__)


def test_of_several_failures_the_run_has_that_of_the_first_submitted(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    def body(ctx: Any) -> Any:
        for name in ("one", "two", "three"):
            ctx.step.submit(name, fails)
        yield ctx.step.sleep("rest", "1h")

    declare(app, body, retries=0)
    run = play(deploy(app), wait="2h")
    assert run.error is not None
    assert run.error.step == "one"


@pytest.mark.parametrize("face", [Context, AsyncContext])
def test_a_failure_that_was_looked_at_is_the_functions_to_deal_with(
    app: Stepwell, deploy: Deploy, face: type[Any]
) -> None:
    def plain(ctx: Context[Any]) -> str:
        future = ctx.step.submit(fails)
        ctx.step.sleep("rest", "1h")
        with pytest.raises(StepError, match="nobody looked"):
            future.result()
        return "caught"

    async def awaiting(ctx: AsyncContext[Any]) -> str:
        task = ctx.step.submit(fails)
        await ctx.step.sleep("rest", "1h")
        with pytest.raises(StepError, match="nobody looked"):
            await task
        return "caught"

    app.function(on="go", retries=0)(plain if face is Context else awaiting)
    assert play(deploy(app), wait="2h").result == "caught"


async def _gather(task: asyncio.Task[Any]) -> None:
    assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], StepError)


async def _wait(task: asyncio.Task[Any]) -> None:
    [ended], _ = await asyncio.wait([task])
    assert isinstance(ended.exception(), StepError)


async def _as_completed(task: asyncio.Task[Any]) -> None:
    for each in asyncio.as_completed([task]):
        with pytest.raises(StepError):
            await each


async def _wait_for(task: asyncio.Task[Any]) -> None:
    with pytest.raises(StepError):
        await asyncio.wait_for(task, 60)


async def _shield(task: asyncio.Task[Any]) -> None:
    with pytest.raises(StepError):
        await asyncio.shield(task)


@pytest.mark.parametrize("look", [_gather, _wait, _as_completed, _wait_for, _shield])
def test_all_ways_of_asyncio_to_look_at_it_count(
    app: Stepwell, deploy: Deploy, look: Callable[[asyncio.Task[Any]], Awaitable[None]]
) -> None:
    @app.function(on="go", retries=0)
    async def fn(ctx: AsyncContext[Any]) -> str:
        await look(ctx.step.submit(fails))
        await ctx.step.sleep("rest", "1h")
        return "caught"

    assert play(deploy(app), wait="2h").result == "caught"


def test_a_submitted_task_that_was_cancelled_is_left_out(app: Stepwell, deploy: Deploy) -> None:
    begun: list[str] = []

    async def never_done() -> None:
        begun.append("begun")
        await asyncio.Event().wait()

    @app.function(on="go", retries=0)
    async def fn(ctx: AsyncContext[Any]) -> str:
        task = ctx.step.submit(never_done)
        await ctx.step.run("first", lambda: None)
        task.cancel()
        return "without it"

    run = play(deploy(app))
    assert (run.result, begun) == ("without it", ["begun"])
    assert "never_done" not in run.steps


def test_the_error_of_the_function_comes_before_theirs(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    def body(ctx: Any) -> Any:
        ctx.step.submit(fails)
        yield ctx.step.run("meanwhile", lambda: None)
        raise LookupError("the real one")

    declare(app, body, retries=0)
    run = play(deploy(app))
    assert run.error is not None
    assert run.error.type == "LookupError"


def test_a_task_of_ones_own_that_is_left_is_cut_off(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", retries=0)
    async def fn(ctx: AsyncContext[Any]) -> str:
        task = asyncio.create_task(ctx.step.sleep("for long", "30d"))
        await ctx.step.run("first", lambda: None)
        return "left" if not task.done() else "done"

    assert play(deploy(app)).result == "left"
