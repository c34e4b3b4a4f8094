"""Whoever operates may do what a client does, and no more: its calls are recorded, and held against the grant both ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import aws_cdk as cdk
import boto3
import pytest
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms

from stepwell.testing import LocalStepwell
from stepwell.testing.calls import Call as Made

from . import flows
from .conftest import Template, app_on, platform_with, synthesize
from .flows import Call
from .policies import Statement, allowed, statements_of

NOT_RECORDED = {"cloudformation:DescribeStacks"}
"""What `Client.from_stack` calls, which there is no stack for here."""


class Watcher:
    """Notes what the client calls, which no fault plan counts."""

    def __init__(self) -> None:
        self.made: list[Made] = []

    def saw(self, call: Made, status: int, answer: Callable[[], Any]) -> None:
        if call.invocation is None and call.by_client:
            self.made.append(call)


@pytest.fixture(scope="module")
def calls() -> set[Call]:
    """Every call of a client that does everything once."""
    flows.TOKENS.clear()
    watcher = Watcher()
    with LocalStepwell(flows.shop, flows.crm) as local:
        local.world._wire.watchers.append(watcher)
        operate(local)
        made = local.world.aws.resources
        queues = {made.queue_url: flows.QUEUE, made.dlq_url: flows.DEAD_LETTERS}
        return {
            Call("operator", action, queues.get(resource, resource), key)
            for call in watcher.made
            for action, resource, key in flows._named(call.service, call.operation, call.params)
        }


def operate(local: LocalStepwell) -> None:
    client = local.client
    client.send(flows.Order(id="o-1"), id="o-1")
    client.send([{"name": "order/shouted", "data": {"text": flows.HUGE}}, {"name": "nobody/listens", "data": {}}])
    local.advance("30m")
    client.send("order/paid", {"order": "o-1"})
    client.send("order/packed", {"order": "o-1"})
    local.advance("1m")
    [run] = [run for run in client.runs(tag="order=o-1") if run.function == "fulfil"]
    assert client.why_waiting(run.id).startswith("waiting for the answer")
    client.complete_callback(flows.TOKENS[0], {"text": flows.LARGE})
    local.advance("1h")
    run = client.run(run.id)
    assert run.result["text"] == flows.LARGE
    assert run.steps["noise"].result
    client.fork(run.id, "own-child")
    client.replay(run.id)
    client.pause("shop/work-shift")
    client.resume("shop/work-shift")
    assert client.replay_all(function="shop/hear-own") == 2
    client.cancel_all(function="shop/fulfil")
    assert [event.name for event in client.events(name="nobody/listens")] == ["nobody/listens"]
    boto3.client("sqs").send_message(QueueUrl=local.queue_url, MessageBody="not json")
    local.run_until_idle()
    assert client.redrive(next(iter(client.dead_letters())).id) == 1


@pytest.fixture(scope="module")
def template() -> Template:
    def build(app: cdk.App) -> None:
        stack, stepwell = platform_with(app, encryption_key=kms.Key(cdk.Stack(app, "Keys"), "Key"))
        app_on(stack, stepwell, "shop")
        stepwell.grant_operate(iam.Role(stack, "Person", assumed_by=iam.AccountRootPrincipal()))

    return synthesize(build)["Platform"]


def arn(template: Template, call: Call) -> str:
    ids = {
        flows.TABLE: template.id("AWS::DynamoDB::Table"),
        flows.INDEX: template.id("AWS::DynamoDB::Table"),
        flows.BUCKET: template.id("AWS::S3::Bucket"),
        flows.QUEUE: template.id("AWS::SQS::Queue", "StepwellQueue"),
        flows.DEAD_LETTERS: template.id("AWS::SQS::Queue", "StepwellDeadLetters"),
    }
    return (
        ids[call.resource] + ".Arn" + {flows.INDEX: "/index/due", flows.BUCKET: f"/{call.key}"}.get(call.resource, "")
    )


def test_it_may_make_every_call_that_a_client_makes(template: Template, calls: set[Call]) -> None:
    granted = statements_of(template, "Person")
    assert [call for call in calls if not allowed(granted, call.action, arn(template, call))] == []
    assert {"dynamodb:BatchWriteItem", "s3:PutObject", "sqs:ReceiveMessage"} <= {call.action for call in calls}


def test_it_may_do_nothing_that_a_client_does_not(template: Template, calls: set[Call]) -> None:
    unused = [
        (action, resource)
        for statement in statements_of(template, "Person")
        for action in statement.actions
        for resource in statement.resources
        if action not in NOT_RECORDED
        and not action.startswith("kms:")
        and not any(Statement((action,), (resource,)).allows(call.action, arn(template, call)) for call in calls)
    ]
    assert unused == []


def test_the_customers_key_is_used_through_the_services_that_hold_the_data(template: Template) -> None:
    (key,) = [each for each in statements_of(template, "Person") if "kms:Decrypt" in each.actions]
    assert len(key.conditions["StringEquals"]["kms:ViaService"]) == 3
