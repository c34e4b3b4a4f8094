"""Where state lies: a table, a bucket for payloads too large for it, the main queue and the dead-letter queue."""

from __future__ import annotations

from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from stepwell.queue import RECEIVES
from stepwell_cdk.findings import explain

INDEX = "due"
"""The table's one index: what is due when, and ended runs by function. No decision about a run is taken from it."""

DEAD_LETTER_RETENTION = cdk.Duration.days(14)
"""The longest SQS keeps anything. Messages keep their first time of arrival when they move, so the main queue has
it too: a shorter retention there would only lose events earlier."""


@dataclass(frozen=True)
class Storage:
    """The four resources that hold state, and the customer's key if there is one."""

    table: dynamodb.Table
    bucket: s3.Bucket
    queue: sqs.Queue
    dead_letters: sqs.Queue
    key: kms.IKey | None

    @property
    def index_arn(self) -> str:
        """The ARN of the table's index."""
        return f"{self.table.table_arn}/index/{INDEX}"


def table(
    scope: Construct, *, name: str | None, key: kms.IKey | None, removal_policy: cdk.RemovalPolicy
) -> dynamodb.Table:
    """The table: on demand, restorable to any second of 35 days, protected unless it is to go with the stack."""
    made = dynamodb.Table(
        scope,
        "Table",
        table_name=name,
        partition_key=dynamodb.Attribute(name="pk", type=dynamodb.AttributeType.STRING),
        sort_key=dynamodb.Attribute(name="sk", type=dynamodb.AttributeType.STRING),
        billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
        point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
            point_in_time_recovery_enabled=True
        ),
        time_to_live_attribute="ttl",
        encryption=dynamodb.TableEncryption.CUSTOMER_MANAGED if key else None,
        encryption_key=key,
        deletion_protection=removal_policy != cdk.RemovalPolicy.DESTROY,
        removal_policy=removal_policy,
    )
    made.add_global_secondary_index(
        index_name=INDEX,
        partition_key=dynamodb.Attribute(name="due_pk", type=dynamodb.AttributeType.STRING),
        sort_key=dynamodb.Attribute(name="due_sk", type=dynamodb.AttributeType.STRING),
        projection_type=dynamodb.ProjectionType.KEYS_ONLY,
    )
    return made


def bucket(
    scope: Construct,
    *,
    name: str | None,
    key: kms.IKey | None,
    removal_policy: cdk.RemovalPolicy,
    expire_after: cdk.Duration,
) -> s3.Bucket:
    """The bucket for payloads: private, TLS only, and emptied by S3 itself once no run can need the object any more."""
    made = s3.Bucket(
        scope,
        "Bucket",
        bucket_name=name,
        block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
        object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
        enforce_ssl=True,
        minimum_tls_version=1.2,
        encryption=s3.BucketEncryption.KMS if key else s3.BucketEncryption.S3_MANAGED,
        encryption_key=key,
        bucket_key_enabled=True if key else None,
        lifecycle_rules=[
            s3.LifecycleRule(
                id="expire-payloads",
                expiration=expire_after,
                abort_incomplete_multipart_upload_after=cdk.Duration.days(1),
            )
        ],
        removal_policy=removal_policy,
        auto_delete_objects=removal_policy == cdk.RemovalPolicy.DESTROY,
    )
    reason = (
        "Payloads are written and read by the engine alone; an access log would double the requests that are paid for."
    )
    explain(made, "AwsSolutions-S1", reason)
    return made


def queues(
    scope: Construct,
    *,
    name: str | None,
    dead_letter_name: str | None,
    key: kms.IKey | None,
    visibility: cdk.Duration,
    removal_policy: cdk.RemovalPolicy,
) -> tuple[sqs.Queue, sqs.Queue]:
    """The main queue and its dead-letter queue.

    Standard queues: with a message group id on each message SQS serves quiet tenants before noisy ones (fair queues),
    without the ordering and the throughput limits of a FIFO queue.
    """
    encryption = sqs.QueueEncryption.KMS if key else sqs.QueueEncryption.SQS_MANAGED
    reuse = (
        cdk.Duration.hours(1) if key else None
    )  # each data key from KMS is paid for; an hour is one request per producer
    dead_letters = sqs.Queue(
        scope,
        "DeadLetters",
        queue_name=dead_letter_name,
        encryption=encryption,
        encryption_master_key=key,
        data_key_reuse=reuse,
        enforce_ssl=True,
        retention_period=DEAD_LETTER_RETENTION,
        removal_policy=removal_policy,
    )
    explain(
        dead_letters,
        "Serverless-SQSRedrivePolicy",
        "It is the dead-letter queue: from here on people decide, told by an alarm.",
    )
    queue = sqs.Queue(
        scope,
        "Queue",
        queue_name=name,
        encryption=encryption,
        encryption_master_key=key,
        data_key_reuse=reuse,
        enforce_ssl=True,
        retention_period=DEAD_LETTER_RETENTION,
        visibility_timeout=visibility,
        receive_message_wait_time=cdk.Duration.seconds(20),
        dead_letter_queue=sqs.DeadLetterQueue(queue=dead_letters, max_receive_count=RECEIVES),
        removal_policy=removal_policy,
    )
    return queue, dead_letters
