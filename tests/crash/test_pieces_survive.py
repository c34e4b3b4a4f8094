"""Wide work, done in pieces that a message continues: cut anywhere, no piece is left out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from stepwell import AsyncContext, Context, Run, RunStatus, Stepwell
from stepwell.engine import accept, following, looking_back
from stepwell.testing import LocalStepwell
from tests.crash.scenarios import Scenario, completed
from tests.crash.sweeping import Record, sweep


def orphaned() -> Scenario:
    """A run is cancelled that waits for more children than one message may cancel; a function listens to its end."""
    app = Stepwell("wide")

    @app.function(on="never", id="child")
    def child(ctx: Context[Any]) -> None:
        ctx.step.sleep("for ever", "30d")

    @app.function(on="go", id="main")
    async def main(ctx: AsyncContext[Any]) -> None:
        await asyncio.gather(*(ctx.step.invoke(child, {"n": n}, id="child") for n in range(3)))

    @app.function(on="stepwell/run.cancelled", id="hears")
    def hears(ctx: Context[Any]) -> str:
        return str(ctx.event.data["function"])

    def play(local: LocalStepwell, event_id: str) -> None:
        for _ in range(20):
            run = local.run(event_id, function="main") if local.world.is_idle() else None
            if run is not None and len(run.steps) == 3 and run.status is RunStatus.SUSPENDED:
                break
            local.advance("1m")
        assert run is not None
        local.client.cancel(run.id)
        local.advance("10m")
        children = [str(step.child) for step in local.client.run(run.id).steps.values()]
        assert {local.client.run(child).status for child in children} == {RunStatus.CANCELLED}
        heard = [run for run in local.client.runs(function="wide/hears") if run.result == "main"]
        assert len(heard) == 1

    def check(run: Run) -> None:
        assert run.status is RunStatus.CANCELLED
        assert run._state.owes == (), run

    return Scenario("more children than a message may cancel", app, check, play=play, function="main")


def looked_back_for() -> Scenario:
    """The event came before the wait began, among others, and one that is dated later came first."""
    app = Stepwell("back")

    @app.function(on="go", id="main")
    def main(ctx: Context[Any]) -> Any:
        ctx.step.sleep("slow start", "1h")
        found = ctx.step.wait_for_event("paid", event="paid", timeout="1h", since="run_start")
        return None if found is None else found.data["n"]

    def play(local: LocalStepwell, event_id: str) -> None:
        for _ in range(20):
            run = local.run(event_id) if local.world.is_idle() else None
            if run is not None and run.started_at is not None:
                break
            local.advance("1m")
        now = local.now()
        local.client.send([{"name": "paid", "data": {"n": n}, "ts": now.replace(minute=50 - n)} for n in range(3)])
        local.client.send([{"name": "other", "data": {"n": n}} for n in range(3)])
        local.advance("2h")

    return Scenario("a wait that looks back in pieces", app, completed(2), play=play)


CHOSEN = [orphaned, looked_back_for]


@pytest.mark.parametrize("make", CHOSEN, ids=[make.__name__ for make in CHOSEN])
def test_they_survive_every_fault_at_every_call(
    make: Callable[[], Scenario], record_property: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accept, "PER_MESSAGE", 1)
    monkeypatch.setattr(following, "PER_MESSAGE", 1)
    monkeypatch.setattr(looking_back, "PIECE", 4 * looking_back.PER_PLACE)
    sweep(make, record_property, CHOSEN)
