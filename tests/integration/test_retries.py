"""Trying again: steps and bodies, how often, when, and when not."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import Any

import pytest

from stepwell import (
    Backoff,
    Context,
    NonRetriableError,
    RetryAfterError,
    RunStatus,
    StepError,
    StepTimeout,
    Stepwell,
    step,
)
from stepwell.testing import LocalStepwell

from .support import Declare, Deploy, play, run_of

EXACT = Backoff(initial="1s", factor=2, maximum="1h", jitter=False)


class Flaky:
    """Fails a number of times, then works; remembers when it was called."""

    def __init__(self, failures: int, error: BaseException | None = None) -> None:
        self.failures = failures
        self.error = error or ConnectionError("the bank is closed")
        self.at: list[float] = []
        self.local: LocalStepwell | None = None

    def __call__(self) -> str:
        assert self.local is not None
        self.at.append(self.local.world.clock.now())
        if len(self.at) <= self.failures:
            raise self.error.with_traceback(None)
        return "ok"

    def pauses(self) -> list[float]:
        return [round(later - earlier, 3) for earlier, later in itertools.pairwise(self.at)]


def test_a_step_is_retried_with_growing_pauses_until_it_works(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    flaky = Flaky(3)

    def body(ctx: Any) -> Any:
        return (yield ctx.step.run("pay", flaky))

    declare(app, body, backoff=EXACT)
    flaky.local = local = deploy(app)
    run = play(local, wait="1h")
    assert (run.status, run.result) == (RunStatus.COMPLETED, "ok")
    assert run.steps["pay"].attempts == 4
    assert run.attempt == 1, "a step's retry is no attempt of the body"
    assert flaky.pauses() == [1, 2, 4]


def test_by_default_a_step_is_tried_four_times_with_jittered_pauses(app: Stepwell, deploy: Deploy) -> None:
    flaky = Flaky(9)

    @app.function(on="go")
    def fn(ctx: Context[Any]) -> None:
        assert ctx.max_attempts == 4
        ctx.step.run("pay", flaky)

    flaky.local = local = deploy(app)
    run = play(local, wait="1d")
    assert run.status == RunStatus.FAILED
    assert len(flaky.at) == run.steps["pay"].attempts == 4
    for pause, full in zip(flaky.pauses(), (1, 2, 4), strict=True):
        assert full / 2 <= pause <= full + 0.01
    assert len(set(flaky.pauses())) == 3


def test_a_step_that_is_out_of_retries_fails_the_run_without_trying_its_body_again(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    bodies = []

    def body(ctx: Any) -> Any:
        bodies.append(ctx.attempt)
        yield ctx.step.run("pay", Flaky.__call__, flaky)

    flaky = Flaky(99)
    declare(app, body, retries=1)
    flaky.local = local = deploy(app)
    run = play(local, wait="1d")
    assert run.status == RunStatus.FAILED
    assert set(bodies) == {1}
    error = run.error
    assert error is not None
    assert (error.type, error.message, error.step) == ("ConnectionError", "the bank is closed", "pay")
    assert "raise self.error.with_traceback" in str(error.traceback)
    assert "stepwell/engine" not in str(error.traceback)


def test_a_step_error_can_be_caught_and_says_what_went_wrong(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    def fails() -> None:
        raise ValueError("bad card")

    def body(ctx: Any) -> Any:
        try:
            yield ctx.step.run("pay", fails)
        except StepError as error:
            yield ctx.step.sleep("rest", "1h")
            return [error.name, error.type, error.message, "bad card" in str(error.traceback), type(error).__name__]

    declare(app, body, retries=1)
    run = play(deploy(app), wait="2h")
    assert run.status == RunStatus.COMPLETED
    assert run.result == ["pay", "ValueError", "bad card", True, "StepError"]
    assert (run.steps["pay"].status, run.steps["pay"].attempts) == ("failed", 2)


def test_a_non_retriable_error_ends_the_step_at_once_as_a_catchable_step_error(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    flaky = Flaky(9, NonRetriableError("no such card"))

    def body(ctx: Any) -> Any:
        try:
            yield ctx.step.run("pay", flaky)
        except StepError as error:
            return [error.type, error.message]

    declare(app, body, retries=9)
    flaky.local = local = deploy(app)
    run = play(local, wait="1d")
    assert run.result == ["NonRetriableError", "no such card"]
    assert len(flaky.at) == 1


@pytest.mark.parametrize("after", ["90s", 90])
def test_a_retry_after_error_says_when_and_uses_up_one_retry(
    app: Stepwell, declare: Declare, deploy: Deploy, after: str | float
) -> None:
    flaky = Flaky(2, RetryAfterError(after, "429"))

    def body(ctx: Any) -> Any:
        return (yield ctx.step.run("pay", flaky))

    declare(app, body, retries=2)
    flaky.local = local = deploy(app)
    run = play(local, wait="1h")
    assert run.result == "ok"
    assert flaky.pauses() == [90, 90]
    flaky.at.clear()
    flaky.failures = 3
    run = play(local, wait="1h")
    assert run.status == RunStatus.FAILED
    assert run.error is not None
    assert (run.error.type, run.error.message) == ("RetryAfterError", "429")


@pytest.mark.parametrize("after", ["Wed, 21 Oct 2026 07:28:00 GMT", "", -1, float("nan"), None, "patient"])
def test_a_retry_after_that_is_no_duration_leaves_the_pause_to_the_back_off(
    app: Stepwell, deploy: Deploy, after: Any
) -> None:
    flaky = Flaky(2, RetryAfterError(after, "429"))
    pay = step(id="pay", retries=2, backoff=Backoff("10s", 1, jitter=False))(flaky)

    @app.function(on="go", id="fn", retries=1, backoff=Backoff("1m", jitter=False))
    def fn(ctx: Context[Any]) -> str:
        paid = str(ctx.step.run(pay))
        if not bodies:
            bodies.append(ctx.now())
            raise RetryAfterError(after)
        return paid

    bodies: list[Any] = []
    flaky.local = local = deploy(app)
    run = play(local, wait="1h")
    assert (run.result, flaky.pauses()) == ("ok", [10, 10])
    assert run.attempt == 2


def test_the_options_of_a_step_come_before_those_of_the_function(app: Stepwell, deploy: Deploy) -> None:
    flaky = Flaky(99)
    pay = step(id="pay", retries=2, backoff=Backoff("10s", 1, jitter=False))(flaky)

    @app.function(on="go", retries=7, backoff=EXACT)
    def fn(ctx: Context[Any]) -> None:
        for each in (pay, pay.using(retries=0, id="once")):
            with pytest.raises(StepError):
                ctx.step.run(each)

    flaky.local = local = deploy(app)
    run = play(local, wait="1h")
    assert run.status == RunStatus.COMPLETED
    assert {key: record.attempts for key, record in run.steps.items()} == {"pay": 3, "once": 1}
    assert flaky.pauses() == [10, 10, 0]


def test_an_error_in_the_body_is_retried_as_a_whole_and_recorded_steps_stay(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    charged: list[int] = []
    attempts: list[tuple[int, int]] = []

    def body(ctx: Any) -> Any:
        yield ctx.step.run("charge", lambda: charged.append(1))
        attempts.append((ctx.attempt, ctx.max_attempts))
        if ctx.attempt < 3:
            raise ValueError("a bug of mine")
        return "done"

    declare(app, body, retries=2, backoff=EXACT)
    local = deploy(app)
    event_id = local.send("go")
    local.run_until_idle()
    resting = run_of(local, event_id)
    assert resting.status == RunStatus.SUSPENDED
    assert "a bug of mine" in str(resting.reason)
    local.advance("1m")
    run = run_of(local, event_id)
    assert (run.status, run.result, run.attempt) == (RunStatus.COMPLETED, "done", 3)
    assert attempts == [(1, 3), (2, 3), (3, 3)]
    assert charged == [1]


@pytest.mark.parametrize(
    ("error", "attempts"), [(ValueError("x"), 3), (NonRetriableError("x"), 1), (RetryAfterError("1h", "x"), 3)]
)
def test_a_body_fails_the_run_when_its_retries_are_used_up(
    app: Stepwell, deploy: Deploy, error: Exception, attempts: int
) -> None:
    tried: list[float] = []

    @app.function(on="go", retries=2, backoff=EXACT)
    def fn(ctx: Context[Any]) -> None:
        tried.append(local.world.clock.now())
        raise error

    local = deploy(app)
    run = play(local, wait="1d")
    assert run.status == RunStatus.FAILED
    assert run.error is not None
    assert (run.error.type, run.error.message, run.error.step) == (type(error).__name__, "x", None)
    assert len(tried) == run.attempt == attempts
    if isinstance(error, RetryAfterError):
        assert [later - earlier for earlier, later in itertools.pairwise(tried)] == [3600, 3600]


def test_without_retries_a_body_is_tried_once(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", retries=0)
    def fn(ctx: Context[Any]) -> None:
        assert ctx.max_attempts == 1
        raise SystemExit(3)

    run = play(deploy(app), wait="1d")
    assert run.status == RunStatus.FAILED
    assert run.error is not None
    assert run.error.type == "SystemExit"


def test_a_sync_step_past_its_time_out_is_tried_again_in_a_process_of_its_own(app: Stepwell, deploy: Deploy) -> None:
    never = threading.Event()
    tries: list[int] = []

    @step(timeout="50ms", retries=1, backoff=Backoff("1s", jitter=False))
    def slow() -> None:
        tries.append(1)
        never.wait(20)

    @app.function(on="go")
    def fn(ctx: Context[Any]) -> list[Any]:
        try:
            ctx.step.run(slow)
        except StepTimeout as error:
            return [error.name, error.type, error.message]
        return []

    local = deploy(app)
    run = play(local, wait="10m")
    never.set()
    assert run.status == RunStatus.COMPLETED
    assert run.result == ["slow", "StepTimeout", "It took longer than 0.05 s."]
    assert len(tries) == run.steps["slow"].attempts == 2
    assert local.requests.invocations["worker"] == 2, "the process was ended, and another one made the second attempt"


def test_an_async_step_past_its_time_out_is_cancelled(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    ended: list[str] = []

    @step(timeout="50ms", retries=0)
    async def slow() -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    def body(ctx: Any) -> Any:
        try:
            yield ctx.step.run(slow)
        except StepTimeout as error:
            return error.message

    declare(app, body)
    run = play(deploy(app), wait="10m")
    assert run.result == "It took longer than 0.05 s."
    assert ended == ["cancelled"]
