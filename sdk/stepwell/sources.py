"""Models for events of AWS services, so that `ctx.event.data.bucket` is typed.

    from stepwell.sources import S3ObjectCreated

    @app.function(on=Trigger(S3ObjectCreated, where="event.data.bucket == 'uploads'"))
    def index(ctx: Context[S3ObjectCreated]) -> None:
        ctx.step.run(read, ctx.event.data.bucket, ctx.event.data.key)

An event of EventBridge gets a model of its own for its detail:

    class Launched(EventBridgeEvent, name=eventbridge_name("aws.ec2", "EC2 Instance Launch Successful")):
        detail: LaunchDetail

and one of SNS a model for its message: `class Told(SnsMessage, name="aws/sns/orders")`. How the messages become events,
their names and ids: `stepwell.native`. Only code of users imports this module.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import ConfigDict, Field

from stepwell.models import EventModel
from stepwell.native import eventbridge_name

__all__ = ["EventBridgeEvent", "S3Event", "S3ObjectCreated", "S3ObjectRemoved", "SnsMessage", "eventbridge_name"]


class S3Event(EventModel):
    """Something happened to an object: a record of an S3 notification. Its subclasses have the names."""

    model_config = ConfigDict(extra="ignore")

    event: str
    """In S3's words, such as `ObjectCreated:CompleteMultipartUpload`."""
    bucket: str
    key: str
    """As the object is called (in the notification it is URL-encoded)."""
    size: int | None = None
    """Bytes; only of what was created."""
    etag: str | None = None
    version_id: str | None = None
    """None if the bucket keeps no versions."""
    sequencer: str | None = None
    """Hexadecimal: the greater one of the same key came later (compare at equal length, the shorter filled with
    zeros)."""
    region: str | None = None
    time: datetime | None = None
    """When S3 had done it."""
    principal: str | None = None
    source_ip: str | None = None
    details: dict[str, Any] = Field(default_factory=dict)
    """What S3 adds for restores, life cycles and replications, as it says it."""


class S3ObjectCreated(S3Event, name="aws/s3/ObjectCreated"):
    """An object was put, copied, posted, or its multipart upload completed."""


class S3ObjectRemoved(S3Event, name="aws/s3/ObjectRemoved"):
    """An object was deleted, or a delete marker set in its place."""


class EventBridgeEvent(EventModel):
    """An event of a rule. A subclass names it and may say what its detail is."""

    model_config = ConfigDict(extra="ignore")

    source: str
    detail_type: str
    detail: Any
    account: str | None = None
    region: str | None = None
    resources: list[str] = Field(default_factory=list)
    time: datetime | None = None
    replay_name: str | None = None
    """The replay of an archive it comes from."""


class SnsMessage(EventModel):
    """A notification of a topic. A subclass names it and may say what its message is."""

    model_config = ConfigDict(extra="ignore")

    topic_arn: str
    message: Any
    """Text, or the value if the text is a JSON object or list."""
    subject: str | None = None
    attributes: dict[str, str] = Field(default_factory=dict)
    time: datetime | None = None
