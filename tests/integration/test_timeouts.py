"""timeouts: a run that does not start, or does not finish, in time is cancelled, to the second."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from stepwell import Context, Run, RunStatus, StepError, Stepwell, Timeouts
from stepwell.testing import Chaos

from .support import Declare, Deploy, run_of


def sleeping(ctx: Any) -> Any:
    yield ctx.step.run("before", lambda: 1)
    yield ctx.step.sleep("rest", "3h")
    yield ctx.step.run("after", lambda: 2)


def cancelled_after(run: Run, duration: timedelta, reason: str) -> None:
    assert (run.status, run.reason) == (RunStatus.CANCELLED, reason)
    assert run.ended_at is not None
    assert abs(run.ended_at - run.created_at - duration) <= timedelta(seconds=1), run.ended_at


@pytest.mark.parametrize("finish", ["40s", "10m", "2h"])
def test_a_sleeping_run_is_cancelled_when_its_time_is_over(
    app: Stepwell, declare: Declare, deploy: Deploy, finish: str
) -> None:
    declare(app, sleeping, timeouts=Timeouts(finish=finish))
    local = deploy(app)
    event_id = local.send("go")
    local.advance("4h")
    run = run_of(local, event_id)
    seconds = {"40s": 40, "10m": 600, "2h": 7200}[finish]
    cancelled_after(run, timedelta(seconds=seconds), f"not finished within {finish}")
    assert list(run.steps) == ["before", "rest"]


def test_a_run_that_is_faster_completes(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    declare(app, sleeping, timeouts=Timeouts(start="1m", finish="3h1s"))
    local = deploy(app)
    event_id = local.send("go")
    local.advance("4h")
    assert run_of(local, event_id).status == RunStatus.COMPLETED


def waiting_for_event(ctx: Any) -> Any:
    return (yield ctx.step.wait_for_event("paid", event="paid", timeout="1d"))


def waiting_for_answer(ctx: Any) -> Any:
    return (yield ctx.step.wait_for_callback("answer", timeout="1d"))


def polling(ctx: Any) -> Any:
    return (yield ctx.step.poll("ready", lambda: False, until=bool, every="7m"))


def retrying(ctx: Any) -> Any:
    def broken() -> None:
        raise ValueError("again")

    return (yield ctx.step.run("broken", broken))


@pytest.mark.parametrize("body", [waiting_for_event, waiting_for_answer, polling, retrying])
def test_whatever_it_rests_for(app: Stepwell, declare_plain: Declare, deploy: Deploy, body: Any) -> None:
    declare_plain(app, body, timeouts=Timeouts(finish="1h"), retries=100)
    local = deploy(app)
    event_id = local.send("go")
    local.advance("2h")
    cancelled_after(run_of(local, event_id), timedelta(hours=1), "not finished within 1h")


def test_the_time_for_finishing_counts_from_the_first_start(
    app: Stepwell, declare_plain: Declare, deploy: Deploy
) -> None:
    declare_plain(app, sleeping, timeouts=Timeouts(finish="1h"))
    local = deploy(app)
    event_id = local.send("go", ts=local.now() + timedelta(hours=5))
    local.advance("7h")
    cancelled_after(run_of(local, event_id), timedelta(hours=6), "not finished within 1h")


def test_a_running_run_is_cancelled_at_its_next_checkpoint_and_keeps_the_result(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    def body(ctx: Any) -> Any:
        yield ctx.step.run("one", lambda: local.world.clock.advance(400))
        yield ctx.step.run("two", lambda: local.world.clock.advance(400))
        yield ctx.step.run("three", lambda: 3)

    declare(app, body, timeouts=Timeouts(finish="10m"))
    local = deploy(app)
    event_id = local.send("go")
    local.run_until_idle()
    run = run_of(local, event_id)
    cancelled_after(run, timedelta(seconds=800), "not finished within 10m")
    assert list(run.steps) == ["one", "two"]
    assert run.steps["two"].status == "completed"


def test_a_step_that_never_ends_does_not_keep_its_run_alive(app: Stepwell, deploy: Deploy) -> None:
    """Nobody can look into a body; but its run is over when its time is, and its own record changes nothing."""

    @app.function(on="go", id="fn", timeouts=Timeouts(finish="5m"))
    def fn(ctx: Context[Any]) -> str:
        def long() -> None:
            local.world.clock.advance(300)
            for _ in range(500):
                if run_of(local, event_id).status is not RunStatus.RUNNING:
                    break
                local.world.turns.pause()

        ctx.step.run("long", long)
        return "too late"

    local = deploy(app)
    event_id = local.send("go")
    local.advance("6m")
    run = run_of(local, event_id)
    cancelled_after(run, timedelta(minutes=5), "not finished within 5m")
    assert run.result is None


def test_a_function_without_steps_that_takes_too_long_has_not_finished_in_time(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    def body(ctx: Any) -> Any:
        local.world.clock.advance(61)
        return "late"
        yield

    declare(app, body, timeouts=Timeouts(finish="1m"))
    local = deploy(app)
    event_id = local.send("go")
    local.run_until_idle()
    assert (run_of(local, event_id).status, run_of(local, event_id).result) == (RunStatus.CANCELLED, None)


def test_a_failure_past_its_time_is_no_failure(app: Stepwell, deploy: Deploy) -> None:
    handled: list[str] = []

    @app.function(
        on="go", id="fn", retries=0, timeouts=Timeouts(finish="1m"), on_failure=lambda ctx: handled.append("")
    )
    def fn(ctx: Context[Any]) -> None:
        local.world.clock.advance(61)
        raise ValueError("late")

    local = deploy(app)
    event_id = local.send("go")
    local.advance("1h")
    assert run_of(local, event_id).status == RunStatus.CANCELLED
    assert handled == []


# ---- starting


def test_a_run_that_waits_for_its_time_longer_than_it_may_is_cancelled(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    declare(app, sleeping, timeouts=Timeouts(start="1h"))
    local = deploy(app)
    late = local.send("go", ts=local.now() + timedelta(hours=2))
    soon = local.send("go", ts=local.now() + timedelta(minutes=59))
    local.advance("5h")
    cancelled_after(run_of(local, late), timedelta(hours=1), "not started within 1h")
    assert run_of(local, late).started_at is None
    assert run_of(local, soon).status == RunStatus.COMPLETED


@pytest.mark.parametrize("start", ["10s", "10m", "20m"])
def test_a_run_that_reaches_no_worker_in_time_is_cancelled(
    app: Stepwell, declare_plain: Declare, deploy: Deploy, start: str
) -> None:
    declare_plain(app, sleeping, timeouts=Timeouts(start=start))
    local = deploy(app)
    ports = local._ports(counted=False)
    ports.store.apps.write(app.manifest(), {}, ports.now())
    event_id = local.send("go")
    local.advance("30m")
    seconds = {"10s": 10, "10m": 600, "20m": 1200}[start]
    cancelled_after(run_of(local, event_id), timedelta(seconds=seconds), f"not started within {start}")


@pytest.mark.parametrize(("start", "seconds"), [("30s", 30), ("4m", 240)])
def test_a_queued_run_whose_worker_never_comes_is_cancelled_too(
    app: Stepwell, declare_plain: Declare, deploy: Deploy, start: str, seconds: int
) -> None:
    declare_plain(app, sleeping, timeouts=Timeouts(start=start))
    local = deploy(app, chaos=Chaos(lose=1.0))
    event_id = local.send("go")
    local.advance("10m")
    cancelled_after(run_of(local, event_id), timedelta(seconds=seconds), f"not started within {start}")


def test_a_worker_that_comes_too_late_starts_nothing(app: Stepwell, deploy: Deploy) -> None:
    ran: list[str] = []

    @app.function(on="go", id="fn", timeouts=Timeouts(start="30s"))
    def fn(ctx: Context[Any]) -> None:
        ran.append("ran")

    local = deploy(app, chaos=Chaos(lose=1.0))
    event_id = local.send("go")
    local.run_until_idle()
    local.world.clock.advance(31)
    worker = local.world.lambdas.get("stepwell-shop-default")
    assert worker is not None
    local.world.lambdas.invoke(worker, json.dumps({"run": run_of(local, event_id).id, "epoch": 0}))
    run = run_of(local, event_id)
    cancelled_after(run, timedelta(seconds=31), "not started within 30s")
    assert (run.started_at, ran) == (None, [])


def test_the_time_for_starting_is_over_once_it_has_started(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    declare(app, sleeping, timeouts=Timeouts(start="1m"))
    local = deploy(app)
    event_id = local.send("go")
    local.advance("4h")
    assert run_of(local, event_id).status == RunStatus.COMPLETED


# ---- what else there is


def test_an_invoked_run_that_is_out_of_time_is_an_error_of_its_step(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    @app.function(on="never", timeouts=Timeouts(finish="1h"))
    def child(ctx: Context[Any]) -> None:
        ctx.step.sleep("long", "1d")

    def body(ctx: Any) -> Any:
        try:
            yield ctx.step.invoke(child)
        except StepError as error:
            return [error.type, error.message]

    declare(app, body)
    local = deploy(app)
    event_id = local.send("go")
    local.advance("2h")
    assert run_of(local, event_id).result == ["RunCancelled", "not finished within 1h"]


def test_it_costs_nothing_for_a_run_that_is_fast_and_no_write_for_any(
    app: Stepwell, declare_plain: Declare, deploy: Deploy
) -> None:
    def body(ctx: Any) -> Any:
        for n in range(5):
            yield ctx.step.run(f"step-{n}", lambda: 1)

    declare_plain(app, body, on="plain", id="plain")
    declare_plain(app, body, on="limited", id="limited", timeouts=Timeouts(start="10m", finish="2h"))
    declare_plain(app, sleeping, on="sleep", id="sleep")
    declare_plain(app, sleeping, on="sleep-limited", id="sleep-limited", timeouts=Timeouts(start="10m", finish="9h"))
    local = deploy(app)

    def cost(name: str, wait: str) -> tuple[float, float, int]:
        before = local.requests
        local.send(name)
        local.advance(wait)
        spent = local.requests - before
        return spent.write_units, spent.read_units, spent.sqs

    for name in ("plain", "limited", "sleep", "sleep-limited"):
        cost(name, "4h")
    assert cost("limited", "0s") == cost("plain", "0s")
    assert cost("sleep-limited", "4h")[0] == cost("sleep", "4h")[0]
