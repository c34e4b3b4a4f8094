"""Callbacks: somebody outside leaves an answer."""

from __future__ import annotations

from typing import Any

import pytest

from stepwell import Callback, Context, RunStatus, StepError, StepTimeout, Stepwell, step
from stepwell.errors import UnknownCallback

from .support import Declare, Deploy, play, run_of


class Outside:
    """The world outside: it is handed callbacks."""

    def __init__(self) -> None:
        self.tokens: list[str] = []

    def ask(self, callback: Callback) -> None:
        self.tokens.append(callback.token)


def asking(declare: Declare, app: Stepwell, outside: Outside, **options: Any) -> None:
    """A function that asks, waits, and tells what came of it."""

    def body(ctx: Any) -> Any:
        try:
            answer = yield ctx.step.wait_for_callback("asked", **{"timeout": "2d", **options}, submit=outside.ask)
        except StepTimeout as error:
            return ["timeout", error.message]
        except StepError as error:
            return ["error", error.type, error.message]
        yield ctx.step.sleep("then", "1s")
        return ["answer", answer]

    declare(app, body, retries=1)


@pytest.mark.parametrize("answer", [{"ok": True, "n": [1, None]}, "yes", None, 0, "x" * 40_000])
def test_an_answer_is_what_the_function_gets(app: Stepwell, deploy: Deploy, answer: Any) -> None:
    @app.function(on="go")
    def fn(ctx: Context[Any]) -> Any:
        return ctx.step.wait_for_callback("asked", timeout="1d", submit=outside.ask)

    outside = Outside()
    local = deploy(app)
    event_id = local.send("go")
    local.advance("1h")
    assert run_of(local, event_id).status == RunStatus.SUSPENDED
    local.client.complete_callback(outside.tokens[0], answer)
    local.run_until_idle()
    run = run_of(local, event_id)
    assert (run.status, run.result) == (RunStatus.COMPLETED, answer)
    assert len(outside.tokens) == 1


def test_a_reported_failure_is_a_step_error(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    outside = Outside()
    asking(declare, app, outside)
    local = deploy(app)
    event_id = local.send("go")
    local.run_until_idle()
    local.client.fail_callback(outside.tokens[0], "the render farm burnt down")
    local.run_until_idle()
    assert run_of(local, event_id).result == ["error", "CallbackFailed", "the render farm burnt down"]


def test_without_an_answer_it_times_out_counting_from_its_creation(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    tokens: set[str] = set()

    def body(ctx: Any) -> Any:
        callback = ctx.step.create_callback("asked", timeout="1h")
        if hasattr(callback, "__await__"):
            callback = yield callback
        tokens.add(callback.token)
        yield ctx.step.sleep("busy", "59m")
        started = ctx.now()
        try:
            yield callback.wait()
        except StepTimeout as error:
            return [error.message, (local.now() - started).total_seconds() <= 62]

    declare(app, body)
    local = deploy(app)
    run = play(local, wait="2h")
    assert run.result == ["No answer came in time.", True]
    assert len(tokens) == 1, "a token is the same on every replay"


def test_an_answer_before_anybody_waits_is_kept(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    tokens: list[str] = []

    def body(ctx: Any) -> Any:
        callback = ctx.step.create_callback("asked", timeout="1h")
        if hasattr(callback, "__await__"):
            callback = yield callback
        tokens.append(callback.token)
        yield ctx.step.sleep("busy", "5h")
        return (yield callback.wait())

    declare(app, body)
    local = deploy(app)
    event_id = local.send("go")
    local.run_until_idle()
    local.client.complete_callback(tokens[0], "early")
    local.advance("6h")
    assert run_of(local, event_id).result == "early", "it came in time, whenever somebody looks"


def test_heartbeats_keep_it_open_and_their_absence_ends_it_early(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    outside = Outside()
    asking(declare, app, outside, heartbeat="10m")
    local = deploy(app)
    event_id = local.send("go")
    for _ in range(6):
        local.advance("9m")
        local.client.heartbeat_callback(outside.tokens[0])
    local.advance("9m")
    assert run_of(local, event_id).status == RunStatus.SUSPENDED
    local.advance("2m")
    assert run_of(local, event_id).result == ["timeout", "No heartbeat came in time."]
    with pytest.raises(UnknownCallback, match="over"):
        local.client.heartbeat_callback(outside.tokens[0])


def test_heartbeats_do_not_prolong_the_time_out(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    outside = Outside()
    asking(declare, app, outside, heartbeat="10m", timeout="25m")
    local = deploy(app)
    event_id = local.send("go")
    for _ in range(3):
        local.advance("8m")
        local.client.heartbeat_callback(outside.tokens[0])
    local.advance("2m")
    assert run_of(local, event_id).result == ["timeout", "No answer came in time."]


def test_the_first_answer_stands_and_repeating_it_changes_nothing(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    outside = Outside()
    asking(declare, app, outside)
    local = deploy(app)
    event_id = local.send("go")
    local.run_until_idle()
    token = outside.tokens[0]
    local.client.complete_callback(token, "first")
    local.client.complete_callback(token, "first")
    with pytest.raises(UnknownCallback, match="over"):
        local.client.complete_callback(token, "second")
    with pytest.raises(UnknownCallback, match="over"):
        local.client.fail_callback(token, "too late")
    local.advance("1m")
    assert run_of(local, event_id).result == ["answer", "first"]
    local.client.complete_callback(token, "first")
    with pytest.raises(UnknownCallback, match="its run has ended"):
        local.client.complete_callback(token, "third")


def test_an_answer_after_the_time_out_is_refused_even_if_nobody_has_looked_yet(app: Stepwell, deploy: Deploy) -> None:
    tokens: list[str] = []

    @app.function(on="go")
    def fn(ctx: Context[Any]) -> str:
        callback = ctx.step.create_callback("asked", timeout="1h")
        tokens.append(callback.token)
        ctx.step.sleep("busy", "5h")
        try:
            return str(callback.wait())
        except StepTimeout:
            return "timed out"

    local = deploy(app)
    event_id = local.send("go")
    local.advance("2h")
    with pytest.raises(UnknownCallback, match="out of time"):
        local.client.complete_callback(tokens[0], "late")
    local.advance("4h")
    assert run_of(local, event_id).result == "timed out"


@pytest.mark.parametrize("change", ["", "x", "~", "shop.01KDVDNA00T72HFXFYNWKQAGDB~YQ~00", "swap", "secret"])
def test_a_token_that_was_not_made_here_opens_nothing(app: Stepwell, deploy: Deploy, change: str) -> None:
    tokens: list[str] = []

    @app.function(on="go")
    def fn(ctx: Context[Any]) -> Any:
        first, second = (ctx.step.create_callback(name, timeout="1h") for name in ("first", "second"))
        tokens.extend([first.token, second.token])
        return [first.wait(), second.wait()]

    local = deploy(app)
    event_id = local.send("go")
    local.run_until_idle()
    run, step_part, secret = tokens[0].split("~")
    forged = {
        "swap": f"{run}~{step_part}~{tokens[1].rpartition('~')[2]}",
        "secret": f"{run}~{step_part}~{'0' * len(secret)}",
    }.get(change, change)
    for act in (local.client.complete_callback, local.client.heartbeat_callback):
        with pytest.raises(UnknownCallback):
            act(forged)
    with pytest.raises(UnknownCallback):
        local.client.fail_callback(forged, "x")
    assert run_of(local, event_id).status == RunStatus.SUSPENDED
    assert len(secret) * 4 >= 128


def test_handing_it_out_is_a_step_with_the_options_of_one(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    tried: list[str] = []

    @step(retries=2)
    def ask(callback: Callback) -> None:
        tried.append(callback.token)
        raise ConnectionError("nobody there")

    def body(ctx: Any) -> Any:
        yield ctx.step.wait_for_callback("asked", timeout="1d", submit=ask)

    declare(app, body, retries=0)
    run = play(deploy(app), wait="1h")
    assert run.error is not None
    assert (run.error.type, run.error.step) == ("ConnectionError", "asked.submit")
    assert len(tried) == 3
    assert len(set(tried)) == 1


def test_an_answer_to_a_run_that_was_cancelled_is_refused(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    outside = Outside()
    asking(declare, app, outside)
    local = deploy(app)
    event_id = local.send("go")
    local.run_until_idle()
    assert local.client.cancel(run_of(local, event_id).id)
    with pytest.raises(UnknownCallback, match="its run has ended"):
        local.client.complete_callback(outside.tokens[0], "too late")
