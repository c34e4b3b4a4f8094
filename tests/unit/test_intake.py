"""The consumer: what it makes of messages, what it asks for together, and what it gives back to the queue."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.decisions.retries import redelivery_delay
from stepwell.engine.intake import LONGEST_CALL, OLDEST, consume, read_message
from stepwell.errors import StepwellError
from stepwell.ids import message_event_id
from stepwell.queue import MAX_BYTES, RECEIVES
from stepwell.testing.clock import SeededIds

SENT = 1_767_225_600_000
RUN = "shop.01KDVDNA00Q7JY7EJWQZ60DMEE"


def message(body: Any, id: str = "m-1", *, receives: int = 1, **attributes: str) -> dict[str, Any]:
    return {
        "messageId": id,
        "receiptHandle": f"handle of {id}",
        "body": body if isinstance(body, str) else json.dumps(body),
        "attributes": {"SentTimestamp": str(SENT), "ApproximateReceiveCount": str(receives)},
        "messageAttributes": {name: {"stringValue": value} for name, value in attributes.items()},
    }


@dataclass
class Account:
    """A queue, and an orchestrator that takes a second a call, dies of some records (when its time is over), and asks to
    have others once more."""

    deadly: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    time: float = 0.0
    asked: list[list[str]] = field(default_factory=list)
    letters: list[tuple[str, str]] = field(default_factory=list)
    pauses: dict[str, float] = field(default_factory=dict)

    def consume(self, *messages: dict[str, Any], seconds: float = 75.0) -> list[str]:
        begun = self.time
        ports: Any = SimpleNamespace(
            config=SimpleNamespace(orchestrator="orchestrator"),
            invoker=self,
            queue=self,
            ids=SeededIds(Random("intake")),
        )
        failed = consume(ports, messages, lambda: begun + seconds - self.time)
        assert self.time <= begun + seconds, "the consumer itself ran out of time"
        assert set(failed) == set(self.pauses)
        return failed

    def call(self, function: str, payload: dict[str, Any]) -> Any:
        records = json.loads(json.dumps(payload, allow_nan=False))["records"]
        self.asked.append([record["id"] for record in records])
        if self.deadly & set(self.asked[-1]):
            self.time += 30
            raise RuntimeError("Task timed out")
        self.time += 1
        return {"results": [{"id": id, "outcome": "retry" if id in self.refused else "done"} for id in self.asked[-1]]}

    def dead_letter(self, body: str, *, code: str, reason: str, **told: Any) -> None:
        self.letters.append((body, code))

    def postpone(self, receipt: str, delay: float) -> None:
        self.pauses[receipt.removeprefix("handle of ")] = delay


def event(n: int = 0) -> dict[str, Any]:
    return {"name": "job", "data": {"n": n}}


def uploads(count: int) -> list[dict[str, Any]]:
    """Records of an S3 notification."""
    record = {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put"}
    return [
        {**record, "s3": {"bucket": {"name": "b"}, "object": {"key": str(n), "sequencer": "1"}}} for n in range(count)
    ]


class TestReading:
    def test_what_only_the_consumer_knows_cannot_be_said_in_a_message(self) -> None:
        body = {"stepwell": "look", "run": RUN, "id": "m-9", "kind": "wake", "again": True}
        assert read_message(message(body)) == [{"id": "m-1", "sent": SENT, "kind": "look", "run": RUN}]

    @pytest.mark.parametrize(
        "body",
        [
            {"stepwell": "drain", "gate": ["a"]},
            {"stepwell": "fanout", "event": "x", "cursor": {}, "sent": 0},
            {"stepwell": "fanout", "event": {"id": "e"}, "cursor": {}, "sent": 0},
            {"stepwell": "fanout", "event": {"name": ["x"]}, "cursor": {}, "sent": 0},
            {"stepwell": "look", "run": {}},
            {"stepwell": "lookback", "waiter": None},
            {"stepwell": "effect", "place": 1},
            {"stepwell": "effect", "place": ""},
            {"stepwell": "effect", "place": "#go"},
            {"stepwell": "effect", "place": "7" + "Z" * 25 + "#go"},
            {"stepwell": "effect", "place": "01KDVDNA00Q7JY7EJWQZ60DMEE#"},
            {"stepwell": "effect", "place": "01KDVDNA00Q7JY7EJWQZ60DMEE#" + "x" * 3000},
            {"stepwell": "effect", "place": "01KDVDNA00Q7JY7EJWQZ60DMEE#\ud800"},
            {"stepwell": "tick", "app": "a", "function": "f", "cron": "c", "tz": "UTC", "at": True},
            {"stepwell": "invoke", "run": "x" * 3000, "app": "shop", "function": "f", "data": {}, "ts": 0},
            {"stepwell": "invoke", "run": RUN, "app": "crm", "function": "f", "data": {}, "ts": 0},
            {"stepwell": "invoke", "run": RUN, "app": "shop", "function": "f", "data": {}, "ts": 1 << 60},
            {"name": "job", "data": {}, "ts": 10**400},
            {"name": "job", "id": "evt_7" + "Z" * 25, "data": {}},
            {"a": json.loads("[" * 400 + "]" * 400)},
        ],
    )
    def test_what_can_never_be_handled_is_refused_when_it_is_read(self, body: Any) -> None:
        with pytest.raises(StepwellError):
            read_message(message(body))

    def test_the_place_of_an_event_that_takes_effect_is_taken_as_it_is(self) -> None:
        (record,) = read_message(message({"stepwell": "effect", "place": "01KDVDNA00Q7JY7EJWQZ60DMEE#ö/paid"}))
        assert (record["kind"], record["place"]) == ("effect", "01KDVDNA00Q7JY7EJWQZ60DMEE#ö/paid")

    def test_an_event_without_an_id_has_one_that_follows_from_its_message(self) -> None:
        (first,) = read_message(message(event()))
        (again,) = read_message(message(event(), receives=7))
        assert first["event"]["id"] == again["event"]["id"] == message_event_id(SENT, "m-1")
        (redriven,) = read_message(message(event(), "m-2", stepwell_id=first["event"]["id"]))
        assert redriven["event"]["id"] == first["event"]["id"]
        (own,) = read_message(message({**event(), "id": "o-1"}, "m-2", stepwell_id="evt_x"))
        assert own["event"]["id"] == "o-1"

    @pytest.mark.parametrize(
        ("told", "believed"),
        [
            (str(SENT - 5_000), SENT - 5_000),
            (str(SENT - 60 * 86_400_000), SENT - OLDEST),
            ("0", SENT - OLDEST),
            (str(SENT + 1), SENT),
            ("9" * 15, SENT),
            *((odd, SENT) for odd in ("", "-1", "1e9", "soon", "9" * 400, "\u0661")),
        ],
    )
    def test_a_dead_letter_that_is_sent_back_is_as_old_as_it_says_if_that_can_be(
        self, told: str, believed: int
    ) -> None:
        (record,) = read_message(message(event(), stepwell_sent=told))
        assert (record["sent"], record["event"]["ts"]) == (believed, believed)
        (dated,) = read_message(message({**event(), "ts": SENT - 7}, stepwell_sent=told))
        assert (dated["sent"], dated["event"]["ts"]) == (believed, SENT - 7)


class TestOneBadMessage:
    @pytest.mark.parametrize(
        ("bad", "code"),
        [
            ('{"name":"job","data":{"x":"\\ud800"}}', "not-serializable"),
            ('{"name":"job","data":{"\\ud800":1}}', "not-serializable"),
            ('{"name":"job","data":{"x":1e999}}', "not-serializable"),
            ('{"name":"job","data":{"x":NaN}}', "not-json"),
            ('{"name":"job","data":{"x":-Infinity}}', "not-json"),
            ('{"name":"jo\\ud800b","data":{}}', "invalid-event"),
            ('{"name":"job","id":"\\ud800","data":{}}', "invalid-event"),
            ('{"name":"job","tenant":"\\ud800","data":{}}', "invalid-event"),
            ('{"stepwell":"look","run":"\\ud800"}', "not-serializable"),
        ],
    )
    def test_is_a_dead_letter_alone(self, bad: str, code: str) -> None:
        account = Account()
        assert account.consume(message(event(1), "a"), message(bad, "b"), message(event(2), "c")) == []
        assert account.asked == [["a", "c"]]
        assert account.letters == [(bad, code)]

    def test_one_object_of_a_notification_does_not_keep_the_others(self) -> None:
        account = Account(refused={"m-1#1"})
        assert account.consume(message({"Records": uploads(3)})) == ["m-1"]
        assert account.asked == [["m-1", "m-1#1", "m-1#2"]]

    @pytest.mark.parametrize("count", [1, 4])
    def test_one_that_cannot_be_read_is_a_dead_letter_and_the_others_are_asked_for(self, count: int) -> None:
        account = Account()
        bad = {"eventSource": "aws:s3", "s3": {"x": "\ud800 \uffff"}}
        assert account.consume(message({"Records": [*uploads(count), bad, bad]})) == []
        assert account.asked == [["m-1", *(f"m-1#{n}" for n in range(1, count))]]
        assert [code for _, code in account.letters] == ["invalid-event"] * 2
        assert [json.loads(body) for body, _ in account.letters] == [{"Records": [bad]}] * 2
        assert all("\\ud800 \\uffff" in body for body, _ in account.letters)  # as SQS takes it

    def test_one_that_cannot_be_read_is_buried_with_its_message_if_by_itself_it_is_too_large(self) -> None:
        account = Account()
        bad = json.dumps({"eventSource": "aws:s3", "n": ["1e22"] * 190_000}, separators=(",", ":")).replace(
            '"1e22"', "1e22"
        )
        whole = f'{{"Records": [{json.dumps(uploads(1)[0])}, {bad}]}}'
        assert len(whole) < MAX_BYTES
        assert account.consume(message(whole)) == []
        assert account.letters == [(whole, "invalid-event")]

    def test_it_is_buried_once_when_all_of_its_message_is_handled(self) -> None:
        account = Account(refused={"m-1"})
        body = {"Records": [*uploads(2), {"eventSource": "aws:s3"}]}
        for receives in (1, 2):
            account.pauses.clear()
            assert account.consume(message(body, receives=receives)) == ["m-1"]
            assert account.letters == []
        account.refused.clear()
        account.pauses.clear()
        assert account.consume(message(body, receives=3)) == []
        assert len(account.letters) == 1

    def test_a_notification_of_which_nothing_can_be_read_asks_for_nothing(self) -> None:
        account = Account()
        assert account.consume(message({"Records": [*[{"eventSource": "aws:s3", "s3": {}}] * 3]})) == []
        assert (account.asked, len(account.letters)) == ([], 3)


class TestOneThatKills:
    def test_takes_its_neighbours_along_once(self) -> None:
        account = Account(deadly={"m-3"})
        failed = account.consume(*(message(event(n), f"m-{n}") for n in range(10)))
        assert sorted(failed) == sorted(f"m-{n}" for n in range(10))
        account.pauses.clear()
        assert account.consume(*(message(event(n), f"m-{n}", receives=2) for n in range(10))) == ["m-3"]

    def test_leaves_time_for_all_that_come_again_whichever_is_asked_for_first(self) -> None:
        for deadly in range(5):
            account = Account(deadly={f"m-{deadly}"})
            again = [message(event(n), f"m-{n}", receives=3) for n in range(5)]
            assert account.consume(message(event(), "new"), message(event(), "new-2"), *again) == [f"m-{deadly}"]

    def test_among_the_new_leaves_time_for_what_comes_again(self) -> None:
        account = Account(deadly={"new"})
        again = [message(event(n), f"m-{n}", receives=3) for n in range(5)]
        assert account.consume(message(event(), "new"), message(event(), "new-2"), *again) == ["new", "new-2"]

    def test_is_asked_for_last_if_it_has_come_most_often(self) -> None:
        account = Account(deadly={"old"})
        again = [message(event(n), f"m-{n}", receives=2) for n in range(3)]
        account.consume(message(event(), "old", receives=9), message(event(), "new"), *again)
        assert account.asked == [["new"], ["m-0"], ["m-1"], ["m-2"], ["old"]]

    def test_what_there_was_no_time_for_comes_again_soon(self) -> None:
        account = Account(deadly={f"m-{n}" for n in range(9)})
        account.consume(*(message(event(n), f"m-{n}", receives=9) for n in range(10)))
        assert len(account.asked) == 2
        asked = {id for batch in account.asked for id in batch}
        assert all((pause >= 500) == (id in asked) for id, pause in account.pauses.items())

    def test_with_too_little_time_from_the_start_something_is_asked_for_all_the_same(self) -> None:
        account = Account()
        assert account.consume(message(event(), "a"), seconds=LONGEST_CALL - 1) == []


class TestPauses:
    @given(st.lists(st.floats(0, 1), min_size=RECEIVES - 1, max_size=RECEIVES - 1))
    def test_a_message_is_given_up_after_five_hours_at_the_earliest_and_six_at_the_latest(
        self, chances: list[float]
    ) -> None:
        pauses = [redelivery_delay(n, chance) for n, chance in enumerate(chances, 1)]
        assert 5 * 3600 < sum(pauses) < 6 * 3600
        assert max(pauses) <= 900

    def test_messages_that_failed_together_come_again_apart(self) -> None:
        account = Account(refused={f"m-{n}" for n in range(10)})
        account.consume(*(message(event(n), f"m-{n}", receives=5) for n in range(10)))
        assert len(set(account.pauses.values())) == 10
        assert all(32 <= pause <= 64 for pause in account.pauses.values())
