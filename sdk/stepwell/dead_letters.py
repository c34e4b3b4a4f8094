"""Messages that could not be handled: looked at without taking them away, and sent back to the main queue."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from stepwell.clock import from_millis, millis
from stepwell.codec import parse, sendable
from stepwell.engine.sending import event_message
from stepwell.errors import InvalidEvent, InvalidOption, NotRedriven, UnknownLetter
from stepwell.events import Envelope, parse_envelope
from stepwell.ids import message_event_id
from stepwell.ports import Ports
from stepwell.queue import (
    LETTER_CODE,
    LETTER_ID,
    LETTER_REASON,
    LETTER_SENT,
    MAX_BYTES,
    RECEIVES,
    WAKE_GROUP,
    attribute,
    size_of,
)

HIDDEN = 120
"""Seconds a message is hidden from others while somebody looks through the queue."""
MOVED_BY_SQS = "too-many-receives"
"""The code of a letter that SQS moved, after 30 failed deliveries: it says from where, and nothing else."""
UNDELIVERED = "undelivered"
"""The code of a letter that EventBridge could not put on the main queue."""
UNSAID = "no-reason"
"""The code of a letter that came with no reason: SNS gives none, and some fill their message to the last byte."""
_SOURCE = "DeadLetterQueueSourceArn"
"""The system attribute with the queue that SQS moved a message from."""
_SHOWN = 5
"""Letters that are named of those that could not be sent back."""
_EMPTY = 3
"""Empty answers in a row after which a queue counts as read: SQS asks only some of its hosts each time."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message in the dead-letter queue."""

    id: str
    """The id of the SQS message; a redriven one that fails again comes back under another."""
    code: str
    """Why it is there: the code of an error, or MOVED_BY_SQS, UNDELIVERED, UNSAID."""
    reason: str
    body: str
    """As it was sent."""
    sent_at: datetime
    _receipt: str
    _group: str | None
    _event_id: str | None
    """The id of an event whose sender gave it none. Sent back, it is the same event: what it has started, it starts no
    second time."""
    _first_sent: str | None
    """When the main queue received it first, milliseconds; None if it was buried by a release that did not say."""


class DeadLetters:
    """The dead-letter queue."""

    def __init__(self, ports: Ports) -> None:
        """Raises InvalidOption if it is not known where they are."""
        if ports.queue.dlq_url is None:
            raise InvalidOption("STEPWELL_DLQ_URL is not set, so the dead-letter queue is not known.")
        self._ports = ports
        self._sqs = ports.queue.client
        self._url = ports.queue.dlq_url

    def __iter__(self) -> Iterator[DeadLetter]:
        """All of them, in no order. They are put back before the first is given out."""
        letters = self._receive()
        self._put_back(letters)
        return iter(letters)

    def redrive(self, id: str | None = None) -> int:
        """Send one back to the main queue, or all of them; says how many.

        The message is sent before it is deleted here, so none is lost; one that is sent twice is handled once. One that
        cannot be sent does not keep the others. Raises NotRedriven at the end for those; UnknownLetter for an id that none
        of them has.
        """
        letters = self._receive()
        chosen = [letter for letter in letters if id is None or letter.id == id]
        failed: dict[str, Exception] = {}
        for letter in chosen:
            try:
                self._send_back(letter)
                self._sqs().delete_message(QueueUrl=self._url, ReceiptHandle=letter._receipt)
            except Exception as error:  # whatever it is, the others do not wait for it
                failed[letter.id] = error
        self._put_back([letter for letter in letters if letter not in chosen or letter.id in failed])
        if id is not None and not chosen:
            raise UnknownLetter(f"There is no dead letter {id}. Client.dead_letters() gives those there are.")
        if failed:
            shown = "; ".join(f"{id}: {error}" for id, error in list(failed.items())[:_SHOWN])
            raise NotRedriven(
                f"{len(chosen) - len(failed)} of {len(chosen)} dead letters are back on the main queue. The others are where "
                f"they were: {shown}{'' if len(failed) <= _SHOWN else ' ...'}"
            ) from next(iter(failed.values()))
        return len(chosen)

    def _send_back(self, letter: DeadLetter) -> None:
        body, group = letter.body, letter._group
        attributes = {} if letter._event_id is None else {LETTER_ID: attribute(letter._event_id)}
        if attributes and size_of(body, attributes) > MAX_BYTES:
            if (event := _nameless(letter)) is not None:
                # There is no room for its id, and without it it would be another event. So its data goes through S3.
                message = event_message(self._ports, event, group=group or WAKE_GROUP)
                body, group = sendable(message.body), message.group
            attributes = {}
        if letter._first_sent is not None:
            dated = {**attributes, LETTER_SENT: attribute(letter._first_sent)}
            attributes = dated if size_of(body, dated) <= MAX_BYTES else attributes
        extra: dict[str, Any] = {"MessageGroupId": group} if group else {}
        if attributes:
            extra["MessageAttributes"] = attributes
        self._sqs().send_message(QueueUrl=self._ports.queue.url, MessageBody=body, **extra)

    def _receive(self) -> list[DeadLetter]:
        found: dict[str, DeadLetter] = {}
        empty = 0
        while empty < _EMPTY:
            answer = self._sqs().receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=10,
                VisibilityTimeout=HIDDEN,
                MessageSystemAttributeNames=["All"],
                MessageAttributeNames=["All"],
            )
            letters = [_letter(message) for message in answer.get("Messages", [])]
            empty = 0 if letters else empty + 1
            found.update((letter.id, letter) for letter in letters)
        return list(found.values())

    def _put_back(self, letters: list[DeadLetter]) -> None:
        for letter in letters:
            self._sqs().change_message_visibility(
                QueueUrl=self._url, ReceiptHandle=letter._receipt, VisibilityTimeout=0
            )


def _letter(message: dict[str, Any]) -> DeadLetter:
    told = {name: value.get("StringValue", "") for name, value in message.get("MessageAttributes", {}).items()}
    system = message.get("Attributes", {})
    sent, event_id, first_sent = int(system.get("SentTimestamp", 0)), told.get(LETTER_ID), told.get(LETTER_SENT)
    if LETTER_CODE not in told:  # what SQS moves keeps its id and its time
        event_id = event_id or message_event_id(sent, message["MessageId"])
        first_sent = first_sent or str(sent)
    code, reason = _why(told, system)
    return DeadLetter(
        id=message["MessageId"],
        code=code,
        reason=reason,
        body=message["Body"],
        sent_at=from_millis(sent),
        _receipt=message["ReceiptHandle"],
        _group=system.get("MessageGroupId"),
        _event_id=event_id,
        _first_sent=first_sent,
    )


def _why(told: Mapping[str, str], system: Mapping[str, str]) -> tuple[str, str]:
    """Code and reason: as the engine says, or whoever else has put the message there."""
    if LETTER_CODE in told:
        return told[LETTER_CODE], told.get(LETTER_REASON, "There was no room for the reason: the message is too large.")
    if _SOURCE in system:
        return MOVED_BY_SQS, f"It was delivered {RECEIVES} times, over hours, and could not be handled; see the logs."
    if "ERROR_CODE" in told:  # EventBridge user guide, "Using dead-letter queues to process undelivered events"
        by = f" of the rule {told['RULE_ARN']}" if "RULE_ARN" in told else ""
        said = ": ".join(told[name] for name in ("ERROR_CODE", "ERROR_MESSAGE") if told.get(name))
        return UNDELIVERED, f"EventBridge could not put this event{by} on the main queue: {said}"
    return UNSAID, (
        "Nobody says why it is here. What SNS could not put on the main queue comes without a reason, and a message of "
        "almost 1 MiB has no room for one."
    )


def _nameless(letter: DeadLetter) -> Envelope | None:
    """The event of a letter whose sender gave it no id; None if it is anything else, which brings its own."""
    try:
        body = parse(letter.body)
        if not isinstance(body, dict) or "stepwell" in body or body.get("id") is not None:
            return None
        received = millis(letter.sent_at.timestamp())
        if letter._first_sent is not None and re.fullmatch("[0-9]{1,15}", letter._first_sent):
            received = min(received, int(letter._first_sent))
        return parse_envelope(body, default_id=letter._event_id or "", received_ms=received)
    except (ValueError, RecursionError, InvalidEvent):
        return None
