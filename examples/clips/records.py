"""What is known of each clip: one DynamoDB item a clip, all clips of a video under one partition key."""

import json
import os
from collections.abc import Iterable
from decimal import Decimal
from typing import Literal

import boto3
from boto3.dynamodb.conditions import Key
from pydantic import BaseModel

TABLE = os.environ.get("CLIPS_TABLE", "clips")


class Clip(BaseModel):
    """A part of a video that somebody, or `find_clips`, thought worth a clip."""

    video_id: str
    clip_id: str
    video: str  # key
    start: float  # seconds
    end: float


class ClipRecord(Clip):
    """A clip, and what became of it."""

    status: Literal["identified", "saved", "broken"] = "identified"
    file: str | None = None  # key, once saved
    seconds: float | None = None
    error: str | None = None  # why it is broken


def save(records: Iterable[ClipRecord]) -> None:
    """Write records, in the place of older ones of the same clips."""
    with boto3.resource("dynamodb").Table(TABLE).batch_writer() as batch:
        for record in records:
            batch.put_item(json.loads(record.model_dump_json(exclude_none=True), parse_float=Decimal))


def of_video(video_id: str) -> list[ClipRecord]:
    """All clips of a video, in order of their ids."""
    found = boto3.resource("dynamodb").Table(TABLE).query(KeyConditionExpression=Key("video_id").eq(video_id))
    return [ClipRecord.model_validate(item) for item in found["Items"]]


def create_table() -> None:
    """The table, for a demo or a test; a deployed app gets it from its stack."""
    boto3.client("dynamodb").create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "video_id", "KeyType": "HASH"}, {"AttributeName": "clip_id", "KeyType": "RANGE"}],
        AttributeDefinitions=[
            {"AttributeName": "video_id", "AttributeType": "S"},
            {"AttributeName": "clip_id", "AttributeType": "S"},
        ],
        BillingMode="PAY_PER_REQUEST",
    )
