"""The functions of docs/writing-functions.md, run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from docs.snippets import guide, onboarding, outside
from stepwell import Run
from stepwell.testing import LocalStepwell


@pytest.fixture
def local() -> Iterator[LocalStepwell]:
    outside.reset()
    with LocalStepwell(guide.app) as local:
        yield local


def play(local: LocalStepwell, name: str, data: dict[str, Any] | None = None, wait: str = "2d") -> Run:
    """Send an event, let time pass, and give the run."""
    event_id = local.send(name, data or {})
    local.run_until_idle()
    local.advance(wait)
    run = local.run(event_id)
    assert run is not None
    return run


def test_a_result_is_what_its_annotation_says(local: LocalStepwell) -> None:
    run = play(local, "guide/run")
    assert (run.status, run.result) == ("completed", {"charge": "ch-o-1-4200"})
    assert list(run.steps) == ["charge_card", "receipt", "second-try"]


def test_a_crash_between_charge_and_record_charges_once(local: LocalStepwell) -> None:
    local.crash_after("charge_card")
    run = play(local, "guide/run")
    assert run.status == "completed"
    assert outside.bank.requests == 3
    assert sorted(outside.bank.charges.values()) == ["ch-o-1-4200", "ch-o-2-100"]


def order(local: LocalStepwell) -> Run:
    return play(local, "order/created", {"order_id": "o-1", "amount": 5, "email": "ada@example.com"})


def test_a_rate_limit_is_waited_for(local: LocalStepwell) -> None:
    outside.bank.answers = [outside.RateLimited(3600)]
    run = order(local)
    step = run.steps["charge_politely"]
    assert (run.result, step.attempts) == ("ch-o-1-5", 2)
    assert step.ended_at is not None
    assert step.started_at is not None
    assert (step.ended_at - step.started_at).total_seconds() >= 3600


def test_a_refusal_is_not_tried_again_and_can_be_caught(local: LocalStepwell) -> None:
    outside.bank.answers = [outside.Refused("no such card")]
    run = order(local)
    assert (run.status, run.result) == ("completed", "unpaid")
    assert run.steps["charge_politely"].attempts == 1
    assert outside.mail == [("ada@example.com", "not charged: the bank refused: no such card")]


@pytest.mark.parametrize(("crashes", "printed", "result"), [(0, 1, "printed"), (1, 1, "nobody knows")])
def test_an_at_most_once_step_is_not_begun_again(local: LocalStepwell, crashes: int, printed: int, result: str) -> None:
    if crashes:
        local.crash_after("print_ticket", times=crashes)
    run = play(local, "guide/print")
    assert run.result.startswith(result)
    assert len(outside.printer.printed) == printed


def test_a_sleep_ends_at_its_time(local: LocalStepwell) -> None:
    run = play(local, "guide/sleep", wait="366d")
    assert (run.status, run.result) == ("completed", "2027-01-01T00:00:00+00:00")


def test_a_wait_takes_the_event_that_matches(local: LocalStepwell) -> None:
    event_id = local.send("guide/wait", {"order_id": "o-1"})
    local.run_until_idle()
    local.send(guide.OrderPaid(order_id="another"))
    local.send(guide.OrderPaid(order_id="o-1"))
    local.run_until_idle()
    local.send("order/refunded", {"order_id": "o-1", "amount": 100})
    local.run_until_idle()
    run = local.run(event_id, "waiting")
    assert run is not None
    assert run.status == "suspended"
    local.send("order/refunded", {"order_id": "o-1", "amount": 101})
    local.run_until_idle()
    run = local.run(event_id)
    assert run is not None
    assert run.result == [True, True]


def test_a_wait_since_the_start_takes_an_event_that_was_there_before_it(local: LocalStepwell) -> None:
    event_id = local.send("guide/since", {"order_id": "o-1"})
    local.advance("1m")
    local.send(guide.OrderPaid(order_id="o-1"))
    local.advance("10m")
    run = local.run(event_id, "since")
    assert run is not None
    assert (run.status, run.result) == ("completed", True)


def test_a_callback_is_answered_from_outside(local: LocalStepwell) -> None:
    event_id = local.send("guide/callback", {})
    local.run_until_idle()
    local.advance("9m")
    ((_, token),) = outside.renderer.orders
    guide.answer(token)
    local.run_until_idle()
    run = local.run(event_id)
    assert run is not None
    assert run.result == "https://example.com/intro.mp4"


def test_a_callback_without_heartbeats_is_out_of_time(local: LocalStepwell) -> None:
    assert play(local, "guide/callback").result.startswith("no answer")


def test_a_callback_may_report_a_failure(local: LocalStepwell) -> None:
    event_id = local.send("guide/callback", {})
    local.run_until_idle()
    local.client.fail_callback(outside.renderer.orders[0][1], "out of film")
    local.run_until_idle()
    run = local.run(event_id)
    assert run is not None
    assert run.result == "the renderer gave up: out of film"


def test_a_callback_may_be_awaited_later(local: LocalStepwell) -> None:
    event_id = local.send("guide/approve", {})
    local.run_until_idle()
    token = outside.mail[0][1].removeprefix("answer with ")
    local.client.complete_callback(token, "yes")
    local.run_until_idle()
    run = local.run(event_id)
    assert run is not None
    assert run.result == "yes"


def test_a_poll_asks_until_the_condition_holds(local: LocalStepwell) -> None:
    outside.stock.empty_for = 3
    run = play(local, "guide/poll")
    assert (run.result, run.steps["restocked"].attempts) == (7, 4)


def test_steps_run_side_by_side_and_a_tolerated_failure_takes_nothing_away(local: LocalStepwell) -> None:
    assert play(local, "guide/parallel").result == [[7, 7], [7, 7]]


def test_spread_steps_are_child_runs(local: LocalStepwell) -> None:
    run = play(local, "guide/spread")
    assert run.result == [["small-a", "small-b", "small-c"], ["tagged-a", "tagged-b", "tagged-c"]]
    assert all(step.child for step in run.steps.values())


def test_async_functions_gather(local: LocalStepwell) -> None:
    assert play(local, "guide/async").result == 18


def test_a_function_invokes_another(local: LocalStepwell) -> None:
    run = play(local, "guide/invoke")
    assert run.result == "invoice-o-1"
    child = run.steps["make-invoice"].child
    assert child is not None
    assert local.client.run(child).parent_id == run.id


def test_a_function_sends_events(local: LocalStepwell) -> None:
    run = play(local, "guide/send")
    assert len(run.result) == 2
    assert local.run(run.result[0], "audit") is not None


def test_a_failed_run_is_reported_once(local: LocalStepwell) -> None:
    run = play(local, "guide/fail")
    assert (run.status, run.attempt) == ("failed", 2)
    assert outside.mail == [("ops@example.com", "fails: no luck")]


def test_triggers_take_what_they_say(local: LocalStepwell) -> None:
    small, large = local.send("refund/made", {"amount": 100}), local.send("refund/made", {"amount": 101})
    local.run_until_idle()
    assert local.run(small) is None
    run = local.run(large)
    assert run is not None
    assert run.result == "refund/made"


def test_the_context_is_the_same_on_replay(local: LocalStepwell) -> None:
    event_id = local.send("guide/context", {})
    local.run_until_idle()
    run = local.run(event_id)
    assert run is not None
    assert run.progress is not None
    assert (run.progress["done"], run.progress["total"]) == (3, 10)
    local.advance("2m")
    run = local.run(event_id)
    assert run is not None
    assert run.result["deadline"] == "2026-01-01T01:00:00+00:00"


def test_events_are_sent_from_outside(local: LocalStepwell) -> None:
    ids = guide.send()
    local.run_until_idle()
    assert ids[1] == "paid-o-1"
    assert [run.status for run in local.client.runs_of_event(ids[2])] == ["scheduled"]
    assert local.run(ids[3], "audit") is not None
    local.advance("365d")
    assert [run.status for run in local.client.runs_of_event(ids[2])] == ["completed"]


def test_the_client_starts_replays_and_lists_runs(local: LocalStepwell) -> None:
    run_id, result, status, again, stopped, completed = guide.ask()
    assert (result, status) == ("invoice-o-1", "completed")
    assert again != run_id
    assert completed == [run_id]
    assert stopped is False
    local.run_until_idle()
    assert local.client.run(again).result == "invoice-o-1"


def test_the_first_function_survives_its_crash(capsys: pytest.CaptureFixture[str]) -> None:
    onboarding.play()
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["mail to ada@example.com: welcome", "mail to ada@example.com: please-verify"]
    assert lines[-1].startswith("completed {'account': 'account-of-u-1'}")


def test_the_second_function_notices_a_click() -> None:
    with LocalStepwell(onboarding.app) as local:
        event_id = local.send(onboarding.UserSignedUp(user_id="u-1", email="ada@example.com"))
        local.run_until_idle()
        local.send(onboarding.EmailVerified(user_id="u-1"))
        local.run_until_idle()
        run = local.run(event_id, "remind")
    assert run is not None
    assert run.result == "verified"
