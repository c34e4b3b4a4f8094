"""The AWS of a local world: moto inside this process, or any emulator behind an endpoint."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import boto3
from moto import mock_aws
from moto.backends import get_backend
from moto.dynamodb.models.dynamo_type import DynamoType

from stepwell.queue import RECEIVES
from stepwell.store.table import TABLE_SPEC
from stepwell.testing import inside
from stepwell.testing.clients import REGION, WorldSession, account_of, backstage_client
from stepwell.testing.wire import Wire

VISIBILITY = 43_200
"""Seconds of real time for which the emulator hides a received message: for good, since the world decides when it
comes back, in virtual time."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What a world has created for Stepwell."""

    table: str
    queue_url: str
    queue_arn: str
    dlq_url: str
    dlq_arn: str
    bucket: str


class LocalAws:
    """One world's AWS, from `open` to `close`."""

    resources: Resources

    def __init__(self, endpoint_url: str | None = None) -> None:
        self.endpoint_url = endpoint_url
        self.tag = uuid.uuid4().hex[:10]
        """Part of all names, so that worlds on one emulator do not meet."""
        self.account = account_of(endpoint_url)
        self.on_outside_message: Callable[[], None] = lambda: None
        """Called when somebody may have sent a message past the world. With an emulator nobody can tell."""
        self._stack = ExitStack()
        self._backstage: dict[str, Any] = {}

    def open(self) -> Resources:
        """Make the environment point here, start moto if it is needed, create the resources."""
        try:
            inside.install()
            if self.endpoint_url is None:
                self._stack.enter_context(_environment(self._variables()))
                self._stack.enter_context(mock_aws())
                inside.on_outside_message.add(self._told_of_message)
                self._stack.callback(inside.on_outside_message.discard, self._told_of_message)
            else:
                self._stack.enter_context(_environment(self._variables()))
                self._stack.enter_context(patch.object(boto3, "DEFAULT_SESSION", None))
            self.resources = self._create()
            self._stack.enter_context(
                _environment(
                    {
                        "STEPWELL_TABLE": self.resources.table,
                        "STEPWELL_QUEUE_URL": self.resources.queue_url,
                        "STEPWELL_DLQ_URL": self.resources.dlq_url,
                        "STEPWELL_BUCKET": self.resources.bucket,
                    }
                )
            )
        except BaseException:
            self._stack.close()
            raise
        return self.resources

    def close(self) -> None:
        """Undo all of it."""
        try:
            if self.endpoint_url is not None:
                self._delete()
        finally:
            self._stack.close()

    def backstage(self, service: str) -> Any:
        """A client whose calls are the world's own: not counted, not faulted, not seen."""
        if service not in self._backstage:
            self._backstage[service] = backstage_client(service, self.endpoint_url)
        return self._backstage[service]

    def session(self, wire: Wire | None, *, for_client: bool = False) -> WorldSession:
        """A botocore session whose clients pass through `wire`, or past everything if there is none."""
        return WorldSession(wire, self.endpoint_url, for_client=for_client)

    def _told_of_message(self) -> None:
        self.on_outside_message()

    def read_item(self, pk: str, sk: str) -> Mapping[str, Any] | None:
        """An item of the table in DynamoDB's notation, past all counting."""
        if self.endpoint_url is None:
            with inside.LOCK:
                table = get_backend("dynamodb")[self.account][REGION].get_table(self.resources.table)
                item = table.get_item(DynamoType({"S": pk}), DynamoType({"S": sk}))
                attributes: Mapping[str, Any] | None = item.to_json()["Attributes"] if item is not None else None
                return attributes
        key = {"pk": {"S": pk}, "sk": {"S": sk}}
        found: Mapping[str, Any] | None = (
            self.backstage("dynamodb")
            .get_item(TableName=self.resources.table, Key=key, ConsistentRead=True)
            .get("Item")
        )
        return found

    def _variables(self) -> dict[str, str | None]:
        return {
            "AWS_ACCESS_KEY_ID": self.account if self.endpoint_url else "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_SESSION_TOKEN": None,
            "AWS_PROFILE": None,
            "AWS_DEFAULT_PROFILE": None,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": self.endpoint_url,
            **{name: None for name in os.environ if name.startswith("AWS_ENDPOINT_URL_")},
        }

    def _create(self) -> Resources:
        table, bucket = f"stepwell-{self.tag}", f"stepwell-{self.tag}"
        dynamodb, sqs = self.backstage("dynamodb"), self.backstage("sqs")
        # Without TTL: the emulator would go by its own clock, and delete what has long expired there, but not here. The
        # world itself does that.
        dynamodb.create_table(TableName=table, **TABLE_SPEC)
        dlq = f"stepwell-{self.tag}-dead-letters"
        dlq_url = sqs.create_queue(QueueName=dlq, Attributes={"MessageRetentionPeriod": "1209600"})["QueueUrl"]
        dlq_arn = f"arn:aws:sqs:{REGION}:{self.account}:{dlq}"
        if self.endpoint_url is not None:
            attributes = sqs.get_queue_attributes(QueueUrl=dlq_url, AttributeNames=["QueueArn"])["Attributes"]
            dlq_arn = attributes["QueueArn"]
        redrive = f'{{"deadLetterTargetArn": "{dlq_arn}", "maxReceiveCount": {RECEIVES}}}'
        queue_url = sqs.create_queue(
            QueueName=f"stepwell-{self.tag}",
            Attributes={
                "RedrivePolicy": redrive,
                "VisibilityTimeout": str(VISIBILITY),
                "MaximumMessageSize": "1048576",
            },
        )["QueueUrl"]
        queue_arn = dlq_arn.removesuffix("-dead-letters")
        self.backstage("s3").create_bucket(Bucket=bucket)
        return Resources(table, queue_url, queue_arn, dlq_url, dlq_arn, bucket)

    def _delete(self) -> None:
        made = self.resources
        self.backstage("dynamodb").delete_table(TableName=made.table)
        self.backstage("sqs").delete_queue(QueueUrl=made.queue_url)
        self.backstage("sqs").delete_queue(QueueUrl=made.dlq_url)
        s3 = self.backstage("s3")
        for entry in s3.list_objects_v2(Bucket=made.bucket).get("Contents", []):
            s3.delete_object(Bucket=made.bucket, Key=entry["Key"])
        s3.delete_bucket(Bucket=made.bucket)


@contextmanager
def _environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Set (or, for None, unset) environment variables, and put back what was there."""
    before = {name: os.environ.get(name) for name in variables}
    _set(variables)
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
