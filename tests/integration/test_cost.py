"""Cost is a feature: what a run takes, in billable requests, index writes and item sizes included."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from stepwell import RunStatus, Stepwell
from stepwell.testing import LocalStepwell
from stepwell.testing.meter import Requests

from .support import Declare, Deploy, run_of


def five_steps(ctx: Any) -> Iterator[Any]:
    for n in range(5):
        yield ctx.step.run(f"step-{n}", lambda n=n: {"n": n, "charge": f"ch_{n:030d}"})


def warm(local: LocalStepwell) -> None:
    """Let every Lambda start: a cold start reads the registered apps once."""
    local.send("go", {})
    local.run_until_idle()


def spent(local: LocalStepwell, before: Requests) -> tuple[float, float, int, int]:
    cost = local.requests - before
    return cost.write_units, cost.read_units, cost.sqs, cost.invocations["worker"]


def test_a_run_of_five_small_steps(app: Stepwell, declare_plain: Declare, deploy: Deploy) -> None:
    declare_plain(app, five_steps)
    local = deploy(app)
    warm(local)
    before = local.requests
    event_id = local.send("go", {"order_id": "o-1", "email": "ada@example.com"})
    local.run_until_idle()
    assert run_of(local, event_id).status == RunStatus.COMPLETED
    writes, reads, sqs, workers = spent(local, before)
    assert writes <= 11
    assert reads <= 2
    assert sqs <= 3
    assert workers == 1
    assert (local.requests - before).s3 == 0


def test_with_an_id_of_the_senders_the_event_has_an_item_of_its_own(
    app: Stepwell, declare_plain: Declare, deploy: Deploy
) -> None:
    declare_plain(app, five_steps)
    local = deploy(app)
    warm(local)
    before = local.requests
    local.send("go", {"order_id": "o-1"}, id="o-1")
    local.run_until_idle()
    assert run_of(local, "o-1").status == RunStatus.COMPLETED
    writes, reads, sqs, workers = spent(local, before)
    assert writes <= 12
    assert (reads <= 2, sqs <= 3, workers) == (True, True, 1)


def test_a_batch_shares_what_the_queue_costs(app: Stepwell, declare_plain: Declare, deploy: Deploy) -> None:
    declare_plain(app, five_steps)
    local = deploy(app)
    warm(local)
    before = local.requests
    local.client.send([{"name": "go", "data": {"n": n}} for n in range(10)])
    local.run_until_idle()
    writes, reads, sqs, workers = spent(local, before)
    assert sqs == 3, "sent, received and deleted, once for all ten"
    assert reads <= 2
    assert (writes <= 110, workers) == (True, 10)
    assert (local.requests - before).invocations["orchestrator"] == 1


@pytest.mark.parametrize("id", [None, "mine"])
def test_an_event_nobody_listens_to_costs_one_write_unit(app: Stepwell, deploy: Deploy, id: str | None) -> None:
    app.function(on="go", id="fn")(lambda ctx: None)
    local = deploy(app)
    warm(local)
    before = local.requests
    local.send("nobody/listens", {"n": 1}, id=id)
    local.run_until_idle()
    writes, reads, sqs, workers = spent(local, before)
    assert (writes, sqs, workers) == (1, 3, 0)
    assert reads <= 2


def test_a_duplicate_costs_no_worker(app: Stepwell, declare_plain: Declare, deploy: Deploy) -> None:
    declare_plain(app, five_steps)
    local = deploy(app)
    local.send("go", {"n": 1}, id="o-1")
    local.advance("1m")
    before = local.requests
    local.send("go", {"n": 1}, id="o-1")
    local.run_until_idle()
    writes, _, _, workers = spent(local, before)
    assert workers == 0
    assert writes <= 2


def test_time_and_chance_and_the_logger_cost_nothing(app: Stepwell, declare_plain: Declare, deploy: Deploy) -> None:
    def body(ctx: Any) -> Any:
        for _ in range(100):
            ctx.now(), ctx.uuid(), ctx.random(), ctx.logger.debug("again")
        yield from five_steps(ctx)

    declare_plain(app, body)
    local = deploy(app)
    warm(local)
    before = local.requests
    local.send("go", {"order_id": "o-1"})
    local.run_until_idle()
    assert spent(local, before)[0] <= 11


def test_a_sleep_of_any_length_is_worth_few_requests(app: Stepwell, declare_plain: Declare, deploy: Deploy) -> None:
    def body(ctx: Any) -> Any:
        yield ctx.step.sleep("long", "300d")

    declare_plain(app, body)
    local = deploy(app)
    event_id = local.send("go", {})
    before = local.requests
    local.advance("301d")
    assert run_of(local, event_id).status == RunStatus.COMPLETED
    writes, _, sqs, workers = spent(local, before)
    assert workers == 2
    assert writes <= 20
    assert sqs <= 12


def test_a_claim_check_is_paid_for_in_s3_and_not_in_write_units(
    app: Stepwell, declare_plain: Declare, deploy: Deploy
) -> None:
    noise = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=300_000))

    def body(ctx: Any) -> Any:
        yield ctx.step.run("big", lambda: noise)

    declare_plain(app, body)
    local = deploy(app)
    warm(local)
    before = local.requests
    local.send("go", {})
    local.run_until_idle()
    cost = local.requests - before
    assert cost.write_units <= 7
    assert cost.s3 <= 2
