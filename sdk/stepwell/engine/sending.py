"""Events on their way to the main queue. What is too large for a message travels through S3 (claim check)."""

from __future__ import annotations

from stepwell.codec import JSON, sendable
from stepwell.errors import NotSerializable
from stepwell.events import LARGE_EVENTS, Envelope, check_data, event_ts, large_key
from stepwell.ports import Ports
from stepwell.queue import Message

INLINE_MESSAGE = 256 * 1024
"""Bytes. SQS takes 1 MiB, but bills every 64 KB of it three times: sent, received, deleted."""


def event_message(ports: Ports, event: Envelope, *, group: str) -> Message:
    """The message of an event. Raises PayloadTooLarge, NotSerializable, and InvalidEvent: a middleware may have made of the
    event what none can be.
    """
    event_ts(event.ts, ports.now())
    body = event.as_json()
    what = f"event {event.name!r}"
    text = _text(check_data(event.data, event.name), what)
    if ports.payloads.check(text, what) > INLINE_MESSAGE:
        body = {name: value for name, value in body.items() if name != "data"}
        body["data_ref"] = large_key(event.id, ports.ids.token_bytes(8).hex())
        ports.payloads.upload(body["data_ref"], text)
    return Message(body, group=event.tenant or group)


def large_field(ports: Ports, body: dict[str, JSON], field: str, key: str) -> dict[str, JSON]:
    """The message body, with one field moved to the S3 object `key` if it is too large for the queue."""
    what = f"{field} of {key.removeprefix(LARGE_EVENTS).removesuffix('/input')}"
    text = _text(body[field], what)
    if ports.payloads.check(text, what) <= INLINE_MESSAGE:
        return body
    ports.payloads.upload(key, text)
    return {name: value for name, value in body.items() if name != field} | {field + "_ref": key}


def _text(value: JSON, what: str) -> str:
    """The JSON text of what is sent. Raises NotSerializable naming `what`."""
    try:
        return sendable(value)
    except NotSerializable as error:
        raise NotSerializable(f"{what} cannot be sent. {error.message} Send null, or text, instead.") from error
