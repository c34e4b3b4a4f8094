"""A customer-managed key, as an option: everything at rest under it, and every role able to use it for that and no more."""

from __future__ import annotations

import aws_cdk as cdk
import pytest
from aws_cdk import aws_kms as kms

from .conftest import Template, app_on, platform_with, synthesize
from .policies import statements_of


@pytest.fixture(scope="module")
def encrypted() -> dict[str, Template]:
    def build(app: cdk.App) -> None:
        key = kms.Key(cdk.Stack(app, "Keys"), "Key", enable_key_rotation=True)
        stack, stepwell = platform_with(app, encryption_key=key)
        app_on(stack, stepwell, "shop")
        app_on(cdk.Stack(app, "Other"), stepwell, "crm")

    return synthesize(build)


def is_the_key(value: object) -> bool:
    return "Keys:ExportsOutputFnGetAttKey" in str(value)


def test_everything_at_rest_is_under_the_key(encrypted: dict[str, Template]) -> None:
    made = encrypted["Platform"]
    for queue in made.of_type("AWS::SQS::Queue").values():
        assert is_the_key(queue["KmsMasterKeyId"])
        assert "SqsManagedSseEnabled" not in queue
    table = made.only("AWS::DynamoDB::Table")["SSESpecification"]
    assert table["SSEType"] == "KMS"
    assert is_the_key(table["KMSMasterKeyId"])
    (rule,) = made.only("AWS::S3::Bucket")["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    assert is_the_key(rule["ServerSideEncryptionByDefault"]["KMSMasterKeyID"])
    assert rule["BucketKeyEnabled"] is True  # one request to KMS for many objects
    for template in (made, encrypted["Other"]):
        for group in template.of_type("AWS::Logs::LogGroup").values():
            assert is_the_key(group["KmsKeyId"])


def test_new_callback_keys_are_under_it_and_otherwise_under_the_accounts_own(
    encrypted: dict[str, Template], platform: Template
) -> None:
    under = encrypted["Platform"].only("AWS::Lambda::Function", "StepwellRegistrar")["Environment"]["Variables"]
    assert is_the_key(under["STEPWELL_KMS_KEY"])
    assert "STEPWELL_KMS_KEY" not in str(platform.body)


@pytest.mark.parametrize(
    ("stack", "role", "services"),
    [
        ("Platform", "StepwellConsumerRole", {"sqs"}),
        ("Platform", "StepwellOrchestratorRole", {"dynamodb", "s3", "sqs"}),
        ("Platform", "StepwellSweeperRole", {"dynamodb", "sqs"}),
        ("Platform", "StepwellRegistrarRole", {"dynamodb", "ssm"}),
        ("Platform", "ShopRole", {"dynamodb", "s3", "sqs", "ssm"}),
        ("Other", "CrmRole", {"dynamodb", "s3", "sqs", "ssm"}),
    ],
)
def test_roles_use_the_key_only_through_the_services_they_use(
    encrypted: dict[str, Template], stack: str, role: str, services: set[str]
) -> None:
    (granted,) = [s for s in statements_of(encrypted[stack], role) if any(a.startswith("kms:") for a in s.actions)]
    assert set(granted.actions) == {"kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:DescribeKey"}
    (resource,) = granted.resources
    assert is_the_key(resource)
    via = granted.conditions["StringEquals"]["kms:ViaService"]
    through = [via] if isinstance(via, dict) else via
    assert {joined["Fn::Join"][1][0].rstrip(".") for joined in through} == services


def test_the_key_lets_cloudwatch_write_logs_of_this_account_only(encrypted: dict[str, Template]) -> None:
    policy = encrypted["Keys"].only("AWS::KMS::Key")["KeyPolicy"]["Statement"]
    (logs,) = [statement for statement in policy if "Service" in statement["Principal"]]
    assert "logs." in str(logs["Principal"]["Service"])
    scope = str(logs["Condition"]["ArnLike"]["kms:EncryptionContext:aws:logs:arn"])
    assert "AWS::AccountId" in scope
    assert "log-group:*" in scope


def test_without_a_key_nobody_is_given_any(platform: Template) -> None:
    assert "kms:" not in str(platform.body)
