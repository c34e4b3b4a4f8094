"""What goes wrong around a run, and how it goes on: crashes, hand-over, lost messages, workers that cannot take it."""

from __future__ import annotations

from typing import Any

import pytest

from stepwell import Context, NonRetriableError, RunStatus, StepError, StepInterrupted, Stepwell, step
from stepwell.testing import Chaos, Fault, FaultKind, FaultPlan

from .support import Declare, Deploy, invocations_of, play, run_of


def test_a_worker_that_dies_is_replaced_and_recorded_steps_do_not_run_again(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    ran: list[str] = []

    def body(ctx: Any) -> Any:
        for name in ("one", "two", "three"):
            yield ctx.step.run(name, ran.append, name)
        return len(ran)

    declare(app, body)
    local = deploy(app)
    local.crash_after("two")
    local.crash_before("three")
    run = play(local, wait="10m")
    assert run.status == RunStatus.COMPLETED
    assert ran == ["one", "two", "two", "three"]
    assert run.attempt == 1, "a crash is no attempt of the body"
    assert invocations_of(local, run) == 3


def test_a_step_that_always_kills_its_worker_ends_as_failed_within_its_retries_and_three_bodies(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    began: list[int] = []

    def body(ctx: Any) -> Any:
        yield ctx.step.run("harmless", lambda: None)
        try:
            yield ctx.step.run("deadly", lambda: began.append(1))
        except StepError as error:
            return [error.type, error.message]

    declare(app, body, retries=2)
    local = deploy(app)
    local.crash_after("deadly", times=99)
    run = play(local, wait="1d")
    assert run.status == RunStatus.COMPLETED
    assert run.result[0] == "WorkerDied"
    assert 3 <= len(began) <= 2 + 3


def test_a_function_that_always_dies_outside_of_steps_is_ended_instead_of_looping(
    app: Stepwell, declare_plain: Declare, deploy: Deploy
) -> None:
    def body(ctx: Any) -> Any:
        yield ctx.step.run("harmless", lambda: None)
        local.world.crash("out of memory")

    declare_plain(app, body)
    local = deploy(app)
    run = play(local, wait="2d")
    assert run.status == RunStatus.FAILED
    assert run.error is not None
    assert run.error.type == "NoProgress"
    assert "invocations in a row died" in run.error.message
    assert invocations_of(local, run) <= 20


def test_an_at_most_once_step_that_was_cut_off_is_not_begun_again(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    began: list[int] = []

    @step(at_most_once=True, retries=5)
    def pay() -> None:
        began.append(1)

    def body(ctx: Any) -> Any:
        try:
            yield ctx.step.run(pay)
        except StepInterrupted as error:
            yield ctx.step.sleep("rest", "1h")
            return [error.name, error.type]

    declare(app, body)
    local = deploy(app)
    local.crash_after("pay")
    assert play(local, wait="2h").result == ["pay", "StepInterrupted"]
    assert began == [1]


def test_when_time_runs_short_the_run_is_handed_over_to_the_next_invocation(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    def takes_ten_minutes(n: int) -> int:
        local.world.clock.advance(600)
        return n

    def body(ctx: Any) -> Any:
        total = 0
        for n in range(4):
            total += yield ctx.step.run(takes_ten_minutes, n)
        return total

    declare(app, body)
    local = deploy(app)
    run = play(local, wait="2h")
    assert (run.status, run.result) == (RunStatus.COMPLETED, 6)
    assert {step.attempts for step in run.steps.values()} == {1}
    assert invocations_of(local, run) >= 2


def test_a_step_with_a_time_out_is_not_begun_when_it_could_not_end(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    began: list[float] = []

    @step(timeout="5m")
    def long() -> None:
        began.append(local.world.clock.now())

    def body(ctx: Any) -> Any:
        yield ctx.step.run("first", lambda: local.world.clock.advance(700))
        yield ctx.step.run(long)

    declare(app, body)
    local = deploy(app)
    run = play(local, wait="1h")
    assert run.status == RunStatus.COMPLETED
    assert invocations_of(local, run) == 2
    assert len(began) == 1


def test_code_between_steps_that_outlasts_every_invocation_ends_the_run_saying_so(
    app: Stepwell, declare_plain: Declare, deploy: Deploy
) -> None:
    def body(ctx: Any) -> Any:
        local.world.clock.advance(895)
        yield ctx.step.run("never begun", lambda: None)

    declare_plain(app, body)
    local = deploy(app)
    run = play(local, wait="1d")
    assert run.error is not None
    assert run.error.type == "NoProgress"
    assert "put it into steps" in run.error.message


@pytest.mark.parametrize("seed", range(3))
def test_lost_doubled_and_late_messages_change_nothing(
    app: Stepwell, declare: Declare, deploy: Deploy, seed: int
) -> None:
    ran: list[str] = []

    def body(ctx: Any) -> Any:
        for n in range(3):
            yield ctx.step.run(f"work-{n}", ran.append, f"work-{n}")
            yield ctx.step.sleep("rest", "20m")
        return "done"

    declare(app, body)
    local = deploy(app, seed=seed, chaos=Chaos(duplicate=0.4, delay=0.4, lose=0.4, reorder=True))
    run = play(local, wait="1d")
    assert (run.status, run.result) == (RunStatus.COMPLETED, "done")
    assert ran == ["work-0", "work-1", "work-2"]


@pytest.mark.parametrize("kind", [FaultKind.REFUSED, FaultKind.CRASH_BEFORE, FaultKind.UNKNOWN])
def test_a_dispatch_that_is_lost_is_repeated_by_the_sweeper(app: Stepwell, deploy: Deploy, kind: FaultKind) -> None:
    app.function(on="go", id="fn")(lambda ctx: "done")
    local = deploy(app, plan=FaultPlan([Fault(kind, operation="lambda.Invoke", label="orchestrator")]))
    run = play(local, wait="10m")
    assert (run.status, run.result) == (RunStatus.COMPLETED, "done")
    assert run.attempt == 1


def test_a_run_whose_every_invocation_is_lost_is_asked_for_until_one_comes(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go", id="fn")(lambda ctx: "done")
    chaos = Chaos(lose=0.9)
    local = deploy(app, chaos=chaos, seed=3)
    assert play(local, wait="1d").status == RunStatus.COMPLETED


def test_a_function_that_is_gone_waits_for_it_to_come_back(
    app: Stepwell, declare_plain: Declare, deploy: Deploy
) -> None:
    def body(ctx: Any) -> Any:
        yield ctx.step.sleep("rest", "1h")
        return "done"

    declare_plain(app, body)
    local = deploy(app)
    event_id = local.send("go")
    local.run_until_idle()
    gone = app.functions.pop("fn")
    local.advance("3h")
    (run,) = local.client.runs()
    assert run.status == RunStatus.SUSPENDED
    assert "has no function 'fn' (any more)" in str(run.reason)
    app.functions["fn"] = gone
    local.advance("1h")
    again = run_of(local, event_id)
    assert (again.status, again.result, again.attempt) == (RunStatus.COMPLETED, "done", 1)


def test_a_function_that_never_comes_back_fails_its_runs_in_the_end(
    app: Stepwell, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepwell.engine.execution.MAX_MISFIRES", 10)  # for a whole day there are ten times as many
    app.function(on="go", id="fn")(lambda ctx: None)
    local = deploy(app)
    gone = app.functions.pop("fn")
    local.send("go")
    local.advance("30m")
    (run,) = local.client.runs()
    assert run.status == RunStatus.SUSPENDED
    local.advance("1d")
    (run,) = local.client.runs()
    assert run.status == RunStatus.FAILED
    assert run.error is not None
    assert run.error.type == "Undeliverable"
    assert "24 hours" in run.error.message
    app.functions["fn"] = gone


def test_an_end_that_an_earlier_release_still_owes_is_asked_for_ever_more_rarely_too(
    app: Stepwell, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands in the index among those that live, and is moved to its own all the same."""

    @app.function(on="go", on_failure=lambda ctx: None)
    def fn(ctx: Context[Any]) -> None:
        raise NonRetriableError("no")

    local = deploy(app)
    with monkeypatch.context() as patch:
        patch.setattr("stepwell.engine.look.deliver", lambda ports, run: None)
        local.send("go")
        local.run_until_idle()
        (run,) = local.client.runs()
        key, table = {"pk": f"RUN#{run.id}", "sk": "RUN"}, local._ports(counted=False).store.table
        item = table.get(*key.values())
        assert item is not None
        assert item["due_sk"].startswith("!")
        due = int(item["due_sk"][1:])
        table.update(*key.values(), set_={"due_sk": f"{due:015d}"})
        local.advance("5m")
        moved = table.get(*key.values())
        assert moved is not None
        assert moved["due_sk"].startswith("!")
        assert int(moved["due_sk"][1:]) > due
    local.advance("2h")
    assert {run.status for run in local.client.runs()} == {RunStatus.FAILED, RunStatus.COMPLETED}


def test_a_run_that_a_fault_of_ours_keeps_from_being_handled_is_looked_at_ever_more_rarely(
    app: Stepwell, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.function(on="go", on_failure=lambda ctx: None)
    def fn(ctx: Context[Any]) -> None:
        raise NonRetriableError("no")

    looks: list[str] = []

    def broken(ports: Any, run: Any) -> None:
        looks.append(run.id)
        raise ZeroDivisionError

    local = deploy(app)
    with monkeypatch.context() as patch:
        patch.setattr("stepwell.engine.look.deliver", broken)
        local.send("go")
        local.advance("1d")
        late = len(looks)
        local.advance("8h")
        assert 0 < len(looks) - late < 8 * 32  # once an hour, and each message some thirty times
    local.advance("6h")
    handler, run = sorted(local.client.runs(), key=lambda run: run.function)[::-1]
    assert {handler.status, run.status} == {RunStatus.FAILED, RunStatus.COMPLETED}
