"""Steps side by side in `def` functions: submit and its futures."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from stepwell import Context, StepError, Stepwell

from .support import Deploy, invocations_of, play


def test_submitted_steps_run_side_by_side(app: Stepwell, deploy: Deploy) -> None:
    meeting = threading.Barrier(3, timeout=10)

    @app.function(on="go")
    def fn(ctx: Context[Any]) -> list[int]:
        futures = [ctx.step.submit(f"part-{n}", lambda n=n: meeting.wait() * 0 + n) for n in range(3)]
        return [future.result() for future in futures]

    run = play(deploy(app))
    assert run.result == [0, 1, 2]
    assert list(run.steps) == ["part-0", "part-1", "part-2"] or set(run.steps) == {"part-0", "part-1", "part-2"}


def test_a_future_raises_the_error_of_its_step_where_it_is_asked(app: Stepwell, deploy: Deploy) -> None:
    def fails() -> None:
        raise ValueError("no")

    @app.function(on="go", retries=1)
    def fn(ctx: Context[Any]) -> list[str]:
        bad, good = ctx.step.submit(fails), ctx.step.submit("good", lambda: "fine")
        with pytest.raises(StepError, match="no"):
            bad.result()
        with pytest.raises(StepError, match="no"):
            bad.result()
        assert bad.done()
        return [good.result(), good.result()]

    run = play(deploy(app), wait="1m")
    assert run.result == ["fine", "fine"]
    assert run.steps["fails"].attempts == 2


def test_submitted_steps_go_on_beside_a_step_of_the_function_itself(app: Stepwell, deploy: Deploy) -> None:
    meeting = threading.Barrier(2, timeout=10)

    @app.function(on="go")
    def fn(ctx: Context[Any]) -> str:
        future = ctx.step.submit("aside", lambda: meeting.wait() >= 0)
        ctx.step.run("here", lambda: meeting.wait() >= 0)
        return str(future.result())

    assert play(deploy(app)).result == "True"


def test_a_run_suspends_only_when_no_submitted_step_is_in_flight(app: Stepwell, deploy: Deploy) -> None:
    bodies: list[str] = []

    @app.function(on="go")
    def fn(ctx: Context[Any]) -> list[str]:
        futures = [ctx.step.submit(f"part-{n}", lambda n=n: bodies.append(f"{n}")) for n in range(4)]
        ctx.step.sleep("rest", "1h")
        for future in futures:
            future.result()
        return sorted(bodies)

    local = deploy(app)
    run = play(local, wait="1h")
    assert run.result == ["0", "1", "2", "3"]
    assert invocations_of(local, run) == 2


def test_a_retry_of_one_submitted_step_does_not_hold_up_the_others(app: Stepwell, deploy: Deploy) -> None:
    tried: list[int] = []

    def flaky() -> str:
        tried.append(1)
        if len(tried) == 1:
            raise ValueError("once")
        return "flaky"

    @app.function(on="go")
    def fn(ctx: Context[Any]) -> list[Any]:
        first, second = ctx.step.submit(flaky), ctx.step.submit("steady", lambda: "steady")
        return [second.result(), first.result()]

    local = deploy(app)
    run = play(local, wait="1m")
    assert run.result == ["steady", "flaky"]
    steady, retried = run.steps["steady"], run.steps["flaky"]
    assert steady.ended_at is not None
    assert retried.ended_at is not None
    assert steady.ended_at < retried.ended_at
    assert steady.attempts == 1
