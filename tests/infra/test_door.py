"""The webhook door in the template: what it is, who may call it, what it may do, and who knows its URL."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_kms as kms
from aws_cdk import aws_secretsmanager as secretsmanager

from stepwell import Callback, Context, Stepwell
from stepwell.errors import InvalidOption
from stepwell.testing import LocalStepwell
from stepwell.webhooks import GitHub, Hmac, Stripe, Webhook, webhooks_of
from stepwell_cdk import Names, Webhooks

from . import flows
from .conftest import Template, app_on, platform_with, synthesize
from .policies import Statement, allowed, statements_of
from .test_nag import findings

SOURCES = [
    Webhook("github", GitHub(), secret="/stepwell/github"),
    Webhook("stripe", Stripe(), secret="/stepwell/stripe"),
]


def with_door(app: cdk.App, **options: Any) -> None:
    """``Platform`` with a door and the app shop, and ``Other`` with the app crm."""
    stack, stepwell = platform_with(app, **{"webhooks": Webhooks(SOURCES), **options})
    app_on(stack, stepwell, "shop")
    app_on(cdk.Stack(app, "Other"), stepwell, "crm")


def with_key(app: cdk.App) -> None:
    key = kms.Key(cdk.Stack(app, "Keys"), "Key", enable_key_rotation=True)
    with_door(app, encryption_key=key, tracing=True)


@pytest.fixture(scope="module")
def deployed() -> dict[str, Template]:
    return synthesize(with_door)


@pytest.fixture(scope="module")
def door(deployed: dict[str, Template]) -> Template:
    return deployed["Platform"]


def function(template: Template) -> dict[str, Any]:
    return template.only("AWS::Lambda::Function", "StepwellApi")


class TestFunction:
    def test_without_being_asked_for_there_is_none(self, platform: Template) -> None:
        assert platform.of_type("AWS::Lambda::Url") == {}
        assert "Api" not in json.dumps(sorted(platform.resources))
        assert "STEPWELL_API_URL" not in json.dumps(platform.body)

    def test_it_has_a_url_that_everybody_may_call_by_the_two_permissions_aws_asks_for(self, door: Template) -> None:
        target = {"Fn::GetAtt": [door.id("AWS::Lambda::Function", "StepwellApi"), "Arn"]}
        assert door.only("AWS::Lambda::Url") == {"AuthType": "NONE", "TargetFunctionArn": target}
        permissions = [each for each in door.of_type("AWS::Lambda::Permission").values() if each["Principal"] == "*"]
        assert sorted(permissions, key=lambda each: str(each["Action"])) == [
            {
                "Action": "lambda:InvokeFunction",
                "FunctionName": target,
                "InvokedViaFunctionUrl": True,
                "Principal": "*",
            },
            {
                "Action": "lambda:InvokeFunctionUrl",
                "FunctionName": target,
                "FunctionUrlAuthType": "NONE",
                "Principal": "*",
            },
        ]

    def test_a_flood_is_bounded_by_what_is_set_aside_for_it(self, door: Template) -> None:
        assert function(door)["ReservedConcurrentExecutions"] == 20
        made = synthesize(lambda app: with_door(app, webhooks=Webhooks(concurrency=None)))["Platform"]
        assert "ReservedConcurrentExecutions" not in function(made)

    def test_its_handler_exists_and_its_log_is_its_own(self, door: Template) -> None:
        import importlib

        module, _, attribute = function(door)["Handler"].rpartition(".")
        assert callable(getattr(importlib.import_module(module), attribute))
        assert function(door)["LoggingConfig"]["LogGroup"]["Ref"].startswith("StepwellApiLogs")

    def test_it_reads_what_was_declared(self, door: Template) -> None:
        variables = function(door)["Environment"]["Variables"]
        assert list(webhooks_of(variables["STEPWELL_WEBHOOKS"]).values()) == SOURCES
        assert variables["STEPWELL_MAX_BODY"] == "1048576"

    def test_it_has_a_name_if_it_is_given_one(self) -> None:
        made = synthesize(lambda app: with_door(app, names=Names(api="door")))["Platform"]
        assert function(made)["FunctionName"] == "door"

    def test_logical_ids_are_a_promise(self, door: Template) -> None:
        assert door.id("AWS::Lambda::Function", "StepwellApi") == "StepwellApiFunctionCE26DECE"
        assert door.id("AWS::Lambda::Url") == "StepwellApiFunctionFunctionUrlD381BFEF"

    @pytest.mark.parametrize(
        ("options", "error", "words"),
        [
            ({"max_body": cdk.Size.mebibytes(7)}, ValueError, "6 MiB"),
            ({"sources": [SOURCES[0], SOURCES[0]]}, InvalidOption, "github"),
            ({"sources": [Webhook("x", GitHub(), secret="/x", where="1 +")]}, InvalidOption, "where"),
            (
                {
                    "sources": [
                        Webhook(f"x{n}", GitHub(), secret="/x", where=f"body.x == '{'x' * 99}'") for n in range(20)
                    ]
                },
                ValueError,
                "environment has room",
            ),
        ],
    )
    def test_what_could_not_be_deployed_is_refused_at_once(
        self, options: dict[str, Any], error: type[Exception], words: str
    ) -> None:
        with pytest.raises(error, match=words):
            platform_with(cdk.App(), webhooks=Webhooks(**options))


class TestUrl:
    URL = {"Fn::GetAtt": ["StepwellApiFunctionFunctionUrlD381BFEF", "FunctionUrl"]}  # noqa: RUF012

    def test_the_workers_know_it_in_every_stack(self, deployed: dict[str, Template]) -> None:
        own = deployed["Platform"].only("AWS::Lambda::Function", "ShopWorker")["Environment"]["Variables"]
        assert own["STEPWELL_API_URL"] == self.URL
        other = deployed["Other"].only("AWS::Lambda::Function", "CrmWorker")["Environment"]["Variables"]
        assert "FunctionUrl" in other["STEPWELL_API_URL"]["Fn::ImportValue"]

    def test_nothing_that_it_depends_on_knows_it(self, door: Template) -> None:
        for name in ("Api", "Consumer", "Orchestrator", "Sweeper", "Registrar"):
            variables = door.only("AWS::Lambda::Function", f"Stepwell{name}")["Environment"]["Variables"]
            assert "STEPWELL_API_URL" not in variables

    def test_it_is_an_output(self, door: Template) -> None:
        assert door.outputs["ApiUrl"]["Value"] == self.URL
        assert door.outputs["ApiName"]["Value"] == {"Ref": "StepwellApiFunctionCE26DECE"}

    def test_something_may_stand_before_it(self) -> None:
        public = "https://hooks.example.com/"
        made = synthesize(lambda app: with_door(app, webhooks=Webhooks(public_url=public)))
        assert made["Platform"].outputs["ApiUrl"]["Value"] == public
        worker = made["Other"].only("AWS::Lambda::Function", "CrmWorker")
        assert worker["Environment"]["Variables"]["STEPWELL_API_URL"] == public


# ---- what it may do --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def calls() -> list[flows.Call]:
    """What the door is seen to call when all of it is used."""
    app = Stepwell("shop")
    callbacks: list[Callback] = []

    @app.function(on="ask")
    def ask(ctx: Context[Any]) -> Any:
        return ctx.step.wait_for_callback("asked", timeout="1d", heartbeat="1h", submit=callbacks.append)

    with LocalStepwell(app, webhooks=SOURCES) as local:
        url = f"/e/{local.event_key()}"
        for data in ({}, {"text": flows.HUGE}):
            assert local.http("POST", url, body={"name": "ask", "data": data}).status == 202
        assert local.webhook("github", {}, headers={"X-GitHub-Event": "push", "X-GitHub-Delivery": "d"}).status == 202
        assert local.http("POST", url, body=[{"name": "a", "data": {}}] * 2).status == 202
        local.run_until_idle()
        first, second = callbacks
        assert local.http("POST", first.url + "/heartbeat").status == 200
        assert local.http("GET", first.url).status == 200
        assert local.http("POST", first.url, body={"text": flows.LARGE}).status == 200
        assert local.http("POST", second.url + "/fail", body={"message": "no"}).status == 200
        return [call for call in dict.fromkeys(flows._translated(local)) if call.role == "api"]


BY_AWS = {"logs:CreateLogStream", "logs:PutLogEvents", "ssm:GetParameter"}
"""What is called by Lambda itself, or to read a secret, which a local world does not keep in SSM."""


class TestLeastPrivilege:
    def arn(self, door: Template, call: flows.Call) -> str:
        ids = {
            flows.TABLE: door.id("AWS::DynamoDB::Table"),
            flows.QUEUE: door.id("AWS::SQS::Queue", "StepwellQueue"),
            flows.BUCKET: door.id("AWS::S3::Bucket"),
        }
        return f"{ids[call.resource]}.Arn" + (f"/{call.key}" if call.resource == flows.BUCKET else "")

    def test_it_may_make_every_call_that_its_code_makes(self, door: Template, calls: list[flows.Call]) -> None:
        granted = statements_of(door, "StepwellApiRole")
        keys = {call: [call.key] if call.resource == flows.TABLE else [] for call in calls}
        assert len(calls) > 6
        assert [call for call in calls if not allowed(granted, call.action, self.arn(door, call), keys[call])] == []

    def test_it_may_do_nothing_that_its_code_does_not(self, door: Template, calls: list[flows.Call]) -> None:
        unused = [
            (action, resource, partition)
            for statement in statements_of(door, "StepwellApiRole")
            for action in statement.actions
            for resource in statement.resources
            for partition in statement.partitions or ("*",)
            if action not in BY_AWS
            and not any(
                Statement(
                    (action,), (resource,), {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": [partition]}}
                ).allows(call.action, self.arn(door, call), [call.key] if call.resource == flows.TABLE else [])
                for call in calls
            )
        ]
        assert unused == []

    def test_the_table_is_closed_to_it_but_for_keys_counters_and_runs(self, door: Template) -> None:
        granted, table = statements_of(door, "StepwellApiRole"), f"{door.id('AWS::DynamoDB::Table')}.Arn"
        for key in (
            "APP",
            "EVENT#e-1",
            "EVENTS#2026-11-22#0",
            "WAIT#shop#paid#*=null",
            "PATHS#shop#paid",
            "TAG#shop#a=1",
        ):
            for action in ("dynamodb:GetItem", "dynamodb:UpdateItem", "dynamodb:PutItem", "dynamodb:DeleteItem"):
                assert not allowed(granted, action, table, [key])
        assert not allowed(granted, "dynamodb:UpdateItem", table, ["KEYS"])
        assert not allowed(granted, "dynamodb:Query", table, ["KEYS"])

    def test_it_reads_the_secrets_of_its_own_sources_alone(self) -> None:
        def build(app: cdk.App) -> None:
            stack = cdk.Stack(app, "Secrets")
            kept = secretsmanager.Secret(stack, "Kept")
            sources = [
                *SOURCES,
                Webhook("x", Hmac("X"), secret=f"secretsmanager:{kept.secret_arn}", event="x", id=None),
            ]
            with_door(app, webhooks=Webhooks(sources))

        made = synthesize(build)["Platform"]
        reading = {
            action: sorted(statement.resources)
            for statement in statements_of(made, "StepwellApiRole")
            for action in statement.actions
            if action in ("ssm:GetParameter", "secretsmanager:GetSecretValue")
        }
        places = [re.sub(r".*parameter/", "", place) for place in reading["ssm:GetParameter"]]
        assert places == ["stepwell/github", "stepwell/stripe"]
        (arn,) = reading["secretsmanager:GetSecretValue"]
        assert arn.startswith("Secrets:ExportsOutputRefKept")
        told = function(made)["Environment"]["Variables"]["STEPWELL_WEBHOOKS"]
        assert arn in json.dumps(told)

    def test_nobody_else_may_read_the_keys_but_the_orchestrator(self, deployed: dict[str, Template]) -> None:
        door, other = deployed["Platform"], deployed["Other"]
        table = f"{door.id('AWS::DynamoDB::Table')}.Arn"
        for template, role in [(door, "ShopRole"), (door, "StepwellRegistrarRole"), (other, "CrmRole")]:
            for statement in statements_of(template, role):
                if any(action.startswith("dynamodb:") for action in statement.actions):
                    assert statement.partitions is not None
                    assert not allowed([statement], "dynamodb:GetItem", table, ["KEYS"])


class TestWatch:
    def test_its_alarms_are_explained_in_the_operations_guide(self, door: Template, platform: Template) -> None:
        ids = set(door.of_type("AWS::CloudWatch::Alarm")) - set(platform.of_type("AWS::CloudWatch::Alarm"))
        names = {re.sub(r"^StepwellAlarms|[0-9A-F]{8}$", "", id) for id in ids}
        assert names == {"ApiErrors", "ApiThrottles", "WebhooksUnusable"}
        guide = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
        assert all(f"`{name}`" in guide for name in names)

    def test_what_it_logs_is_what_is_counted(self, door: Template) -> None:
        patterns = {each["FilterPattern"] for each in door.of_type("AWS::Logs::MetricFilter").values()}
        assert '{ $.stepwell = "webhook-unusable" }' in patterns


@pytest.mark.parametrize("build", [with_door, with_key])
def test_the_rule_packs_find_nothing_that_is_not_explained(build: Any) -> None:
    assert findings(build) == set()
