"""ctx.step.poll: again and again until a condition holds."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from stepwell import Backoff, RunStatus, StepError, StepTimeout, Stepwell
from stepwell.testing import LocalStepwell

from .support import Declare, Deploy, play


class Job:
    """Something to look at. Each look gives the next answer; an exception is raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers = answers
        self.at: list[float] = []
        self.local: LocalStepwell | None = None

    def check(self, *args: Any) -> Any:
        assert self.local is not None
        self.at.append(self.local.world.clock.now())
        answer = self.answers[min(len(self.at), len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer.with_traceback(None)
        return answer

    def pauses(self) -> list[float]:
        return [round(later - earlier, 3) for earlier, later in itertools.pairwise(self.at)]


def polling(declare: Declare, app: Stepwell, job: Job, until: Callable[[Any], bool], **options: Any) -> None:
    """A function that polls and tells what came of it."""

    def body(ctx: Any) -> Any:
        try:
            found = yield ctx.step.poll("ready", job.check, until=until, **options)
        except StepTimeout as error:
            return ["timeout", error.message]
        except StepError as error:
            return ["error", error.type, error.message]
        yield ctx.step.sleep("then", "1s")
        return found

    declare(app, body, retries=1, backoff=Backoff("1s", jitter=False))


def test_it_looks_every_five_seconds_until_the_condition_holds(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    job = Job("queued", "running", "done")
    polling(declare, app, job, lambda answer: answer == "done")
    job.local = local = deploy(app)
    run = play(local, wait="1m")
    assert run.result == "done"
    assert job.pauses() == [5, 5]
    assert (run.steps["ready"].attempts, run.steps["ready"].kind) == (3, "poll")


def test_the_pauses_may_grow(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    job = Job(1, 2, 3, 4, 5)
    polling(declare, app, job, lambda n: n == 5, every=Backoff("10s", 2, "60s", jitter=False))
    job.local = local = deploy(app)
    assert play(local, wait="10m").result == 5
    assert job.pauses() == [10, 20, 40, 60]


def test_out_of_time_it_is_a_step_time_out_and_no_further_look_is_begun(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    job = Job("never")
    polling(declare, app, job, lambda answer: False, every="20s", timeout="1m")
    job.local = local = deploy(app)
    run = play(local, wait="1h")
    assert run.result == ["timeout", "The condition did not hold within 60 s (4 checks)."]
    assert job.pauses() == [20, 20, 20]


def test_out_of_attempts_it_is_a_step_time_out(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    job = Job("never")
    polling(declare, app, job, lambda answer: False, max_attempts=3)
    job.local = local = deploy(app)
    assert play(local, wait="1h").result == ["timeout", "The condition did not hold in 3 checks."]
    assert len(job.at) == 3


def test_a_look_that_raises_is_retried_like_a_step_and_then_a_step_error(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    once = ConnectionError("down")
    job = Job(once, "running", once, "running", once, once)
    polling(declare, app, job, lambda answer: False)
    job.local = local = deploy(app)
    run = play(local, wait="1h")
    assert run.result == ["error", "ConnectionError", "down"], "two failures in a row, with one retry"
    assert job.pauses() == [1, 5, 1, 5, 1]


def test_a_condition_that_raises_counts_as_a_look_that_raised(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    job = Job({})
    polling(declare, app, job, lambda answer: bool(answer["state"]))
    job.local = local = deploy(app)
    assert play(local, wait="1h").result == ["error", "KeyError", "'state'"]


def test_the_condition_sees_the_typed_result_and_arguments_are_passed_on(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    looked: list[Any] = []

    def check(job: str, page: int) -> set[str]:
        return {job, str(page)}

    def body(ctx: Any) -> Any:
        found = yield ctx.step.poll("ready", check, "j-1", 7, until=lambda seen: looked.append(seen) or "7" in seen)
        return sorted(found)

    declare(app, body)
    run = play(deploy(app))
    assert (run.status, run.result, looked) == (RunStatus.COMPLETED, ["7", "j-1"], [{"j-1", "7"}])


@pytest.mark.parametrize("every", [0, 0.0004, "0s", timedelta(0), Backoff(0), Backoff("1s", maximum=0)])
def test_checks_without_a_pause_between_them_are_refused(
    app: Stepwell, declare: Declare, deploy: Deploy, every: Any
) -> None:
    job = Job("never")

    def body(ctx: Any) -> Any:
        yield ctx.step.poll("ready", job.check, until=lambda answer: answer == "done", every=every)

    declare(app, body)
    job.local = local = deploy(app)
    run = play(local)
    assert run.error is not None
    assert run.error.type == "InvalidOption"
    assert "leaves no time between two checks" in run.error.message
    assert job.at == []


def test_however_short_the_pause_is_time_passes(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    job = Job("queued", "queued", "done")
    polling(declare, app, job, lambda answer: answer == "done", every=Backoff("1ms", factor=1))
    job.local = local = deploy(app)
    assert play(local, wait="1m").result == "done"
    assert all(pause > 0 for pause in job.pauses())
