"""on_failure: a handler hears of every run that failed, once, whoever ended it, with its event and its error."""

from __future__ import annotations

from typing import Any

import pytest

from stepwell import Context, EventModel, Failure, RunStatus, Stepwell
from stepwell.testing import LocalStepwell

from .support import Deploy, run_of


class Order(EventModel, name="order/created"):
    order_id: str
    text: str = ""


@pytest.fixture
def failures() -> list[Failure]:
    return []


def end_of(local: LocalStepwell, event_id: str, wait: str = "1h") -> None:
    local.advance(wait)
    run = run_of(local, event_id)
    assert run.status == RunStatus.FAILED, run
    (handler,) = local.client.runs(function="shop/fn.on-failure")
    assert handler.status == RunStatus.COMPLETED, handler


@pytest.mark.parametrize("size", [10, 40_000, 400_000])
def test_the_handler_gets_the_event_that_started_the_run_however_large(
    app: Stepwell, deploy: Deploy, failures: list[Failure], size: int
) -> None:
    @app.function(on=Order, id="fn", retries=0, on_failure=lambda ctx: failures.append(ctx.event.data))
    def fn(ctx: Context[Order]) -> None:
        raise ValueError("no luck")

    local = deploy(app)
    text = "".join(chr(65 + (n * n) % 57) for n in range(size))
    event_id = local.send(Order(order_id="o-1", text=text), tenant="acme")
    end_of(local, event_id)
    (failure,) = failures
    assert (failure.event.id, failure.event.name, failure.event.tenant) == (event_id, "order/created", "acme")
    assert failure.event.data == {"order_id": "o-1", "text": text} == failure.event["data"]
    assert failure.event.ts == run_of(local, event_id).event.ts
    assert (failure.run_id, failure.function) == (run_of(local, event_id).id, "fn")
    assert (failure.error.type, failure.error.message) == ("ValueError", "no luck")
    assert "no luck" in str(failure.error.traceback)


def test_the_error_of_a_step_says_which(app: Stepwell, deploy: Deploy, failures: list[Failure]) -> None:
    @app.function(on="go", id="fn", retries=0, on_failure=lambda ctx: failures.append(ctx.event.data))
    def fn(ctx: Context[Any]) -> None:
        def charge() -> None:
            raise ValueError("declined")

        ctx.step.run("charge", charge)

    local = deploy(app)
    end_of(local, local.send("go"))
    assert (failures[0].error.type, failures[0].error.step) == ("ValueError", "charge")


def test_a_run_that_changed_under_way_is_a_failure_too(app: Stepwell, deploy: Deploy, failures: list[Failure]) -> None:
    asked = iter(range(9))

    @app.function(on="go", id="fn", on_failure=lambda ctx: failures.append(ctx.event.data))
    def fn(ctx: Context[Any]) -> None:
        ctx.step.run("charge", str, next(asked))
        ctx.step.sleep("rest", "1m")

    local = deploy(app)
    end_of(local, local.send("go"))
    assert failures[0].error.type == "NonDeterminism"


def test_so_is_one_whose_worker_always_dies(app: Stepwell, deploy: Deploy, failures: list[Failure]) -> None:
    @app.function(on="go", id="fn", on_failure=lambda ctx: failures.append(ctx.event.data))
    def fn(ctx: Context[Any]) -> None:
        local.world.crash("because it always does")

    local = deploy(app)
    end_of(local, local.send("go", {"n": 1}), "6h")
    assert (failures[0].error.type, failures[0].event.data) == ("NoProgress", {"n": 1})


def test_so_is_one_that_no_code_could_be_found_for(app: Stepwell, deploy: Deploy, failures: list[Failure]) -> None:
    app.function(on="go", id="fn", on_failure=lambda ctx: failures.append(ctx.event.data))(lambda ctx: None)
    local = deploy(app)
    del app.functions["fn"]  # its handler stays
    end_of(local, local.send("go"), "30h")
    assert failures[0].error.type == "Undeliverable"
    assert failures[0].event.name == "go"
