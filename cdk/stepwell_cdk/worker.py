"""One worker: the Lambda that runs an app's code in one compute class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from stepwell_cdk.engine import Orchestrator, Registrar
from stepwell_cdk.findings import explain
from stepwell_cdk.functions import House, Network
from stepwell_cdk.metrics import count_failed_runs
from stepwell_cdk.stepwell import Stepwell

DISPATCH_AGE = 60
"""Seconds a dispatch may wait in Lambda's own queue. The shortest AWS takes: the sweeper sends a new one."""


@dataclass(frozen=True)
class ComputeClass:
    """A size of worker. Functions and steps choose theirs by name, with ``compute="large"``.

    memory: MB, from 128 to 10240; the share of a processor grows with it (one whole at 1769).
    timeout: at most 15 minutes. A run is not bound by it: it goes on in a new invocation when the time gets short.
    One step is.
    ephemeral_storage: room in /tmp (default 512 MB). reserved_concurrency: at most so many at once, set aside for it.
    environment: variables of this class alone.
    """

    memory: int = 1024
    timeout: cdk.Duration = field(default_factory=lambda: cdk.Duration.minutes(15))
    ephemeral_storage: cdk.Size | None = None
    reserved_concurrency: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


class Worker(Construct):
    """The Lambda of one compute class, and who may call it: the orchestrator and the registrar, nobody else."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        compute: ComputeClass,
        role: iam.Role,
        code: lambda_.Code,
        environment: Mapping[str, str],
        description: str,
        stepwell: Stepwell,
        house: House,
        network: Network | None,
    ) -> None:
        super().__init__(scope, id)
        self.environment = {**environment, **compute.environment}
        self.function = house.function(
            self,
            role=role,
            code=code,
            handler="stepwell_lambdas.worker.handler.handler",
            description=description,
            memory=compute.memory,
            timeout=compute.timeout,
            environment=self.environment,
            ephemeral_storage=compute.ephemeral_storage,
            reserved_concurrency=compute.reserved_concurrency,
            network=network,
        )
        count_failed_runs(self, "RunsFailed", self.function.log_group)
        # Lambda must not repeat a dispatch by itself: the engine decides whether a run goes on and counts its
        # attempts. What crashes or cannot start in time comes back to the main queue as an invocation record.
        self.dispatching = lambda_.CfnEventInvokeConfig(
            self,
            "Dispatching",
            function_name=self.function.function_name,
            qualifier="$LATEST",
            maximum_retry_attempts=0,
            maximum_event_age_in_seconds=DISPATCH_AGE,
            destination_config=lambda_.CfnEventInvokeConfig.DestinationConfigProperty(
                on_failure=lambda_.CfnEventInvokeConfig.OnFailureProperty(destination=stepwell.queue.queue_arn)
            ),
        )
        # Lambda checks at creation that the role may send to the destination.
        self.dispatching.node.add_dependency(role)
        explain(
            self.function, "Serverless-LambdaDLQ", "Failed dispatches go to the main queue (OnFailure destination)."
        )
        # Leave to invoke stands on the function and not on the callers' roles: so an app may live in a stack of its
        # own without the platform's stack having to know it, and no role may invoke more than it must.
        callers: list[tuple[str, Orchestrator | Registrar]] = [
            ("Orchestrator", stepwell.orchestrator),
            ("Registrar", stepwell.registrar),
        ]
        for name, caller in callers:
            self.function.add_permission(
                name, principal=iam.ArnPrincipal(caller.role.role_arn), action="lambda:InvokeFunction"
            )
            # A role is known everywhere only some seconds after it was made; once its own function stands, it is.
            self.function.node.find_child(name).node.add_dependency(caller.function)
