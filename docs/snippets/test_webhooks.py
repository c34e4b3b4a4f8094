"""How webhooks are tested: docs/webhooks.md."""

# [test]
from stepwell.testing import LocalStepwell

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
