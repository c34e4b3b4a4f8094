"""Sending to the main queue, and values that are packed for items."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.errors import NotSerializable, PayloadTooLarge
from stepwell.payloads import INLINE_STEP, Payloads
from stepwell.queue import MAX_BYTES, Message, Queue, SendFailed, look, wake
from stepwell.testing.accountant import message_size


class Sqs:
    """Takes messages; refuses the bodies it is told to, so many times each."""

    def __init__(self, refusals: dict[str, int] | None = None) -> None:
        self.refusals = refusals or {}
        self.requests: list[list[dict[str, Any]]] = []
        self.taken: list[str] = []

    def send_message(self, **entry: Any) -> dict[str, Any]:
        self.requests.append([entry])
        self.taken.append(entry["MessageBody"])
        return {}

    def send_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        self.requests.append(list(Entries))
        failed = []
        for entry in Entries:
            if self.refusals.get(entry["MessageBody"], 0) > 0:
                self.refusals[entry["MessageBody"]] -= 1
                failed.append({"Id": entry["Id"], "Code": "InternalError", "Message": "busy"})
            else:
                self.taken.append(entry["MessageBody"])
        return {"Failed": failed} if failed else {}


def queue(sqs: Sqs) -> Queue:
    return Queue(lambda: sqs, "main", "dead")


@given(st.lists(st.integers(0, 700_000), max_size=30))
def test_every_message_is_sent_once_in_requests_sqs_takes(sizes: list[int]) -> None:
    sqs = Sqs()
    queue(sqs).send(*(Message({"n": n, "pad": "x" * size}) for n, size in enumerate(sizes)))
    assert len(sqs.taken) == len(sizes)
    for request in sqs.requests:
        assert len(request) <= 10
        assert sum(len(entry["MessageBody"]) for entry in request) <= MAX_BYTES
    assert len(sqs.requests) <= len(sizes)


def test_what_sqs_refuses_in_part_is_sent_again_and_nothing_else() -> None:
    sqs = Sqs({'{"n":1}': 2})
    queue(sqs).send(*(Message({"n": n}) for n in range(3)))
    assert sorted(sqs.taken) == ['{"n":0}', '{"n":1}', '{"n":2}']
    assert [len(request) for request in sqs.requests] == [3, 1, 1]


def test_what_sqs_keeps_refusing_is_an_error() -> None:
    with pytest.raises(SendFailed, match="1 messages: InternalError: busy"):
        queue(Sqs({'{"n":1}': 99})).send(*(Message({"n": n}) for n in range(3)))


@pytest.mark.parametrize(("delay", "seconds"), [(0, None), (-5, None), (0.2, 1), (1.0, 1), (59.1, 60), (5000, 900)])
def test_a_message_may_be_late_but_never_early(delay: float, seconds: int | None) -> None:
    sqs = Sqs()
    queue(sqs).send(look("shop.x", delay=delay))
    assert sqs.requests[0][0].get("DelaySeconds") == seconds


def test_wake_ups_are_a_tenant_of_their_own() -> None:
    sqs = Sqs()
    queue(sqs).send(wake("shop.x"), look("shop.x", missed=3), Message({}, group="acme"))
    assert [entry["MessageGroupId"] for entry in sqs.requests[0]] == ["stepwell-wake", "stepwell-wake", "acme"]


def test_what_sqs_will_never_take_is_not_sent_again_and_again() -> None:
    class Picky(Sqs):
        def send_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
            self.requests.append(Entries)
            return {"Failed": [{"Id": entry["Id"], "SenderFault": True, "Code": "Invalid"} for entry in Entries]}

    sqs = Picky()
    with pytest.raises(SendFailed, match="2 messages: Invalid"):
        queue(sqs).send(Message({"n": 1}), Message({"n": 2}))
    assert len(sqs.requests) == 1


def test_a_message_that_no_json_can_say_is_refused_before_any_is_sent() -> None:
    sqs = Sqs()
    with pytest.raises(NotSerializable, match="n is nan"):
        queue(sqs).send(*(Message({"n": n}) for n in range(20)), Message({"n": float("nan")}))
    assert sqs.requests == []


def test_what_sqs_does_not_take_is_spelled_out_in_a_message_and_left_out_of_a_reason() -> None:
    sqs = Sqs()
    queue(sqs).send(Message({"text": "a\uffffb"}))
    queue(sqs).dead_letter("x", code="not-json", reason="a\x00b\uffff")
    queue(sqs).dead_letter("x", code="not-json", reason="")
    sent, *letters = (request[0] for request in sqs.requests)
    assert sent["MessageBody"] == '{"text":"a\\uffffb"}'
    assert [letter["MessageAttributes"]["stepwell_reason"]["StringValue"] for letter in letters] == ["a?b?", "?"]


def test_a_dead_letter_says_why_even_without_a_body() -> None:
    sqs = Sqs()
    queue(sqs).dead_letter("", code="not-json", reason="x" * 5000, group="acme")
    ((entry,),) = sqs.requests
    assert (entry["QueueUrl"], entry["MessageBody"], entry["MessageGroupId"]) == ("dead", " ", "acme")
    assert len(entry["MessageAttributes"]["stepwell_reason"]["StringValue"]) == 1000


@given(st.integers(0, 2100), st.sampled_from(["r", "ü", "\U0001f600"]), st.sampled_from([None, "evt_" + "7" * 26]))
def test_a_dead_letter_is_taken_however_large_it_is_and_says_what_there_is_room_for(
    room: int, letter: str, event_id: str | None
) -> None:
    sqs, body = Sqs(), "x" * (MAX_BYTES - room)
    queue(sqs).dead_letter(body, code="not-json", reason=letter * 1000, event_id=event_id)
    ((entry,),) = sqs.requests
    told = {name: value["StringValue"] for name, value in entry.get("MessageAttributes", {}).items()}
    size, reason = message_size(entry), told.get("stepwell_reason", "")
    assert entry["MessageBody"] == body
    assert size <= MAX_BYTES
    assert all(told.values())  # SQS takes no empty ones
    assert set(reason) <= {letter}
    # What is left out did not fit, and what is cut is cut no more than it has to be.
    left = MAX_BYTES - size
    assert event_id is None or "stepwell_id" in told or room < len("stepwell_idString") + 30
    assert "stepwell_code" in told or left < len("stepwell_codeStringnot-json")
    if "stepwell_code" in told:
        assert len(reason) == 1000 or left < len("stepwell_reasonString") * (not reason) + len(letter.encode())
    else:
        assert reason == ""


def test_an_id_that_fits_exactly_is_kept() -> None:
    sqs = Sqs()
    for room in (22, 23):  # "stepwell_id", "String" and five letters are 22 bytes
        queue(sqs).dead_letter("x" * (MAX_BYTES - room + 1), code="not-json", reason="r", event_id="evt_1")
    first, second = (request[0].get("MessageAttributes", {}) for request in sqs.requests)
    assert (list(first), list(second)) == ([], ["stepwell_id"])


# ---- packing


class S3:
    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put_object(self, *, Bucket: str, Key: str, Body: bytes, ContentType: str) -> None:  # noqa: N803
        self.objects[Key] = Body


@pytest.mark.parametrize(
    ("size", "where"), [(10, "plain"), (2000, "squeezed"), (10 * INLINE_STEP, "squeezed"), (0, "plain")]
)
def test_a_value_that_compresses_well_stays_in_its_item(size: int, where: str) -> None:
    s3 = S3()
    stored = Payloads(lambda: s3, "bucket").pack("a" * size, key="k", what="it", beside=300)
    assert isinstance(stored, bytes if where == "squeezed" else str)
    assert s3.objects == {}


def test_a_value_above_the_inline_limit_is_a_reference_to_an_object() -> None:
    s3 = S3()
    payloads = Payloads(lambda: s3, "bucket")
    text = "".join(chr(33 + (n * n * 7919 + n) % 90) for n in range(3 * INLINE_STEP))
    assert payloads.pack(text, key="shop/k", what="it", inline=100) == {"s3": "shop/k", "size": len(text)}
    assert s3.objects["shop/k"].decode() == text


def test_a_value_above_the_cap_is_refused_counting_bytes_and_naming_it() -> None:
    payloads = Payloads(lambda: S3(), "bucket", limit=100)
    assert payloads.check("x" * 100, "it") == 100
    with pytest.raises(PayloadTooLarge, match=r"the result of step 'a' is 120 bytes; the limit is 100"):
        payloads.check("ż" * 60, "the result of step 'a'")
