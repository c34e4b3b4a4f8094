"""Dead letters through the client and the command: seen without being taken, and sent back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import boto3
import pytest
from typer.testing import CliRunner

from stepwell import CancelOn, Context, RunStatus, Stepwell, Trigger
from stepwell.cli.root import cli
from stepwell.dead_letters import DeadLetter, DeadLetters
from stepwell.engine import accept
from stepwell.engine.starting import start_run
from stepwell.errors import InvalidOption, NotRedriven, UnknownLetter
from stepwell.queue import MAX_BYTES, Message
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


# Amazon EventBridge user guide, "Using dead-letter queues to process undelivered events": the attributes of a letter.
UNDELIVERED = {
    "RULE_ARN": "arn:aws:events:us-east-1:123456789012:rule/Orders",
    "TARGET_ARN": "arn:aws:sqs:us-east-1:123456789012:main",
    "ERROR_CODE": "NO_PERMISSIONS",
    "ERROR_MESSAGE": "Lack of permissions to invoke cross account target.",
}


def test_what_eventbridge_could_not_deliver_says_so_in_its_words_and_can_be_sent_back() -> None:
    placed = {"id": "e-1", "source": "shop", "detail-type": "order", "detail": {"amount": 7}}
    letter, result = redriven(placed, **UNDELIVERED)
    assert letter.code == "undelivered"
    assert letter.reason == (
        "EventBridge could not put this event of the rule arn:aws:events:us-east-1:123456789012:rule/Orders on the main "
        "queue: NO_PERMISSIONS: Lack of permissions to invoke cross account target."
    )
    assert result == ["aws/eventbridge/shop/order", "e-1"]


def test_what_sns_could_not_deliver_comes_without_a_reason_and_none_is_made_up() -> None:
    told = {"Type": "Notification", "MessageId": "m-1", "TopicArn": "arn:aws:sns:us-east-1:1:alerts", "Message": "fire"}
    letter, result = redriven(told)
    assert letter.code == "no-reason"
    assert "Nobody says why" in letter.reason
    assert result == ["aws/sns/alerts", "m-1"]


def test_a_message_too_large_for_its_reason_is_a_dead_letter_all_the_same(local: LocalStepwell) -> None:
    for room in (0, 10, 60, 200):
        send_raw(local, "x" * (MAX_BYTES - room))
    letters = {len(letter.body): letter for letter in local.dead_letters()}
    assert set(letters) == {MAX_BYTES - room for room in (0, 10, 60, 200)}
    assert [letters[MAX_BYTES - room].code for room in (0, 60, 200)] == ["no-reason", "not-json", "not-json"]
    assert letters[MAX_BYTES - 200].reason.startswith("The message is not JSON")
    assert local.world.failures == []
    assert local.client.redrive() == 4


@pytest.mark.parametrize("room", [0, 20, 100])
def test_an_event_too_large_for_its_id_is_the_same_event_when_it_is_sent_back(
    room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, ran = Stepwell("shop"), list[tuple[str, str, int, datetime]]()
    for name in ("a", "b"):
        shop.function(on="order", id=name, retries=0)(
            lambda ctx, name=name: ran.append((name, ctx.event.id, len(ctx.event.data["text"]), ctx.event.ts))
        )

    def failing(ports: Any, app: str, function: str, *args: Any, **options: Any) -> Any:
        if function == "b":
            raise ConnectionError("an outage while b is started")
        return start_run(ports, app, function, *args, **options)

    empty = json.dumps({"name": "order", "data": {"text": ""}})
    body = empty.replace('""', f'"{"x" * (MAX_BYTES - room - len(empty))}"')
    with LocalStepwell(shop) as local:
        with monkeypatch.context() as patch:
            patch.setattr(accept, "start_run", failing)
            send_raw(local, body)
            local.advance("6h")
        assert [letter.code for letter in local.dead_letters()] == ["too-many-receives"]
        assert local.client.redrive() == 1
        local.run_until_idle()
        assert [name for name, *_ in ran] == ["a", "b"]
        assert len({tuple(rest) for _, *rest in ran}) == 1
        assert local.dead_letters() == []


@pytest.mark.parametrize("room", [0, 20, 100])
def test_an_event_too_large_for_its_id_is_as_old_as_it_is_when_it_is_sent_back(
    room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Stepwell("shop")
    shop.function(on="order", id="fulfil", cancel_on=CancelOn("stop"))(lambda ctx: ctx.step.sleep("rest", "1d"))

    def failing(*args: Any, **options: Any) -> Any:
        raise ConnectionError("an outage")

    empty = json.dumps({"name": "order", "data": {"text": ""}})
    with LocalStepwell(shop) as world:
        with monkeypatch.context() as patch:
            patch.setattr(accept, "start_run", failing)
            send_raw(world, empty.replace('""', f'"{"x" * (MAX_BYTES - room - len(empty))}"'))
            world.advance("6h")
        world.send("stop")
        world.advance("1h")
        assert world.client.redrive() == 1
        world.run_until_idle()
        assert [run.status for run in world.client.runs()] == [RunStatus.CANCELLED]


def test_one_that_cannot_be_sent_back_does_not_keep_the_others(
    local: LocalStepwell, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_raw(local, "one", "two", "three")
    send_back = DeadLetters._send_back

    def failing(letters: DeadLetters, letter: DeadLetter) -> None:
        if letter.body == "two":
            raise ConnectionError("SQS does not take this one")
        send_back(letters, letter)

    (stays,) = [letter.id for letter in local.client.dead_letters() if letter.body == "two"]
    with monkeypatch.context() as patch:
        patch.setattr(DeadLetters, "_send_back", failing)
        with pytest.raises(NotRedriven, match=f"2 of 3 dead letters.*{stays}: SQS does not take"):
            local.client.redrive()
        assert [letter.body for letter in local.client.dead_letters()] == ["two"]
        assert "not-redriven" in stepwell("dlq", "redrive", "--all", status=1)
    local.run_until_idle()
    assert local.client.redrive() == 3


def test_the_list_shows_each_letter_on_one_line_with_its_reason_cut_to_what_room_there_is(local: LocalStepwell) -> None:
    send_raw(local, '{"name": "order created", "data": {}}', "broken " * 40)
    listed = [line for line in stepwell("dlq", "list").splitlines() if "invalid-event" in line or "not-json" in line]
    assert len(listed) == 2
    assert any("Event name 'order created'" in line for line in listed)
    assert any("The message is not JSON" in line for line in listed)
    narrow = [line.rstrip() for line in stepwell("dlq", "list", COLUMNS="80").splitlines()]
    assert all(len(line) <= 80 for line in narrow)
    assert any(letter.id in line and "The mess" in line for letter in local.client.dead_letters() for line in narrow)


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[LocalStepwell, list[bool]]]:
    """A world in which no run can be started while the list is not empty."""
    shop, broken = Stepwell("shop"), list[bool]()

    @shop.function(on="order", id="fulfil", cancel_on=CancelOn("stop", match={"data.n": "event.data.n"}))
    def fulfil(ctx: Context[Any]) -> str:
        ctx.step.sleep("rest", "2d")
        return "shipped"

    def failing(*args: Any, **options: Any) -> Any:
        if broken:
            raise ConnectionError("an outage")
        return start_run(*args, **options)

    monkeypatch.setattr(accept, "start_run", failing)
    with LocalStepwell(shop) as world:
        yield world, broken


@pytest.mark.parametrize("given", [{"id": "o-1"}, {}])
@pytest.mark.parametrize("outages", [1, 2])
def test_what_cancels_a_run_that_could_not_be_started_cancels_it_when_its_event_is_sent_back(
    orders: tuple[LocalStepwell, list[bool]], given: dict[str, Any], outages: int
) -> None:
    """It counts from when its event was received first, however often that is sent back."""
    local, broken = orders
    broken.append(True)
    local.send("stop", {"n": 1})
    local.advance("1m")
    local.client._ports.queue.send(Message({"name": "order", "data": {"n": 1}, **given}))
    local.client._ports.queue.send(Message({"name": "order", "data": {"n": 2}}))
    local.advance("6h")
    local.send("stop", {"n": 1})
    for _ in range(outages - 1):
        local.advance("1h")
        assert local.client.redrive() == 2
        local.advance("6h")
    assert [letter.code for letter in local.dead_letters()] == ["too-many-receives"] * 2
    broken.clear()
    assert local.client.redrive() == 2
    local.run_until_idle()
    ends = {run.event.data["n"]: run.status for run in local.client.runs()}
    assert ends == {1: RunStatus.CANCELLED, 2: RunStatus.SUSPENDED}


def test_a_cancelling_event_that_is_sent_back_spares_what_began_after_it_was_received(local: LocalStepwell) -> None:
    """Whatever kept it from being handled, and also if its sender gave it neither id nor time."""
    shop = Stepwell("shop")
    endless = "event.data.l.all(a, event.data.l.all(b, event.data.l.all(c, a + b + c >= 0)))"
    shop.function(on=Trigger("stop", where=endless), id="undecided")(lambda ctx: None)

    @shop.function(on="order", id="fulfil", cancel_on=CancelOn("stop"))
    def fulfil(ctx: Context[Any]) -> bool:
        return ctx.step.wait_for_event("halt", event="stop", timeout="1d") is not None

    with LocalStepwell(shop) as world:
        before = world.send("order")
        world.advance("1m")
        send_raw(world, json.dumps({"name": "stop", "data": {"l": list(range(100))}}))
        assert [letter.code for letter in world.dead_letters()] == ["undecided"]
        assert world.run(before).status == RunStatus.CANCELLED
        world.advance("1h")
        after = world.send("order")
        world.run_until_idle()
        for _ in range(2):
            assert world.client.redrive() == 1
            world.advance("1h")
        assert world.run(after).status == RunStatus.SUSPENDED


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


def redriven(body: Any, **attributes: str) -> tuple[DeadLetter, Any]:
    """A letter that a service has put there, and what comes of it when it is sent back."""
    shop = Stepwell("shop")
    shop.function(on="aws/*", id="told")(lambda ctx: [ctx.event.name, ctx.event.id])
    with LocalStepwell(shop) as local:
        told = {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()}
        url = local.world.aws.resources.dlq_url
        boto3.client("sqs").send_message(QueueUrl=url, MessageBody=json.dumps(body), MessageAttributes=told)
        (letter,) = local.dead_letters()
        assert local.client.redrive() == 1
        local.run_until_idle()
        assert local.dead_letters() == []
        (run,) = local.client.runs()
        return letter, run.result


def send_raw(local: LocalStepwell, *bodies: str) -> None:
    sqs = boto3.client("sqs", region_name="us-east-1")
    for body in bodies:
        sqs.send_message(QueueUrl=local.queue_url, MessageBody=body)
    local.run_until_idle()


def stepwell(*arguments: str, status: int = 0, **environment: str) -> str:
    result = CliRunner().invoke(cli, list(arguments), env=environment)
    assert result.exit_code == status, result.output
    return result.output
