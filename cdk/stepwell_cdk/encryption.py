"""What a customer's key must allow besides the use by roles: CloudWatch Logs, which writes in its own name."""

from __future__ import annotations

from aws_cdk import ArnFormat, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms


def allow_logs(key: kms.IKey) -> None:
    """Let CloudWatch Logs of this account and region use ``key`` for log groups, and for nothing else.

    The roles of Stepwell need no statement here: the account's own policies decide for a key made with the CDK. A key
    that was only imported keeps its policy; docs/security.md lists what it must hold.
    """
    stack = Stack.of(key)
    groups = stack.format_arn(
        service="logs", resource="log-group", resource_name="*", arn_format=ArnFormat.COLON_RESOURCE_NAME
    )
    key.add_to_resource_policy(
        iam.PolicyStatement(
            principals=[iam.ServicePrincipal(f"logs.{stack.region}.amazonaws.com")],
            actions=[
                "kms:Encrypt",
                "kms:Decrypt",
                "kms:ReEncryptFrom",
                "kms:ReEncryptTo",
                "kms:GenerateDataKey",
                "kms:DescribeKey",
            ],
            resources=["*"],
            conditions={"ArnLike": {"kms:EncryptionContext:aws:logs:arn": groups}},
        )
    )
