"""How a user tests the first function: docs/testing.md. tests/docs/test_users_tests.py runs these."""

from collections.abc import Callable

import pytest

from stepwell import Run
from stepwell.testing import LocalStepwell, crash_sweep

from . import guide, onboarding, outside
from .guide import OrderCreated
from .onboarding import EmailVerified, UserSignedUp, app

ADA = UserSignedUp(user_id="u-1", email="ada@example.com")


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The templates of the mails that went out."""
    outbox: list[str] = []
    monkeypatch.setattr(onboarding.send_mail, "fn", lambda to, template: outbox.append(template))
    return outbox


# [first]
def test_the_tips_come_after_three_days(sent: list[str]) -> None:
    with LocalStepwell(app) as local:
        event_id = local.send(ADA)
        local.run_until_idle()
        run = local.run(event_id, function="onboard")
        assert run is not None
        assert run.status == "suspended"
        assert "tips" not in sent

        local.advance("3d")
        run = local.run(event_id, function="onboard")
        assert run is not None
        assert run.status == "completed"
        assert "tips" in sent


# [end]


# [mock]
def test_an_outage_of_the_billing_system_delays_the_welcome(sent: list[str]) -> None:
    with LocalStepwell(app) as local:
        answers: list[Exception] = [ConnectionError("down"), ConnectionError("still down")]

        def create_account(user_id: str) -> str:
            if answers:
                raise answers.pop()
            return f"account-of-{user_id}"

        local.mock_step("create_account", calls=create_account)
        event_id = local.send(ADA)
        local.advance("1m")
        run = local.run(event_id, function="onboard")
        assert run is not None
        assert run.steps["create_account"].attempts == 3
        assert "welcome" in sent


# [end]


# [crash]
def test_a_crash_after_the_mail_sends_it_again(sent: list[str]) -> None:
    with LocalStepwell(app) as local:
        local.crash_after("welcome-mail")  # the mail is out, its record is not
        local.send(ADA)
        local.run_until_idle()
        assert sent.count("welcome") == 2  # so give your mail provider the idempotency key


# [end]


# [fixture]
def test_a_click_stops_the_reminder(local_stepwell: Callable[..., LocalStepwell], sent: list[str]) -> None:
    local = local_stepwell(app)
    event_id = local.send(ADA)
    local.run_until_idle()
    local.send(EmailVerified(user_id="u-1"))
    local.advance("2d")
    run = local.run(event_id, function="remind")
    assert run is not None
    assert run.result == "verified"
    assert "please-verify" not in sent


# [end]


# [sweep]
def test_whatever_fails_the_customer_pays_once() -> None:
    outside.reset()

    def check(run: Run) -> None:
        assert run.status == "completed"
        assert len(outside.bank.charges) == 1  # it may have been asked twice, with the same key
        outside.reset()

    order = OrderCreated(order_id="o-1", amount=4200, email="ada@example.com")
    points = crash_sweep(guide.app, order, check=check)
    assert points > 30  # every kind of fault at every call to AWS


# [end]
