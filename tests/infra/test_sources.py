"""EventBridge rules, buckets and topics connected to the main queue: who may send, and only they."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_events as events
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns

from stepwell_cdk import Stepwell

from .conftest import Template, platform_with, synthesize
from .test_nag import findings

PATTERN = events.EventPattern(source=["com.shop"])


def connected(stack: cdk.Stack, stepwell: Stepwell, *, scope: cdk.Stack | None = None) -> None:
    """One of each, the sources in ``stack``."""
    stepwell.add_event_rule("Orders", event_pattern=PATTERN, scope=scope)
    bucket = s3.Bucket(
        stack, "Uploads", block_public_access=s3.BlockPublicAccess.BLOCK_ALL, enforce_ssl=True,
        server_access_logs_prefix="log/",
    )  # fmt: skip
    stepwell.add_bucket_notification(bucket, s3.EventType.OBJECT_CREATED, prefix="in/", suffix=".csv")
    topic = sns.Topic(stack, "Topic", enforce_ssl=True)
    stepwell.add_topic_subscription("Told", topic, scope=scope)


def in_one_stack(app: cdk.App, **options: Any) -> None:
    connected(*platform_with(app, **options))


def in_two_stacks(app: cdk.App, **options: Any) -> None:
    """The sources live with an app whose stack needs the platform's."""
    _, stepwell = platform_with(app, **options)
    other = cdk.Stack(app, "Other")
    connected(other, stepwell, scope=other)


@pytest.fixture(scope="module")
def one() -> Template:
    return synthesize(in_one_stack)["Platform"]


@pytest.fixture(scope="module")
def two() -> dict[str, Template]:
    return synthesize(in_two_stacks)


def senders(template: Template, queue: str) -> dict[str, dict[str, Any]]:
    """Which services the policy of the queue lets in, and on what condition."""
    id = template.id("AWS::SQS::Queue", queue)
    found: dict[str, dict[str, Any]] = {}
    for policy in template.of_type("AWS::SQS::QueuePolicy").values():
        for statement in policy["PolicyDocument"]["Statement"]:
            if statement["Effect"] == "Allow" and {"Ref": id} in policy["Queues"]:
                assert statement["Action"] == "sqs:SendMessage"
                assert statement["Resource"] == {"Fn::GetAtt": [id, "Arn"]}
                found[statement["Principal"]["Service"]] = statement["Condition"]
    return found


def test_each_service_is_let_in_for_its_own_source_alone(one: Template) -> None:
    rule, topic = one.id("AWS::Events::Rule", "StepwellOrders"), one.id("AWS::SNS::Topic")
    bucket = one.id("AWS::S3::Bucket", "Uploads")
    exactly_the_rule = {"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": [rule, "Arn"]}}}
    exactly_the_topic = {"ArnEquals": {"aws:SourceArn": {"Ref": topic}}}
    assert senders(one, "StepwellQueue") == {
        "events.amazonaws.com": exactly_the_rule,
        "sns.amazonaws.com": exactly_the_topic,
        "s3.amazonaws.com": {
            "ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": [bucket, "Arn"]}},
            "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}},
        },
    }
    assert senders(one, "StepwellDeadLetters") == {
        "events.amazonaws.com": exactly_the_rule,
        "sns.amazonaws.com": exactly_the_topic,
    }


def test_nobody_is_let_in_unless_asked_for(platform: Template) -> None:
    assert senders(platform, "StepwellQueue") == senders(platform, "StepwellDeadLetters") == {}


def test_what_cannot_be_delivered_lies_in_the_dead_letters(one: Template) -> None:
    dead_letters = {"Fn::GetAtt": [one.id("AWS::SQS::Queue", "StepwellDeadLetters"), "Arn"]}
    (target,) = one.only("AWS::Events::Rule", "StepwellOrders")["Targets"]
    assert target["DeadLetterConfig"] == {"Arn": dead_letters}
    assert one.only("AWS::SNS::Subscription")["RedrivePolicy"] == {"deadLetterTargetArn": dead_letters}


def test_a_rule_sends_the_event_as_it_is_to_the_queue(one: Template) -> None:
    rule = one.only("AWS::Events::Rule", "StepwellOrders")
    assert rule["EventPattern"] == {"source": ["com.shop"]}
    (target,) = rule["Targets"]
    assert target["Arn"] == {"Fn::GetAtt": [one.id("AWS::SQS::Queue", "StepwellQueue"), "Arn"]}
    assert not {"Input", "InputPath", "InputTransformer"} & set(target)


def test_a_topic_delivers_the_wrapped_message_which_has_its_id(one: Template) -> None:
    subscription = one.only("AWS::SNS::Subscription")
    assert (subscription["Protocol"], subscription["RawMessageDelivery"]) == ("sqs", False)


def test_a_bucket_tells_of_what_was_asked_for_and_waits_for_the_leave_to(one: Template) -> None:
    (id,) = one.of_type("Custom::S3BucketNotifications")
    made = one.resources[id]
    (notification,) = made["Properties"]["NotificationConfiguration"]["QueueConfigurations"]
    assert notification["Events"] == ["s3:ObjectCreated:*"]
    rules = notification["Filter"]["Key"]["FilterRules"]
    assert {rule["Name"]: rule["Value"] for rule in rules} == {"prefix": "in/", "suffix": ".csv"}
    assert one.id("AWS::SQS::QueuePolicy", "StepwellQueue") in made["DependsOn"]


def test_sources_in_another_stack_need_the_platform_but_not_it_them(two: dict[str, Template]) -> None:
    platform = json.dumps(two["Platform"].body)
    assert "Other" not in platform
    assert {"AWS::Events::Rule", "AWS::SNS::Subscription", "Custom::S3BucketNotifications"} <= {
        resource["Type"] for resource in two["Other"].resources.values()
    }


def test_sources_in_another_stack_are_let_in_by_account_and_region(two: dict[str, Template]) -> None:
    conditions = senders(two["Platform"], "StepwellQueue")
    assert set(conditions) == {"events.amazonaws.com", "s3.amazonaws.com", "sns.amazonaws.com"}
    assert conditions["s3.amazonaws.com"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    for service, end in [("events", ":rule/*"), ("sns", ":*")]:
        (arn,) = conditions[f"{service}.amazonaws.com"]["ArnLike"].values()
        _, parts = arn["Fn::Join"]
        assert {"Ref": "AWS::AccountId"} in parts
        assert {"Ref": "AWS::Region"} in parts
        assert parts[-1] == end


@pytest.mark.parametrize("build", [in_one_stack, in_two_stacks])
def test_a_customers_key_may_be_used_by_them_for_this_account(build: Callable[..., None]) -> None:
    made: dict[str, Template] = synthesize(
        lambda app: build(app, encryption_key=kms.Key(cdk.Stack(app, "Keys"), "Key", enable_key_rotation=True))
    )
    statements = made["Keys"].only("AWS::KMS::Key")["KeyPolicy"]["Statement"]
    granted = {
        statement["Principal"]["Service"]: statement
        for statement in statements
        if "Service" in statement["Principal"] and "logs." not in str(statement["Principal"])
    }
    assert set(granted) == {"events.amazonaws.com", "s3.amazonaws.com", "sns.amazonaws.com"}
    for statement in granted.values():
        assert statement["Action"] == ["kms:Decrypt", "kms:GenerateDataKey"]
        assert "AWS::AccountId" in str(statement["Condition"])


@pytest.mark.parametrize("build", [in_one_stack, in_two_stacks])
def test_the_rule_packs_find_nothing_that_is_not_explained(build: Callable[..., None]) -> None:
    assert findings(build) == set()
