"""The functions of docs/ends.md, run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from docs.snippets import ends
from stepwell import Run
from stepwell.testing import LocalStepwell


@pytest.fixture
def local() -> Iterator[LocalStepwell]:
    ends.said.clear()
    with LocalStepwell(ends.app) as local:
        yield local


def run_of(local: LocalStepwell, event_id: str, function: str | None = None) -> Run:
    run = local.run(event_id, function)
    assert run is not None
    return run


def test_an_order_is_called_off_and_the_books_know(local: LocalStepwell) -> None:
    one = local.send(ends.OrderCreated(order_id="o-1"))
    other = local.send(ends.OrderCreated(order_id="o-2"))
    local.advance("1d")
    stop = local.send(ends.OrderCancelled(order_id="o-1"))
    local.advance("2d")
    assert run_of(local, one).reason == f"cancelled by order/cancelled {stop}"
    assert run_of(local, other).result == "shipped"
    assert ends.said == [
        f"o-1 cancelled: cancelled by order/cancelled {stop}",
        "shipped o-2",
        "o-2 completed: shipped",
    ]


@pytest.mark.parametrize(
    ("reason", "after", "status"),
    [("fire", "59m", "cancelled"), ("lunch", "59m", "suspended"), ("fire", "61m", "suspended")],
)
def test_the_shop_closes_for_young_orders_and_not_for_lunch(
    local: LocalStepwell, reason: str, after: str, status: str
) -> None:
    event_id = local.send(ends.OrderCreated(order_id="o-1"))
    local.advance(after)
    local.send("shop/closed", {"reason": reason})
    local.run_until_idle()
    assert run_of(local, event_id).status == status


def test_a_report_takes_two_hours_at_most(local: LocalStepwell) -> None:
    event_id = local.send("report/wanted", {})
    local.advance("1h59m59s")
    assert run_of(local, event_id).status == "suspended"
    local.advance("1s")
    assert (run_of(local, event_id).status, run_of(local, event_id).reason) == (
        "cancelled",
        "not finished within 2h",
    )


def test_a_detached_mail_is_sent_long_after_the_run_that_asked_for_it(local: LocalStepwell) -> None:
    event_id = local.send("user/signed-up", {"email": "ada@example.com"})
    local.run_until_idle()
    run = run_of(local, event_id)
    assert run.status == "completed"
    local.advance("9h")
    assert local.client.run(run.result).result == "sent"
    assert ends.said == ["mail to ada@example.com"]


def test_a_failure_is_handled_with_its_event_and_heard_of_elsewhere(local: LocalStepwell) -> None:
    event_id = local.send("refund/wanted", {"order_id": "o-1"})
    local.advance("1h")
    assert run_of(local, event_id).status == "failed"
    assert sorted(ends.said) == ["give-back failed: the bank is closed", "o-1: ConnectionError in bank"]
