"""Children end with the run that waits for them, unless they were detached."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import boto3
import pytest

from stepwell import AsyncContext, Backoff, CancelOn, Context, Run, RunStatus, Stepwell, Timeouts
from stepwell.engine import following
from stepwell.engine.core import Core
from stepwell.engine.ending import fail
from stepwell.engine.waits import ChildRun
from stepwell.errors import ErrorInfo
from stepwell.records import StepState
from stepwell.store.layout import LIVE
from stepwell.testing import Chaos, Fault, FaultKind, FaultPlan, LocalStepwell
from stepwell.testing.observations import Sent

from .remote_steps import reject_odd
from .support import Declare, Deploy, run_of


@pytest.fixture
def family(app: Stepwell) -> Stepwell:
    """A child that has a child of its own, which sleeps."""

    @app.function(on="never", id="grandchild")
    def grandchild(ctx: Context[Any]) -> str:
        ctx.step.sleep("long", "1d")
        return "slept"

    @app.function(on="never", id="child")
    def child(ctx: Context[Any]) -> Any:
        return ctx.step.invoke(grandchild)

    return app


def by_function(local: LocalStepwell) -> dict[str, Run]:
    return {run.function: run for run in local.client.runs()}


ENDS: dict[str, dict[str, Any]] = {
    "cancelled": {},
    "failed": {"retries": 0},
    "called off": {"cancel_on": CancelOn("stop")},
    "out of time": {"timeouts": Timeouts(finish="1h")},
}


def end(local: LocalStepwell, how: str, event_id: str) -> None:
    if how == "cancelled":
        local.client.cancel(run_of(local, event_id, "fn").id)
    elif how == "called off":
        local.send("stop")
    elif how == "failed":
        local.send("fail")
    local.advance("2h")


@pytest.mark.parametrize("how", ENDS)
def test_children_and_theirs_are_cancelled_whichever_way_their_parent_ends(
    family: Stepwell, deploy: Deploy, how: str
) -> None:
    @family.function(on="go", id="fn", **ENDS[how])
    async def fn(ctx: AsyncContext[Any]) -> None:
        async def fail() -> None:
            await ctx.step.wait_for_event("fail", event="fail", timeout="1d")
            raise ValueError("no")

        await asyncio.gather(ctx.step.invoke("shop/child"), fail())

    local = deploy(family)
    event_id = local.send("go")
    local.advance("1m")
    assert by_function(local)["grandchild"].status == RunStatus.SUSPENDED
    end(local, how, event_id)
    runs = by_function(local)
    assert runs["fn"].status == (RunStatus.FAILED if how == "failed" else RunStatus.CANCELLED)
    assert (runs["child"].status, runs["grandchild"].status) == (RunStatus.CANCELLED, RunStatus.CANCELLED)
    assert runs["child"].reason == f"its parent {runs['fn'].id} ended as {runs['fn'].status.value}"
    assert runs["grandchild"].reason == f"its parent {runs['child'].id} ended as cancelled"


def test_spread_steps_are_cancelled_with_their_run(app: Stepwell, deploy: Deploy) -> None:
    patient = reject_odd.using(backoff=Backoff("1h", jitter=False))

    @app.function(on="go", id="fn", timeouts=Timeouts(finish="10m"))
    def fn(ctx: Context[Any]) -> None:
        ctx.step.map(patient, [1, 2, 3], spread=True)

    local = deploy(app)
    event_id = local.send("go")
    local.advance("1h1m")
    run = run_of(local, event_id)
    statuses = [local.client.run(str(step.child)).status.value for step in run.steps.values()]
    assert (run.status, statuses) == (RunStatus.CANCELLED, ["cancelled", "completed", "cancelled"])


# ---- detached


def test_a_detached_child_is_not_waited_for_and_outlives_its_parent(
    family: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    def body(ctx: Any) -> Any:
        child = yield ctx.step.invoke("shop/child", {"n": 1}, detached=True)
        yield ctx.step.sleep("then", "1h")
        return child

    declare(family, body)
    local = deploy(family)
    event_id = local.send("go")
    local.advance("1m")
    run = run_of(local, event_id, "fn")
    child = str(run.steps["child"].child)
    assert (run.steps["child"].result, local.client.run(child).parent_id) == (child, None)
    assert local.client.run(child).event.data == {"n": 1}
    local.client.cancel(run.id)
    local.advance("2d")
    assert run_of(local, event_id, "fn").status == RunStatus.CANCELLED
    assert local.client.run(child).result == "slept"


def test_it_is_started_once_however_often_its_parent_is_replayed(
    family: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    def body(ctx: Any) -> Any:
        found = []
        for _ in range(2):
            found.append((yield ctx.step.invoke("shop/child", detached=True)))
            yield ctx.step.sleep("then", "1h")
        return found

    declare(family, body)
    local = deploy(family)
    event_id = local.send("go")
    local.advance("2d")
    run = run_of(local, event_id, "fn")
    assert run.result == [run.steps["child"].child, run.steps["child:1"].child]
    children = [each.id for each in local.client.runs(function="shop/child")]
    assert sorted(children) == sorted(run.result)


def test_a_child_that_is_not_waited_for_has_no_time_out(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    def body(ctx: Any) -> Any:
        yield ctx.step.invoke("shop/fn", detached=True, timeout="1h")

    declare(app, body, retries=0)
    local = deploy(app)
    event_id = local.send("go")
    local.run_until_idle()
    error = run_of(local, event_id).error
    assert error is not None
    assert (error.type, "not waited for" in error.message) == ("InvalidOption", True)


# ---- ends that come while a child is being asked for


def parent_and_child(app: Stepwell) -> None:
    @app.function(on="never", id="child")
    def child(ctx: Context[Any]) -> None:
        ctx.step.sleep("long", "30d")

    @app.function(on="go", id="fn", cancel_on=CancelOn("stop"))
    def fn(ctx: Context[Any]) -> None:
        ctx.step.run("one", lambda: 1)
        ctx.step.invoke(child)


def test_a_late_duplicate_of_what_asked_for_a_child_does_not_cancel_one_that_is_no_longer_waited_for(
    app: Stepwell, deploy: Deploy
) -> None:
    @app.function(on="never", id="child")
    def child(ctx: Context[Any]) -> str:
        ctx.step.sleep("long", "1h")
        return "done"

    @app.function(on="go", id="fn", retries=0)
    def fn(ctx: Context[Any]) -> None:
        ctx.step.invoke(child, {}, timeout="1m")

    local = deploy(app)
    local.send("go")
    local.advance("5m")
    asked = [sent.body for sent in local.world.observations.of(Sent) if '"stepwell":"invoke"' in sent.body]
    assert {run.function: run.status.value for run in local.client.runs()} == {"fn": "failed", "child": "suspended"}
    boto3.client("sqs").send_message(QueueUrl=local.queue_url, MessageBody=asked[0])
    local.advance("2h")
    assert [run.result for run in local.client.runs(function="shop/child")] == ["done"]


@pytest.mark.parametrize("seed", range(10))
def test_no_child_is_left_behind_however_messages_are_mixed_up(app: Stepwell, deploy: Deploy, seed: int) -> None:
    parent_and_child(app)
    local = deploy(app, seed=seed, chaos=Chaos(duplicate=0.3, delay=0.5, reorder=True, within=20.0))
    local.send("go")
    local.world.clock.advance(0.001)
    local.send("stop")
    local.advance("10m")
    assert {run.function: run.status for run in local.client.runs()}["fn"] == RunStatus.CANCELLED
    assert all(run.status is RunStatus.CANCELLED for run in local.client.runs())


@pytest.mark.parametrize("dies", [False, True])
def test_a_child_whose_parent_was_ended_under_its_workers_hands_is_cancelled(
    app: Stepwell, deploy: Deploy, monkeypatch: pytest.MonkeyPatch, dies: bool
) -> None:
    """The run is cancelled between the message that asks for the child and the record that names it."""
    parent_and_child(app)
    plan = FaultPlan()
    local = deploy(app, plan=plan)
    register = ChildRun.register

    def late(self: ChildRun, core: Core) -> StepState:
        runs = core.ports.store.runs
        until(local, lambda: runs.read(self.child) is not None)
        local.client.cancel(core.run.id)
        until(local, lambda: (run := runs.read(core.run.id)) is not None and not run.is_live and not run.owes)
        if dies:
            plan.add(Fault(FaultKind.CRASH_AFTER, operation="dynamodb.PutItem", label="worker"))
        return register(self, core)

    monkeypatch.setattr(ChildRun, "register", late)
    event_id = local.send("go")
    local.run_until_idle()
    assert "child" in run_of(local, event_id, "fn").steps, "recorded after the run had ended"
    assert {run.function: run.status.value for run in local.client.runs()} == {"fn": "cancelled", "child": "cancelled"}


def until(local: LocalStepwell, holds: Callable[[], bool]) -> None:
    """Let the others go on until something holds."""
    for _ in range(1000):
        if holds():
            return
        local.world.turns.pause()
    raise AssertionError("it never came to hold")


def test_a_child_that_is_created_after_its_parent_has_ended_is_cancelled_at_once(app: Stepwell, deploy: Deploy) -> None:
    parent_and_child(app)
    created = Fault(FaultKind.CRASH_BEFORE, operation="dynamodb.PutItem", occurrence=2, label="orchestrator")
    local = deploy(app, plan=FaultPlan([created]))
    event_id = local.send("go")
    local.run_until_idle()
    run = run_of(local, event_id, "fn")
    assert (run.status, [each.function for each in local.client.runs()]) == (RunStatus.SUSPENDED, ["fn"])
    local.client.cancel(run.id)
    local.run_until_idle()
    local.advance("10m")
    assert {each.function: each.status.value for each in local.client.runs()} == {
        "fn": "cancelled",
        "child": "cancelled",
    }


@pytest.mark.parametrize("how", ["cancelled", "failed"])
def test_more_children_than_one_message_may_cancel_are_all_cancelled_and_then_the_others_are_told(
    app: Stepwell, deploy: Deploy, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(following, "PER_MESSAGE", 4)
    told: list[Any] = []
    app.function(on=["stepwell/run.cancelled", "stepwell/run.failed"], id="told")(
        lambda ctx: told.append(ctx.event.data["function"])
    )

    @app.function(on="never", id="child")
    def child(ctx: Context[Any]) -> None:
        ctx.step.sleep("long", "1d")

    @app.function(on="go", id="fn", retries=0)
    async def parent(ctx: AsyncContext[Any]) -> None:
        async with asyncio.TaskGroup() as group:
            for n in range(11):
                group.create_task(ctx.step.invoke(child, {"n": n}, id="child"))

    local = deploy(app)
    event_id = local.send("go")
    local.run_until_idle()
    assert len(list(local.client.runs(function="shop/child", status="suspended"))) == 11
    if how == "cancelled":
        local.client.cancel(run_of(local, event_id, "fn").id)
    else:
        fail(local.client._ports, run_of(local, event_id, "fn")._state, LIVE, ErrorInfo("Boom", "as planned"))
    local.run_until_idle()
    assert {run.status for run in local.client.runs(function="shop/child")} == {RunStatus.CANCELLED}
    assert sum(1 for sent in local.world.observations.of(Sent) if '"stepwell":"children"' in sent.body) == 2
    local.advance("2m")
    assert told.count("fn") == 1
    assert run_of(local, event_id, "fn")._state.owes == ()
