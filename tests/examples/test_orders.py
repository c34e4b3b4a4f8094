"""The shop: what a customer sees, whatever breaks on the way."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from stepwell import Run, RunStatus
from stepwell.testing import FaultKind, LocalStepwell, crash_sweep
from stepwell_examples.orders import demo, fakes
from stepwell_examples.orders.app import OrderCancelled, OrderCreated, OrderShipped, UserSignedUp, app

ADA = "ada@example.com"
ORDER = OrderCreated(order_id="o-1", amount=4200, card="tok_visa", email=ADA)


@pytest.fixture(autouse=True)
def empty_world() -> None:
    fakes.reset()


@pytest.fixture
def local() -> Iterator[LocalStepwell]:
    with LocalStepwell(app) as world:
        yield world


def run_of(local: LocalStepwell, event_id: str, function: str | None = None) -> Run:
    run = local.run(event_id, function=function)
    assert run is not None
    return run


# ---- orders ----------------------------------------------------------------------------------------------------------


def test_an_order_is_charged_packed_confirmed_and_followed_until_it_ships(local: LocalStepwell) -> None:
    event_id = local.send(ORDER)
    local.run_until_idle()
    assert run_of(local, event_id).status == RunStatus.SUSPENDED
    assert fakes.mail.templates(to=ADA) == ["order-confirmed"]

    local.advance("3d")
    local.send(OrderShipped(order_id="o-2", tracking="somebody else's"))
    local.run_until_idle()
    assert run_of(local, event_id).status == RunStatus.SUSPENDED

    local.send(OrderShipped(order_id="o-1", tracking="TRACK-1"))
    local.run_until_idle()
    run = run_of(local, event_id)
    assert run.status == RunStatus.COMPLETED
    assert run.result == {"status": "shipped", "charge": "ch_1", "parcel": "parcel-1-ch_1", "tracking": "TRACK-1"}
    assert fakes.mail.sent == [fakes.Mail(ADA, "order-confirmed", "o-1"), fakes.Mail(ADA, "order-shipped", "TRACK-1")]
    assert [charge.amount for charge in fakes.payments.ledger] == [4200]


def test_an_order_is_found_by_its_number_and_says_what_it_waits_for(local: LocalStepwell) -> None:
    event_id = local.send(ORDER)
    local.send(ORDER.model_copy(update={"order_id": "o-7"}))
    local.run_until_idle()
    local.send(OrderShipped(order_id="o-7", tracking="TRACK-7"))
    local.run_until_idle()
    [run] = local.client.runs(tag="order=o-1")
    assert run.id == run_of(local, event_id).id
    told = local.client.why_waiting(run.id)
    assert told.startswith("waiting for order/shipped where data.order_id = o-1 until ")
    assert told.endswith("; 1 near miss: other order_id")


def test_an_order_is_forked_after_its_charge_and_nobody_pays_twice(local: LocalStepwell) -> None:
    event_id = local.send(ORDER)
    local.run_until_idle()
    fork = local.client.fork(run_of(local, event_id).id, "create_fulfillment")
    local.run_until_idle()
    assert local.client.run(fork).steps["charge_card"].result["id"] == "ch_1"
    assert (fakes.payments.requests, len(fakes.payments.ledger)) == (1, 1)


def test_an_order_that_does_not_ship_within_a_week_is_reported_late(local: LocalStepwell) -> None:
    event_id = local.send(ORDER)
    local.advance("6d")
    assert run_of(local, event_id).status == RunStatus.SUSPENDED
    local.advance("1d")
    run = run_of(local, event_id)
    assert run.status == RunStatus.COMPLETED
    assert run.result["status"] == "late"
    assert fakes.mail.templates(to=ADA) == ["order-confirmed", "order-delayed"]


def test_a_declined_card_is_told_to_the_customer_and_nothing_is_packed(local: LocalStepwell) -> None:
    event_id = local.send(ORDER.model_copy(update={"card": fakes.DECLINED_CARD}))
    local.run_until_idle()
    run = run_of(local, event_id)
    assert (run.status, run.result) == (RunStatus.COMPLETED, {"status": "declined"})
    assert fakes.payments.ledger == []
    assert fakes.warehouse.parcels == {}
    assert fakes.mail.templates(to=ADA) == ["card-declined"]


def test_a_crash_between_the_charge_and_its_record_charges_once(local: LocalStepwell) -> None:
    local.crash_after("charge_card")
    event_id = local.send(ORDER)
    local.advance("10m")
    assert fakes.payments.requests == 2
    assert len(fakes.payments.ledger) == 1
    assert run_of(local, event_id).steps["charge_card"].result["id"] == "ch_1"
    assert fakes.mail.templates(to=ADA) == ["order-confirmed"]


def test_an_answer_lost_on_the_way_back_charges_once(local: LocalStepwell) -> None:
    fakes.payments.lose_answers(2)
    event_id = local.send(ORDER)
    local.advance("10m")
    assert fakes.payments.requests == 3
    assert len(fakes.payments.ledger) == 1
    assert run_of(local, event_id).steps["charge_card"].attempts == 3


def test_a_processor_that_stays_down_fails_the_order_before_anything_else_happens(local: LocalStepwell) -> None:
    fakes.payments.fail_next(1_000)
    event_id = local.send(ORDER)
    local.advance("1h")
    run = run_of(local, event_id)
    assert run.status == RunStatus.FAILED
    assert run.error is not None
    assert run.error.type.endswith("ServiceUnavailable")
    assert run.steps["charge_card"].attempts == fakes.payments.requests == 6
    assert fakes.mail.sent == []


def test_the_same_order_sent_twice_is_one_order(local: LocalStepwell) -> None:
    first, second = local.send(ORDER, id="o-1"), local.send(ORDER, id="o-1")
    local.advance("8d")
    assert first == second
    assert len(local.client.runs_of_event(first)) == 1
    assert fakes.payments.requests == 1
    assert len(fakes.mail.sent) == 2


def test_a_replay_of_an_order_does_not_charge_again(local: LocalStepwell) -> None:
    event_id = local.send(ORDER)
    local.advance("8d")
    replay = local.client.replay(run_of(local, event_id).id)
    local.advance("8d")
    assert local.client.run(replay).status == RunStatus.COMPLETED
    assert fakes.payments.requests == 2
    assert len(fakes.payments.ledger) == 1


def test_an_order_that_is_called_off_stops_where_it_stands_and_the_money_goes_back(local: LocalStepwell) -> None:
    event_id, other = local.send(ORDER), local.send(ORDER.model_copy(update={"order_id": "o-2"}))
    local.advance("2d")
    cancelled = local.send(OrderCancelled(order_id="o-1"))
    local.advance("8d")
    run = run_of(local, event_id)
    assert (run.status, run.reason) == (RunStatus.CANCELLED, f"cancelled by order/cancelled {cancelled}")
    assert fakes.payments.refunds == {"ch_1": 4200}
    assert sorted(fakes.mail.templates(to=ADA)) == [
        "order-cancelled",
        "order-confirmed",
        "order-confirmed",
        "order-delayed",
    ]
    assert run_of(local, other).status == RunStatus.COMPLETED


def test_called_off_before_it_was_charged_it_never_is(local: LocalStepwell) -> None:
    fakes.payments.fail_next(3)
    event_id = local.send(ORDER)
    local.run_until_idle()
    local.send(OrderCancelled(order_id="o-1"))
    local.advance("1h")
    assert run_of(local, event_id).status == RunStatus.CANCELLED
    assert (fakes.payments.ledger, fakes.payments.refunds) == ([], {})
    assert fakes.mail.templates(to=ADA) == ["order-cancelled"]


@pytest.mark.slow
def test_wherever_the_worker_dies_the_customer_pays_once_and_hears_once() -> None:
    def check(run: Run) -> None:
        assert run.status == RunStatus.COMPLETED
        assert len(fakes.payments.ledger) == 1
        assert len(fakes.warehouse.parcels) == 1
        assert fakes.mail.templates(to=ADA) == ["order-confirmed", "order-delayed"]
        fakes.reset()  # the next crash happens in a new world

    deaths = (FaultKind.CRASH_BEFORE, FaultKind.CRASH_AFTER)
    assert crash_sweep(app, ORDER, check=check, kinds=deaths) > 40


# ---- sign-ups --------------------------------------------------------------------------------------------------------


def test_a_sign_up_starts_three_functions(local: LocalStepwell) -> None:
    event_id = local.send(UserSignedUp(user_id="u-1", email=ADA))
    local.run_until_idle()
    assert {run.function for run in local.client.runs_of_event(event_id)} == {
        "welcome-user",
        "sync-crm",
        "start-trial",
    }
    assert fakes.mail.templates(to=ADA) == ["welcome"]
    assert fakes.crm.contacts == {"u-1": ADA}
    assert list(fakes.trials.ends) == ["u-1"]


def test_the_trial_reminder_comes_three_days_before_the_end(local: LocalStepwell) -> None:
    event_id = local.send(UserSignedUp(user_id="u-1", email=ADA))
    local.advance("10d 23h")
    assert fakes.mail.templates(to=ADA) == ["welcome"]
    local.advance("1h 1m")
    assert fakes.mail.templates(to=ADA) == ["welcome", "trial-ends-soon"]
    assert run_of(local, event_id, "start-trial").status == RunStatus.COMPLETED


def test_a_crm_that_is_down_for_good_fails_its_own_run_only(local: LocalStepwell) -> None:
    fakes.crm.fail_next(1_000)
    event_id = local.send(UserSignedUp(user_id="u-1", email=ADA))
    local.advance("12d")
    assert run_of(local, event_id, "sync-crm").status == RunStatus.FAILED
    assert run_of(local, event_id, "welcome-user").status == RunStatus.COMPLETED
    assert run_of(local, event_id, "start-trial").status == RunStatus.COMPLETED


def test_the_demo_ends_well(local: LocalStepwell) -> None:
    said: list[str] = []
    assert demo.play(local, said.append) == []
    assert any("charged 1 time" in line for line in said)


def test_what_the_readme_shows_runs(capsys: pytest.CaptureFixture[str]) -> None:
    readme = Path(demo.__file__).with_name("README.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    exec(code, {})
    assert capsys.readouterr().out.startswith("completed {'status': 'late', 'charge': 'ch_1', ")


# ---- the fakes keep their promises -----------------------------------------------------------------------------------


def test_the_card_processor_answers_a_known_key_with_the_charge_it_made() -> None:
    first = fakes.payments.charge("o-1", 100, "tok_visa", idempotency_key="k")
    assert fakes.payments.charge("o-1", 100, "tok_visa", idempotency_key="k") == first
    assert fakes.payments.charge("o-1", 100, "tok_visa", idempotency_key="other") != first
    assert len(fakes.payments.ledger) == 2


def test_the_card_processor_refuses_a_key_that_comes_back_with_another_amount() -> None:
    fakes.payments.charge("o-1", 100, "tok_visa", idempotency_key="k")
    with pytest.raises(fakes.KeyReused, match="100 cents of order o-1"):
        fakes.payments.charge("o-1", 200, "tok_visa", idempotency_key="k")


def test_a_lost_answer_means_the_money_was_taken_and_an_outage_means_it_was_not() -> None:
    fakes.payments.fail_next(1)
    with pytest.raises(fakes.ServiceUnavailable):
        fakes.payments.charge("o-1", 100, "tok_visa", idempotency_key="k")
    assert fakes.payments.ledger == []
    fakes.payments.lose_answers(1)
    with pytest.raises(fakes.ConnectionLost):
        fakes.payments.charge("o-1", 100, "tok_visa", idempotency_key="k")
    assert len(fakes.payments.ledger) == 1
