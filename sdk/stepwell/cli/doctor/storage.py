"""Whether what holds state is as it must be: queues, table, bucket."""

from __future__ import annotations

import json
from collections.abc import Iterator

from stepwell.cli.doctor.patient import Finding, Patient, ok, problem, unknown, warning
from stepwell.queue import RECEIVES
from stepwell.store.table import INDEX, TTL_ATTRIBUTE

KEPT = 14 * 86_400
"""Seconds; the longest SQS keeps anything."""
DRIFT = "It was changed by hand, or by a construct of another release. Deploy the stack again."


def queue(patient: Patient) -> Iterator[Finding]:
    """The main queue gives the consumer time, and gives up late enough."""
    attributes = patient.queue_attributes(patient.ports.config.queue_url)
    visible = int(attributes.get("VisibilityTimeout", 30))
    if "ConsumerName" not in patient.outputs:
        yield unknown("the consumer's time-out is not known without --stack")
    elif visible < (needed := 6 * patient.consumer_timeout):
        yield problem(
            f"Messages come back after {visible} s, while the consumer may be at work for {patient.consumer_timeout} s: "
            f"throttled batches are handled twice. At least {needed} s are needed.",
            DRIFT,
        )
    else:
        yield ok(f"Messages stay hidden for {visible} s while they are handled.")
    redrive = json.loads(attributes.get("RedrivePolicy", "{}"))
    receives = int(redrive.get("maxReceiveCount", 0))
    if not receives:
        yield problem(
            "The main queue has no dead-letter queue: what cannot be handled goes round until it expires.", DRIFT
        )
    elif receives != RECEIVES:
        meaning = (
            "healthy messages are given up on in an outage" if receives < RECEIVES else "poison goes round for long"
        )
        yield warning(
            f"A message is a dead letter after {receives} deliveries instead of {RECEIVES}: {meaning}.", DRIFT
        )
    else:
        yield ok(f"A message that fails {RECEIVES} times becomes a dead letter.")
    dead = patient.ports.config.dlq_url
    if dead is not None and receives:
        arn = patient.queue_attributes(dead).get("QueueArn")
        if arn != redrive.get("deadLetterTargetArn"):
            yield problem(f"Dead letters go to {redrive.get('deadLetterTargetArn')}, not to the stack's queue.", DRIFT)


def dead_letter_queue(patient: Patient) -> Iterator[Finding]:
    """Dead letters are kept for as long as SQS can."""
    if patient.ports.config.dlq_url is None:
        yield unknown("the dead-letter queue is not named; set STEPWELL_DLQ_URL or pass --stack")
        return
    kept = int(patient.queue_attributes(patient.ports.config.dlq_url).get("MessageRetentionPeriod", 345_600))
    if kept < KEPT:
        yield problem(
            f"Dead letters are kept for {kept / 86_400:g} days instead of 14: after that they are lost.", DRIFT
        )
    else:
        yield ok("Dead letters are kept for 14 days.")


def table(patient: Patient) -> Iterator[Finding]:
    """The table has its index, cleans up, and can be restored."""
    client, name = patient.clients("dynamodb"), patient.ports.config.table
    described = client.describe_table(TableName=name)["Table"]
    indexes = {index["IndexName"]: index.get("IndexStatus") for index in described.get("GlobalSecondaryIndexes", [])}
    if INDEX not in indexes:
        yield problem(f"The table has no index {INDEX!r}: nothing that is overdue is found.", DRIFT)
    elif indexes[INDEX] in ("CREATING", "DELETING"):
        yield warning(f"The index {INDEX!r} is {str(indexes[INDEX]).lower()}.", "Look again in some minutes.")
    else:
        yield ok(f"The index {INDEX!r} is there.")
    if described.get("DeletionProtectionEnabled"):
        yield ok("The table is protected from deletion.")
    else:
        yield warning(
            "The table is not protected from deletion.",
            "Right for a stack that is to go again (RemovalPolicy.DESTROY); otherwise leave removal_policy out.",
        )
    expiry = client.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    if expiry.get("TimeToLiveStatus") in ("ENABLED", "ENABLING") and expiry.get("AttributeName") == TTL_ATTRIBUTE:
        yield ok("Ended runs expire.")
    else:
        yield problem(
            f"Time to live is not enabled on {TTL_ATTRIBUTE!r}: ended runs are never deleted, and are paid for.", DRIFT
        )
    backups = client.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    recovery = backups.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus")
    if recovery == "ENABLED":
        yield ok("The table can be restored to any second of the last 35 days.")
    else:
        yield warning("Point-in-time recovery is off: a mistake in the table cannot be undone.", DRIFT)


def bucket(patient: Patient) -> Iterator[Finding]:
    """The bucket for large payloads is there."""
    name = patient.ports.config.bucket
    if name is None:
        yield warning(
            "No bucket is named: values above 400 KB cannot be kept.", "Set STEPWELL_BUCKET, or pass --stack."
        )
        return
    patient.clients("s3").list_objects_v2(Bucket=name, MaxKeys=1)
    yield ok("The bucket for large payloads is there.")
