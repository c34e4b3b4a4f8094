"""Dead letters through the client and the command: seen without being taken, and sent back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from stepwell import Context, RunStatus, Stepwell
from stepwell.cli.root import cli
from stepwell.engine import accept
from stepwell.engine.starting import start_run
from stepwell.errors import InvalidOption, UnknownLetter
from stepwell.testing import LocalStepwell

app = Stepwell("shop")


@app.function(on="order/created", id="note")
def note(ctx: Context[Any]) -> int:
    return int(ctx.event.data["amount"])


@pytest.fixture
def local() -> Iterator[LocalStepwell]:
    with LocalStepwell(app) as world:
        yield world


def test_looking_at_dead_letters_takes_nothing_away(local: LocalStepwell) -> None:
    send_raw(local, "no json", '{"data": {}}')
    for _ in range(2):
        letters = {letter.body: letter for letter in local.client.dead_letters()}
        assert set(letters) == {"no json", '{"data": {}}'}
        assert letters["no json"].code == "not-json"
        assert "needs a name" in letters['{"data": {}}'].reason


def test_one_dead_letter_is_redriven_and_the_others_stay(local: LocalStepwell) -> None:
    send_raw(local, "one", "two")
    chosen = next(letter for letter in local.client.dead_letters() if letter.body == "two")
    assert local.client.redrive(chosen.id) == 1
    assert [letter.body for letter in local.client.dead_letters()] == ["one"]
    local.run_until_idle()  # it is as broken as before
    assert sorted(letter.body for letter in local.client.dead_letters()) == ["one", "two"]


def test_a_letter_that_there_is_not_is_refused_and_the_others_stay(local: LocalStepwell) -> None:
    send_raw(local, "one")
    with pytest.raises(UnknownLetter, match="no dead letter nope"):
        local.client.redrive("nope")
    assert [letter.body for letter in local.client.dead_letters()] == ["one"]
    assert "unknown-letter" in stepwell("dlq", "redrive", "nope", status=1)


def test_a_duplicate_that_was_refused_can_be_redriven_again_and_again(local: LocalStepwell) -> None:
    local.send("order/created", {"amount": 1}, id="o-1")
    local.send("order/created", {"amount": 2}, id="o-1")
    local.run_until_idle()
    for _ in range(3):
        assert local.client.redrive() == 1
        local.run_until_idle()
    (run,) = local.client.runs_of_event("o-1")
    assert (run.status, run.result) == (RunStatus.COMPLETED, 1) or (run.status, run.result) == (RunStatus.COMPLETED, 2)
    assert len(list(local.client.dead_letters())) == 1


@pytest.mark.parametrize("own", [{}, {"id": "o-1"}])
def test_an_event_that_was_handled_in_part_starts_nothing_twice_when_it_is_sent_back(
    own: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one whose sender gave it no id: it goes by the id it had, though SQS knows the message under a new one."""
    shop, ran = Stepwell("shop"), list[str]()
    for name in ("a", "b"):
        shop.function(on="order", id=name, retries=0)(lambda ctx, name=name: ran.append(name))

    def failing(ports: Any, app: str, function: str, *args: Any, **options: Any) -> Any:
        if function == "b":
            raise ConnectionError("an outage while b is started")
        return start_run(ports, app, function, *args, **options)

    with LocalStepwell(shop) as local:
        with monkeypatch.context() as patch:
            patch.setattr(accept, "start_run", failing)
            send_raw(local, json.dumps({"name": "order", "data": {"n": 1}, **own}))
            local.advance("6h")
        assert ran == ["a"]
        assert [letter.code for letter in local.dead_letters()] == ["too-many-receives"]
        for _ in range(2):  # and once more, should somebody do that by mistake
            assert local.client.redrive() <= 1
            local.run_until_idle()
        assert ran == ["a", "b"]


def test_the_command_lists_shows_and_redrives(local: LocalStepwell) -> None:
    send_raw(local, "broken")
    (listed,) = json.loads(stepwell("dlq", "list", "--json"))
    assert listed["code"] == "not-json"
    assert "not-json" in stepwell("dlq", "list")
    assert "broken" in stepwell("dlq", "show", listed["id"])
    assert json.loads(stepwell("dlq", "redrive", listed["id"], "--json")) == {"redriven": 1}
    assert "every message was handled" in stepwell("dlq", "list")
    assert "unknown-letter" in stepwell("dlq", "show", "nothing", status=1)
    assert "which-letter" in stepwell("dlq", "redrive", status=1)
    local.run_until_idle()


def test_without_a_known_queue_the_client_says_so(local: LocalStepwell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STEPWELL_DLQ_URL")
    from stepwell import Client

    with pytest.raises(InvalidOption, match="STEPWELL_DLQ_URL"):
        list(Client.from_env().dead_letters())


def send_raw(local: LocalStepwell, *bodies: str) -> None:
    import boto3

    sqs = boto3.client("sqs", region_name="us-east-1")
    for body in bodies:
        sqs.send_message(QueueUrl=local.queue_url, MessageBody=body)
    local.run_until_idle()


def stepwell(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(cli, list(arguments))
    assert result.exit_code == status, result.output
    return result.output
