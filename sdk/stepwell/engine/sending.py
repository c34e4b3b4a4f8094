"""Events on their way to the main queue. What is too large for a message travels through S3 (claim check)."""

from __future__ import annotations

from stepwell.codec import JSON, dumps
from stepwell.events import Envelope
from stepwell.ports import Ports
from stepwell.queue import Message

INLINE_MESSAGE = 256 * 1024
"""Bytes. SQS takes 1 MiB, but bills every 64 KB of it three times: sent, received, deleted."""


def event_message(ports: Ports, event: Envelope, *, group: str) -> Message:
    """The message of an event. Raises PayloadTooLarge and NotSerializable."""
    body = event.as_json()
    body["ts"] = event.ts
    text = dumps(event.data)
    if ports.payloads.check(text, f"event {event.name!r}") > INLINE_MESSAGE:
        body = {name: value for name, value in body.items() if name != "data"}
        body["data_ref"] = f"events/{event.id}/{ports.ids.token_bytes(8).hex()}"
        ports.payloads.upload(body["data_ref"], text)
    return Message(body, group=event.tenant or group)


def large_field(ports: Ports, body: dict[str, JSON], field: str, key: str) -> dict[str, JSON]:
    """The message body, with one field moved to the S3 object `key` if it is too large for the queue."""
    text = dumps(body[field])
    if ports.payloads.check(text, f"{field} of {key}") <= INLINE_MESSAGE:
        return body
    ports.payloads.upload(key, text)
    return {name: value for name, value in body.items() if name != field} | {field + "_ref": key}
