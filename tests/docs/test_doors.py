"""The code of docs/webhooks.md and docs/sources.md, run."""

from __future__ import annotations

from typing import Any

import pytest

from docs.snippets import sources, webhooks
from docs.snippets.test_webhooks import *  # noqa: F403
from stepwell.queue import Message
from stepwell.testing import LocalStepwell


def result_of(local: LocalStepwell) -> Any:
    local.run_until_idle()
    (run,) = local.client.runs(status="completed")
    return run.result


@pytest.mark.parametrize(
    ("body", "result"),
    [
        (
            {
                "Records": [
                    {
                        "eventSource": "aws:s3",
                        "eventName": "ObjectCreated:Put",
                        "s3": {"bucket": {"name": "uploads"}, "object": {"key": key, "size": 1, "sequencer": "1"}},
                    }
                    for key in ("in/a+b.csv", "in/other.txt")
                ]
            },
            "uploads/in/a b.csv",
        ),
        (
            {"id": "1", "source": "com.example.shop", "detail-type": "Order Placed",
             "detail": {"order_id": "o-1", "amount": 42}},
            42,
        ),
        ({"id": "2", "source": "aws.ec2", "detail-type": "Any Thing", "detail": {"state": "running"}}, "running"),
        (
            {"Type": "Notification", "MessageId": "3", "TopicArn": "arn:aws:sns:eu-west-1:1:alerts", "Subject": "Fire",
             "Message": '{"text": "in the kitchen"}'},
            "Fire: in the kitchen",
        ),
    ],
)  # fmt: skip
def test_services_of_aws_start_functions(body: dict[str, Any], result: Any) -> None:
    with LocalStepwell(sources.app) as local:
        local.client._ports.queue.send(Message(body))
        assert result_of(local) == result


def test_the_video_house_is_understood() -> None:
    with LocalStepwell(webhooks.app, webhooks=webhooks.WEBHOOKS) as local:
        video = {"id": "v-1", "url": "https://video.example/v-1"}
        for status in ("progress", "ready", "ready"):
            local.webhook("video-house", {"delivery_id": f"d-{status}", "status": status, "video": video})
        assert result_of(local) == "https://video.example/v-1"


def test_a_checkout_is_fulfilled() -> None:
    with LocalStepwell(webhooks.app, webhooks=webhooks.WEBHOOKS) as local:
        event = {
            "id": "evt_1",
            "type": "checkout.session.completed",
            "created": 1,
            "data": {"object": {"client_reference_id": "o-1"}},
        }
        local.webhook("stripe", event)
        assert result_of(local) == "o-1"


def test_the_boss_answers_by_url() -> None:
    with LocalStepwell(webhooks.app) as local:
        local.send("hooks/approve")
        local.run_until_idle()
        assert local.http("POST", webhooks.asked.pop(), body={"approved": True}).status == 200
        assert result_of(local) is True
