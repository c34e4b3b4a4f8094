"""Why a rule of cdk-nag does not hold at one place: every exception has its reason beside the code that needs it."""

from __future__ import annotations

from collections.abc import Iterable

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import IConstruct


def explain(construct: IConstruct, rule: str, reason: str, *details: str) -> None:
    """Accept ``rule`` on ``construct`` and on what is under it, for ``reason``.

    ``details`` name the exact findings of rules that report several, such as ``Resource::*`` of AwsSolutions-IAM5:
    anything else the rule finds there is still an error.
    """
    for id in [f"{rule}[{detail}]" for detail in details] or [rule]:
        cdk.Validations.of(construct).acknowledge(cdk.Acknowledgment(id=id, reason=reason))


def explain_keys(policy: iam.Policy, bucket: s3.Bucket, patterns: Iterable[str], reason: str) -> None:
    """Accept the wildcards of ``policy`` for objects of ``bucket`` under these key patterns, and no other.

    cdk-nag names a finding by how the template spells the resource, which in another stack than the bucket's is an
    import.
    """
    home = cdk.Stack.of(bucket)
    if cdk.Stack.of(policy) is home:
        resource = bucket.node.default_child
        assert isinstance(resource, s3.CfnBucket)
        arn = f"<{home.get_logical_id(resource)}.Arn>"
    else:
        arn = home.resolve(home.export_value(bucket.bucket_arn))["Fn::ImportValue"]
    explain(policy, "AwsSolutions-IAM5", reason, *(f"Resource::{arn}/{pattern}" for pattern in patterns))


def explain_parameters(policy: iam.Policy, table: dynamodb.Table, name: str, reason: str) -> None:
    """Accept the wildcard of ``policy`` for SSM parameters of this name, in which ``<table>`` stands for the table's.

    For a policy in the table's own stack.
    """
    home, resource = cdk.Stack.of(table), table.node.default_child
    assert isinstance(resource, dynamodb.CfnTable)
    region = "<AWS::Region>" if cdk.Token.is_unresolved(home.region) else home.region
    account = "<AWS::AccountId>" if cdk.Token.is_unresolved(home.account) else home.account
    spelled = name.replace("<table>", f"<{home.get_logical_id(resource)}>")
    explain(
        policy,
        "AwsSolutions-IAM5",
        reason,
        f"Resource::arn:<AWS::Partition>:ssm:{region}:{account}:parameter{spelled}",
    )
