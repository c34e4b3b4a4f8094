"""Messages that could not be handled: looked at without taking them away, and sent back to the main queue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from stepwell.clock import from_millis
from stepwell.errors import UnknownLetter
from stepwell.ids import message_event_id
from stepwell.queue import LETTER_CODE, LETTER_ID, LETTER_REASON, LETTER_SENT, RECEIVES, attribute

HIDDEN = 120
"""Seconds a message is hidden from others while somebody looks through the queue."""
MOVED_BY_SQS = "too-many-receives"
"""The code of a letter that SQS moved, after 30 failed deliveries: only it knows, and says nothing."""
_EMPTY = 3
"""Empty answers in a row after which a queue counts as read: SQS asks only some of its hosts each time."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message in the dead-letter queue."""

    id: str
    """The id of the SQS message; a redriven one that fails again comes back under another."""
    code: str
    """Why it is there: the code of an error, or MOVED_BY_SQS."""
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

    def __init__(self, sqs: Callable[[], Any], url: str, main_url: str) -> None:
        self._sqs = sqs
        self._url = url
        self._main_url = main_url

    def __iter__(self) -> Iterator[DeadLetter]:
        """All of them, in no order. They are put back before the first is given out."""
        letters = self._receive()
        self._put_back(letters)
        return iter(letters)

    def redrive(self, id: str | None = None) -> int:
        """Send one back to the main queue, or all of them; says how many.

        The message is sent before it is deleted here, so none is lost; one that is sent twice is handled once. Raises
        UnknownLetter for an id that none of them has.
        """
        letters = self._receive()
        chosen = [letter for letter in letters if id is None or letter.id == id]
        for letter in chosen:
            extra: dict[str, Any] = {"MessageGroupId": letter._group} if letter._group else {}
            told = {LETTER_ID: letter._event_id, LETTER_SENT: letter._first_sent}
            if any(told.values()):
                extra["MessageAttributes"] = {name: attribute(value) for name, value in told.items() if value}
            self._sqs().send_message(QueueUrl=self._main_url, MessageBody=letter.body, **extra)
            self._sqs().delete_message(QueueUrl=self._url, ReceiptHandle=letter._receipt)
        self._put_back([letter for letter in letters if letter not in chosen])
        if id is not None and not chosen:
            raise UnknownLetter(f"There is no dead letter {id}. Client.dead_letters() gives those there are.")
        return len(chosen)

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
    if LETTER_CODE not in told:  # moved by SQS, which keeps the id and the time of a message
        event_id = event_id or message_event_id(sent, message["MessageId"])
        first_sent = first_sent or str(sent)
    return DeadLetter(
        id=message["MessageId"],
        code=told.get(LETTER_CODE, MOVED_BY_SQS),
        reason=told.get(
            LETTER_REASON, f"It was delivered {RECEIVES} times, over hours, and could not be handled; see the logs."
        ),
        body=message["Body"],
        sent_at=from_millis(sent),
        _receipt=message["ReceiptHandle"],
        _group=system.get("MessageGroupId"),
        _event_id=event_id,
        _first_sent=first_sent,
    )
