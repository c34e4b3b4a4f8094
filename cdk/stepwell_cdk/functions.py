"""A Lambda function the way Stepwell wants each of them: a role, a log group with retention, everything explicit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from stepwell_cdk.findings import explain
from stepwell_cdk.platform import Platform


@dataclass(frozen=True)
class Network:
    """Where workers run if they must reach something inside a VPC. The engine's own Lambdas never need one."""

    vpc: ec2.IVpc
    subnets: ec2.SubnetSelection | None = None
    security_groups: Sequence[ec2.ISecurityGroup] | None = None


@dataclass(frozen=True)
class House:
    """What all functions of one Stepwell share."""

    platform: Platform
    log_retention: logs.RetentionDays
    key: kms.IKey | None
    tracing: bool

    def role(self, scope: Construct, id: str, description: str, *, network: Network | None = None) -> iam.Role:
        """A role that Lambda may take on and that may do nothing yet; the log permissions come with each function."""
        role = iam.Role(
            scope, id, assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"), description=description
        )  # fmt: skip
        if network is not None:
            managed = "service-role/AWSLambdaVPCAccessExecutionRole"
            role.add_managed_policy(iam.ManagedPolicy.from_aws_managed_policy_name(managed))
            explain(
                role,
                "AwsSolutions-IAM4",
                "Network interfaces of a function in a VPC have no ARN to name before they exist.",
            )
        return role

    def function(
        self,
        scope: Construct,
        *,
        role: iam.Role,
        code: lambda_.Code,
        handler: str,
        description: str,
        memory: int,
        timeout: cdk.Duration,
        environment: Mapping[str, str],
        name: str | None = None,
        ephemeral_storage: cdk.Size | None = None,
        reserved_concurrency: int | None = None,
        network: Network | None = None,
    ) -> lambda_.Function:
        """A function ``Function`` with its log group ``Logs`` under ``scope``; ``memory`` in MB.

        Every one of them is part of a loop through the main queue, which AWS stops after about 16 rounds unless
        told that the loop is meant (``RecursiveLoop=Allow``). The engine has its own guard against runs that go
        round without progress.
        """
        log_group = logs.LogGroup(
            scope,
            "Logs",
            retention=self.log_retention,
            encryption_key=self.key,
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        log_group.grant_write(role)
        function = lambda_.Function(
            scope,
            "Function",
            function_name=name,
            description=description,
            code=code,
            handler=handler,
            runtime=self.platform.runtime,
            architecture=self.platform.lambda_architecture,
            memory_size=memory,
            timeout=timeout,
            environment=dict(environment),
            ephemeral_storage_size=ephemeral_storage,
            reserved_concurrent_executions=reserved_concurrency,
            role=role,
            log_group=log_group,
            logging_format=lambda_.LoggingFormat.JSON,
            system_log_level_v2=lambda_.SystemLogLevel.WARN,
            application_log_level_v2=lambda_.ApplicationLogLevel.INFO,
            recursive_loop=lambda_.RecursiveLoop.ALLOW,
            vpc=network.vpc if network else None,
            vpc_subnets=network.subnets if network else None,
            security_groups=network.security_groups if network else None,
        )
        if self.tracing:
            _trace(function, role)
        else:
            explain(
                function,
                "Serverless-LambdaTracing",
                "Tracing is the user's choice: it may cost more than the runs it shows.",
            )
        return function


def _trace(function: lambda_.Function, role: iam.Role) -> None:
    """Active tracing, its wildcard in a policy of its own: so the reason for it covers nothing else on the role."""
    resource = function.node.default_child
    assert isinstance(resource, lambda_.CfnFunction)
    resource.tracing_config = lambda_.CfnFunction.TracingConfigProperty(mode="Active")
    if role.node.try_find_child("Tracing") is None:  # the workers of an app share one role
        statement = iam.PolicyStatement(actions=["xray:PutTraceSegments", "xray:PutTelemetryRecords"], resources=["*"])
        policy = iam.Policy(role, "Tracing", roles=[role], statements=[statement])
        explain(policy, "AwsSolutions-IAM5", "X-Ray's two writing calls know no resource to be held to.", "Resource::*")
