"""ctx.step.invoke: another function as a child run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from stepwell import Context, EventModel, RunFailed, RunStatus, StepError, StepTimeout, Stepwell

from .support import Declare, Deploy, play, run_of


class Render(EventModel, name="render/asked"):
    frames: int


def invoking(declare: Declare, app: Stepwell, target: Any, data: Any = None, **options: Any) -> None:
    """A function that invokes and tells what came of it."""

    def body(ctx: Any) -> Any:
        try:
            found = yield ctx.step.invoke(target, data, **options)
        except StepTimeout as error:
            return ["timeout", error.message]
        except StepError as error:
            return ["error", error.type, error.message, isinstance(error.cause, RunFailed) and error.cause.run_id]
        yield ctx.step.sleep("then", "1s")
        return found

    declare(app, body)


def test_the_child_gets_the_data_and_the_parent_its_result(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    @app.function(on="never")
    def render(ctx: Context[Any]) -> list[Any]:
        return [ctx.event.data, ctx.event.name]

    invoking(declare, app, render, {"frames": 3})
    local = deploy(app)
    run = play(local, wait="1m")
    assert run.result == [{"frames": 3}, "stepwell/function.invoked"]
    child = local.client.run(str(run.steps["render"].child))
    assert (child.function, child.status, child.parent_id) == ("render", RunStatus.COMPLETED, run.id)


def test_a_model_may_be_the_data_and_the_child_gets_it_as_one(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    @app.function(on=Render)
    def render(ctx: Context[Render]) -> int:
        return ctx.event.data.frames * 2

    invoking(declare, app, render, Render(frames=21))
    assert play(deploy(app), wait="1m").result == 42


def test_a_function_of_another_app_is_invoked_by_name(declare: Declare, deploy: Deploy) -> None:
    shop, studio = Stepwell("shop"), Stepwell("studio")

    @studio.function(on="never")
    def render(ctx: Context[Any]) -> str:
        ctx.step.sleep("work", "1d")
        return f"rendered {ctx.event.data['id']}"

    invoking(declare, shop, "studio/render", {"id": 7}, id="film")
    local = deploy(shop, studio)
    run = play(local, wait="2d")
    assert run.result == "rendered 7"
    assert local.client.run(str(run.steps["film"].child)).app == "studio"


def test_a_child_that_fails_is_a_step_error_caused_by_its_run(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    @app.function(on="never", retries=1)
    def render(ctx: Context[Any]) -> None:
        raise ValueError("out of film")

    invoking(declare, app, render)
    run = play(deploy(app), wait="1h")
    assert run.result[:3] == ["error", "ValueError", "out of film"]
    assert run.result[3] == run.steps["render"].child


def test_a_child_that_was_cancelled_is_a_step_error_too(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    @app.function(on="never")
    def render(ctx: Context[Any]) -> None:
        ctx.step.sleep("work", "1d")

    invoking(declare, app, render)
    local = deploy(app)
    event_id = local.send("go")
    local.run_until_idle()
    assert local.client.cancel(str(run_of(local, event_id).steps["render"].child))
    local.run_until_idle()
    assert run_of(local, event_id).result[:2] == ["error", "RunCancelled"]


def test_out_of_time_the_parent_goes_on_and_so_does_the_child(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    @app.function(on="never")
    def render(ctx: Context[Any]) -> str:
        ctx.step.sleep("work", "1d")
        return "late"

    invoking(declare, app, render, timeout="1h")
    local = deploy(app)
    event_id = local.send("go")
    local.advance("61m")
    run = run_of(local, event_id)
    assert run.result[0] == "timeout"
    child = str(run.steps["render"].child)
    assert child in run.result[1]
    assert local.client.run(child).status == RunStatus.SUSPENDED
    local.advance("1d")
    assert local.client.run(child).result == "late"
    assert run_of(local, event_id).steps["render"].status == "timed_out", "a recorded outcome never changes"


def test_cancelling_the_parent_cancels_the_child(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    @app.function(on="never")
    def render(ctx: Context[Any]) -> None:
        ctx.step.sleep("work", "1d")

    invoking(declare, app, render)
    local = deploy(app)
    event_id = local.send("go")
    local.run_until_idle()
    run = run_of(local, event_id)
    local.client.cancel(run.id)
    local.run_until_idle()
    child = local.client.run(str(run.steps["render"].child))
    assert child.status == RunStatus.CANCELLED
    assert run.id in str(child.reason)


def test_a_function_that_does_not_exist_is_waited_for_no_longer_than_told(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    invoking(declare, app, "shop/gone", timeout=timedelta(minutes=2))
    assert play(deploy(app), wait="5m").result[0] == "timeout"


def test_children_of_a_loop_are_runs_of_their_own(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    @app.function(on="never")
    def square(ctx: Context[Any]) -> int:
        return int(ctx.event.data["n"]) ** 2

    def body(ctx: Any) -> Any:
        found = []
        for n in range(3):
            found.append((yield ctx.step.invoke(square, {"n": n})))
        return found

    declare(app, body)
    local = deploy(app)
    run = play(local)
    assert run.result == [0, 1, 4]
    assert list(run.steps) == ["square", "square:1", "square:2"]
    assert len({step.child for step in run.steps.values()}) == 3


def test_a_large_input_and_a_large_result_travel_through_s3(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    @app.function(on="never")
    def echo(ctx: Context[Any]) -> str:
        return str(ctx.event.data["pad"])

    invoking(declare, app, echo, {"pad": "".join(chr(65 + (n * n) % 57) for n in range(300_000))})
    local = deploy(app)
    run = play(local, wait="1m")
    assert len(run.result) == 300_000
    assert local.requests.s3 > 0


def test_a_target_that_is_no_function_fails_the_run_saying_so(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    invoking(declare, app, print)
    run = play(deploy(app))
    assert run.error is not None
    assert run.error.type == "UnknownFunction"
    assert "app/function-id" in run.error.message
