"""The crash sweep finds what does not survive, says where, and tries every point."""

from __future__ import annotations

from typing import Any

import pytest

from stepwell import Context, Run, Stepwell
from stepwell.testing import FaultKind, LocalStepwell, SweepFailed, crash_sweep

from .test_local import OrderCreated, Shop


def completed(run: Run) -> None:
    assert run.status == "completed", run


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(FaultKind))
def test_a_function_survives_every_fault_at_every_call(kind: FaultKind) -> None:
    def body(ctx: Context[Any], shop: Shop) -> None:
        ctx.step.run("charge", shop.does("charge"))

    shop = Shop(body)

    def check(run: Run) -> None:
        completed(run)
        bodies, shop.bodies = len(shop.bodies), []
        assert bodies in (1, 2)  # begun again at most once, and never forgotten

    points = crash_sweep(shop.app, OrderCreated(order_id="o-1"), check=check, kinds=[kind])
    assert points >= (1 if kind is FaultKind.PARTIAL else 4)


def test_a_function_that_does_not_survive_is_reported_with_the_place_and_how_to_repeat_it() -> None:
    charges: list[str] = []
    app = Stepwell("careless")

    @app.function(on="order/created")
    def process(ctx: Context[Any]) -> None:
        charges.append(ctx.run_id)  # outside of a step: done again by every attempt
        ctx.step.run("ship", lambda: None)

    def check(run: Run) -> None:
        seen = len(charges)
        charges.clear()
        assert seen == 1, f"charged {seen} times"

    with pytest.raises(SweepFailed) as raised:
        crash_sweep(app, ("order/created", {"order_id": "o-1"}), check=check, kinds=[FaultKind.CRASH_BEFORE])
    message = str(raised.value)
    assert "charged 2 times" in message
    assert "worker #" in message
    assert "dynamodb.PutItem RUN#careless." in message
    assert "Repeat it: LocalStepwell(app, seed=0, plan=FaultPlan([Fault(FaultKind.CRASH_BEFORE, at=" in message


def test_a_check_that_fails_without_any_fault_fails_plainly() -> None:
    def check(run: Run) -> None:
        raise AssertionError("always wrong")

    with pytest.raises(AssertionError, match=r"^always wrong$"):
        crash_sweep(Shop().app, OrderCreated(order_id="o-1"), check=check)


def test_a_run_that_takes_for_ever_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepwell.testing.sweep.FAR_AWAY", 86_400.0)
    shop = Shop(lambda ctx, shop: ctx.step.wait_for_event("paid", event="paid", timeout="300d"))
    with pytest.raises(AssertionError, match=r"The run never ends: <Run shop\..*suspended"):
        crash_sweep(shop.app, OrderCreated(order_id="o-1"), check=completed)


def test_what_the_function_waits_for_can_be_played() -> None:
    def body(ctx: Context[Any], shop: Shop) -> Any:
        paid = ctx.step.wait_for_event("paid", event="order/paid", match={"data.order_id": "o-1"}, timeout="1d")
        return paid.data if paid else "never"

    def check(run: Run) -> None:
        completed(run)
        assert run.result in ({"order_id": "o-1"}, "never")  # a fault may delay the wait past the event

    def play(local: LocalStepwell, event_id: str) -> None:
        local.advance("1h")  # past whatever the fault has delayed
        local.send("order/paid", {"order_id": "o-1"})

    kinds = [FaultKind.PARTIAL]
    assert crash_sweep(Shop(body).app, OrderCreated(order_id="o-1"), check=check, play=play, kinds=kinds) >= 2


def test_samples_share_the_fault_points_out_among_them() -> None:
    app = Stepwell("tiny")
    app.function(on="order/created", id="f")(lambda ctx: "done")
    event, kinds = OrderCreated(order_id="o-1"), [FaultKind.CRASH_BEFORE]
    whole = crash_sweep(app, event, check=completed, kinds=kinds)
    thirds = [crash_sweep(app, event, check=completed, kinds=kinds, every=3, first=first) for first in range(3)]
    assert sum(thirds) == whole
    assert max(thirds) - min(thirds) <= 1


def test_the_sweep_is_a_method_of_a_world_too() -> None:
    app = Stepwell("tiny")
    app.function(on="order/created", id="f")(lambda ctx: "done")
    with LocalStepwell(app) as local:
        kinds = [FaultKind.CRASH_AFTER]
        assert local.crash_sweep(OrderCreated(order_id="o-1"), check=completed, kinds=kinds) >= 5
