"""The webhook door: a Lambda behind a URL of its own, for events, webhooks and the answers to callbacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from stepwell.webhooks import Webhook, config_of
from stepwell_cdk import access
from stepwell_cdk.engine import Ground
from stepwell_cdk.findings import explain
from stepwell_cdk.metrics import NAMESPACE

TIMEOUT = cdk.Duration.seconds(10)
"""As long as the impatient providers wait (GitHub ten seconds). A request takes a few hundredths."""

LARGEST_BODY = cdk.Size.mebibytes(6)
"""What a Function URL takes (AWS Lambda quotas)."""

MOST_CONFIGURATION = 3000
"""Bytes of declarations: the variables of a Lambda may have 4 KB together, and the others need some."""

UNUSABLE = "WebhooksUnusable"


@dataclass(frozen=True)
class Webhooks:
    """That there is a door, and what it knows.

    sources: the webhooks it takes (``stepwell.webhooks``); without any it takes events by key and answers to callbacks.
    concurrency: how many requests at a time, set aside for it; what comes on top is answered 429 by AWS itself. That
    bounds what a flood can cost, and takes nothing from the engine. None: nothing is set aside (a new account, with ten
    concurrent executions, cannot set any aside), and then a flood may use up the account's executions.
    memory: MB. max_body: larger ones are answered 413 (1 MiB; at most 6).
    public_url: where the world sees the door, if something (CloudFront, a domain of yours) stands before it.
    """

    sources: Sequence[Webhook] = ()
    concurrency: int | None = 20
    memory: int = 512
    max_body: cdk.Size | None = None
    public_url: str | None = None


class Api(Construct):
    """The door's Lambda, its URL, and the count of deliveries that it could make nothing of.

    Raises ``InvalidOption`` for a declaration that makes no sense, ``ValueError`` for declarations that are too long for
    a Lambda's environment, or a body larger than a Function URL takes.
    """

    def __init__(self, scope: Construct, id: str, *, ground: Ground, webhooks: Webhooks, name: str | None) -> None:
        super().__init__(scope, id)
        largest = webhooks.max_body or cdk.Size.mebibytes(1)
        if not 0 < largest.to_bytes() <= LARGEST_BODY.to_bytes():
            raise ValueError(f"max_body is {largest.to_bytes()} bytes: a Function URL takes at most 6 MiB")
        self.role = ground.house.role(self, "Role", "Stepwell's webhook door: send events, answer callbacks")
        access.of_api(ground.storage, self.role, [webhook.secret for webhook in webhooks.sources])
        self.function = ground.house.function(
            self,
            role=self.role,
            code=ground.code,
            handler="stepwell_lambdas.api.handler.handler",
            description="Stepwell: takes events, webhooks and answers to callbacks over HTTP",
            memory=webhooks.memory,
            timeout=TIMEOUT,
            environment={
                **ground.environment,
                "STEPWELL_WEBHOOKS": _configuration(webhooks),
                "STEPWELL_MAX_BODY": str(largest.to_bytes()),
            },
            reserved_concurrency=webhooks.concurrency,
            name=name,
        )
        explain(
            self.function,
            "Serverless-LambdaDLQ",
            "Called over HTTP, synchronously: whoever called is told of a failure.",
        )
        # Providers of webhooks have no AWS credentials, so AWS cannot ask for any. The door itself asks: for a key of
        # 192 random bits, for a signature over the raw body, or for a callback's token of 128.
        url = self.function.add_function_url(auth_type=lambda_.FunctionUrlAuthType.NONE)
        self.url = webhooks.public_url or url.url
        """Where the world sees it."""
        logs.MetricFilter(
            self,
            "Unusable",
            log_group=self.function.log_group,
            filter_pattern=logs.FilterPattern.string_value("$.stepwell", "=", "webhook-unusable"),
            metric_namespace=NAMESPACE,
            metric_name=UNUSABLE,
            metric_value="1",
        )


def _configuration(webhooks: Webhooks) -> str:
    text = config_of(webhooks.sources)
    if len(text.encode()) > MOST_CONFIGURATION:
        raise ValueError(
            f"the declarations of {len(webhooks.sources)} webhooks take {len(text.encode())} bytes, and a Lambda's "
            f"environment has room for {MOST_CONFIGURATION}: move expressions into the functions that take the events"
        )
    return text
