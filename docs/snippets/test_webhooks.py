"""How webhooks are tested: docs/webhooks.md."""

from datetime import timedelta

# [test]
from stepwell.testing import LocalStepwell
from stepwell.webhooks import Limit

from .webhooks import WEBHOOKS, app


def test_an_issue_that_is_opened_is_triaged_once() -> None:
    with LocalStepwell(app, webhooks=WEBHOOKS) as local:
        issue = {"action": "opened", "issue": {"number": 7}, "repository": {"full_name": "example/shop"}}
        headers = {"X-GitHub-Event": "issues", "X-GitHub-Delivery": "d-1"}
        first = local.webhook("github", issue, headers=headers)  # signed as GitHub would
        again = local.webhook("github", issue, headers=headers)  # it delivers again what somebody asks it to
        assert (first.status, again.status) == (202, 202)
        assert first.json()["ids"] == again.json()["ids"]
        local.run_until_idle()
        run = local.run(first.json()["ids"][0])
        assert run is not None
        assert run.result == "opened #7"


def test_a_forged_delivery_is_refused() -> None:
    with LocalStepwell(app, webhooks=WEBHOOKS) as local:
        reply = local.http("POST", "/w/github", body={"action": "opened"}, headers={"X-Hub-Signature-256": "sha256=00"})
        assert reply.status == 401


# [end]


# [event-key]
def test_the_website_may_send_orders_and_nothing_else() -> None:
    with LocalStepwell(app) as local:
        key = local.event_key(events=["order/*"], limit=Limit(100, "1m"))
        order = {"name": "order/created", "data": {"order_id": "o-1"}}
        once = local.http("POST", f"/e/{key}", body=order, headers={"Idempotency-Key": "checkout-17"})
        again = local.http("POST", f"/e/{key}", body=order, headers={"Idempotency-Key": "checkout-17"})
        assert once.status == 202
        assert once.json()["ids"] == again.json()["ids"]  # one event
        assert local.http("POST", f"/e/{key}", body={"name": "user/deleted", "data": {}}).status == 403


# [end]


def test_what_the_mailer_says_has_its_own_time_and_tenant() -> None:
    with LocalStepwell(app, webhooks=WEBHOOKS) as local:
        at = local.now().replace(hour=0, minute=0) - timedelta(minutes=5)
        bounced = {"type": "bounced", "timestamp": at.isoformat(), "data": {"account": "acme", "to": "ada@example.com"}}
        reply = local.webhook("mailer", bounced)
        assert reply.status == 202
        local.run_until_idle()
        run = local.run(reply.json()["ids"][0])
        assert run is not None
        assert run.result == "ada@example.com at 23:55 for acme"
