"""``Stepwell``: the whole platform in one construct, without any user code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from stepwell_cdk import access, sources, storage
from stepwell_cdk.alarms import Watch, watch_door, watch_engine
from stepwell_cdk.api import Api, Webhooks
from stepwell_cdk.bundling import engine_code
from stepwell_cdk.dashboard import Dashboard
from stepwell_cdk.encryption import allow_logs
from stepwell_cdk.engine import VISIBILITY, Consumer, Ground, Orchestrator, Registrar, Sweeper
from stepwell_cdk.functions import House
from stepwell_cdk.metrics import count_failed_runs
from stepwell_cdk.platform import Platform
from stepwell_cdk.storage import Storage

LONGEST_RUN = cdk.Duration.days(400)
"""How long a run may take before its payloads expire: a sleep of a year, and a month to spare."""


@dataclass(frozen=True)
class Names:
    """Physical names, for those who need them. Left out, CloudFormation makes them up and can replace resources."""

    queue: str | None = None
    dead_letters: str | None = None
    table: str | None = None
    bucket: str | None = None
    consumer: str | None = None
    orchestrator: str | None = None
    sweeper: str | None = None
    registrar: str | None = None
    api: str | None = None
    dashboard: str | None = None


class Stepwell(Construct):
    """Queues, table, bucket, the engine's Lambdas, the sweeper's schedule, alarms and a dashboard.

    platform: Python version and processor of every function, workers included (default: 3.14 on arm64).
    encryption_key: a customer-managed key for queues, table, bucket, logs and new callback keys (default: keys that AWS
        manages).
    removal_policy: what becomes of table, bucket and queues when the stack goes. The default keeps them, and protects
        the table from deletion; ``DESTROY`` deletes all data.
    retention: how long ended runs and events are kept (whole days, default 30).
    longest_run: after this and the retention, payloads in the bucket are deleted (whole days, default 400).
    consumer_concurrency: how many batches are handled at a time (2 to 1000).
    reserve_concurrency: set aside that much of the account's Lambda concurrency for consumer and orchestrator. Off by
        default: a new account has too little to set any aside.
    batch_size, batching_window: messages per invocation of the consumer, and how long it may wait to fill a batch. A
        window makes many small events cheaper and each of them later.
    webhooks: a door for HTTP, with a public URL: ``Webhooks([Webhook(...), ...])``. None unless asked for.
    tracing: X-Ray. AWS decides what is sampled (the first request of each second, then 5 %); nobody can change that.
    alarm_actions: what every alarm does, for example ``[aws_cloudwatch_actions.SnsAction(topic)]``.
    outputs: whether the stack gets the outputs that ``Client.from_stack(name)`` and ``stepwell doctor`` read. A second
        Stepwell in one stack must turn them off.
    code: the engine's code, if you pack it yourself.

    Raises ``ValueError`` for a concurrency or batch size that SQS does not take.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        platform: Platform | None = None,
        encryption_key: kms.IKey | None = None,
        removal_policy: cdk.RemovalPolicy = cdk.RemovalPolicy.RETAIN,
        retention: cdk.Duration | None = None,
        longest_run: cdk.Duration = LONGEST_RUN,
        log_retention: logs.RetentionDays = logs.RetentionDays.ONE_MONTH,
        consumer_concurrency: int = 20,
        reserve_concurrency: bool = False,
        batch_size: int = 10,
        batching_window: cdk.Duration | None = None,
        consumer_memory: int = 512,
        orchestrator_memory: int = 1024,
        sweeper_memory: int = 512,
        webhooks: Webhooks | None = None,
        tracing: bool = False,
        alarm_actions: Sequence[cloudwatch.IAlarmAction] = (),
        names: Names | None = None,
        outputs: bool = True,
        code: lambda_.Code | None = None,
    ) -> None:
        super().__init__(scope, id)
        window = batching_window or cdk.Duration.seconds(0)
        _check(consumer_concurrency, batch_size, window)
        kept = retention or cdk.Duration.days(30)
        named = names or Names()
        self.platform = platform or Platform()
        self.alarm_actions = tuple(alarm_actions)
        if encryption_key is not None:
            allow_logs(encryption_key)

        queue, dead_letters = storage.queues(
            self,
            name=named.queue,
            dead_letter_name=named.dead_letters,
            key=encryption_key,
            visibility=VISIBILITY,
            removal_policy=removal_policy,
        )
        self.storage = Storage(
            table=storage.table(self, name=named.table, key=encryption_key, removal_policy=removal_policy),
            bucket=storage.bucket(
                self, name=named.bucket, key=encryption_key, removal_policy=removal_policy,
                expire_after=cdk.Duration.days(longest_run.to_days() + kept.to_days()),
            ),
            queue=queue,
            dead_letters=dead_letters,
            key=encryption_key,
        )  # fmt: skip
        self.environment = {
            "STEPWELL_TABLE": self.table.table_name,
            "STEPWELL_QUEUE_URL": queue.queue_url,
            "STEPWELL_DLQ_URL": dead_letters.queue_url,
            "STEPWELL_BUCKET": self.bucket.bucket_name,
            "STEPWELL_RETENTION_DAYS": str(kept.to_days()),
        }
        """What every Lambda of this Stepwell finds in its environment."""

        self.house = House(self.platform, log_retention, encryption_key, tracing)
        ground = Ground(self.storage, self.house, code or engine_code(self.platform), self.environment)
        reserved = consumer_concurrency if reserve_concurrency else None
        self.orchestrator = Orchestrator(
            self,
            "Orchestrator",
            ground=ground,
            memory=orchestrator_memory,
            reserved_concurrency=reserved,
            name=named.orchestrator,
        )
        self.consumer = Consumer(
            self,
            "Consumer",
            ground=ground,
            orchestrator=self.orchestrator,
            memory=consumer_memory,
            concurrency=consumer_concurrency,
            reserved_concurrency=reserved,
            batch_size=batch_size,
            batching_window=window,
            name=named.consumer,
        )
        self.sweeper = Sweeper(self, "Sweeper", ground=ground, memory=sweeper_memory, name=named.sweeper)
        self.registrar = Registrar(self, "Registrar", ground=ground, name=named.registrar)
        self.api = Api(self, "Api", ground=ground, webhooks=webhooks, name=named.api) if webhooks else None
        """The webhook door, if there is one."""
        if self.api is not None:  # for the workers only, which are made later: the door cannot know its own URL
            self.environment["STEPWELL_API_URL"] = self.api.url
        self._observe(named)
        self._export()
        if outputs:
            self._give_outputs()

    @property
    def queue(self) -> sqs.Queue:
        """The main queue, the only door for events."""
        return self.storage.queue

    @property
    def dead_letters(self) -> sqs.Queue:
        """The dead-letter queue."""
        return self.storage.dead_letters

    @property
    def table(self) -> dynamodb.Table:
        """The state of all runs."""
        return self.storage.table

    @property
    def bucket(self) -> s3.Bucket:
        """Payloads too large for the table."""
        return self.storage.bucket

    def grant_send(self, grantee: iam.IGrantable) -> None:
        """Let ``grantee`` send events, of whichever app, and nothing else."""
        access.to_send(self.storage, grantee)

    def grant_operate(self, grantee: iam.IGrantable) -> None:
        """Let ``grantee`` do all that a client and the ``stepwell`` command do: send, list, cancel, replay, fork, answer
        callbacks, redrive dead letters. It can read the data of all runs of all apps."""
        access.to_operate(self.storage, grantee)

    def add_event_rule(
        self,
        id: str,
        *,
        event_pattern: events.EventPattern,
        event_bus: events.IEventBus | None = None,
        description: str | None = None,
        scope: Construct | None = None,
    ) -> events.Rule:
        """Start functions by events of EventBridge: ``aws/eventbridge/<source>/<detail-type>``.

        ``event_bus``: the account's default bus unless given. ``scope``: where the rule stands (here); give the stack of
        an app, and the rule comes and goes with it.
        """
        return sources.add_rule(
            scope or self, id, self.storage, pattern=event_pattern, bus=event_bus, description=description
        )

    def add_bucket_notification(
        self, bucket: s3.IBucket, *kinds: s3.EventType, prefix: str | None = None, suffix: str | None = None
    ) -> None:
        """Start functions by what happens to objects: ``aws/s3/ObjectCreated``, ``aws/s3/ObjectRemoved`` ...

        Without ``kinds``: whatever is created. S3 refuses two notifications of one kind whose prefixes and suffixes
        overlap. A bucket of another account does not get in.
        """
        filters = [s3.NotificationKeyFilter(prefix=prefix, suffix=suffix)] if prefix or suffix else []
        sources.add_bucket(self.storage, bucket, kinds or (s3.EventType.OBJECT_CREATED,), filters)

    def add_topic_subscription(
        self,
        id: str,
        topic: sns.ITopic,
        *,
        filter_policy: Mapping[str, sns.SubscriptionFilter] | None = None,
        scope: Construct | None = None,
    ) -> sns.Subscription:
        """Start functions by notifications of a topic: ``aws/sns/<topic>``, or the event that a notification carries.

        ``scope``: where the subscription stands (here); give the topic's own stack if that needs the platform's.
        """
        return sources.add_topic(scope or self, id, self.storage, topic, filter_policy=filter_policy)

    def _observe(self, named: Names) -> None:
        count_failed_runs(self.orchestrator, "RunsFailed", self.orchestrator.function.log_group)
        self.watch = Watch(self, "Alarms", actions=self.alarm_actions)
        watch_engine(
            self.watch,
            storage=self.storage,
            consumer=self.consumer,
            orchestrator=self.orchestrator,
            sweeper=self.sweeper,
        )
        if self.api is not None:
            watch_door(self.watch, self.api)
        functions = {
            "consumer": self.consumer.function,
            "orchestrator": self.orchestrator.function,
            "sweeper": self.sweeper.function,
        }
        self.dashboard = Dashboard(self, "Dashboard", storage=self.storage, functions=functions, name=named.dashboard)

    def _export(self) -> None:
        """Export, from the beginning, all that an app in another stack refers to.

        The CDK would add exports when such an app comes and drop them when the last one goes: each time the platform's
        stack would have to be deployed with it.
        """
        stack, key = cdk.Stack.of(self), self.storage.key
        for value in (
            self.table.table_arn,
            self.table.table_name,
            self.bucket.bucket_arn,
            self.bucket.bucket_name,
            self.queue.queue_arn,
            self.queue.queue_url,
            self.dead_letters.queue_url,
            self.orchestrator.role.role_arn,
            self.registrar.role.role_arn,
            self.registrar.function.function_arn,
        ):
            stack.export_value(value)
        if self.api is not None and cdk.Token.is_unresolved(self.api.url):
            stack.export_value(self.api.url)
        if key is not None and cdk.Stack.of(key) is stack and key.node.default_child is not None:
            stack.export_value(key.key_arn)

    def _give_outputs(self) -> None:
        stack = cdk.Stack.of(self)
        if stack.node.try_find_child("QueueUrl") is not None:
            raise ValueError(
                f"the stack {stack.stack_name} already has the outputs of a Stepwell: give this one outputs=False"
            )
        values = {
            "QueueUrl": (self.queue.queue_url, "Where events are sent"),
            "DeadLetterQueueUrl": (self.dead_letters.queue_url, "Where events lie that could not be handled"),
            "TableName": (self.table.table_name, "The state of all runs"),
            "BucketName": (self.bucket.bucket_name, "Payloads too large for the table"),
            "RetentionDays": (self.environment["STEPWELL_RETENTION_DAYS"], "How long ended runs and events are kept"),
            "ConsumerName": (self.consumer.function.function_name, "The Lambda that reads the main queue"),
            "OrchestratorName": (
                self.orchestrator.function.function_name,
                "The Lambda that records events and dispatches runs",
            ),
            "SweeperName": (self.sweeper.function.function_name, "The Lambda that runs every minute"),
            "RegistrarName": (self.registrar.function.function_name, "The Lambda that registers apps at deployment"),
        }
        if self.api is not None:
            values["ApiUrl"] = (self.api.url, "Where events, webhooks and answers to callbacks are posted")
            values["ApiName"] = (self.api.function.function_name, "The Lambda of the webhook door")
        for name, (value, description) in values.items():
            cdk.CfnOutput(stack, name, value=value, description=description)


def _check(concurrency: int, batch_size: int, window: cdk.Duration) -> None:
    if not 2 <= concurrency <= 1000:
        raise ValueError(f"consumer_concurrency is {concurrency}: SQS event sources take 2 to 1000")
    if not 1 <= batch_size <= 10_000:
        raise ValueError(f"batch_size is {batch_size}: SQS event sources take 1 to 10000")
    if batch_size > 10 and window.to_seconds() < 1:
        raise ValueError(f"batch_size is {batch_size}: more than 10 need a batching_window of at least one second")
