"""Every kind of gate, to be crashed at every point: slots and their lines, buckets, collectors, pausing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from stepwell import (
    Batch,
    Concurrency,
    Context,
    Debounce,
    RateLimit,
    Run,
    RunStatus,
    Singleton,
    Stepwell,
    Throttle,
    step,
)
from stepwell.store.layout import RUN_SK
from stepwell.testing import LocalStepwell
from stepwell.testing.invariants import check, concurrency_within
from tests.crash.gate_models import changes
from tests.crash.scenarios import Scenario, completed

Statuses = dict[str, int]


@step
def work(number: int) -> int:
    return number


def send(local: LocalStepwell, first: str, *orders: int, **data: Any) -> None:
    """Events in a known order, after the first: each is sent when the one before has its run, whatever held that up."""
    arrived(local, first)
    for order in orders:
        local.client.send("go", {"order": order, **data}, id=f"e-{order}")
        arrived(local, f"e-{order}")


def arrived(local: LocalStepwell, event_id: str) -> None:
    """Let time pass until an event has its run."""
    for _ in range(60):
        local.advance("1s")
        if local.client.runs_of_event(event_id):
            return
        local.advance("30s")
    raise AssertionError(f"event {event_id} never gets its run\n{local.timeline()}")


def flood(local: LocalStepwell, *data: dict[str, Any]) -> None:
    """Events at the same moment."""
    local.client.send([{"name": "go", "data": each} for each in data])


def runs_of(local: LocalStepwell) -> list[Run]:
    """All runs, oldest first. Each is read where it was seen to be written: a list would ask for every day and state."""
    ids = [pk.removeprefix("RUN#") for (pk, sk), _ in local.world.table.items() if sk == RUN_SK]
    return sorted((local.client.run(run) for run in ids), key=lambda run: (run.created_at, run.id))


def settled(local: LocalStepwell, count: int) -> list[Run]:
    """All runs, so many, oldest first, once every one of them has ended. What a fault held up may come much later."""
    for _ in range(40):
        runs = runs_of(local)
        if len(runs) == count and all(run.status.is_terminal for run in runs):
            return runs
        local.advance("5m")
    raise AssertionError(f"{count} runs were to end; there are {runs_of(local)}")


def order_of(run: Run) -> Any:
    return run.event.data["order"]


def all_completed(local: LocalStepwell, *orders: Any) -> None:
    runs = settled(local, len(orders))
    assert {run.status for run in runs} == {RunStatus.COMPLETED}, runs
    assert sorted(map(str, map(order_of, runs))) == sorted(map(str, orders))


def one_at_a_time() -> Scenario:
    app = Stepwell("slots")

    @app.function(on="go", id="main", concurrency=Concurrency(1))
    def main(ctx: Context[Any]) -> int:
        ctx.step.run("first", work, 1)
        ctx.step.sleep("rest", "30s")
        return ctx.step.run("second", work, 2)

    def play(local: LocalStepwell, event_id: str) -> None:
        send(local, event_id, 1, 2)
        all_completed(local, "o-1", 1, 2)
        check(local.world.observations, [concurrency_within(1)])

    return Scenario("one slot", app, completed(2), play=play)


def two_limits() -> Scenario:
    app = Stepwell("limits")
    limits = [Concurrency(1, key="event.data.tenant"), Concurrency(2, scope="app")]

    @app.function(on="go", id="main", concurrency=limits, priority="event.data.urgent ? 600 : 0")
    def main(ctx: Context[Any]) -> int:
        return ctx.step.run("only", work, 1)

    @app.function(on="go", id="other", concurrency=Concurrency(2, scope="app"))
    def other(ctx: Context[Any]) -> int:
        return ctx.step.run("only", work, 2)

    def play(local: LocalStepwell, event_id: str) -> None:
        flood(local, *({"order": n, "tenant": n % 2, "urgent": n == 2} for n in range(3)))
        local.run_until_idle()
        runs = settled(local, 8)
        assert [run.status for run in runs] == [RunStatus.COMPLETED] * 8
        tenants = {run.id: run.event.data.get("tenant") for run in runs if run.function == "main"}

        def tenant(item: dict[str, Any]) -> Any:
            return tenants.get(item["pk"].removeprefix("RUN#"))

        check(local.world.observations, [concurrency_within(2, lambda run: "app"), concurrency_within(1, tenant)])

    return Scenario("two limits", app, completed(1), play=play)


def held_up() -> Scenario:
    """The holder of the only slot is cancelled, and so is one that waits for it."""
    app = Stepwell("heldup")

    @app.function(on="go", id="main", concurrency=Concurrency(1))
    def main(ctx: Context[Any]) -> int:
        if ctx.event.data["order"] == 1:
            raise ValueError("this one fails")
        return ctx.step.run("only", work, 1)

    def play(local: LocalStepwell, event_id: str) -> None:
        flood(local, *({"order": n} for n in (1, 2, 3)))
        local.world.step()
        for run in runs_of(local):
            if run.status is RunStatus.SCHEDULED and order_of(run) == 2:
                local.client.cancel(run.id)
        runs = {order_of(run): run.status for run in settled(local, 4)}
        assert (runs["o-1"], runs[1], runs[3]) == (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.COMPLETED)
        assert runs[2] in (RunStatus.COMPLETED, RunStatus.CANCELLED)

    return Scenario("a slot given back", app, completed(1), play=play)


def throttled() -> Scenario:
    app = Stepwell("throttle")

    @app.function(on="go", id="main", throttle=Throttle(1, "1m"), retries=0)
    def main(ctx: Context[Any]) -> int:
        return ctx.step.run("only", work, 1)

    def play(local: LocalStepwell, event_id: str) -> None:
        send(local, event_id, 1, 2)
        all_completed(local, "o-1", 1, 2)
        starts = sorted(run.started_at.timestamp() for run in runs_of(local) if run.started_at)
        due = [run.created_at for run in settled(local, 3)]
        # A start that a fault held up comes late; the next one keeps its own time, so only the first gap is sure.
        assert starts[-1] - due[0].timestamp() >= 119, starts

    return Scenario("throttle", app, completed(1), play=play)


def limited() -> Scenario:
    app = Stepwell("rate")

    @app.function(on="go", id="main", rate_limit=RateLimit(2, "6h", key="event.name"), idempotency="event.data.order")
    def main(ctx: Context[Any]) -> int:
        return ctx.step.run("only", work, 1)

    def play(local: LocalStepwell, event_id: str) -> None:
        arrived(local, event_id)
        local.client.send("go", {"order": "o-1"}, id="the same order")
        arrived(local, "the same order")
        send(local, event_id, 1, 2)
        runs = {run.event.id: run for run in settled(local, 4)}
        assert len(runs) == 4
        assert (runs["the same order"].reason or "").startswith("idempotency")
        assert runs["e-1"].status is RunStatus.COMPLETED
        assert (runs["e-2"].reason or "").startswith("rate limit")

    return Scenario("rate limit and idempotency", app, completed(1), play=play)


def single(mode: str) -> Callable[[], Scenario]:
    def scenario() -> Scenario:
        app = Stepwell(f"single-{mode}")
        singleton = Singleton("skip") if mode == "skip" else Singleton("cancel")

        @app.function(on="go", id="main", singleton=singleton)
        def main(ctx: Context[Any]) -> int:
            ctx.step.sleep("rest", "1h")
            return ctx.step.run("only", work, 1)

        def play(local: LocalStepwell, event_id: str) -> None:
            send(local, event_id, 1)
            first, second = settled(local, 2)
            if mode == "skip":
                assert (first.status, second.status) == (RunStatus.COMPLETED, RunStatus.SKIPPED)
            else:
                assert (first.status, second.status) == (RunStatus.CANCELLED, RunStatus.COMPLETED)

        def ends(run: Run) -> None:
            assert run.status is (RunStatus.COMPLETED if mode == "skip" else RunStatus.CANCELLED)

        return Scenario(f"singleton, {mode}", app, ends, play=play)

    scenario.__name__ = f"single_{mode}"
    return scenario


single_skip = single("skip")
single_cancel = single("cancel")


def debounced() -> Scenario:
    app = Stepwell("debounce")

    @app.function(on="go", id="main", debounce=Debounce("1h"))
    def main(ctx: Context[Any]) -> Any:
        return ctx.step.run("only", lambda: ctx.event.data["order"])

    def play(local: LocalStepwell, event_id: str) -> None:
        send(local, event_id, 1, 2)
        runs = settled(local, 3)
        assert [run.status for run in runs] == [RunStatus.SKIPPED, RunStatus.SKIPPED, RunStatus.COMPLETED], runs
        assert runs[-1].result == 2

    def ends(run: Run) -> None:
        assert run.status is RunStatus.SKIPPED

    return Scenario("debounce", app, ends, play=play)


def batched() -> Scenario:
    app = Stepwell("batch")

    @app.function(on="go", id="main", batch=Batch(3, "1h"))
    def main(ctx: Context[Any]) -> Any:
        return ctx.step.run("only", lambda: [event.data["order"] for event in ctx.events])

    def play(local: LocalStepwell, event_id: str) -> None:
        send(local, event_id, 1, 2, 3)
        runs = settled(local, 4)
        taken = [order for run in runs if run.status is RunStatus.COMPLETED for order in run.result]
        assert sorted(map(str, taken)) == ["1", "2", "3", "o-1"]
        assert [run.result for run in runs if run.status is RunStatus.COMPLETED] == [["o-1", 1, 2], [3]]

    return Scenario("batch", app, completed(["o-1", 1, 2]), play=play)


def paused() -> Scenario:
    app = Stepwell("pause")

    @app.function(on="go", id="main", concurrency=Concurrency(1))
    def main(ctx: Context[Any]) -> int:
        return ctx.step.run("only", work, 1)

    def play(local: LocalStepwell, event_id: str) -> None:
        arrived(local, event_id)
        local.client.pause("pause/main")
        send(local, event_id, 1, 2)
        local.advance("3m")
        held = [run for n in (1, 2) for run in local.client.runs_of_event(f"e-{n}")]
        assert [run.status for run in held] == [RunStatus.SCHEDULED] * 2
        local.client.resume("pause/main")
        local.run_until_idle()
        all_completed(local, "o-1", 1, 2)

    return Scenario("pause and resume", app, completed(1), play=play)


def asked_late() -> Scenario:
    """Runs that ask their throttle when they come to starting: one for later, and those that waited for a pause to end."""
    app = Stepwell("late")

    @app.function(on="go", id="main", throttle=Throttle(1, "1m"))
    def main(ctx: Context[Any]) -> int:
        return ctx.step.run("only", work, 1)

    def play(local: LocalStepwell, event_id: str) -> None:
        arrived(local, event_id)
        local.client.pause("late/main")
        local.client.send("go", {"order": 1}, id="e-1", ts=local.now() + timedelta(minutes=2))
        send(local, "e-1", 2, 3)
        local.advance("3m")
        local.client.resume("late/main")
        resumed = local.now()
        local.run_until_idle()
        all_completed(local, "o-1", 1, 2, 3)
        starts = sorted(run.started_at for run in runs_of(local) if run.started_at)
        assert (starts[-1] - resumed).total_seconds() >= 119, starts

    return Scenario("a throttle asked late", app, completed(1), play=play)


def spread_out() -> Scenario:
    """Steps in workers of their own: their run keeps its slot while they are at work."""
    app = Stepwell("spreadout")

    @app.function(on="go", id="main", concurrency=Concurrency(1))
    def main(ctx: Context[Any]) -> list[int]:
        return [int(number) for number in ctx.step.map(work, [1, 2], spread=True)]  # type: ignore[call-overload]

    def play(local: LocalStepwell, event_id: str) -> None:
        send(local, event_id, 1)
        for _ in range(40):
            runs = [run for run in runs_of(local) if run.parent_id is None]
            if len(runs) == 2 and all(run.status.is_terminal for run in runs):
                break
            local.advance("5m")
        assert [(run.status, run.result) for run in runs] == [(RunStatus.COMPLETED, [1, 2])] * 2
        held: set[str] = set()
        for change in changes(local):
            run = change.after
            if run.parent is None:
                (held.add if run.held else held.discard)(run.id)
                assert len(held) <= 1
            elif run.status is RunStatus.RUNNING and run.is_live:
                assert run.parent.run in held, "a step was at work, and its run held no slot"

    return Scenario("steps of their own workers count", app, completed([1, 2]), play=play)


def handed_on() -> Scenario:
    """The run of a singleton that makes way holds the only slot, and others wait for it."""
    app = Stepwell("handedon")

    @app.function(on="go", id="main", singleton=Singleton("cancel", key="event.data.doc"), concurrency=Concurrency(1))
    def main(ctx: Context[Any]) -> int:
        ctx.step.map(work, [0], spread=True)
        return ctx.step.run("only", work, 1)

    def play(local: LocalStepwell, event_id: str) -> None:
        flood(local, {"order": 1, "doc": "a"}, {"order": 2, "doc": "a"})
        for _ in range(40):
            runs = [run for run in runs_of(local) if run.parent_id is None]
            if len(runs) == 3 and all(run.status.is_terminal for run in runs):
                break
            local.advance("5m")
        by_doc = {doc: [run.status for run in runs if run.event.data.get("doc") == doc] for doc in ("a", None)}
        assert by_doc[None] == [RunStatus.COMPLETED]
        assert sorted(by_doc["a"]) in (
            [RunStatus.CANCELLED, RunStatus.COMPLETED],
            [RunStatus.COMPLETED, RunStatus.COMPLETED],
            [RunStatus.COMPLETED, RunStatus.SKIPPED],
        )

    return Scenario("a slot handed on", app, completed(1), play=play)


LINES: list[Callable[[], Scenario]] = [one_at_a_time, two_limits, held_up, paused, spread_out, handed_on]
MEMORIES: list[Callable[[], Scenario]] = [
    throttled,
    asked_late,
    limited,
    single_skip,
    single_cancel,
    debounced,
    batched,
]
FLOW_SCENARIOS = [*LINES, *MEMORIES]
