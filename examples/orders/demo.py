"""Play the shop on a virtual clock: `play` drives it and reports whatever did not end as it should."""

from collections.abc import Callable

from stepwell import Stepwell
from stepwell.testing import LocalStepwell

from . import fakes
from .app import OrderCreated, OrderShipped, UserSignedUp, app

apps: list[Stepwell] = [app]


def play(local: LocalStepwell, say: Callable[[str], None]) -> list[str]:
    """Send an order whose worker dies at the worst moment, and a sign-up while the CRM is down."""
    fakes.reset()
    return _an_order_is_charged_once(local, say) + _a_sign_up_fans_out(local, say)


def _an_order_is_charged_once(local: LocalStepwell, say: Callable[[str], None]) -> list[str]:
    problems: list[str] = []

    say("An order comes in. The worker dies after the card was charged, before that was recorded.")
    local.crash_after("charge_card")
    order = local.send(OrderCreated(order_id="o-1", amount=4200, card="tok_visa", email="ada@example.com"), id="o-1")
    local.advance("10m")
    say(f"The card processor was asked {fakes.payments.requests} times and charged {len(fakes.payments.ledger)} time.")
    if fakes.payments.requests != 2 or len(fakes.payments.ledger) != 1:
        problems.append("the crash should have led to two requests and one charge")

    say("Two days later the parcel leaves the warehouse. All that time the run was only a row in a table.")
    local.advance("2d")
    local.send(OrderShipped(order_id="o-1", tracking="TRACK-1"))
    local.run_until_idle()

    run = local.run(order)
    if run is None or run.status != "completed" or run.result["status"] != "shipped":
        problems.append(f"the order should have completed as shipped: {run}")
    letters = fakes.mail.templates(to="ada@example.com")
    say(f"Mails to the customer: {', '.join(letters)}.")
    if letters != ["order-confirmed", "order-shipped"]:
        problems.append(f"the customer should have had two mails, not {letters}")
    return problems


def _a_sign_up_fans_out(local: LocalStepwell, say: Callable[[str], None]) -> list[str]:
    problems: list[str] = []

    say("A user signs up: one event, three functions. The CRM is down; the other two do not notice.")
    fakes.crm.fail_next(3)
    sign_up = local.send(UserSignedUp(user_id="u-1", email="grace@example.com"))
    local.run_until_idle()
    if fakes.mail.templates(to="grace@example.com") != ["welcome"] or "u-1" not in fakes.trials.ends:
        problems.append("the welcome mail and the trial should not have waited for the CRM")

    local.advance("12d")
    say(f"The CRM answered at request {fakes.crm.requests}; eleven days in, the trial reminder went out.")
    for function in ("welcome-user", "sync-crm", "start-trial"):
        run = local.run(sign_up, function=function)
        if run is None or run.status != "completed":
            problems.append(f"{function} should have completed: {run}")
    if fakes.mail.templates(to="grace@example.com") != ["welcome", "trial-ends-soon"]:
        problems.append("the reminder should have followed the welcome mail")
    return problems
