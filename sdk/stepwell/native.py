"""What AWS services put on a queue by themselves, read as events: EventBridge, S3 notifications, SNS.

    what arrives                            name of the event                             its id
    --------------------------------------- --------------------------------------------- ---------------------------------
    an event of an EventBridge rule         aws/eventbridge/<source>/<detail-type>        EventBridge's own
    a record of an S3 notification          aws/s3/<ObjectCreated, ObjectRemoved ...>     made of bucket, key, version,
                                                                                          event and sequencer
    a notification of an SNS topic          aws/sns/<topic>                               SNS's own (MessageId)

The rule: `aws/`, the service that brought it, and AWS's own words, with white space as hyphens. `stepwell.sources` has a
model for the data of each.

* One S3 notification may hold several records: each is an event, and one that cannot be read does not keep the others.
  Its test message (`s3:TestEvent`) is none.
* What SNS carries may be a message of another kind: a Stepwell event, an S3 notification or an EventBridge event in it
  is read as if it had come directly.
* All of these services deliver at least once. The ids are the sources' own, so a duplicate starts nothing twice, and
  data holds only what is the same in every delivery.

Pure, and light: the consumer imports it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from stepwell.codec import JSON, deeper_than, parse, sendable
from stepwell.errors import InvalidEvent, NotSerializable
from stepwell.events import MAX_DEPTH, Envelope, check_data, check_id, check_name, event_ts, parse_envelope
from stepwell.ids import digest, event_millis

_UNFIT = re.compile(r"[\s\x00-\x1f#*]+")
"""What may not stand in the name of an event."""
_EVENTBRIDGE = {"detail-type", "source", "detail", "id"}
_SNS = {"Type", "MessageId", "TopicArn"}


@dataclass(frozen=True, slots=True)
class Unreadable:
    """One of several records of a message, of which no event can be made."""

    body: JSON
    """A message with this record alone."""
    error: InvalidEvent | NotSerializable


def native_events(body: JSON, *, sent: int) -> list[Envelope | Unreadable] | None:
    """The events in a message of one of these services, None if it is none of theirs.

    `sent` (milliseconds) stands in where the source says no time. An empty list is a message without an event, such as
    the one with which S3 tries out a queue. Raises InvalidEvent for one that is theirs but cannot be read; one of several
    records that cannot be read is given as such.
    """
    if not isinstance(body, dict):
        return None
    if body.keys() >= _EVENTBRIDGE:
        return [_of_eventbridge(body, sent)]
    if body.keys() >= _SNS and str(body["TopicArn"]).startswith("arn:"):
        return _of_sns(body, sent)
    if body.get("Event") == "s3:TestEvent" and "Records" not in body:
        return []
    records = body.get("Records")
    if isinstance(records, list) and any(_is_of_s3(record) for record in records):
        if len(records) == 1:
            return [_of_s3(records[0], sent)]
        return [_one_of_s3(record, sent) for record in records]
    return None


def eventbridge_name(source: str, detail_type: str) -> str:
    """The name of the events of an EventBridge rule, such as `aws/eventbridge/aws.ec2/EC2-Instance-Launch`."""
    return check_name(f"aws/eventbridge/{fit(source)}/{fit(detail_type)}")


def fit(text: str) -> str:
    """The text with what may not stand in an event's name (white space, `#`, `*`) as hyphens."""
    return _UNFIT.sub("-", text.strip())


def chosen_id(event_id: str, *, source: str) -> str:
    """An id that a source chose. One that looks as if Stepwell had made it gets the source's name in front.

    An id made by Stepwell carries the time of its event; a stranger must not set that.
    """
    return check_id(event_id if event_millis(event_id) is None else f"{source}:{event_id}")


# ---- EventBridge ---------------------------------------------------------------------------------------------------------


def _of_eventbridge(body: Mapping[str, JSON], sent: int) -> Envelope:
    """AWS EventBridge user guide, "Events": the same metadata stand around the detail of every event."""
    source, detail_type, detail = body["source"], body["detail-type"], body["detail"]
    if not isinstance(source, str) or not isinstance(detail_type, str) or not isinstance(body["id"], str):
        raise InvalidEvent("An EventBridge event whose id, source or detail-type is not text.")
    event_id = body["id"]
    if isinstance(replay := body.get("replay-name"), str):
        event_id += f"#{replay}"  # an archive's replay keeps the id of the event, and is meant to run again
    data = _present(
        source=source,
        detail_type=detail_type,
        detail=detail if isinstance(detail, dict) else {},
        account=body.get("account"),
        region=body.get("region"),
        resources=body.get("resources") or [],
        time=body.get("time"),
        replay_name=replay,
    )
    name = eventbridge_name(source, detail_type)
    event_id = chosen_id(event_id, source="eventbridge")
    return Envelope(event_id, name, check_data(data, name), _time(body.get("time"), sent))


# ---- S3 ------------------------------------------------------------------------------------------------------------------


def _is_of_s3(record: JSON) -> bool:
    return isinstance(record, dict) and record.get("eventSource") == "aws:s3" and isinstance(record.get("s3"), dict)


def _one_of_s3(record: JSON, sent: int) -> Envelope | Unreadable:
    """One of several records. An event that can be made and not be sent on is as unreadable as none."""
    try:
        if not _is_of_s3(record):
            raise InvalidEvent("A record of an S3 notification that S3 has not made.")
        event = _of_s3(record, sent)
        sendable(event.as_json())
    except (InvalidEvent, NotSerializable) as error:
        return Unreadable({"Records": [record]}, error)
    return event


def _of_s3(record: Mapping[str, Any], sent: int) -> Envelope:
    """Amazon S3 user guide, "Event message structure" (versions 2.0 to 2.3)."""
    bucket, thing = _object(record["s3"].get("bucket")), _object(record["s3"].get("object"))
    event, bucket_name, encoded = record.get("eventName"), bucket.get("name"), thing.get("key")
    if not (isinstance(event, str) and event and isinstance(bucket_name, str) and isinstance(encoded, str) and encoded):
        raise InvalidEvent("A record of an S3 notification without event name, bucket or key.")
    # A sequencer comes with what is put and deleted. Everything else is told apart by the request that caused it.
    request = _object(record.get("responseElements")).get("x-amz-request-id", "")
    cause = thing.get("sequencer") or f"{request} {record.get('eventTime', '')}"
    parts = (bucket_name, encoded, str(thing.get("versionId") or ""), event, str(cause))
    data = _present(
        event=event,
        bucket=bucket_name,
        key=unquote_plus(encoded),  # it is URL-encoded in notifications
        size=thing.get("size"),
        etag=thing.get("eTag"),
        version_id=thing.get("versionId"),
        sequencer=thing.get("sequencer"),
        region=record.get("awsRegion"),
        time=record.get("eventTime"),
        principal=_object(record.get("userIdentity")).get("principalId"),
        source_ip=_object(record.get("requestParameters")).get("sourceIPAddress"),
        details={name: value for name, value in record.items() if name.endswith("EventData")} or None,
    )
    name = check_name(f"aws/s3/{fit(event.partition(':')[0])}")
    event_id = f"s3-{digest(*parts).hex()[:40]}"
    return Envelope(event_id, name, check_data(data, name), _time(record.get("eventTime"), sent))


# ---- SNS -----------------------------------------------------------------------------------------------------------------


def _of_sns(body: Mapping[str, JSON], sent: int) -> list[Envelope | Unreadable]:
    """Amazon SNS developer guide, "Message formats": a notification without raw message delivery."""
    if body["Type"] != "Notification":
        raise InvalidEvent(
            f"SNS sent a {str(body['Type'])[:40]} of {str(body['TopicArn'])[:200]}, not a notification. A subscription of "
            "another account's topic must be confirmed: open the SubscribeURL in the message."
        )
    text, message_id = body.get("Message"), str(body["MessageId"])
    happened = min(_time(body.get("Timestamp"), sent), sent)
    message = _parsed(text)
    if isinstance(message, dict) and not deeper_than(message, 3 * MAX_DEPTH):  # else it can be no event of any kind
        if isinstance(message.get("name"), str) and isinstance(message.get("data"), dict) and "stepwell" not in message:
            default_id = chosen_id(message_id, source="sns")
            return [parse_envelope(message, default_id=default_id, received_ms=happened)]
        carried = None if message.keys() >= _SNS else native_events(message, sent=happened)
        if carried is not None:
            return carried
    attributes = _object(body.get("MessageAttributes"))
    data = _present(
        topic_arn=body["TopicArn"],
        subject=body.get("Subject"),
        attributes={name: _object(value).get("Value") for name, value in attributes.items()},
        time=body.get("Timestamp"),
    )
    data["message"] = message
    topic = str(body["TopicArn"]).rpartition(":")[2]
    event_id, name = chosen_id(message_id, source="sns"), check_name(f"aws/sns/{fit(topic)}")
    return [Envelope(event_id, name, check_data(data, name), happened)]


def _parsed(text: JSON) -> JSON:
    """The object or list that the text is the JSON of; the text itself if it is neither."""
    if isinstance(text, str) and text.lstrip()[:1] in ("{", "["):
        try:
            return parse(text)
        except (ValueError, RecursionError):
            pass
    return text


# ---- helpers -------------------------------------------------------------------------------------------------------------


def _time(value: JSON, sent: int) -> int:
    """The time a source names; that of its message, if it is none that an event can have."""
    try:
        return sent if value is None else event_ts(value, sent)
    except InvalidEvent:
        return sent


def _object(value: JSON) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _present(**fields: JSON) -> dict[str, JSON]:
    """Only the fields that say something: every byte of an event is paid for."""
    return {name: value for name, value in fields.items() if value is not None}
