"""Each role may do what its code calls, and no more: calls recorded in real flows, held against the templates both ways."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from stepwell.callbacks import callback_key_name

from . import flows
from .conftest import Template
from .flows import Call
from .policies import Statement, allowed, statements_of

ROLES = {
    "consumer": ("Platform", "StepwellConsumerRole"),
    "orchestrator": ("Platform", "StepwellOrchestratorRole"),
    "sweeper": ("Platform", "StepwellSweeperRole"),
    "registrar": ("Platform", "StepwellRegistrarRole"),
    "shop": ("Platform", "ShopRole"),
    "crm": ("Other", "CrmRole"),
}

BY_AWS = {
    # Lambda's event source polls the queue in the role's name.
    ("consumer", "sqs:ReceiveMessage"),
    ("consumer", "sqs:DeleteMessage"),
    ("consumer", "sqs:GetQueueAttributes"),
    # Lambda writes the logs in the role's name.
    *((role, action) for role in ROLES for action in ("logs:CreateLogStream", "logs:PutLogEvents")),
}
"""What is granted for AWS itself to do, which no code of ours calls."""


@pytest.fixture(scope="module")
def calls() -> list[Call]:
    """Every call of every Lambda in the flows."""
    return flows.play()


def grants(deployment: dict[str, Template], role: str) -> list[Statement]:
    stack, id = ROLES[role]
    return statements_of(deployment[stack], id)


def arn(deployment: dict[str, Template], role: str, resource: str, key: str = "") -> str:
    """The resource as the template of the role's stack spells it."""
    platform = deployment["Platform"]
    table, bucket = platform.id("AWS::DynamoDB::Table"), platform.id("AWS::S3::Bucket")
    ids = {
        flows.TABLE: table,
        flows.INDEX: table,
        flows.BUCKET: bucket,
        flows.QUEUE: platform.id("AWS::SQS::Queue", "StepwellQueue"),
        flows.DEAD_LETTERS: platform.id("AWS::SQS::Queue", "StepwellDeadLetters"),
        flows.FUNCTION: platform.id("AWS::Lambda::Function", "StepwellOrchestrator"),
    }
    if resource == flows.PARAMETER:
        return parameter(deployment, role, key)
    logical = ids[resource]
    if ROLES[role][0] == "Platform":
        spelled = f"{logical}.Arn"
    else:
        export = re.compile(rf"Platform:ExportsOutputFnGetAtt{logical}Arn[0-9A-F]+")
        (spelled,) = set(export.findall(str(deployment["Other"].body)))
    suffix = {flows.INDEX: "/index/due", flows.BUCKET: f"/{key}"}
    return spelled + suffix.get(resource, "")


def parameter(deployment: dict[str, Template], role: str, name: str) -> str:
    """The ARN of a parameter in whose name stands the table's, as the template of the role's stack spells it."""
    table = deployment["Platform"].id("AWS::DynamoDB::Table")
    if ROLES[role][0] != "Platform":
        export = re.compile(rf"Platform:ExportsOutputRef{table}[0-9A-F]+")
        (table,) = set(export.findall(str(deployment["Other"].body)))
    return f"arn:AWS::Partition:ssm:AWS::Region:AWS::AccountId:parameter{name.replace(flows.TABLE, table)}"


def partition(call: Call) -> list[str]:
    return [call.key] if call.resource == flows.TABLE else []


@pytest.mark.parametrize("role", ROLES)
class TestOfEachRole:
    def test_it_may_make_every_call_that_its_code_makes(
        self, deployment: dict[str, Template], calls: list[Call], role: str
    ) -> None:
        granted = grants(deployment, role)
        made = [call for call in calls if call.role == role and not invokes_a_worker(call)]
        assert made
        refused = [
            call
            for call in made
            if not allowed(granted, call.action, arn(deployment, role, call.resource, call.key), partition(call))
        ]
        assert refused == []

    def test_it_may_do_nothing_that_its_code_does_not(
        self, deployment: dict[str, Template], calls: list[Call], role: str
    ) -> None:
        made = [call for call in calls if call.role == role]
        unused = [
            (action, resource)
            for statement in grants(deployment, role)
            for action in statement.actions
            for resource in statement.resources
            if (role, action) not in BY_AWS
            and not any(
                Statement((action,), (resource,)).allows(call.action, arn(deployment, role, call.resource, call.key))
                for call in made
            )
        ]
        assert unused == []

    def test_no_action_is_a_wildcard_and_no_resource_is_everything(
        self, deployment: dict[str, Template], role: str
    ) -> None:
        for statement in grants(deployment, role):
            assert not any("*" in action for action in statement.actions)
            for resource in statement.resources:
                assert resource != "*"
                assert "*" not in resource or "/" in resource  # keys of payloads, never resources themselves

    def test_its_function_is_trusted_to_lambda_alone_and_has_no_managed_policies(
        self, deployment: dict[str, Template], role: str
    ) -> None:
        stack, id = ROLES[role]
        properties = deployment[stack].only("AWS::IAM::Role", id)
        (statement,) = properties["AssumeRolePolicyDocument"]["Statement"]
        assert statement["Principal"] == {"Service": "lambda.amazonaws.com"}
        assert "ManagedPolicyArns" not in properties


def invokes_a_worker(call: Call) -> bool:
    return call.action == "lambda:InvokeFunction" and call.role in {"orchestrator", "registrar"}


def test_workers_are_called_by_leave_of_their_own_policy(deployment: dict[str, Template], calls: list[Call]) -> None:
    callers = {call.role for call in calls if invokes_a_worker(call)}
    assert callers == {"orchestrator", "registrar"}
    for role in callers:
        assert not any("lambda:InvokeFunction" in statement.actions for statement in grants(deployment, role))
    for stack, app, sizes in [("Platform", "Shop", ["default", "large"]), ("Other", "Crm", ["default"])]:
        for size in sizes:
            worker = deployment[stack].id("AWS::Lambda::Function", f"{app}Worker{size}")
            assert len(list(invokers(deployment[stack], worker))) == len(callers)


def invokers(template: Template, worker: str) -> Iterator[object]:
    for permission in template.of_type("AWS::Lambda::Permission").values():
        if permission["FunctionName"] == {"Fn::GetAtt": [worker, "Arn"]}:
            yield permission["Principal"]


class TestFences:
    """The worker of one app cannot touch what is another's."""

    @pytest.mark.parametrize(("intruder", "owner"), [("shop", "crm"), ("crm", "shop")])
    def test_no_item_and_no_payload_of_another_app_is_within_reach(
        self, deployment: dict[str, Template], calls: list[Call], intruder: str, owner: str
    ) -> None:
        granted = grants(deployment, intruder)
        theirs = [
            call
            for call in calls
            if call.role == owner and (call.resource == flows.TABLE or call.key.startswith(f"{owner}/"))
        ]
        assert {call.resource for call in theirs} == {flows.TABLE, flows.BUCKET}
        reached = [
            call
            for call in theirs
            if allowed(granted, call.action, arn(deployment, intruder, call.resource, call.key), partition(call))
        ]
        assert reached == []

    @pytest.mark.parametrize(
        "key",
        [
            "RUN#shopping.01J8Z",
            "RUN#my-shop.01J8Z",
            "RUN#shop",
            "WAIT#shopping#order/paid#*=null",
            "APP",
            "EVENT#e-1",
            "EVENTS#2026-11-22#0",
            "TAG#shopping#order=1",
            "TAG#crm#order=1",
            "AGAIN#shop#1",
            "",
        ],
    )
    def test_a_longer_name_and_the_items_of_all_apps_are_outside(
        self, deployment: dict[str, Template], key: str
    ) -> None:
        table = arn(deployment, "shop", flows.TABLE)
        assert not allowed(grants(deployment, "shop"), "dynamodb:GetItem", table, [key])

    def test_one_foreign_key_among_own_ones_refuses_the_request(self, deployment: dict[str, Template]) -> None:
        granted, table = grants(deployment, "shop"), arn(deployment, "shop", flows.TABLE)
        assert allowed(granted, "dynamodb:PutItem", table, ["RUN#shop.1", "WAIT#shop#paid#*=null"])
        assert not allowed(granted, "dynamodb:PutItem", table, ["RUN#shop.1", "RUN#crm.1"])

    def test_only_orchestrator_and_sweeper_see_the_index(self, deployment: dict[str, Template]) -> None:
        seers = {
            role
            for role in ROLES
            if allowed(grants(deployment, role), "dynamodb:Query", arn(deployment, role, flows.INDEX))
        }
        assert seers == {"orchestrator", "sweeper"}

    def test_only_the_consumer_takes_messages(self, deployment: dict[str, Template]) -> None:
        takers = {role for role in ROLES if any("sqs:ReceiveMessage" in s.actions for s in grants(deployment, role))}
        assert takers == {"consumer"}

    def test_callback_keys_are_read_by_their_own_workers_and_made_once_by_the_registrar(
        self, deployment: dict[str, Template], calls: list[Call]
    ) -> None:
        names = {app: callback_key_name(flows.TABLE, app) for app in ("shop", "crm")}
        assert set(names.values()) <= {call.key for call in calls if call.resource == flows.PARAMETER}
        readers = {
            (role, app)
            for role in ROLES
            for app, name in names.items()
            if allowed(grants(deployment, role), "ssm:GetParameter", parameter(deployment, role, name))
        }
        assert readers == {("shop", "shop"), ("crm", "crm")}
        (makes,) = [s for role in ROLES for s in grants(deployment, role) if "ssm:PutParameter" in s.actions]
        assert makes in grants(deployment, "registrar")
        assert makes.actions == ("ssm:PutParameter",)
        assert makes.conditions == {"StringNotEquals": {"ssm:Overwrite": "true"}}

    def test_what_is_registered_of_an_app_does_not_lie_where_age_deletes_it(
        self, deployment: dict[str, Template], calls: list[Call]
    ) -> None:
        """The bucket deletes objects by their age; an app may live for years between two deployments."""
        rule = deployment["Platform"].only("AWS::S3::Bucket")["LifecycleConfiguration"]["Rules"][0]
        assert "Prefix" not in rule
        assert rule["ExpirationInDays"]
        registered = [call for call in calls if call.role == "registrar"]
        assert any(call.key == "APP" for call in registered)
        assert not any(call.resource == flows.BUCKET for call in registered)
        assert not any("s3:" in action for s in grants(deployment, "registrar") for action in s.actions)

    def test_whoever_may_send_cannot_read(self, deployment: dict[str, Template]) -> None:
        import aws_cdk as cdk
        from aws_cdk import aws_iam as iam

        from .conftest import app_on, platform_with, synthesize

        def build(app: cdk.App) -> None:
            stack, stepwell = platform_with(app)
            made = app_on(stack, stepwell, "shop")
            made.grant_send(iam.Role(stack, "Site", assumed_by=iam.ServicePrincipal("ecs-tasks.amazonaws.com")))

        granted = statements_of(synthesize(build)["Platform"], "Site")
        assert {action for statement in granted for action in statement.actions} == {"sqs:SendMessage", "s3:PutObject"}
