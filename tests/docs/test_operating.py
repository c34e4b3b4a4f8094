"""The examples of docs/operations.md, run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from docs.snippets import operating
from stepwell.engine import orchestrate
from stepwell.testing import LocalStepwell


@pytest.fixture
def local() -> Iterator[LocalStepwell]:
    operating.processed.clear()
    with LocalStepwell(operating.app) as local:
        yield local


def test_a_function_is_held_back_while_something_is_repaired(local: LocalStepwell) -> None:
    def repair() -> None:
        for order in ("o-1", "o-2"):
            local.send("order/created", {"order_id": order})
            local.run_until_idle()
        assert operating.processed == []

    operating.hold_back(repair)
    local.run_until_idle()
    assert operating.processed == ["o-1", "o-2"]


def test_what_could_not_be_handled_is_sent_back_and_what_is_wrong_stays(
    local: LocalStepwell, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*args: Any) -> None:
        raise ConnectionError("an outage of more than five hours")

    with monkeypatch.context() as patch:
        patch.setattr(orchestrate, "_handle", down)
        local.send("order/created", {"order_id": "o-3"})
        local.advance("6h")
    boto3.client("sqs").send_message(QueueUrl=local.queue_url, MessageBody="no json")
    local.run_until_idle()
    operating.send_back()
    local.run_until_idle()
    assert operating.processed == ["o-3"]
    assert [letter.body for letter in local.client.dead_letters()] == ["no json"]
    assert "not-json The message is not JSON" in capsys.readouterr().out
