"""What the README says a run costs, counted by AWS's rules of billing."""

from __future__ import annotations

from typing import Any

from stepwell import Context, Stepwell
from stepwell.testing import LocalStepwell
from stepwell.testing.meter import Requests

app = Stepwell("costs")


@app.function(on="order/created")
def five_steps(ctx: Context[Any]) -> None:
    for number in range(5):
        ctx.step.run(f"step-{number}", lambda number=number: {"number": number})


def cost_of(name: str, **options: Any) -> Requests:
    """What one event costs in a world that has seen one before, so that nothing is looked up for the first time."""
    with LocalStepwell(app) as local:
        local.send("order/created", {"order_id": "o-1"})
        local.run_until_idle()
        before = local.requests
        local.send(name, {"order_id": "o-2"}, **options)
        local.run_until_idle()
        return local.requests - before


def test_a_run_of_five_small_steps() -> None:
    cost = cost_of("order/created")
    assert (cost.write_units, cost.read_units, cost.sqs, cost.invocations["worker"]) == (11, 2, 3, 1)


def test_an_event_with_an_id_of_its_senders_costs_a_write_more() -> None:
    assert cost_of("order/created", id="o-2").write_units == 12


def test_an_event_that_nobody_listens_to() -> None:
    assert cost_of("nothing/listens").write_units == 1
