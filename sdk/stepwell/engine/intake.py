"""The consumer: messages of the main queue become records for the orchestrator, or dead letters with a reason.

One bad message never fails its neighbours: it goes to the dead-letter queue at once. SQS may forget a message only
after the orchestrator has stored what it says, which is why the consumer waits for the answer.

Nor does one that kills the orchestrator (or makes it run out of time) for long. That fails every record it was asked for
together with, so what comes again is asked for by itself.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from stepwell.codec import JSON, deeper_than, parse, sendable, spelled
from stepwell.decisions.retries import redelivery_delay
from stepwell.errors import InvalidEvent, StepwellError
from stepwell.events import MAX_DEPTH, Envelope, check_id, check_made, check_name, event_ts, parse_envelope
from stepwell.ids import app_of, event_id_of, is_run_id, message_event_id, ulid_millis
from stepwell.native import Unreadable, native_events
from stepwell.ports import Ports
from stepwell.queue import LETTER_ID, LETTER_SENT
from stepwell.queue import MAX_BYTES as MESSAGE_BYTES

logger = logging.getLogger("stepwell")

MAX_BYTES = 5_000_000
"""Of the records in one synchronous invocation; Lambda takes 6 MB (AWS Lambda quotas)."""
LONGEST_CALL = 32.0
"""Seconds that the orchestrator may take to answer: its time-out, and a little for the way. With less time left nothing more
is asked for."""
INTERNAL: Mapping[str, Mapping[str, type]] = {
    "look": {"run": str},
    "wake": {"run": str},
    "invoke": {"run": str, "app": str, "function": str},
    "fanout": {"event": dict, "cursor": dict, "sent": int},
    "effect": {"place": str},
    "lookback": {"waiter": dict},
    "children": {"run": str, "after": str},
    "drain": {"gate": str},
    "tick": {"app": str, "function": str, "cron": str, "tz": str, "at": int},
}
"""The engine's own messages and the fields they need."""
_HALF = re.compile("[\ud800-\udfff]")
OLDEST = 28 * 86_400_000
"""Milliseconds by which a dead letter that is sent back may have been received earlier: so long the two queues keep it."""
PART = "#"
"""Between a message's id and the number of an event in it, where it holds more than one."""
UNREADABLE = "unreadable"
"""The kind of a record that is not asked for: one of several events of a message, and not to be read. It brings the message
that it is by itself, and the code and reason it is a dead letter for."""
UNASKED: Mapping[str, Any] = {"outcome": "retry"}
"""The answer for a record that there was no time left to ask for."""

Record = dict[str, JSON]
Message = Mapping[str, Any]
"""As Lambda hands it over (AWS Lambda developer guide, "Using Lambda with Amazon SQS")."""


class NotJson(InvalidEvent):
    """The message is not JSON."""

    code = "not-json"


def consume(ports: Ports, messages: Iterable[Message], remaining: Callable[[], float]) -> list[str]:
    """Handle a batch of SQS messages; gives back the ids of those that must be delivered again.

    remaining: the seconds this invocation has left.
    """
    failed: list[str] = []
    read: dict[str, list[Record]] = {}
    sizes: dict[str, int] = {}
    sources = {}
    for message in messages:
        message_id = message["messageId"]
        sources[message_id] = message
        try:
            records = read_message(message)
            sizes |= {
                record["id"]: len(sendable(record).encode()) for record in records if record["kind"] != UNREADABLE
            }
            if records:
                read[message_id] = records
        except StepwellError as error:
            if not _bury(ports, message, error.code, error.message):
                failed.append(message_id)
        except Exception:  # a fault of ours, which must not become its neighbours'
            logger.exception("message %s cannot be read; it will be delivered again", message_id)
            failed.append(message_id)
    results: dict[str, dict[str, Any]] = {
        record["id"]: {**record, "outcome": "dead"}
        for records in read.values()
        for record in records
        if record["kind"] == UNREADABLE  # nobody has to be asked
    }
    asked = False
    for batch in _batches(read, sources, sizes):
        if asked and remaining() < LONGEST_CALL:
            break
        asked = True
        results |= {result["id"]: result for result in _ask(ports, batch)}
    for message_id, records in read.items():
        answered = [(record, results.get(record["id"], UNASKED)) for record in records]
        if not _settle(ports, sources[message_id], answered):
            failed.append(message_id)
    for message_id in failed:
        in_time = all(record["id"] in results for record in read.get(message_id, ()))
        _postpone(ports, sources[message_id], failed=in_time)
    return failed


def read_message(message: Message) -> list[Record]:
    """The records for the orchestrator: one as a rule, several for several objects in one S3 notification, none for its
    test message. Of several, one may be UNREADABLE. Raises a StepwellError for a message that can never be handled.
    """
    message_id, sent = message["messageId"], int(message.get("attributes", {}).get("SentTimestamp", 0))
    first = _first_sent(message)
    read: Record = {"id": message_id, "sent": first}
    if _receives(message) > 1:
        read["again"] = True
    try:
        body = parse(message["body"])
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise NotJson(
            f'The message is not JSON: {why}. An event is an object such as {{"name": "order/created", "data": {{}}}}.'
        ) from None
    if deeper_than(body, 3 * MAX_DEPTH):
        raise InvalidEvent(f"Lists and objects stand in each other more than {3 * MAX_DEPTH} deep in the message.")
    if isinstance(body, dict) and "stepwell" in body:
        return [{**read, **_internal(body, sent)}]
    if isinstance(body, dict) and "requestContext" in body and "requestPayload" in body:
        return [{**read, "kind": "crash", **_crash(body)}]
    events = native_events(body, sent=sent)
    if events is None:
        events = [parse_envelope(body, default_id=_default_id(message, sent), received_ms=sent)]
    records = [{**read, **_event(event, sent, first)} for event in events]
    for n, record in enumerate(records[1:], 1):
        record["id"] = f"{message_id}{PART}{n}"
    return records


def _event(event: Envelope | Unreadable, sent: int, first: int) -> Record:
    """One event of a message, sent now and received `first` before, or what stands in the place of one."""
    if isinstance(event, Unreadable):
        return {
            "kind": UNREADABLE, "body": spelled(event.body), "code": event.error.code, "reason": event.error.message
        }  # fmt: skip
    check_made(event.id, sent)
    if event.ts == sent:  # its sender gave no time
        event = replace(event, ts=first)
    return {"kind": "event", "event": event.as_json()}


def _default_id(message: Message, sent: int) -> str:
    """The id of an event whose sender gave it none. A dead letter that is sent back brings the one it had."""
    told = message.get("messageAttributes", {}).get(LETTER_ID, {}).get("stringValue")
    return message_event_id(sent, message["messageId"]) if told is None else check_id(told)


def _first_sent(message: Message) -> int:
    """When the queue received the message first, milliseconds. A dead letter that is sent back says it; as anybody who may
    send could, it is believed only as far as it can be true."""
    sent = int(message.get("attributes", {}).get("SentTimestamp", 0))
    told = message.get("messageAttributes", {}).get(LETTER_SENT, {}).get("stringValue", "")
    return min(max(int(told), sent - OLDEST), sent) if re.fullmatch("[0-9]{1,15}", told) else sent


def _receives(message: Message) -> int:
    """How often the message has been received by now."""
    return int(message.get("attributes", {}).get("ApproximateReceiveCount", 1))


def _internal(body: Mapping[str, Any], sent: int) -> Record:
    """A message of the engine's own: its kind and what it says, but nothing that only the consumer knows."""
    kind = body["stepwell"]
    needed = INTERNAL.get(kind) if isinstance(kind, str) else None
    if needed is None or not all(type(body.get(field)) is wanted for field, wanted in needed.items()):
        raise InvalidEvent(f"The message claims to be an internal one of kind {kind!r}, but is not complete.")
    if kind == "invoke" and not isinstance(body.get("data", {} if "data_ref" in body else None), dict):
        raise InvalidEvent(f"Run {body['run']!r} cannot be started: its data is no object, which every function gets.")
    if kind == "invoke" and not (is_run_id(body["run"]) and app_of(body["run"]) == body["app"]):
        raise InvalidEvent(f"{body['run'][:100]!r} cannot be the id of a run of app {body['app'][:50]!r}.")
    if kind == "invoke":
        event_ts(body.get("ts"), sent)
    if kind == "effect":
        _check_place(body["place"], sent)
    if kind == "fanout" and not isinstance(body["event"].get("name"), str):
        raise InvalidEvent("The message claims to go on with an event, but names none.")
    said = {name: value for name, value in body.items() if name not in ("stepwell", "id", "again", "sent")}
    return {**said, "kind": kind} | ({"sent": body["sent"]} if kind == "fanout" else {})


def _check_place(place: str, sent: int) -> None:
    """Refuse what cannot be the place of an event in the log, `<ULID>#<name>`. Raises InvalidEvent."""
    ulid, _, name = place.partition("#")
    if ulid_millis(ulid) is None:
        raise InvalidEvent(f"{place[:100]!r} is no place in the log.")
    check_made(event_id_of(ulid), sent)
    check_name(name)


def _crash(body: Mapping[str, Any]) -> Record:
    """Lambda's record of an asynchronous invocation that failed (AWS Lambda, asynchronous invocation destinations)."""
    payload, context = body["requestPayload"], body["requestContext"]
    if not isinstance(context, dict) or not isinstance(payload, dict) or not isinstance(payload.get("run"), str):
        raise InvalidEvent("An invocation record that is not of a worker's invocation.")
    response = body.get("responsePayload") or {}
    said = response.get("errorMessage") if isinstance(response, dict) else None
    return {
        "run": payload["run"],
        "epoch": payload.get("epoch", 0),
        "request": str(context.get("requestId", "")),
        "why": _HALF.sub("?", str(said or context.get("condition") or "unknown")[:1000]),
    }


def _batches(
    read: Mapping[str, Sequence[Record]], sources: Mapping[str, Message], sizes: Mapping[str, int]
) -> Iterable[list[Record]]:
    """What to ask the orchestrator for together: new messages as many as go into an invocation; then each that has come
    again by itself, the one that has come most often last: it is the likeliest to take the time of the others. What has no
    size is not asked for.
    """
    receives = {message_id: _receives(sources[message_id]) for message_id in read}
    wanted = {
        message_id: [record for record in records if record["id"] in sizes] for message_id, records in read.items()
    }
    yield from _filled(
        [record for message_id in read if receives[message_id] == 1 for record in wanted[message_id]], sizes
    )
    for message_id in sorted(read, key=lambda message_id: receives[message_id]):
        if receives[message_id] > 1:
            yield from _filled(wanted[message_id], sizes)


def _filled(records: Iterable[Record], sizes: Mapping[str, int]) -> Iterable[list[Record]]:
    batch: list[Record] = []
    size = 0
    for record in records:
        length = sizes[record["id"]]
        if batch and size + length > MAX_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += length
    if batch:
        yield batch


def _settle(ports: Ports, message: Message, answered: Sequence[tuple[Record, Mapping[str, Any]]]) -> bool:
    """Whether the message may be forgotten.

    Of a message with several events, those that can never be handled become dead letters of their own, each as an event
    by itself; but only once none of the others has to come again, and the whole message with it.
    """
    outcomes = [result["outcome"] for _, result in answered]
    if any(outcome not in ("done", "dead") for outcome in outcomes):
        return False
    buried = True
    for record, result in answered:
        if result["outcome"] == "dead":
            alone = {**message, "body": _alone(record)} if len(answered) > 1 else message
            if len(alone["body"].encode()) > MESSAGE_BYTES:
                alone = message  # whose numbers were spelled shorter: 1e22 for 1e+22
            event_id = record["event"]["id"] if record["kind"] == "event" else None
            buried = _bury(ports, alone, result["code"], result["reason"], event_id) and buried
    return buried


def _alone(record: Record) -> str:
    """The message that one of several events is by itself."""
    return str(record["body"]) if record["kind"] == UNREADABLE else sendable(record["event"])


def _ask(ports: Ports, batch: list[Record]) -> list[dict[str, Any]]:
    """The orchestrator's answer for each record. If it fails as a whole, every record is to be tried again."""
    try:
        answer = ports.invoker.call(ports.config.orchestrator or "", {"records": batch})
        results = {result["id"]: result for result in answer["results"]}
    except Exception:  # whatever it is, nothing may be forgotten
        logger.exception("the orchestrator failed; %d messages will be delivered again", len(batch))
        results = {}
    return [results.get(record["id"], {"id": record["id"], "outcome": "retry"}) for record in batch]


def _bury(ports: Ports, message: Message, code: str, reason: str, event_id: str | None = None) -> bool:
    try:
        group = message.get("attributes", {}).get("MessageGroupId")
        first = _first_sent(message)
        ports.queue.dead_letter(message["body"], code=code, reason=reason, group=group, event_id=event_id, sent=first)
    except Exception:  # then the message itself stays, and is tried again
        logger.exception("message %s could not be moved to the dead-letter queue", message["messageId"])
        return False
    logger.error("message %s is a dead letter: %s", message["messageId"], code)  # the reason may quote what it says
    return True


def _postpone(ports: Ports, message: Message, *, failed: bool) -> None:
    """Let the message come again: the later the more often it has failed, at once if it only was not asked for."""
    chance = int.from_bytes(ports.ids.token_bytes(2), "big") / 65_536
    try:
        ports.queue.postpone(message["receiptHandle"], redelivery_delay(_receives(message) if failed else 1, chance))
    except Exception:  # only the visibility time-out applies then
        logger.warning("message %s could not be postponed", message["messageId"], exc_info=True)
