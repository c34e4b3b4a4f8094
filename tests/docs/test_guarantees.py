"""Faults of docs/guarantees.md that need a scene of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from stepwell import AsyncContext, Context, EventModel, Stepwell
from stepwell.engine import accept
from stepwell.engine.sweep import sweep
from stepwell.ports import Ports
from stepwell.testing import LocalStepwell
from stepwell.testing.invariants import check


class Paid(EventModel, name="order/paid"):
    order_id: str


@pytest.fixture
def app() -> Stepwell:
    return Stepwell("faults")


def run_of(local: LocalStepwell, event_id: str) -> Any:
    run = local.run(event_id)
    assert run is not None
    return run


class Table:
    """The run items, as somebody who looks on sees them."""

    def __init__(self, local: LocalStepwell) -> None:
        self.name = local.world.aws.resources.table
        self.client = boto3.client("dynamodb")

    def run(self, run_id: str) -> dict[str, Any]:
        key = {"pk": {"S": f"RUN#{run_id}"}, "sk": {"S": "RUN"}}
        return dict(self.client.get_item(TableName=self.name, Key=key, ConsistentRead=True)["Item"])


def test_a_worker_taken_for_dead_changes_nothing_when_it_comes_back(app: Stepwell) -> None:
    bodies: list[str] = []

    @app.function(on="go")
    def main(ctx: Context[Any]) -> str:
        table, run_id = Table(local), ctx.run_id

        def body() -> str:
            item = table.run(run_id)
            bodies.append(item["epoch"]["N"])
            if item["epoch"]["N"] == "1":  # Lambda says that this worker is dead, and it is not
                request = item["holder"]["S"].partition("/")[0]
                record = {
                    "requestContext": {"requestId": request, "condition": "RetriesExhausted"},
                    "requestPayload": {"run": run_id, "epoch": 0},
                }
                boto3.client("sqs").send_message(QueueUrl=local.queue_url, MessageBody=json.dumps(record))
                while table.run(run_id)["status"]["S"] != "completed":
                    pass  # paused for as long as its successor takes
                return "too late"
            return "in time"

        return ctx.step.run("work", body)

    with LocalStepwell(app) as local:
        event_id = local.send("go", {})
        local.advance("1h")
        run = run_of(local, event_id)
        assert (run.status, run.result, run.steps["work"].result) == ("completed", "in time", "in time")
        assert bodies == ["1", "2"], "brief overlapping execution is possible"
        check(local.world.observations)


def test_two_sweepers_of_the_same_moment_dispatch_a_lost_run_once(app: Stepwell) -> None:
    begun: list[int] = []

    @app.function(on="go")
    def main(ctx: Context[Any]) -> None:
        ctx.step.sleep("a-while", "1d")
        ctx.step.run("work", lambda: begun.append(1))

    with LocalStepwell(app) as local:
        event_id = local.send("go", {})
        local.run_until_idle()
        ports: Ports = local._ports(counted=False)
        local.world.clock.set(local.world.clock.now() + 86_400 + 3600)  # everybody slept over it
        first, second = sweep(ports, lambda: 60.0), sweep(ports, lambda: 60.0)
        assert (first.posted, second.posted) == (1, 0)
        local.advance("10m")
        assert run_of(local, event_id).status == "completed"
        assert begun == [1]


@pytest.mark.parametrize(("changed", "shown"), [(("other",), '"other"'), ((), "run([])")])
def test_a_recorded_step_with_other_arguments_fails_the_run_and_shows_both(
    app: Stepwell, changed: tuple[str, ...], shown: str
) -> None:
    deployed: list[tuple[str, ...]] = [("first",)]

    @app.function(on="go")
    def main(ctx: Context[Any]) -> None:
        ctx.step.run("work", lambda *words: None, *deployed[-1])
        ctx.step.sleep("a-while", "1h")

    with LocalStepwell(app) as local:
        event_id = local.send("go", {})
        local.run_until_idle()
        deployed.append(changed)
        local.advance("2h")
        run = run_of(local, event_id)
        assert run.status == "failed"
        assert run.error.type == "NonDeterminism"
        assert '"first"' in run.error.message
        assert shown in run.error.message


def test_steps_may_be_added_removed_renamed_and_moved_while_a_run_is_under_way(app: Stepwell) -> None:
    versions = [["a", "b", "sleep", "c"], ["new", "b", "sleep", "a2", "c"]]
    done: list[str] = []

    @app.function(on="go")
    def main(ctx: Context[Any]) -> None:
        for name in versions[0]:
            if name == "sleep":
                ctx.step.sleep("sleep", "1h")
            else:
                ctx.step.run(name, done.append, name)

    with LocalStepwell(app) as local:
        event_id = local.send("go", {})
        local.run_until_idle()
        versions.pop(0)
        local.advance("2h")
        assert run_of(local, event_id).status == "completed"
        assert done == ["a", "b", "new", "a2", "c"]


def test_a_function_that_is_gone_for_a_while_costs_time_and_not_the_run(app: Stepwell) -> None:
    @app.function(on="go")
    def main(ctx: Context[Any]) -> str:
        ctx.step.sleep("a-while", "1h")
        return "done"

    with LocalStepwell(app) as local:
        back, lost = local.send("go", {"n": 1}), local.send("go", {"n": 2})
        local.run_until_idle()
        gone = app.functions.pop("main")
        local.advance("6h")
        waiting = run_of(local, back)
        assert waiting.status == "suspended"
        assert "no function 'main'" in waiting.reason
        local.client.cancel(run_of(local, lost).id)
        app.functions["main"] = gone
        local.advance("1h")
        assert run_of(local, back).result == "done"


def test_a_function_that_stays_away_fails_its_runs_after_a_day(app: Stepwell) -> None:
    @app.function(on="go")
    def main(ctx: Context[Any]) -> None:
        ctx.step.sleep("a-while", "1h")

    with LocalStepwell(app) as local:
        event_id = local.send("go", {})
        local.run_until_idle()
        app.functions.clear()
        local.advance("24h")
        assert run_of(local, event_id).status == "suspended"
        local.advance("3h")
        run = run_of(local, event_id)
        assert (run.status, run.error.type) == ("failed", "Undeliverable")


@pytest.mark.parametrize("afterwards", ["returns", "raises"])
@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_function_that_swallows_the_signal_of_suspension_fails_and_is_told_so(
    app: Stepwell, kind: str, afterwards: str
) -> None:
    def go_on() -> str:
        if afterwards == "raises":
            raise ValueError("cleaned up")
        return "swallowed"

    @app.function(on="plain")
    def plain(ctx: Context[Any]) -> str:
        try:
            ctx.step.sleep("a-while", "1h")
        except BaseException:
            return go_on()
        return "slept"

    @app.function(on="async")
    async def parked(ctx: AsyncContext[Any]) -> str:
        try:
            await ctx.step.sleep("a-while", "1h")
        except BaseException:
            return go_on()
        return "slept"

    with LocalStepwell(app) as local:
        event_id = local.send(kind, {})
        local.advance("2h")
        run = run_of(local, event_id)
        assert run.status == "failed"
        assert run.error.type == "SuspensionSwallowed"
        assert "Catch `Exception`" in run.error.message


def test_except_exception_lets_the_signal_pass(app: Stepwell) -> None:
    @app.function(on="go")
    def main(ctx: Context[Any]) -> str:
        try:
            ctx.step.sleep("a-while", "1h")
        except Exception:
            return "swallowed"
        return "slept"

    with LocalStepwell(app) as local:
        event_id = local.send("go", {})
        local.advance("2h")
        assert run_of(local, event_id).result == "slept"


@pytest.fixture
def listening(app: Stepwell) -> Iterator[LocalStepwell]:
    @app.function(on=Paid)
    def main(ctx: Context[Paid]) -> str:
        return ctx.event.data.order_id

    with LocalStepwell(app) as local:
        yield local


@pytest.mark.parametrize("later", ["0s", "5d"])
def test_the_same_id_with_the_same_data_starts_nothing(listening: LocalStepwell, later: str) -> None:
    for _ in range(2):
        listening.send(Paid(order_id="o-1"), id="paid-1")
        listening.advance(later)
    assert len(list(listening.client.runs())) == 1
    assert listening.dead_letters() == []


@pytest.mark.parametrize("later", ["0s", "5d"])
def test_the_same_id_with_other_data_is_a_dead_letter_with_its_reason(listening: LocalStepwell, later: str) -> None:
    listening.send(Paid(order_id="o-1"), id="paid-1")
    listening.advance(later)
    listening.send(Paid(order_id="o-2"), id="paid-1")
    listening.run_until_idle()
    (letter,) = listening.dead_letters()
    assert letter.code == "duplicate-event"
    assert "'paid-1'" in letter.reason
    assert [run.result for run in listening.client.runs()] == ["o-1"]


def test_cancelling_a_run_that_has_ended_says_so_and_changes_nothing(listening: LocalStepwell) -> None:
    event_id = listening.send(Paid(order_id="o-1"))
    listening.run_until_idle()
    run = run_of(listening, event_id)
    assert listening.client.cancel(run.id) is False
    assert run_of(listening, event_id).status == "completed"


@pytest.mark.parametrize("when", ["sleep", "retry", "wait"])
def test_a_run_is_cancelled_wherever_it_rests(app: Stepwell, when: str) -> None:
    bodies: list[int] = []

    def body() -> None:
        bodies.append(1)
        raise ValueError("again")

    @app.function(on="go")
    def main(ctx: Context[Any]) -> None:
        if when == "sleep":
            ctx.step.sleep("a-while", "1h")
        elif when == "wait":
            ctx.step.wait_for_event("paid", event=Paid, timeout="1h")
        ctx.step.run("work", body)

    with LocalStepwell(app) as local:
        event_id = local.send("go", {})
        local.run_until_idle()
        assert local.client.cancel(run_of(local, event_id).id) is True
        local.advance("1d")
        assert run_of(local, event_id).status == "cancelled"
        assert len(bodies) == (1 if when == "retry" else 0)
        check(local.world.observations)


def test_more_waiting_runs_than_one_message_may_wake_are_all_woken(
    app: Stepwell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accept, "PER_MESSAGE", 4)

    @app.function(on="go")
    def main(ctx: Context[Any]) -> bool:
        return ctx.step.wait_for_event("paid", event=Paid, match={"data.order_id": "o-1"}, timeout="1d") is not None

    with LocalStepwell(app) as local:
        local.client.send([{"name": "go", "data": {"n": n}} for n in range(11)])
        local.run_until_idle()
        local.send(Paid(order_id="o-1"))
        local.run_until_idle()
        assert [run.result for run in local.client.runs()] == [True] * 11
