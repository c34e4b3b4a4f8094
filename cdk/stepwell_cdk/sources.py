"""What else may put events on the main queue: EventBridge rules, S3 buckets, SNS topics.

Every service is let in by the queue's own policy, for sources of this account alone (``aws:SourceArn``,
``aws:SourceAccount``: otherwise anybody's rule could send here in the service's name). A source in the queue's own
stack is named exactly. One in another stack is not, since the two stacks would then need each other: there the policy
says "rules, buckets, topics of this account and region".

Rules and subscriptions may stand beside their source. The policies stand with the queue, so the first source of a kind in
another stack changes the platform's stack, too; those after it do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import aws_cdk as cdk
import jsii
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from constructs import Construct, IConstruct

from stepwell_cdk.findings import explain
from stepwell_cdk.storage import Storage

_S3_HANDLER = "BucketNotificationsHandler050a0587b7544547bf325f094a3db834"
"""The function with which the CDK sets the notifications of buckets; one in a stack, whoever asks for it."""


def add_rule(
    scope: Construct,
    id: str,
    storage: Storage,
    *,
    pattern: events.EventPattern,
    bus: events.IEventBus | None,
    description: str | None,
) -> events.Rule:
    """A rule that sends what matches ``pattern`` to the main queue; what cannot be delivered, to the dead letters."""
    rule = events.Rule(
        scope,
        id,
        event_pattern=pattern,
        event_bus=bus,
        description=description or "Stepwell: events for its functions",
        targets=[_RuleTarget(storage)],
    )
    for queue in (storage.queue, storage.dead_letters):
        _let_in(
            queue,
            "events",
            exact={"ArnEquals": {"aws:SourceArn": rule.rule_arn}},
            any_here={"ArnLike": {"aws:SourceArn": _arns(queue, "events", "rule/*")}},
            source=rule,
        )
    _use_key(storage, "events", {"StringEquals": {"aws:SourceAccount": _key_account(storage)}})
    return rule


def add_bucket(
    storage: Storage, bucket: s3.IBucket, kinds: Sequence[s3.EventType], filters: Sequence[s3.NotificationKeyFilter]
) -> None:
    """Have the bucket tell the main queue of these kinds of events."""
    account = {"aws:SourceAccount": cdk.Stack.of(storage.queue).account}
    allowed = _let_in(
        storage.queue,
        "s3",
        # The ARN of a bucket names no account, and the name of one that is gone can be taken by anybody.
        exact={"ArnEquals": {"aws:SourceArn": bucket.bucket_arn}, "StringEquals": account},
        any_here={"StringEquals": account},
        source=bucket,
    )
    _use_key(storage, "s3", {"StringEquals": {"aws:SourceAccount": _key_account(storage)}})
    for kind in kinds:
        bucket.add_event_notification(kind, _BucketDestination(storage.queue, allowed), *filters)
    handler = cdk.Stack.of(bucket).node.try_find_child(_S3_HANDLER)
    if handler is not None:
        managed = "arn:<AWS::Partition>:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
        reason = "The CDK's own function for the notifications of buckets, whose role is not ours to choose."
        explain(handler, "AwsSolutions-IAM4", reason, f"Policy::{managed}")


def add_topic(
    scope: Construct,
    id: str,
    storage: Storage,
    topic: sns.ITopic,
    *,
    filter_policy: Mapping[str, sns.SubscriptionFilter] | None,
) -> sns.Subscription:
    """Subscribe the main queue to the topic; what cannot be delivered goes to the dead letters."""
    for queue in (storage.queue, storage.dead_letters):
        _let_in(
            queue,
            "sns",
            exact={"ArnEquals": {"aws:SourceArn": topic.topic_arn}},
            any_here={"ArnLike": {"aws:SourceArn": _arns(queue, "sns", "*", cdk.ArnFormat.NO_RESOURCE_NAME)}},
            source=topic,
        )
    if storage.key is not None:
        topics = _arns(storage.key, "sns", "*", cdk.ArnFormat.NO_RESOURCE_NAME)
        _use_key(storage, "sns", {"ArnLike": {"aws:SourceArn": topics}})
    return sns.Subscription(
        scope,
        id,
        topic=topic,
        protocol=sns.SubscriptionProtocol.SQS,
        endpoint=storage.queue.queue_arn,
        raw_message_delivery=False,  # the wrapped message has the id and the time of the notification
        filter_policy=dict(filter_policy) if filter_policy else None,
        dead_letter_queue=sqs.Queue.from_queue_arn(scope, f"{id}DeadLetters", storage.dead_letters.queue_arn),
    )


# ---- who may -------------------------------------------------------------------------------------------------------------


def _let_in(
    queue: sqs.Queue, service: str, *, exact: Mapping[str, Any], any_here: Mapping[str, Any], source: IConstruct
) -> list[IConstruct]:
    """Let the service send to the queue for this source; what the source has to wait for."""
    same_stack = cdk.Stack.of(source) is cdk.Stack.of(queue)
    added = queue.add_to_resource_policy(
        iam.PolicyStatement(
            principals=[iam.ServicePrincipal(f"{service}.amazonaws.com")],
            actions=["sqs:SendMessage"],
            resources=[queue.queue_arn],
            conditions=dict(exact if same_stack else any_here),
        )
    )
    return [added.policy_dependable] if isinstance(added.policy_dependable, Construct) else []


def _arns(
    scope: IConstruct, service: str, resource: str, form: cdk.ArnFormat = cdk.ArnFormat.SLASH_RESOURCE_NAME
) -> str:
    """All of a service's resources of a kind in the account and region of ``scope``."""
    kind, _, name = resource.partition("/")
    return cdk.Stack.of(scope).format_arn(
        service=service, resource=kind, resource_name=name or None, arn_format=form
    )  # fmt: skip


def _key_account(storage: Storage) -> str:
    return cdk.Stack.of(storage.key or storage.queue).account


def _use_key(storage: Storage, service: str, conditions: Mapping[str, Any]) -> None:
    """With a customer's key: a service that sends to a queue under it needs two of the key's operations."""
    if storage.key is not None:
        storage.key.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal(f"{service}.amazonaws.com")],
                actions=["kms:Decrypt", "kms:GenerateDataKey"],
                resources=["*"],
                conditions=dict(conditions),
            )
        )


# ---- how the CDK is told --------------------------------------------------------------------------------------------------
# Its own targets write the queue's policy by themselves: without a condition once the queue is under a customer's key,
# and with a reference from stack to stack in both directions.


@jsii.implements(events.IRuleTarget)
class _RuleTarget:
    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def bind(self, rule: Any, id: str | None = None) -> events.RuleTargetConfig:
        dead_letters = events.CfnRule.DeadLetterConfigProperty(arn=self._storage.dead_letters.queue_arn)
        return events.RuleTargetConfig(arn=self._storage.queue.queue_arn, dead_letter_config=dead_letters)


@jsii.implements(s3.IBucketNotificationDestination)
class _BucketDestination:
    def __init__(self, queue: sqs.Queue, allowed: Sequence[IConstruct]) -> None:
        self._queue = queue
        self._allowed = list(allowed)

    def bind(self, scope: Construct, bucket: Any) -> s3.BucketNotificationDestinationConfig:
        return s3.BucketNotificationDestinationConfig(
            arn=self._queue.queue_arn,
            type=s3.BucketNotificationDestinationType.QUEUE,
            dependencies=self._allowed,  # S3 tries the queue out when it is told of it
        )
