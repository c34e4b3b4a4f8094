"""The main queue between SQS and the consumer: an event source mapping with time in it.

The messages lie in the emulator's queue, which also counts receives and moves what fails too often to the dead letters.
Time is ours: a delayed message is kept back until it is due in virtual time, and a received one stays hidden in the
emulator until we let it return.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any
from uuid import UUID

from botocore.awsrequest import AWSPreparedRequest, AWSResponse

from stepwell.testing.agenda import Agenda
from stepwell.testing.answers import Answer
from stepwell.testing.aws import VISIBILITY, LocalAws
from stepwell.testing.calls import Call
from stepwell.testing.clients import REGION
from stepwell.testing.clock import VirtualClock
from stepwell.testing.invocations import Invocation
from stepwell.testing.wire import Transport, body_of, rewritten

BATCH_SIZE = 10
VISIBILITY_TIMEOUT = 180.0
"""Virtual seconds after which a message whose handling failed comes back, unless the consumer said otherwise."""
AGAIN = "-again"
"""Ends the receipt handle of a copy made by chaos."""

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Chaos:
    """What SQS and Lambda are allowed to do and seldom do. Probabilities per message or asynchronous invocation."""

    duplicate: float = 0.0
    """It is delivered a second time, at once or up to `within` seconds later."""
    delay: float = 0.0
    """It arrives up to `within` seconds late."""
    lose: float = 0.0
    """An asynchronous invocation never happens. (SQS loses nothing.)"""
    reorder: bool = False
    """Messages that are due together arrive in any order, in batches of any size."""
    within: float = 120.0
    """Virtual seconds."""


@dataclass(slots=True)
class _Received:
    record: Record
    returns_at: float


class Mailbox:
    """Sends to, and deliveries from, the main queue of one world."""

    def __init__(self, aws: LocalAws, clock: VirtualClock, agenda: Agenda, random: Random, chaos: Chaos) -> None:
        self._aws = aws
        self._clock = clock
        self._agenda = agenda
        self._random = random
        self._chaos = chaos
        self._sent: dict[str, tuple[str, float]] = {}  # the emulator's message id -> the id we gave, when it was sent
        self._first: dict[str, float] = {}  # ... -> when it was first received
        self._received: dict[str, _Received] = {}  # by receipt handle
        self._copies: list[Record] = []
        self.stirred = False
        """Whether something may have arrived since the last look."""
        self.on_arrival: Callable[[], None] = lambda: None
        self.on_send: Callable[[Invocation | None, str, str, float], None] = lambda by, queue_url, body, delay: None

    # ---- sending

    def answer(self, call: Call, request: AWSPreparedRequest, forward: Transport) -> AWSResponse | None:
        """SQS for the code under test: delays and visibility in virtual time, all else as the emulator does it."""
        params = call.params
        if call.operation == "SendMessage":
            return self._send(call, request, forward)
        if call.operation == "SendMessageBatch":
            return self._send_batch(call, request, forward)
        if call.operation == "ReceiveMessage":
            return self._with_virtual_times(request, forward(request))
        if call.operation == "ChangeMessageVisibility" and params["QueueUrl"] == self._aws.resources.queue_url:
            if not self._change_visibility(params):
                return Answer.error(400, "ReceiptHandleIsInvalid", "The input receipt handle is invalid.").to(request)
            return Answer.json({}).to(request)
        return None

    def put(self, body: str, by: Invocation | None) -> None:
        """Send what Lambda itself sends: its record of an invocation `by` that failed."""
        self.on_send(by, self._aws.resources.queue_url, body, 0)
        self._deliver({"MessageBody": body}, None)

    def _send(self, call: Call, request: AWSPreparedRequest, forward: Transport) -> AWSResponse:
        params = call.params
        delay = self._delay_of(params)
        self.on_send(call.invocation, params["QueueUrl"], params["MessageBody"], delay)
        if delay:
            return Answer.json(self._hold(params, delay)).to(request)
        response = forward(request)
        if response.status_code == 200:
            self._note_sent(json.loads(response.content)["MessageId"])
        return response

    def _send_batch(self, call: Call, request: AWSPreparedRequest, forward: Transport) -> AWSResponse:
        entries = call.params["Entries"]
        delays = {entry["Id"]: self._delay_of({**entry, "QueueUrl": call.params["QueueUrl"]}) for entry in entries}
        for entry in entries:
            self.on_send(call.invocation, call.params["QueueUrl"], entry["MessageBody"], delays[entry["Id"]])
        at_once = [entry for entry in body_of(request)["Entries"] if not delays[entry["Id"]]]
        answer: dict[str, Any] = {"Successful": []}
        if at_once:
            response = forward(rewritten(request, {**body_of(request), "Entries": at_once}))
            if response.status_code != 200:
                return response
            answer = json.loads(response.content)
            for entry in answer.get("Successful", []):
                self._note_sent(entry["MessageId"])
        for entry in entries:
            if delays[entry["Id"]]:
                kept = self._hold({**entry, "QueueUrl": call.params["QueueUrl"]}, delays[entry["Id"]])
                answer.setdefault("Successful", []).append({"Id": entry["Id"], **kept})
        return Answer.json(answer).to(request)

    def _delay_of(self, entry: Mapping[str, Any]) -> float:
        delay = float(entry.get("DelaySeconds") or 0)
        if entry["QueueUrl"] == self._aws.resources.queue_url and self._happens(self._chaos.delay):
            delay += self._random.uniform(0, self._chaos.within)
        return delay

    def _hold(self, entry: Mapping[str, Any], delay: float) -> dict[str, Any]:
        message_id = str(UUID(bytes=self._random.randbytes(16), version=4))
        body = entry["MessageBody"]
        kept = {name: value for name, value in entry.items() if name not in ("DelaySeconds", "QueueUrl", "Id")}
        sent_at = self._clock.now()
        self._agenda.add(
            sent_at + delay, lambda: self._deliver(kept, (message_id, sent_at)), f"delayed message {body[:120]}"
        )
        return {
            "MessageId": message_id,
            "MD5OfMessageBody": hashlib.md5(body.encode(), usedforsecurity=False).hexdigest(),
        }

    def _deliver(self, entry: Mapping[str, Any], known_as: tuple[str, float] | None) -> None:
        answer = self._aws.backstage("sqs").send_message(QueueUrl=self._aws.resources.queue_url, **entry)
        self._note_sent(answer["MessageId"], known_as)

    def _with_virtual_times(self, request: AWSPreparedRequest, response: AWSResponse) -> AWSResponse:
        if response.status_code != 200:
            return response
        answer = json.loads(response.content)
        for message in answer.get("Messages", []):
            # One that came past us, from a client of somebody else's, was sent when we first hear of it.
            unknown = (message["MessageId"], self._clock.now())
            message["MessageId"], sent_at = self._sent.setdefault(message["MessageId"], unknown)
            if "SentTimestamp" in message.get("Attributes", {}):
                message["Attributes"]["SentTimestamp"] = str(round(sent_at * 1000))
        return Answer.json(answer).to(request)

    def _note_sent(self, message_id: str, known_as: tuple[str, float] | None = None) -> None:
        self._sent[message_id] = known_as or (message_id, self._clock.now())
        self.stir()

    def stir(self) -> None:
        """Say that something may have arrived."""
        self.stirred = True
        self.on_arrival()

    # ---- receiving

    def receive(self) -> list[list[Record]]:
        """All messages that can be had now, in batches as the consumer gets them."""
        self.stirred = False
        records, self._copies = self._copies, []
        while True:
            messages = self._poll()
            records += [self._record(message) for message in messages]
            if len(messages) < BATCH_SIZE:
                break
        if not self._chaos.reorder:
            return [records[begin : begin + BATCH_SIZE] for begin in range(0, len(records), BATCH_SIZE)]
        self._random.shuffle(records)
        batches = []
        while records:
            size = self._random.randint(1, BATCH_SIZE)
            batches.append(records[:size])
            records = records[size:]
        return batches

    def _poll(self) -> list[dict[str, Any]]:
        answer = self._aws.backstage("sqs").receive_message(
            QueueUrl=self._aws.resources.queue_url,
            MaxNumberOfMessages=BATCH_SIZE,
            VisibilityTimeout=VISIBILITY,
            WaitTimeSeconds=0,
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        return messages

    def _record(self, message: dict[str, Any]) -> Record:
        real_id, now = message["MessageId"], self._clock.now()
        message_id, sent_at = self._sent.get(real_id, (real_id, now))
        first = self._first.setdefault(real_id, now)
        self._sent.setdefault(real_id, (message_id, sent_at))
        attributes = dict(message.get("Attributes", {})) | {
            "SentTimestamp": str(round(sent_at * 1000)),
            "ApproximateFirstReceiveTimestamp": str(round(first * 1000)),
        }
        record: Record = {
            "messageId": message_id,
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": attributes,
            "messageAttributes": {
                name: {
                    "stringValue": value.get("StringValue"),
                    "stringListValues": [],
                    "binaryListValues": [],
                    "dataType": value["DataType"],
                }
                for name, value in message.get("MessageAttributes", {}).items()
            },
            "md5OfBody": message["MD5OfBody"],
            "eventSource": "aws:sqs",
            "eventSourceARN": self._aws.resources.queue_arn,
            "awsRegion": REGION,
        }
        self._received[message["ReceiptHandle"]] = _Received(record, now + VISIBILITY_TIMEOUT)
        if self._happens(self._chaos.duplicate):
            self._copy(record)
        return record

    def _copy(self, record: Record) -> None:
        again = {**record, "attributes": {**record["attributes"], "ApproximateReceiveCount": "2"}}
        again["receiptHandle"] = record["receiptHandle"] + AGAIN

        def arrive() -> None:
            self._copies.append(again)
            self.stir()

        if self._random.random() < 0.5:
            arrive()
        else:
            self._agenda.add(self._clock.now() + self._random.uniform(0, self._chaos.within), arrive, "doubled message")

    def known(self, message_id: str) -> tuple[str, float] | None:
        """Under which id a message of the emulator was sent, and when, in virtual time; None if it came past us and was
        never received."""
        return self._sent.get(message_id)

    # ---- after handling

    def settle(self, batch: Sequence[Record], failed: set[str]) -> list[str]:
        """Delete what was handled and let the rest return later. The receipt handles of what was deleted."""
        done = []
        for record in batch:
            received = self._received.pop(record["receiptHandle"], None)
            if received is None:
                continue  # a copy: the original decides
            if record["messageId"] in failed:
                self._return_later(received)
            else:
                done.append(record["receiptHandle"])
        if done:
            self._aws.backstage("sqs").delete_message_batch(
                QueueUrl=self._aws.resources.queue_url,
                Entries=[{"Id": str(n), "ReceiptHandle": handle} for n, handle in enumerate(done)],
            )
        return done

    def _return_later(self, received: _Received) -> None:
        handle = received.record["receiptHandle"]

        def reappear() -> None:
            self._aws.backstage("sqs").change_message_visibility(
                QueueUrl=self._aws.resources.queue_url, ReceiptHandle=handle, VisibilityTimeout=0
            )
            self.stir()

        self._agenda.add(received.returns_at, reappear, f"failed message {received.record['body'][:120]}")

    def _change_visibility(self, params: Mapping[str, Any]) -> bool:
        received = self._received.get(params["ReceiptHandle"])
        if received is None:
            return str(params["ReceiptHandle"]).endswith(AGAIN)
        received.returns_at = self._clock.now() + float(params["VisibilityTimeout"])
        return True

    def _happens(self, probability: float) -> bool:
        return probability > 0 and self._random.random() < probability


def failed_ids(answer: Any, batch: Sequence[Record]) -> set[str]:
    """Which messages of a batch Lambda counts as failed, by the consumer's answer (ReportBatchItemFailures).

    An answer that Lambda cannot understand fails the whole batch, silently (AWS Lambda docs, SQS error handling).
    """
    everything = {record["messageId"] for record in batch}
    if not answer:
        return set()
    if not isinstance(answer, Mapping) or "batchItemFailures" not in answer:
        return everything
    failures = answer["batchItemFailures"] or []
    if not isinstance(failures, list):
        return everything
    named = set()
    for failure in failures:
        identifier = failure.get("itemIdentifier") if isinstance(failure, Mapping) else None
        if not identifier or identifier not in everything:
            return everything
        named.add(identifier)
    return named
