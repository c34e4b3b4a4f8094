"""Whether the caller may do what a client does: each permission is tried with a call that can change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from botocore.exceptions import ClientError

from stepwell.cli.doctor.patient import Finding, Patient, is_denied, ok, warning
from stepwell.store.table import INDEX

NOWHERE = {"pk": {"S": "RUN#stepwell-doctor.0"}, "sk": {"S": "RUN"}}
"""An item that never exists: no app's id has such a run."""
OBJECT = "events/stepwell-doctor"


def permissions(patient: Patient) -> Iterator[Finding]:
    """Sending, reading, cancelling, large payloads, dead letters."""
    denied: dict[str, list[str]] = {}
    allowed = 0
    for purpose, action, call in _calls(patient):
        if _may(call):
            allowed += 1
        else:
            denied.setdefault(purpose, []).append(action)
    for purpose, actions in denied.items():
        yield warning(
            f"You may not {purpose}: {', '.join(actions)} {'is' if len(actions) == 1 else 'are'} denied.",
            "Nothing is wrong if you need not. Otherwise grant it to the role or user you work as "
            "(`aws sts get-caller-identity`).",
        )
    if not denied:
        yield ok(f"You may do all that a client does ({allowed} permissions tried).")


def _may(call: Callable[[], Any]) -> bool:
    """Whether AWS lets the call through to where it fails for another reason, or finds nothing."""
    try:
        call()
    except ClientError as error:
        return not is_denied(error)
    return True


def _calls(patient: Patient) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    config = patient.ports.config
    dynamodb, sqs = patient.clients("dynamodb"), patient.clients("sqs")
    table = config.table
    # A delay above SQS's limit: refused, but only after the permission was looked at.
    refused = {"Id": "0", "MessageBody": '{"stepwell":"look","run":"stepwell-doctor.0"}', "DelaySeconds": 901}
    yield (
        "send events",
        "sqs:SendMessage",
        lambda: sqs.send_message_batch(QueueUrl=config.queue_url, Entries=[refused]),
    )
    yield "look at runs", "dynamodb:GetItem", lambda: dynamodb.get_item(TableName=table, Key=NOWHERE)
    yield (
        "look at runs",
        "dynamodb:BatchGetItem",
        lambda: dynamodb.batch_get_item(RequestItems={table: {"Keys": [NOWHERE]}}),
    )
    for index in (None, INDEX):
        name = "due_pk" if index else "pk"
        query = {
            "TableName": table,
            "KeyConditionExpression": f"{name} = :nowhere",
            "ExpressionAttributeValues": {":nowhere": NOWHERE["pk"]},
        }
        query |= {"IndexName": index} if index else {}
        where = f" on the index {INDEX}" if index else ""
        yield "list runs and steps", f"dynamodb:Query{where}", lambda query=query: dynamodb.query(**query)  # type: ignore[misc]
    yield (
        "cancel runs and answer callbacks",
        "dynamodb:UpdateItem",
        lambda: dynamodb.update_item(
            TableName=table,
            Key=NOWHERE,
            UpdateExpression="SET x = :x",
            ConditionExpression="attribute_exists(pk)",  # never
            ExpressionAttributeValues={":x": {"N": "0"}},
        ),
    )
    if config.bucket is not None:
        bucket, s3 = config.bucket, patient.clients("s3")
        yield "read large values", "s3:GetObject", lambda: s3.get_object(Bucket=bucket, Key=OBJECT)
        yield (
            "send large events",
            "s3:PutObject",
            lambda: s3.put_object(Bucket=bucket, Key=OBJECT, Body=b"", IfMatch='"0"'),  # there is no such object
        )
