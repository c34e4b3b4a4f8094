"""cdk-nag: the rule packs AwsSolutions and Serverless find nothing that is not explained beside the code it is about."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import aws_cdk as cdk
import pytest
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sqs as sqs
from cdk_nag import AwsSolutionsChecks, ServerlessChecks

from stepwell_cdk import Stepwell

from .conftest import QUICK, app_on, inline, platform_with, two_apps


def findings(build: Callable[[cdk.App], None], *, context: Mapping[str, object] | None = None) -> set[tuple[str, str]]:
    """(rule, construct) of everything the packs report, errors and warnings alike."""
    app = cdk.App(context={**QUICK, **(context or {})}, analytics_reporting=False)
    build(app)
    app.synth()  # settles references between stacks, which appear in the names of findings
    packs = [AwsSolutionsChecks(app, verbose=True), ServerlessChecks(app, verbose=True)]
    return {
        (violation.rule_name, resource.construct_path)
        for pack in packs
        for violation in pack.validate_scope(app).violations
        for resource in violation.violating_resources
    }


def with_every_option(app: cdk.App) -> None:
    key = kms.Key(cdk.Stack(app, "Keys"), "Key", enable_key_rotation=True)
    two_apps(app, encryption_key=key, tracing=True, reserve_concurrency=True)


def in_a_known_account(app: cdk.App) -> None:
    stack = cdk.Stack(app, "Platform", env=cdk.Environment(account="123456789012", region="eu-central-1"))
    app_on(stack, Stepwell(stack, "Stepwell", code=inline()), "shop")


@pytest.mark.parametrize("build", [two_apps, with_every_option, in_a_known_account])
def test_nothing_is_found_that_is_not_explained(build: Callable[[cdk.App], None]) -> None:
    assert findings(build) == set()


def test_explanations_do_not_cover_what_users_add() -> None:
    def build(app: cdk.App) -> None:
        stack, stepwell = platform_with(app, tracing=True)
        made = app_on(stack, stepwell, "shop")
        made.role.add_to_policy(iam.PolicyStatement(actions=["s3:*"], resources=["*"]))
        sqs.Queue(stack, "Mine", enforce_ssl=True)

    policy, queue = "Platform/Shop/Role/DefaultPolicy/Resource", "Platform/Mine/Resource"
    assert findings(build) == {
        ("AwsSolutions-IAM5[Action::s3:*]", policy),
        ("AwsSolutions-IAM5[Resource::*]", policy),
        ("AwsSolutions-SQS3", queue),
        ("Serverless-SQSRedrivePolicy", queue),
    }
