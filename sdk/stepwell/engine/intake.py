"""The consumer: messages of the main queue become records for the orchestrator, or dead letters with a reason.

One bad message never fails its neighbours: it goes to the dead-letter queue at once. SQS may forget a message only
after the orchestrator has stored what it says, which is why the consumer waits for the answer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from stepwell.codec import JSON, dumps, loads
from stepwell.errors import InvalidEvent, StepwellError
from stepwell.events import parse_envelope
from stepwell.ids import derived_ulid, event_id_of
from stepwell.native import native_events
from stepwell.ports import Ports

logger = logging.getLogger("stepwell")

MAX_BYTES = 5_000_000
"""Of the records in one synchronous invocation; Lambda takes 6 MB (AWS Lambda quotas)."""
INTERNAL = {
    "look": ("run",),
    "wake": ("run",),
    "invoke": ("run", "app", "function"),
    "fanout": ("event", "cursor"),
    "lookback": ("waiter",),
    "drain": ("gate",),
    "tick": ("app", "function", "cron", "tz", "at"),
}
"""The engine's own messages and the fields they need."""
PART = "#"
"""Between a message's id and the number of an event in it, where it holds more than one."""


class NotJson(InvalidEvent):
    """The message is not JSON."""

    code = "not-json"


def consume(ports: Ports, records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Handle a batch of SQS records; gives back the ids of the messages that must be delivered again."""
    failed: list[str] = []
    good: list[dict[str, JSON]] = []
    sources = {}
    for record in records:
        sources[record["messageId"]] = record
        try:
            good += read_message(record)
        except StepwellError as error:
            if not _bury(ports, record, error.code, error.message):
                failed.append(record["messageId"])
    results = {result["id"]: result for batch in _batches(good) for result in _ask(ports, batch)}
    for message_id, parts in _by_message(good).items():
        if not _settle(ports, sources[message_id], [(part, results[part["id"]]) for part in parts]):
            failed.append(message_id)
    for message_id in failed:
        _postpone(ports, sources[message_id])
    return failed


def read_message(record: Mapping[str, Any]) -> list[dict[str, JSON]]:
    """The records for the orchestrator: one as a rule, several for several objects in one S3 notification, none for its
    test message. Raises a StepwellError for a message that can never be handled.
    """
    message_id, attributes = record["messageId"], record.get("attributes", {})
    sent = int(attributes.get("SentTimestamp", 0))
    read: dict[str, JSON] = {"id": message_id, "sent": sent}
    if int(attributes.get("ApproximateReceiveCount", 1)) > 1:
        read["again"] = True
    try:
        body = loads(record["body"])
    except (ValueError, RecursionError) as error:
        raise NotJson(
            f"The message is not JSON: {error}. An event is an object such as "
            '{"name": "order/created", "data": {}}.'
        ) from None
    if isinstance(body, dict) and "stepwell" in body:
        kind = body["stepwell"]
        if not isinstance(kind, str) or kind not in INTERNAL or any(field not in body for field in INTERNAL[kind]):
            raise InvalidEvent(f"The message claims to be an internal one of kind {kind!r}, but is not complete.")
        if kind == "invoke" and not isinstance(body.get("data", {} if "data_ref" in body else None), dict):
            raise InvalidEvent(
                f"Run {body['run']!r} cannot be started: its data is no object, which every function gets."
            )
        return [{**read, "kind": kind, **{name: value for name, value in body.items() if name != "stepwell"}}]
    if isinstance(body, dict) and "requestContext" in body and "requestPayload" in body:
        return [{**read, "kind": "crash", **_crash(body)}]
    events = native_events(body, sent=sent)
    if events is None:
        default_id = event_id_of(derived_ulid(sent, "message", message_id))
        events = [parse_envelope(body, default_id=default_id, received_ms=sent)]
    parts = [{**read, "kind": "event", "event": event.as_json()} for event in events]
    for n, part in enumerate(parts[1:], 1):
        part["id"] = f"{message_id}{PART}{n}"
    return parts


def _crash(body: Mapping[str, Any]) -> dict[str, JSON]:
    """Lambda's record of an asynchronous invocation that failed (AWS Lambda, asynchronous invocation destinations)."""
    payload, context = body["requestPayload"], body["requestContext"]
    if not isinstance(context, dict) or not isinstance(payload, dict) or not isinstance(payload.get("run"), str):
        raise InvalidEvent("An invocation record that is not of a worker's invocation.")
    response = body.get("responsePayload") or {}
    said = response.get("errorMessage") if isinstance(response, dict) else None
    return {
        "run": payload["run"],
        "epoch": payload.get("epoch", 0),
        "request": context.get("requestId", ""),
        "why": str(said or context.get("condition") or "unknown")[:1000],
    }


def _by_message(records: Iterable[dict[str, JSON]]) -> dict[str, list[dict[str, JSON]]]:
    """The records by the message they stand in."""
    grouped: dict[str, list[dict[str, JSON]]] = {}
    for record in records:
        grouped.setdefault(str(record["id"]).partition(PART)[0], []).append(record)
    return grouped


def _settle(ports: Ports, record: Mapping[str, Any], answered: list[tuple[dict[str, JSON], dict[str, Any]]]) -> bool:
    """Whether the message may be forgotten.

    Of a message with several events, those that can never be handled become dead letters of their own, each as an event
    by itself; but only once none of the others has to come again, and the whole message with it.
    """
    outcomes = [result["outcome"] for _, result in answered]
    if any(outcome not in ("done", "dead") for outcome in outcomes):
        return False
    several = any(PART in part["id"] for part, _ in answered)
    buried = True
    for part, result in answered:
        if result["outcome"] == "dead":
            alone = {**record, "body": dumps(part["event"])} if several else record
            buried = _bury(ports, alone, result["code"], result["reason"]) and buried
    return buried


def _ask(ports: Ports, batch: list[dict[str, JSON]]) -> list[dict[str, Any]]:
    """The orchestrator's answer for each record. If it fails as a whole, every record is to be tried again."""
    try:
        answer = ports.invoker.call(ports.config.orchestrator or "", {"records": batch})
        results = {result["id"]: result for result in answer["results"]}
    except Exception:  # whatever it is, nothing may be forgotten
        logger.exception("the orchestrator failed; %d messages will be delivered again", len(batch))
        results = {}
    return [results.get(record["id"], {"id": record["id"], "outcome": "retry"}) for record in batch]


def _bury(ports: Ports, record: Mapping[str, Any], code: str, reason: str) -> bool:
    try:
        group = record.get("attributes", {}).get("MessageGroupId")
        ports.queue.dead_letter(record["body"], code=code, reason=reason, group=group)
    except Exception:  # then the message itself stays, and is tried again
        logger.exception("message %s could not be moved to the dead-letter queue", record["messageId"])
        return False
    logger.error("message %s is a dead letter: %s", record["messageId"], reason)
    return True


def _postpone(ports: Ports, record: Mapping[str, Any]) -> None:
    count = int(record.get("attributes", {}).get("ApproximateReceiveCount", 1))
    try:
        ports.queue.postpone(record["receiptHandle"], min(900, 2**count))
    except Exception:  # only the visibility time-out applies then
        logger.warning("message %s could not be postponed", record["messageId"], exc_info=True)


def _batches(records: list[dict[str, JSON]]) -> Iterable[list[dict[str, JSON]]]:
    batch: list[dict[str, JSON]] = []
    size = 0
    for record in records:
        length = len(dumps(record).encode())
        if batch and size + length > MAX_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += length
    if batch:
        yield batch
