"""The main queue and its dead letters."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stepwell.codec import JSON, sendable

MAX_DELAY = 900
"""Seconds; the most SQS delays a message (AWS SQS quotas)."""
MAX_BYTES = 1_048_576
"""A message, and all messages of a batch together (AWS SQS quotas)."""
RECEIVES = 30
"""Deliveries before a message is a dead letter. With the pauses between them (`redelivery_delay`) that takes more than five
hours, so an outage of so long makes no healthy message one; a throttled delivery counts, too."""
LETTER_ID, LETTER_CODE, LETTER_REASON = "stepwell_id", "stepwell_code", "stepwell_reason"
"""The attributes of a dead letter: the id of an event whose sender gave it none, and why it is one."""
LETTER_SENT = "stepwell_sent"
"""And when the queue received it first, milliseconds: sent back, it is no newer for having lain there."""
WAKE_GROUP = "stepwell-wake"
"""Wake-ups are a tenant of their own in the fair queue, so that a flood of events does not delay them."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message to send."""

    body: dict[str, JSON]
    delay: float = 0
    """Seconds, rounded up: a wake-up may be late, never early."""
    group: str = WAKE_GROUP


_UNFIT = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What SQS does not take in a text (AWS SQS API, SendMessage)."""


class SendFailed(Exception):
    """Some entries of a batch were refused even when sent again."""


class Queue:
    """Sending. A send that returns is durable; one that raises may have happened, so every message is idempotent."""

    def __init__(self, sqs: Callable[[], Any], url: str, dlq_url: str | None) -> None:
        self.client = sqs
        self.url = url
        self.dlq_url = dlq_url

    def send(self, *messages: Message) -> None:
        """Send to the main queue, up to ten a request. Raises SendFailed if SQS keeps refusing some."""
        if len(messages) == 1:
            self.client().send_message(QueueUrl=self.url, **_entry(messages[0]))
            return
        for batch in _batches(messages):
            self._send_batch([{"Id": str(n), **entry} for n, entry in enumerate(batch)])

    def _send_batch(self, entries: list[dict[str, Any]]) -> None:
        # A batch may succeed in part; the answer names the entries that did not (AWS SQS API, SendMessageBatch).
        failed: dict[str, Any] = {}
        for _ in range(4):
            answer = self.client().send_message_batch(QueueUrl=self.url, Entries=entries)
            failed = {failure["Id"]: failure for failure in answer.get("Failed", [])}
            entries = [entry for entry in entries if entry["Id"] in failed]
            if not entries:
                return
            if all(failure.get("SenderFault") for failure in failed.values()):
                break  # it would be refused again
        first = next(iter(failed.values()))
        raise SendFailed(f"SQS refused {len(entries)} messages: {first.get('Code')}: {first.get('Message')}")

    def dead_letter(
        self,
        body: str,
        *,
        code: str,
        reason: str,
        group: str | None = None,
        event_id: str | None = None,
        sent: int | None = None,
    ) -> None:
        """Put a message that can never be handled where people look, with the reason.

        event_id: the id that an event goes by whose sender gave it none. sent: when the queue received the message first,
        milliseconds. Sent back, it is to be the same event, and as old as it is.

        Attributes count towards the size of a message. If there is no room for all beside the body, the reason is cut or left
        out; then the time; then the code, if it is that or the id, by which nothing is started twice.
        """
        body = body or " "  # SQS takes no empty bodies
        told = {
            LETTER_ID: event_id,
            LETTER_CODE: code,
            LETTER_SENT: str(sent) if sent else None,
            LETTER_REASON: reason[:1000],
        }
        attributes: dict[str, dict[str, str]] = {}
        for name, text in told.items():
            if text is None or (name == LETTER_REASON and LETTER_CODE not in attributes):
                continue
            fitting = attribute(text)
            if name == LETTER_REASON:
                room = MAX_BYTES - size_of(body, {**attributes, name: {**fitting, "StringValue": ""}})
                fitting["StringValue"] = fitting["StringValue"].encode()[: max(0, room)].decode(errors="ignore")
            if fitting["StringValue"] and size_of(body, {**attributes, name: fitting}) <= MAX_BYTES:
                attributes[name] = fitting
        extra: dict[str, Any] = {"MessageGroupId": group} if group else {}
        if attributes:
            extra["MessageAttributes"] = attributes
        self.client().send_message(QueueUrl=self.dlq_url, MessageBody=body, **extra)

    def postpone(self, receipt: str, delay: float) -> None:
        """Let a message that failed come back after `delay` seconds instead of the whole visibility time-out."""
        self.client().change_message_visibility(
            QueueUrl=self.url, ReceiptHandle=receipt, VisibilityTimeout=math.ceil(delay)
        )


def look(run: str, *, delay: float = 0, missed: int | None = None, left: bool = False) -> Message:
    """Ask the orchestrator to look at a run and do what is due.

    `missed` names an overdue dispatch by its epoch. `left` says that a worker has just found its run ended, and may
    have left children behind that nobody knew of.
    """
    extra: dict[str, JSON] = {} if missed is None else {"missed": missed}
    if left:
        extra["left"] = True
    return Message({"stepwell": "look", "run": run, **extra}, delay)


def wake(run: str) -> Message:
    """Tell the orchestrator that something a run waits for has happened."""
    return Message({"stepwell": "wake", "run": run})


def children(run: str, *, after: str) -> Message:
    """Ask the orchestrator to go on cancelling the children of an ended run, with those of the steps after this one."""
    return Message({"stepwell": "children", "run": run, "after": after})


def effect(place: str, *, delay: float) -> Message:
    """Ask the orchestrator to let a dated event take effect: that which is listed at this place of the log."""
    return Message({"stepwell": "effect", "place": place}, delay)


def drain(gate: str, *, after: str = "") -> Message:
    """Tell the orchestrator that a slot is free and somebody waits for it; or to go on behind a place in the line."""
    return Message({"stepwell": "drain", "gate": gate} | ({"after": after} if after else {}))


def attribute(text: str) -> dict[str, str]:
    """An attribute of a message. What SQS does not take in it, emptiness included, becomes a question mark."""
    return {"DataType": "String", "StringValue": _UNFIT.sub("?", text) or "?"}


def size_of(body: str, attributes: Mapping[str, Mapping[str, str]]) -> int:
    """Bytes of a message: body, and names, types and values of its attributes (AWS SQS developer guide, message metadata)."""
    return len(body.encode()) + sum(
        len(f"{name}{value['DataType']}{value['StringValue']}".encode()) for name, value in attributes.items()
    )


def _entry(message: Message) -> dict[str, Any]:
    entry: dict[str, Any] = {"MessageBody": sendable(message.body), "MessageGroupId": message.group}
    if message.delay > 0:
        entry["DelaySeconds"] = min(MAX_DELAY, math.ceil(message.delay))
    return entry


def _batches(messages: Iterable[Message]) -> Iterable[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    size = 0
    for entry in [_entry(message) for message in messages]:  # all of them, before the first is sent
        length = len(entry["MessageBody"].encode())
        if batch and (len(batch) == 10 or size + length > MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += length
    if batch:
        yield batch
