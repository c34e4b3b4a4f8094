"""What `StepwellApp` adds: workers, their dispatching, who may call them, and the registration."""

from __future__ import annotations

import aws_cdk as cdk
import pytest
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_

from stepwell_cdk import ComputeClass, Network, Platform, Stepwell, StepwellApp

from .conftest import Template, app_on, inline, platform_with, synthesize


def shop(**options: object) -> Template:
    """A platform with the app shop, made with these options."""

    def build(app: cdk.App) -> None:
        stack, stepwell = platform_with(app)
        app_on(stack, stepwell, "shop", **options)

    return synthesize(build)["Platform"]


class TestWorkers:
    def test_each_compute_class_is_a_lambda_of_its_size(self) -> None:
        large = ComputeClass(
            memory=4096,
            timeout=cdk.Duration.minutes(5),
            ephemeral_storage=cdk.Size.gibibytes(2),
            reserved_concurrency=3,
            environment={"MODEL": "big"},
        )
        made = shop(compute={"default": ComputeClass(), "large": large}, environment={"STAGE": "test"})
        small = made.only("AWS::Lambda::Function", "ShopWorkerdefault")
        big = made.only("AWS::Lambda::Function", "ShopWorkerlarge")
        assert (small["MemorySize"], small["Timeout"]) == (1024, 900)
        assert (big["MemorySize"], big["Timeout"], big["EphemeralStorage"]) == (4096, 300, {"Size": 2048})
        assert big["ReservedConcurrentExecutions"] == 3
        assert small["Environment"]["Variables"]["STAGE"] == big["Environment"]["Variables"]["STAGE"] == "test"
        assert big["Environment"]["Variables"]["MODEL"] == "big"
        assert "MODEL" not in small["Environment"]["Variables"]

    def test_worker_knows_its_app_and_where_everything_is(self, platform: Template) -> None:
        variables = platform.only("AWS::Lambda::Function", "ShopWorkerdefault")["Environment"]["Variables"]
        assert variables["STEPWELL_APP"] == "shop.app:app"
        table, queue = platform.id("AWS::DynamoDB::Table"), platform.id("AWS::SQS::Queue", "StepwellQueue")
        assert variables["STEPWELL_TABLE"] == {"Ref": table}
        assert variables["STEPWELL_QUEUE_URL"] == {"Ref": queue}

    def test_lambda_never_repeats_a_dispatch_and_hands_crashes_back_to_the_main_queue(self, platform: Template) -> None:
        queue = platform.id("AWS::SQS::Queue", "StepwellQueue")
        configs = [c for id, c in platform.of_type("AWS::Lambda::EventInvokeConfig").items() if id.startswith("Shop")]
        assert len(configs) == 2
        for config in configs:
            assert (config["MaximumRetryAttempts"], config["MaximumEventAgeInSeconds"]) == (0, 60)
            assert config["DestinationConfig"] == {"OnFailure": {"Destination": {"Fn::GetAtt": [queue, "Arn"]}}}

    def test_only_orchestrator_and_registrar_may_call_a_worker(self, platform: Template) -> None:
        roles = {platform.id("AWS::IAM::Role", f"Stepwell{name}") for name in ("Orchestrator", "Registrar")}
        for size in ("default", "large"):
            worker = platform.id("AWS::Lambda::Function", f"ShopWorker{size}")
            allowed = [
                permission
                for permission in platform.of_type("AWS::Lambda::Permission").values()
                if permission["FunctionName"] == {"Fn::GetAtt": [worker, "Arn"]}
            ]
            assert {permission["Principal"]["Fn::GetAtt"][0] for permission in allowed} == roles
            assert {permission["Action"] for permission in allowed} == {"lambda:InvokeFunction"}

    def test_workers_of_an_app_share_its_role_and_apps_share_none(self, platform: Template, other: Template) -> None:
        workers = [f for id, f in platform.of_type("AWS::Lambda::Function").items() if id.startswith("Shop")]
        assert {str(worker["Role"]) for worker in workers} == {
            str({"Fn::GetAtt": [platform.id("AWS::IAM::Role", "Shop"), "Arn"]})
        }
        assert other.id("AWS::IAM::Role", "Crm")

    def test_users_permissions_go_on_the_apps_role(self) -> None:
        def build(app: cdk.App) -> None:
            stack, stepwell = platform_with(app)
            made = app_on(stack, stepwell, "shop")
            made.role.add_to_policy(iam.PolicyStatement(actions=["ses:SendEmail"], resources=["arn:aws:ses:x"]))

        policy = synthesize(build)["Platform"].only("AWS::IAM::Policy", "ShopRoleDefaultPolicy")
        assert any(statement["Action"] == "ses:SendEmail" for statement in policy["PolicyDocument"]["Statement"])

    def test_an_app_may_need_another_python_than_the_platform(self) -> None:
        made = shop(platform=Platform(python="3.13", architecture="x86_64"))
        worker = made.only("AWS::Lambda::Function", "ShopWorkerdefault")
        assert (worker["Runtime"], worker["Architectures"]) == ("python3.13", ["x86_64"])
        assert made.only("AWS::Lambda::Function", "StepwellConsumer")["Runtime"] == "python3.14"

    def test_workers_may_stand_in_a_vpc(self) -> None:
        def build(app: cdk.App) -> None:
            stack, stepwell = platform_with(app)
            network = Network(vpc=ec2.Vpc(stack, "Vpc", max_azs=1))
            app_on(stack, stepwell, "shop", network=network)

        made = synthesize(build)["Platform"]
        assert "VpcConfig" in made.only("AWS::Lambda::Function", "ShopWorkerdefault")
        assert "VpcConfig" not in made.only("AWS::Lambda::Function", "StepwellConsumer")
        (managed,) = made.only("AWS::IAM::Role", "Shop")["ManagedPolicyArns"]
        assert "AWSLambdaVPCAccessExecutionRole" in str(managed)


class TestRegistration:
    def test_registrar_is_told_the_app_and_its_workers_by_compute_class(self, platform: Template) -> None:
        registration = platform.only("Custom::StepwellApp")
        assert registration["AppId"] == "shop"
        assert registration["Workers"] == {
            size: {"Fn::GetAtt": [platform.id("AWS::Lambda::Function", f"ShopWorker{size}"), "Arn"]}
            for size in ("default", "large")
        }
        assert int(registration["ServiceTimeout"]) < 3600

    def test_it_waits_for_everything_the_worker_needs(self, platform: Template) -> None:
        depends = platform.resources[platform.id("Custom::StepwellApp")]["DependsOn"]
        kinds = {platform.resources[id]["Type"] for id in depends}
        needed = {"AWS::IAM::Policy", "AWS::Lambda::Function", "AWS::Lambda::Permission"}
        assert needed | {"AWS::Lambda::EventInvokeConfig"} <= kinds

    def test_it_is_asked_again_when_code_or_environment_changed_and_only_then(self) -> None:
        def revision(**options: object) -> str:
            return str(shop(**options).only("Custom::StepwellApp")["Revision"])

        first = revision()
        assert revision() == first
        assert revision(environment={"CRON": "0 9 * * *"}) != first
        assert revision(packed=lambda_.Code.from_inline("def handler(event, context): return 1")) != first

    def test_in_another_stack_it_finds_the_registrar_of_the_platform(self, other: Template) -> None:
        registration = other.only("Custom::StepwellApp")
        assert "StepwellRegistrarFunction" in str(registration["ServiceToken"]["Fn::ImportValue"])


class TestRefusals:
    def refused(self, words: str, **options: object) -> None:
        stack, stepwell = platform_with(cdk.App())
        settings = {"stepwell": stepwell, "app": "shop.app:app", "app_id": "shop", "packed": inline(), **options}
        with pytest.raises(ValueError, match=words):
            StepwellApp(stack, "Shop", **settings)  # type: ignore[arg-type]

    def test_an_app_without_a_default_class(self) -> None:
        self.refused("default", compute={"large": ComputeClass()})

    def test_a_compute_class_has_a_name_that_functions_can_write(self) -> None:
        self.refused("a class 'very large'", compute={"default": ComputeClass(), "very large": ComputeClass()})

    def test_an_app_without_code(self) -> None:
        self.refused("code=", packed=None)

    @pytest.mark.parametrize("app_id", [None, "", "a*", "a.b", "a#b", "-a", "Shop", "a" * 49])
    def test_an_id_that_would_widen_what_the_role_may_touch(self, app_id: str | None) -> None:
        self.refused("app_id", app_id=app_id)


class TestTwoStacks:
    def test_the_platform_does_not_depend_on_an_app_in_another_stack(self, deployment: dict[str, Template]) -> None:
        assert "Fn::ImportValue" not in str(deployment["Platform"].body)
        assert "crm" not in str(deployment["Platform"].body)

    def test_the_platform_need_not_be_deployed_again_when_an_app_comes_or_goes(
        self, deployment: dict[str, Template]
    ) -> None:
        def alone(app: cdk.App) -> None:
            stack, stepwell = platform_with(app)
            app_on(stack, stepwell, "shop", compute={"default": ComputeClass(), "large": ComputeClass(memory=4096)})

        assert synthesize(alone)["Platform"].body == deployment["Platform"].body

    def test_nor_with_a_key_that_stands_in_the_platforms_stack(self) -> None:
        def build(app: cdk.App, others: int) -> None:
            stack = cdk.Stack(app, "Platform")
            stepwell = Stepwell(stack, "Stepwell", code=inline(), encryption_key=kms.Key(stack, "Key"))
            for number in range(others):
                app_on(cdk.Stack(app, f"Other{number}"), stepwell, "crm")

        templates = [synthesize(lambda app, n=n: build(app, n))["Platform"].body for n in (0, 2)]
        assert templates[0] == templates[1]

    def test_an_app_gets_its_alarms_in_its_own_stack(self, other: Template) -> None:
        assert len(other.of_type("AWS::CloudWatch::Alarm")) == 5

    def test_failed_runs_are_counted_by_app_from_the_logs_of_worker_and_orchestrator(
        self, deployment: dict[str, Template]
    ) -> None:
        filters = [f for t in deployment.values() for f in t.of_type("AWS::Logs::MetricFilter").values()]
        assert len(filters) == 4  # the orchestrator, two workers of shop, one of crm
        for found in filters:
            (transformation,) = found["MetricTransformations"]
            assert transformation["MetricName"] == "RunsFailed"
            assert transformation["Dimensions"] == [{"Key": "App", "Value": "$.app"}]
