"""What `Stepwell` puts into the account, read from the template that CloudFormation would get."""

from __future__ import annotations

import re

import aws_cdk as cdk
import pytest
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_logs as logs

from stepwell.engine.intake import LONGEST_CALL
from stepwell.store.table import TABLE_SPEC
from stepwell_cdk import Names

from .conftest import Template, platform_with, synthesize

FUNCTIONS = ("Orchestrator", "Consumer", "Sweeper", "Registrar")


def function(template: Template, name: str) -> dict:
    return template.only("AWS::Lambda::Function", f"Stepwell{name}")


class TestQueues:
    def test_main_queue_lets_a_message_fail_thirty_times_before_it_is_a_dead_letter(self, platform: Template) -> None:
        redrive = platform.only("AWS::SQS::Queue", "StepwellQueue")["RedrivePolicy"]
        assert redrive["maxReceiveCount"] == 30
        dead_letters = platform.id("AWS::SQS::Queue", "StepwellDeadLetters")
        assert redrive["deadLetterTargetArn"] == {"Fn::GetAtt": [dead_letters, "Arn"]}

    def test_messages_stay_invisible_for_six_times_as_long_as_the_consumer_may_take(self, platform: Template) -> None:
        visibility = platform.only("AWS::SQS::Queue", "StepwellQueue")["VisibilityTimeout"]
        assert visibility >= 6 * function(platform, "Consumer")["Timeout"]

    def test_consumer_outlasts_the_orchestrator_it_waits_for(self, platform: Template) -> None:
        assert function(platform, "Consumer")["Timeout"] > function(platform, "Orchestrator")["Timeout"]

    def test_consumer_has_time_for_the_neighbours_of_a_message_that_costs_the_orchestrator_all_of_its_own(
        self, platform: Template
    ) -> None:
        orchestrator = function(platform, "Orchestrator")["Timeout"]
        assert orchestrator < LONGEST_CALL
        assert orchestrator + LONGEST_CALL + 10 <= function(platform, "Consumer")["Timeout"]

    @pytest.mark.parametrize("queue", ["StepwellQueue", "StepwellDeadLetters"])
    def test_queues_are_standard_encrypted_and_keep_messages_for_fourteen_days(
        self, platform: Template, queue: str
    ) -> None:
        properties = platform.only("AWS::SQS::Queue", queue)
        assert "FifoQueue" not in properties  # fair queues are standard queues with message groups
        assert properties["SqsManagedSseEnabled"] is True
        assert properties["MessageRetentionPeriod"] == 14 * 24 * 3600

    def test_queues_and_bucket_refuse_requests_without_tls(self, platform: Template) -> None:
        policies = {**platform.of_type("AWS::SQS::QueuePolicy"), **platform.of_type("AWS::S3::BucketPolicy")}
        assert len(policies) == 3
        for policy in policies.values():
            statements = policy["PolicyDocument"]["Statement"]
            assert any(
                statement["Effect"] == "Deny"
                and statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
                and statement["Principal"] == {"AWS": "*"}
                for statement in statements
            )


class TestTable:
    def test_table_has_the_keys_and_the_index_that_the_library_expects(self, platform: Template) -> None:
        properties = platform.only("AWS::DynamoDB::Table")
        for name in ("KeySchema", "BillingMode"):
            assert properties[name] == TABLE_SPEC[name]
        assert sorted(properties["AttributeDefinitions"], key=str) == sorted(
            TABLE_SPEC["AttributeDefinitions"], key=str
        )
        (index,) = properties["GlobalSecondaryIndexes"]
        (expected,) = TABLE_SPEC["GlobalSecondaryIndexes"]
        for name in ("IndexName", "KeySchema", "Projection"):
            assert index[name] == expected[name]

    def test_table_is_restorable_protected_and_cleans_up_by_ttl(self, platform: Template) -> None:
        properties = platform.only("AWS::DynamoDB::Table")
        assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
        assert properties["DeletionProtectionEnabled"] is True
        assert properties["TimeToLiveSpecification"] == {"AttributeName": "ttl", "Enabled": True}


class TestBucket:
    def test_bucket_is_private_and_encrypted(self, platform: Template) -> None:
        properties = platform.only("AWS::S3::Bucket")
        assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
        assert len(properties["PublicAccessBlockConfiguration"]) == 4
        (rule,) = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"

    def test_payloads_outlive_the_longest_run_and_its_retention(self) -> None:
        longest, retention = cdk.Duration.days(90), cdk.Duration.days(7)
        made = synthesize(lambda app: platform_with(app, longest_run=longest, retention=retention))["Platform"]
        (rule,) = made.only("AWS::S3::Bucket")["LifecycleConfiguration"]["Rules"]
        assert rule["ExpirationInDays"] == 97
        assert rule["Status"] == "Enabled"
        assert function(made, "Orchestrator")["Environment"]["Variables"]["STEPWELL_RETENTION_DAYS"] == "7"


class TestFunctions:
    @pytest.mark.parametrize("name", FUNCTIONS)
    def test_functions_say_everything_that_has_a_default(self, platform: Template, name: str) -> None:
        properties = function(platform, name)
        assert properties["Architectures"] == ["arm64"]
        assert properties["Runtime"] == "python3.14"
        assert properties["MemorySize"] >= 512
        assert properties["Timeout"] > 3
        assert properties["LoggingConfig"]["LogFormat"] == "JSON"

    def test_every_function_of_the_loop_is_allowed_to_go_round(self, platform: Template, other: Template) -> None:
        for template in (platform, other):
            for properties in template.of_type("AWS::Lambda::Function").values():
                assert properties["RecursiveLoop"] == "Allow"

    def test_every_function_has_a_role_and_a_log_group_of_its_own(self, platform: Template) -> None:
        engine = [function(platform, name) for name in FUNCTIONS]
        assert len({str(properties["Role"]) for properties in engine}) == len(FUNCTIONS)
        groups = platform.of_type("AWS::Logs::LogGroup")
        assert {str(properties["LoggingConfig"]["LogGroup"]) for properties in engine} <= {
            str({"Ref": id}) for id in groups
        }
        assert {group["RetentionInDays"] for group in groups.values()} == {30}

    def test_log_retention_is_the_users_choice(self) -> None:
        made = synthesize(lambda app: platform_with(app, log_retention=logs.RetentionDays.ONE_WEEK))["Platform"]
        assert {group["RetentionInDays"] for group in made.of_type("AWS::Logs::LogGroup").values()} == {7}

    def test_handlers_exist_where_the_template_says(self, platform: Template) -> None:
        import importlib

        for name in FUNCTIONS:
            module, _, attribute = function(platform, name)["Handler"].rpartition(".")
            assert callable(getattr(importlib.import_module(module), attribute))

    def test_consumer_reports_failures_by_message_and_is_held_to_a_concurrency(self, platform: Template) -> None:
        source = platform.only("AWS::Lambda::EventSourceMapping")
        assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert source["BatchSize"] == 10
        assert source["ScalingConfig"] == {"MaximumConcurrency": 20}

    def test_reserved_concurrency_is_what_the_event_source_may_use(self) -> None:
        made = synthesize(lambda app: platform_with(app, consumer_concurrency=7, reserve_concurrency=True))["Platform"]
        assert made.only("AWS::Lambda::EventSourceMapping")["ScalingConfig"] == {"MaximumConcurrency": 7}
        assert function(made, "Consumer")["ReservedConcurrentExecutions"] == 7
        assert function(made, "Orchestrator")["ReservedConcurrentExecutions"] == 7

    def test_a_new_account_can_deploy_because_nothing_is_reserved_by_default(self, platform: Template) -> None:
        for properties in platform.of_type("AWS::Lambda::Function").values():
            assert "ReservedConcurrentExecutions" not in properties

    def test_tracing_is_off_unless_asked_for_and_then_on_for_all(self, platform: Template) -> None:
        assert "TracingConfig" not in str(platform.body)
        made = synthesize(lambda app: platform_with(app, tracing=True))["Platform"]
        for properties in made.of_type("AWS::Lambda::Function").values():
            assert properties["TracingConfig"] == {"Mode": "Active"}

    def test_sweeper_is_called_every_minute_and_a_missed_tick_is_not_repeated(self, platform: Template) -> None:
        rule = platform.only("AWS::Events::Rule")
        assert rule["ScheduleExpression"] == "rate(1 minute)"
        (target,) = rule["Targets"]
        assert target["Arn"] == {"Fn::GetAtt": [platform.id("AWS::Lambda::Function", "StepwellSweeper"), "Arn"]}
        assert target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 0}


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"consumer_concurrency": 1}, "2 to 1000"),
            ({"consumer_concurrency": 1001}, "2 to 1000"),
            ({"batch_size": 0}, "1 to 10000"),
            ({"batch_size": 11}, "batching_window"),
        ],
    )
    def test_settings_that_sqs_would_refuse_are_refused_at_once(self, options: dict, words: str) -> None:
        with pytest.raises(ValueError, match=words):
            platform_with(cdk.App(), **options)

    def test_larger_batches_come_with_a_window(self) -> None:
        window = cdk.Duration.seconds(2)
        made = synthesize(lambda app: platform_with(app, batch_size=100, batching_window=window))["Platform"]
        source = made.only("AWS::Lambda::EventSourceMapping")
        assert (source["BatchSize"], source["MaximumBatchingWindowInSeconds"]) == (100, 2)

    def test_state_is_kept_when_the_stack_goes(self, platform: Template) -> None:
        for kind in ("AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::SQS::Queue"):
            for id in platform.of_type(kind):
                assert platform.resources[id]["DeletionPolicy"] == "Retain"
                assert platform.resources[id]["UpdateReplacePolicy"] == "Retain"

    def test_state_goes_with_the_stack_if_the_user_says_so(self) -> None:
        made = synthesize(lambda app: platform_with(app, removal_policy=cdk.RemovalPolicy.DESTROY))["Platform"]
        for kind in ("AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::SQS::Queue"):
            for id in made.of_type(kind):
                assert made.resources[id]["DeletionPolicy"] == "Delete"
        assert made.only("AWS::DynamoDB::Table")["DeletionProtectionEnabled"] is False
        assert made.of_type("Custom::S3AutoDeleteObjects")  # S3 deletes no bucket that holds objects

    def test_names_are_left_to_cloudformation_unless_given(self, platform: Template) -> None:
        named = {"QueueName", "TableName", "BucketName", "FunctionName", "RoleName", "DashboardName", "LogGroupName"}
        for kind in ("AWS::SQS::Queue", "AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::Lambda::Function"):
            for properties in platform.of_type(kind).values():
                assert not named & set(properties)

        names = Names(queue="q", dead_letters="d", table="t", bucket="a-bucket", orchestrator="o", dashboard="page")
        made = synthesize(lambda app: platform_with(app, names=names))["Platform"]
        assert made.only("AWS::SQS::Queue", "StepwellQueue")["QueueName"] == "q"
        assert made.only("AWS::SQS::Queue", "StepwellDead")["QueueName"] == "d"
        assert made.only("AWS::DynamoDB::Table")["TableName"] == "t"
        assert made.only("AWS::S3::Bucket")["BucketName"] == "a-bucket"
        assert function(made, "Orchestrator")["FunctionName"] == "o"
        assert made.only("AWS::CloudWatch::Dashboard")["DashboardName"] == "page"

    def test_outputs_are_those_that_clients_look_for(self, platform: Template) -> None:
        for name in ("QueueUrl", "DeadLetterQueueUrl", "TableName", "BucketName", "OrchestratorName"):
            assert "Ref" in platform.outputs[name]["Value"]

    def test_how_long_things_are_kept_is_an_output_too(self, platform: Template) -> None:
        kept = function(platform, "Orchestrator")["Environment"]["Variables"]["STEPWELL_RETENTION_DAYS"]
        assert platform.outputs["RetentionDays"]["Value"] == kept

    def test_a_second_stepwell_in_one_stack_must_leave_its_outputs_out(self) -> None:
        from stepwell_cdk import Stepwell

        from .conftest import inline

        stack, _ = platform_with(cdk.App())
        with pytest.raises(ValueError, match="outputs=False"):
            Stepwell(stack, "Second", code=inline())
        Stepwell(stack, "Third", code=inline(), outputs=False)


class TestAlarms:
    def alarms(self, template: Template) -> dict[str, dict]:
        return {
            id.removeprefix("StepwellAlarms")[:-8]: it for id, it in template.of_type("AWS::CloudWatch::Alarm").items()
        }

    def test_there_is_an_alarm_for_everything_that_needs_a_person(self, platform: Template) -> None:
        engine = {name for name in self.alarms(platform) if not name.startswith("Shop")}
        assert engine == {
            "DeadLettersNotEmpty",
            "OldestMessage",
            "SweepMissed",
            "TableReadsThrottled",
            "TableWritesThrottled",
            *(f"{name}{what}" for name in ("Consumer", "Orchestrator", "Sweeper") for what in ("Errors", "Throttles")),
        }
        shop = {name.removeprefix("ShopAlarms") for name in self.alarms(platform) if name.startswith("Shop")}
        kinds = ("Errors", "Throttles", "DispatchesWait", "DispatchesDropped")
        assert shop == {"RunsFailed", *(f"Worker{size}{kind}" for size in ("default", "large") for kind in kinds)}

    def test_one_dead_letter_is_enough(self, platform: Template) -> None:
        alarm = self.alarms(platform)["DeadLettersNotEmpty"]
        assert alarm["MetricName"] == "ApproximateNumberOfMessagesVisible"
        assert (alarm["Threshold"], alarm["ComparisonOperator"]) == (1, "GreaterThanOrEqualToThreshold")

    def test_silence_is_an_alarm_only_where_silence_is_the_fault(self, platform: Template) -> None:
        breaching = {n for n, alarm in self.alarms(platform).items() if alarm["TreatMissingData"] == "breaching"}
        assert breaching == {"SweepMissed"}
        assert self.alarms(platform)["SweepMissed"]["ComparisonOperator"] == "LessThanThreshold"

    def test_alarms_do_what_the_user_wants_done(self) -> None:
        from aws_cdk import aws_cloudwatch_actions as actions
        from aws_cdk import aws_sns as sns

        from .conftest import app_on

        def build(app: cdk.App) -> None:
            topic = sns.Topic(cdk.Stack(app, "Pager"), "Topic")
            notify: cloudwatch.IAlarmAction = actions.SnsAction(topic)
            stack, stepwell = platform_with(app, alarm_actions=[notify])
            app_on(stack, stepwell, "shop")

        alarms = synthesize(build)["Platform"].of_type("AWS::CloudWatch::Alarm")
        assert len(alarms) > 10
        for alarm in alarms.values():
            assert len(alarm["AlarmActions"]) == len(alarm["OKActions"]) == 1

    def test_every_alarm_is_explained_in_the_operations_guide(self, platform: Template) -> None:
        from pathlib import Path

        guide = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
        for name in self.alarms(platform):
            assert f"`{re.sub('Worker(default|large)', 'Worker-<class>', name.removeprefix('ShopAlarms'))}`" in guide
