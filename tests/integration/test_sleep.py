"""Sleeping, without a worker being there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stepwell import Context, RunStatus, Stepwell

from .support import Declare, Deploy, invocations_of, play, run_of


def test_a_sleep_takes_its_time_and_no_worker(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    woke: list[datetime] = []

    def body(ctx: Any) -> Any:
        yield ctx.step.sleep("nap", "90m")
        yield ctx.step.sleep("blink", timedelta(milliseconds=1500))
        yield ctx.step.sleep("none", 0)
        woke.append(local.now())

    declare(app, body)
    local = deploy(app)
    start = local.now()
    event_id = local.send("go")
    local.advance("89m")
    run = run_of(local, event_id)
    assert run.status == RunStatus.SUSPENDED
    assert (run.steps["nap"].status, run.steps["nap"].until) == ("waiting", start + timedelta(minutes=90))
    local.advance("2m")
    run = run_of(local, event_id)
    assert run.status == RunStatus.COMPLETED
    assert len(woke) == 1
    assert timedelta(0) <= woke[0] - (start + timedelta(minutes=90, seconds=1.5)) <= timedelta(seconds=1)
    assert {step.status for step in run.steps.values()} == {"completed"}
    assert run.steps["nap"].ended_at == start + timedelta(minutes=90)
    assert invocations_of(local, run) == 3


@pytest.mark.parametrize(("length", "wait"), [("16m", "1d"), ("5d", "6d"), ("300d", "301d")])
def test_a_long_sleep_ends_on_the_second(app: Stepwell, deploy: Deploy, length: str, wait: str) -> None:
    woke: list[datetime] = []

    @app.function(on="go")
    def fn(ctx: Context[Any]) -> None:
        ctx.step.sleep("long", length)
        woke.append(local.now())

    local = deploy(app)
    start = local.now()
    play(local, wait=wait)
    (at,) = woke
    number, unit = int(length[:-1]), length[-1]
    assert (
        timedelta(0) <= at - start - timedelta(**{{"m": "minutes", "d": "days"}[unit]: number}) <= timedelta(seconds=1)
    )


def test_a_moment_can_be_slept_until(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    woke: list[datetime] = []

    def body(ctx: Any) -> Any:
        yield ctx.step.sleep_until("past", datetime(2020, 1, 1, tzinfo=UTC))
        woke.append(local.now())
        yield ctx.step.sleep_until("naive", datetime(2026, 1, 1, 3))
        woke.append(local.now())
        yield ctx.step.sleep_until("aware", datetime.fromisoformat("2026-01-01T08:00:00+02:00"))
        woke.append(local.now())

    declare(app, body)
    local = deploy(app)
    assert play(local, wait="1d").status == RunStatus.COMPLETED
    assert woke[0] == datetime(2026, 1, 1, tzinfo=UTC)
    assert [moment.hour for moment in sorted(set(woke))] == [0, 3, 6]


def test_a_repeated_id_in_a_loop_is_another_step_each_time(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    bodies: list[int] = []

    def body(ctx: Any) -> Any:
        total = 0
        for day in range(4):
            total += yield ctx.step.run("work", lambda day=day: bodies.append(day) or day)
            yield ctx.step.sleep("night", "1d")
        return total

    declare(app, body)
    run = play(deploy(app), wait="5d")
    assert run.result == 6
    assert bodies == [0, 1, 2, 3]
    assert list(run.steps) == ["work", "night", "work:1", "night:1", "work:2", "night:2", "work:3", "night:3"]
    assert [run.steps[key].id for key in ("work", "work:3")] == ["work", "work"]


@pytest.mark.parametrize("duration", ["soon", -1, "400d", float("nan"), None])
def test_a_duration_that_is_none_fails_the_run_saying_so(app: Stepwell, deploy: Deploy, duration: Any) -> None:
    @app.function(on="go")
    def fn(ctx: Context[Any]) -> None:
        ctx.step.sleep("nap", duration)

    run = play(deploy(app))
    assert run.error is not None
    assert (run.error.type, run.attempt) == ("InvalidOption", 1)
    assert "duration" in run.error.message


def test_an_id_that_is_none_fails_the_run_saying_so(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go")
    def fn(ctx: Context[Any]) -> None:
        ctx.step.sleep("", "1s")

    run = play(deploy(app))
    assert run.error is not None
    assert "1 to 200 printable characters" in run.error.message
