"""Batches in lists: each once and at the place of its own run, whatever the order in which its events came."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from stepwell import Batch, Context, Run, Stepwell
from stepwell.clock import from_millis
from stepwell.ids import digest, ulid_millis, ulid_of
from stepwell.testing import Chaos, Fault, FaultKind, FaultPlan, LocalStepwell

from .support import Deploy


@pytest.fixture
def shop(app: Stepwell) -> Stepwell:
    """A function that collects orders, and one that does not; both are found by the customer."""
    app.function(on="go", id="fn", batch=Batch(10, "1m"), tags={"k": "event.data.k"})(lambda ctx: len(ctx.events))
    app.function(on="other", id="other", tags={"k": "event.data.k"})(lambda ctx: None)
    return app


def received(local: LocalStepwell, seconds: int, name: str, k: str) -> None:
    """An event that the queue received so many seconds from now, and that is handled now."""
    made = ulid_of(round((local.now().timestamp() + seconds) * 1000), digest(name, k))
    local.send(name, {"k": k}, id=f"evt_{made}")
    local.run_until_idle()


def functions(runs: Any) -> list[str]:
    return [run.function for run in runs]


def pages(local: LocalStepwell, **filters: Any) -> list[Run]:
    """The same list, one run a page."""
    found, last = list[Run](), None
    while page := list(local.client.runs(limit=1, before=last, **filters)):
        found += page
        last = page[-1].id
    return found


def test_a_batch_stands_at_the_place_of_its_own_run_whichever_of_its_events_is_asked_for(
    shop: Stepwell, deploy: Deploy
) -> None:
    local = deploy(shop)
    received(local, 0, "go", "first")  # handled first, though others had been received before it
    received(local, -2, "go", "older")
    received(local, 1, "go", "newer")
    for k in ("first", "older", "newer"):
        received(local, -1, "other", k)
    local.advance("5m")
    for k in ("first", "older", "newer"):
        runs = list(local.client.runs(tag=f"k={k}"))
        assert functions(runs) == functions(pages(local, tag=f"k={k}")) == ["fn", "other"]
        assert local.client.count(tag=f"k={k}") == 2
        assert runs[0].result == 3
        stands = from_millis(ulid_millis(runs[0].id.rpartition(".")[2]) or 0)
        assert functions(local.client.runs(tag=f"k={k}", since=stands)) == ["fn"]
        assert functions(local.client.runs(tag=f"k={k}", until=stands - timedelta(milliseconds=1))) == ["other"]


@pytest.mark.parametrize("seed", range(6))
def test_whatever_the_order_in_which_events_are_handled_a_list_by_tag_has_each_run_once(
    shop: Stepwell, deploy: Deploy, seed: int
) -> None:
    local = deploy(shop, seed=seed, chaos=Chaos(delay=0.3, reorder=True))
    for _ in range(5):
        local.send("go", {"k": "a"})
        local.advance("1s")
    local.advance("15m")
    whole = [run.id for run in local.client.runs(function="shop/fn")]
    assert [run.id for run in local.client.runs(tag="k=a")] == whole
    assert [run.id for run in pages(local, tag="k=a")] == whole
    assert sum(run.result for run in local.client.runs(tag="k=a")) == 5


@pytest.mark.parametrize("operation", ["dynamodb.PutItem", "dynamodb.TransactWriteItems"])
@pytest.mark.parametrize("skip", range(4))
def test_an_event_leads_to_its_batch_wherever_its_admission_was_cut_off(
    app: Stepwell, deploy: Deploy, operation: str, skip: int
) -> None:
    app.function(on="go", id="fn", batch=Batch(10, "10m"), tags={"k": "event.data.k"})(lambda ctx: len(ctx.events))
    plan = FaultPlan([Fault(FaultKind.CRASH_AFTER, operation=operation, label="orchestrator", occurrence=skip)])
    local = deploy(app, plan=plan)
    for k in ("a", "b"):
        local.send("go", {"k": k})
        local.run_until_idle()
    local.advance("1h")
    [run] = local.client.runs(tag="k=b")
    assert run.result == 2
    assert [each.id for each in local.client.runs(tag="k=a")] == [run.id]


def test_a_batch_is_found_by_all_of_its_events_for_as_long_as_it_lives(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", id="fn", batch=Batch(2, "1m"), tags={"k": "event.data.k"})
    def fn(ctx: Context[Any]) -> None:
        ctx.step.sleep("rest", "300d")

    local = deploy(app)
    for k in ("a", "b"):
        local.send("go", {"k": k})
        local.run_until_idle()
    for _ in range(29):
        local.advance("10d")
        assert functions(local.client.runs(tag="k=a")) == functions(local.client.runs(tag="k=b")) == ["fn"]


def test_an_event_that_a_batch_takes_along_costs_one_write_unit_for_a_tag(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go", id="fn", batch=Batch(9, "1h"), tags={"k": "event.data.k"})(lambda ctx: None)
    app.function(on="plain", id="plain", batch=Batch(9, "1h"))(lambda ctx: None)
    local = deploy(app)
    spent = {}
    for n in range(3):
        for name in ("go", "plain"):
            before = local.requests
            local.send(name, {"k": n})
            local.run_until_idle()
            spent[name, n] = (local.requests - before).write_units
    assert [spent["go", n] - spent["plain", n] for n in range(3)] == [1, 1, 1]
