"""Functions that break a rule: each ends with an error that says which, and nothing recorded is lost."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from stepwell import AsyncContext, Context, Run, RunStatus, StepError, Stepwell

from .support import Declare, Deploy, play, run_of


def failed(run: Run, type: str, *words: str) -> None:
    """The run has failed, once, with this error."""
    assert run.status == RunStatus.FAILED, run
    assert run.error is not None
    assert run.error.type == type
    for word in words:
        assert word in run.error.message


def test_a_result_that_is_no_json_fails_its_step_once_naming_it(
    app: Stepwell, declare_plain: Declare, deploy: Deploy
) -> None:
    bodies: list[int] = []

    def body(ctx: Any) -> Any:
        yield ctx.step.run("before", lambda: 1)
        yield ctx.step.run("lock", lambda: bodies.append(1) or threading.Lock())

    declare_plain(app, body)
    run = play(deploy(app), wait="1d")
    failed(run, "NotSerializable", "the result of step 'lock' is a lock")
    assert bodies == [1]
    assert run.steps["before"].result == 1


def test_a_step_that_is_not_serializable_can_be_caught_like_any_other(
    app: Stepwell, declare_plain: Declare, deploy: Deploy
) -> None:
    def body(ctx: Any) -> Any:
        try:
            yield ctx.step.run("lock", threading.Lock)
        except StepError as error:
            return error.type

    declare_plain(app, body)
    assert play(deploy(app)).result == "NotSerializable"


def test_a_function_that_returns_no_json_fails_once(app: Stepwell, declare_plain: Declare, deploy: Deploy) -> None:
    def body(ctx: Any) -> Any:
        yield ctx.step.run("before", lambda: 1)
        return object()

    declare_plain(app, body)
    run = play(deploy(app), wait="1d")
    failed(run, "NotSerializable", "the result of function 'fn'")
    assert run.attempt == 1


def test_a_step_inside_a_step_is_refused(app: Stepwell, declare_plain: Declare, deploy: Deploy) -> None:
    def body(ctx: Any) -> Any:
        yield ctx.step.run("outer", lambda: ctx.step.sleep("inner", "1s"))

    declare_plain(app, body)
    run = play(deploy(app), wait="1d")
    failed(run, "MisplacedStep", "inside the body of step 'outer'")
    assert run.steps["outer"].attempts == 1


def test_a_step_from_a_thread_of_ones_own_is_refused(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go")
    def fn(ctx: Context[Any]) -> None:
        caught: list[BaseException] = []

        def work() -> None:
            try:
                ctx.step.run("aside", lambda: 1)
            except BaseException as error:
                caught.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        raise caught[0]

    run = play(deploy(app), wait="1d")
    failed(run, "MisplacedStep", "thread that Stepwell does not know", "ctx.step.submit")
    assert dict(run.steps) == {}


def test_two_steps_that_would_share_a_record_are_refused(app: Stepwell, declare_plain: Declare, deploy: Deploy) -> None:
    def body(ctx: Any) -> Any:
        for id in ("a", "a:1", "a"):
            yield ctx.step.run(id, lambda: 1)

    declare_plain(app, body)
    failed(play(deploy(app)), "MisplacedStep", "'a:1'", "Rename one")


@pytest.mark.parametrize("change", ["arguments", "kind"])
def test_a_changed_step_under_a_recorded_identity_fails_the_run_showing_both_sides(
    app: Stepwell, declare_plain: Declare, deploy: Deploy, change: str
) -> None:
    deployed: list[str] = []

    def charge(order: str, amount: int) -> int:
        return amount

    def body(ctx: Any) -> Any:
        try:
            if deployed and change == "kind":
                yield ctx.step.sleep("charge", "1h")
            else:
                yield ctx.step.run(charge, "o-1", 4300 if deployed else 4200)
        except Exception:
            pass  # even a function that catches everything cannot go on from here
        yield ctx.step.sleep("rest", "1h")
        return "done"

    declare_plain(app, body)
    local = deploy(app)
    event_id = local.send("go")
    local.run_until_idle()
    deployed.append("a new version")
    local.advance("1d")
    run = run_of(local, event_id)
    asks = "sleep(1h)" if change == "kind" else 'run(["o-1",4300])'
    failed(run, "NonDeterminism", "'charge' was recorded as run(", '"o-1",4200', asks.split("(")[0])
    assert run.steps["charge"].result == 4200


def test_steps_may_be_added_removed_renamed_and_moved(app: Stepwell, declare_plain: Declare, deploy: Deploy) -> None:
    deployed: list[str] = []
    ran: list[str] = []

    def body(ctx: Any) -> Any:
        for id in ("new", "c", "a", "renamed") if deployed else ("a", "b", "c", "removed"):
            yield ctx.step.run(id, ran.append, id)
        yield ctx.step.sleep("rest", "1h")

    declare_plain(app, body)
    local = deploy(app)
    event_id = local.send("go")
    local.run_until_idle()
    deployed.append("a new version")
    local.advance("2h")
    assert run_of(local, event_id).status == RunStatus.COMPLETED
    assert ran == ["a", "b", "c", "removed", "new", "renamed"]


def test_user_code_that_swallows_the_suspension_is_told_so(app: Stepwell, deploy: Deploy) -> None:
    went_on: list[str] = []

    @app.function(on="go")
    def fn(ctx: Context[Any]) -> str:
        try:
            ctx.step.sleep("rest", "1h")
        except BaseException:
            went_on.append("swallowed")
        return "as if nothing had happened"

    run = play(deploy(app), wait="1d")
    failed(run, "SuspensionSwallowed", "bare `except:`")
    assert went_on == ["swallowed"]


def test_after_the_suspension_began_no_step_does_anything(app: Stepwell, deploy: Deploy) -> None:
    done: list[str] = []

    @app.function(on="go")
    def fn(ctx: Context[Any]) -> None:
        try:
            ctx.step.sleep("rest", "1h")
        finally:
            if not done:
                done.append("cleaned up")
                ctx.step.run("late", lambda: done.append("late"))

    run = play(deploy(app), wait="2h")
    assert run.status == RunStatus.COMPLETED
    assert done == ["cleaned up"]
    assert list(run.steps) == ["rest"]


def test_an_async_function_that_swallows_cancellation_while_suspending_is_told_so(
    app: Stepwell, deploy: Deploy
) -> None:
    @app.function(on="go", retries=0)
    async def fn(ctx: AsyncContext[Any]) -> str:
        try:
            await ctx.step.sleep("rest", "1h")
        except asyncio.CancelledError:
            return "as if nothing had happened"
        return "slept"

    failed(play(deploy(app), wait="1d"), "SuspensionSwallowed")


def test_a_lambda_without_an_id_is_refused(app: Stepwell, declare_plain: Declare, deploy: Deploy) -> None:
    def body(ctx: Any) -> Any:
        yield ctx.step.run(lambda: 1)

    declare_plain(app, body)
    failed(play(deploy(app)), "InvalidOption", "lambda", 'ctx.step.run("an-id"')


@pytest.mark.parametrize("arguments", [("only-an-id",), ("id", 5), (5,), (None,)])
def test_what_is_no_function_is_refused(
    app: Stepwell, declare_plain: Declare, deploy: Deploy, arguments: tuple[Any, ...]
) -> None:
    def body(ctx: Any) -> Any:
        yield ctx.step.run(*arguments)

    declare_plain(app, body)
    failed(play(deploy(app)), "InvalidOption", "function")


def test_an_event_with_the_id_of_another_is_a_dead_letter_and_the_first_run_stands(
    app: Stepwell, declare_plain: Declare, deploy: Deploy
) -> None:
    def body(ctx: Any) -> Any:
        yield ctx.step.sleep("rest", "1h")
        return ctx.event.data

    declare_plain(app, body)
    local = deploy(app)
    local.send("go", {"n": 1}, id="o-1")
    local.run_until_idle()
    local.send("go", {"n": 2}, id="o-1")
    local.advance("2h")
    assert run_of(local, "o-1").result == {"n": 1}
    (letter,) = local.dead_letters()
    assert letter.code == "duplicate-event"
    assert "'go' with id 'o-1' and other data" in letter.reason
    assert '"n":2' in letter.body
