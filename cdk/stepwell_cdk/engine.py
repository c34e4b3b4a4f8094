"""The engine's four Lambdas: consumer, orchestrator, sweeper, registrar. None of them runs user code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from stepwell_cdk import access
from stepwell_cdk.findings import explain
from stepwell_cdk.functions import House
from stepwell_cdk.storage import Storage

ORCHESTRATOR_TIMEOUT = cdk.Duration.seconds(30)
"""A batch takes tens of milliseconds; the rest is room for a throttled table."""

CONSUMER_TIMEOUT = cdk.Duration.seconds(75)
"""Longer than the orchestrator's, for which the consumer waits: a batch must not be given up while being stored. More than
twice as long: when a message has cost the orchestrator all its time, there is still enough to ask for its neighbours."""

VISIBILITY = cdk.Duration.seconds(6 * 75)
"""Six times the consumer's time-out, as AWS asks: throttled deliveries must not overlap."""

SWEEPER_TIMEOUT = cdk.Duration.seconds(55)
"""Less than the minute between two sweeps. Two at once would be harmless, only wasteful."""

REGISTRAR_TIMEOUT = cdk.Duration.minutes(4)
"""Longer than the registrar's wait for the worker's first, cold answer."""


@dataclass(frozen=True)
class Ground:
    """What the engine's Lambdas stand on: the state, the common settings, their code, their environment."""

    storage: Storage
    house: House
    code: lambda_.Code
    environment: Mapping[str, str]


class Orchestrator(Construct):
    """Records events, matches triggers, creates runs and dispatches them; the only Lambda that writes for every app."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        ground: Ground,
        memory: int,
        reserved_concurrency: int | None,
        name: str | None,
    ) -> None:
        super().__init__(scope, id)
        self.role = ground.house.role(self, "Role", "Stepwell's orchestrator: the whole table, no user code")
        access.of_orchestrator(ground.storage, self.role)
        self.function = ground.house.function(
            self,
            role=self.role,
            code=ground.code,
            handler="stepwell_lambdas.orchestrator.handler.handler",
            description="Stepwell: records events, applies flow control, creates and dispatches runs",
            memory=memory,
            timeout=ORCHESTRATOR_TIMEOUT,
            environment=ground.environment,
            reserved_concurrency=reserved_concurrency,
            name=name,
        )
        reason = "Called synchronously by the consumer, which returns failed records to the main queue."
        explain(self.function, "Serverless-LambdaDLQ", reason)


class Consumer(Construct):
    """Takes batches from the main queue and hands them to the orchestrator; answers for each record by itself."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        ground: Ground,
        orchestrator: Orchestrator,
        memory: int,
        concurrency: int,
        reserved_concurrency: int | None,
        batch_size: int,
        batching_window: cdk.Duration,
        name: str | None,
    ) -> None:
        super().__init__(scope, id)
        self.role = ground.house.role(self, "Role", "Stepwell's consumer: the main queue and the orchestrator")
        access.of_consumer(ground.storage, self.role, orchestrator.function.function_arn)
        self.function = ground.house.function(
            self,
            role=self.role,
            code=ground.code,
            handler="stepwell_lambdas.consumer.handler.handler",
            description="Stepwell: takes events and wake-ups from the main queue",
            memory=memory,
            timeout=CONSUMER_TIMEOUT,
            environment={**ground.environment, "STEPWELL_ORCHESTRATOR": orchestrator.function.function_name},
            reserved_concurrency=reserved_concurrency,
            name=name,
        )
        explain(
            self.function, "Serverless-LambdaDLQ", "Called by the main queue only; its redrive policy keeps what fails."
        )
        self.source = lambda_.EventSourceMapping(
            self,
            "Source",
            target=self.function,
            event_source_arn=ground.storage.queue.queue_arn,
            batch_size=batch_size,
            max_batching_window=batching_window if batching_window.to_seconds() else None,
            max_concurrency=concurrency,
            report_batch_item_failures=True,
        )
        reason = (
            "For SQS the queue's own redrive policy is the destination of failures; event source mappings offer none."
        )
        explain(self.source, "Serverless-LambdaEventSourceMappingDestination", reason)


class Sweeper(Construct):
    """Runs every minute: re-drives what is overdue, fires cron, posts the wake-ups of the next minutes."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        ground: Ground,
        memory: int,
        name: str | None,
    ) -> None:
        super().__init__(scope, id)
        self.role = ground.house.role(self, "Role", "Stepwell's sweeper: the index of what is due, and the main queue")
        access.of_sweeper(ground.storage, self.role)
        self.function = ground.house.function(
            self,
            role=self.role,
            code=ground.code,
            handler="stepwell_lambdas.sweeper.handler.handler",
            description="Stepwell: every minute, makes sure that no run is forgotten",
            memory=memory,
            timeout=SWEEPER_TIMEOUT,
            environment=ground.environment,
            name=name,
        )
        reason = "A sweep that failed is made good by the next one, a minute later; an alarm tells if none comes."
        explain(self.function, "Serverless-LambdaDLQ", reason)
        self.rule = events.Rule(
            self,
            "EveryMinute",
            description="Stepwell: sweep for overdue runs, cron ticks and coming wake-ups",
            schedule=events.Schedule.rate(cdk.Duration.minutes(1)),
        )
        # A tick that could not be delivered within a minute is stale: the next one is there.
        target = targets.LambdaFunction(self.function, retry_attempts=0, max_event_age=cdk.Duration.minutes(1))
        self.rule.add_target(target)
        self.function.configure_async_invoke(retry_attempts=0, max_event_age=cdk.Duration.minutes(1))
        explain(self.rule, "Serverless-EventBusDLQ", reason)
        explain(self.function, "Serverless-LambdaAsyncFailureDestination", reason)


class Registrar(Construct):
    """Registers apps at deployment: asks a new worker what it holds and writes it down, or fails the deployment."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        ground: Ground,
        name: str | None,
    ) -> None:
        super().__init__(scope, id)
        self.role = ground.house.role(self, "Role", "Stepwell's registrar: the registered apps, at deployment")
        access.of_registrar(ground.storage, self.role)
        key = ground.storage.key
        self.function = ground.house.function(
            self,
            role=self.role,
            code=ground.code,
            handler="stepwell_lambdas.registrar.handler.handler",
            description="Stepwell: registers apps at deployment",
            memory=512,
            timeout=REGISTRAR_TIMEOUT,
            environment={**ground.environment, **({"STEPWELL_KMS_KEY": key.key_arn} if key else {})},
            name=name,
        )
        explain(self.function, "Serverless-LambdaDLQ", "Called by CloudFormation, which is told of each failure.")
