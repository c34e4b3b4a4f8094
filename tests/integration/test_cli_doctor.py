"""`stepwell doctor` on a stack that is well, and on the same with one thing wrong at a time."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from typer.testing import CliRunner

from stepwell import Context, Stepwell
from stepwell.callbacks import callback_key_name
from stepwell.cli.doctor import command
from stepwell.cli.root import cli
from stepwell.queue import RECEIVES
from stepwell.testing import LocalStepwell

from .support import cold_start, redeploy

app = Stepwell("shop")


@app.function(on="order/created")
def process_order(ctx: Context[Any]) -> None:
    ctx.step.sleep("cool-off", "3h")


Answers = dict[str, Any]
"""Answers of AWS by "service.operation": what is answered, or a function of the call's parameters."""


def refusal(code: str, operation: str, status: int = 400) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}, operation
    )


class Overlaid:
    """A client some of whose operations are answered from a dictionary, the others by what lies below."""

    def __init__(self, service: str, answers: Answers, below: Any) -> None:
        self._service, self._answers, self._below = service, answers, below

    def __getattr__(self, operation: str) -> Any:
        name = f"{self._service}.{operation}"
        if name not in self._answers:
            assert self._below is not None, f"nobody answers {name}"
            return getattr(self._below, operation)

        def call(**parameters: Any) -> Any:
            answer = self._answers[name]
            answer = answer(**parameters) if callable(answer) else answer
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


class Stack:
    """A deployment: the table, the queues and the bucket of a local world, the rest made up."""

    def __init__(self, local: LocalStepwell) -> None:
        self.local = local
        made = local.world.aws.resources
        self.table, self.queue, self.dead, self.queue_arn = made.table, made.queue_url, made.dlq_url, made.queue_arn
        self.manifest: dict[str, Any] = app.manifest()
        self.answers: Answers = {
            "cloudformation.describe_stacks": {"Stacks": [self.described()]},
            "lambda.get_function_configuration": self.configuration,
            "lambda.get_function_concurrency": {},
            "lambda.list_event_source_mappings": {"EventSourceMappings": [self.mapping()]},
            "lambda.invoke": self.invoke,
            "events.list_rule_names_by_target": {"RuleNames": ["every-minute"]},
            "events.describe_rule": {"Name": "every-minute", "State": "ENABLED"},
            "cloudwatch.get_metric_statistics": self.metrics(Invocations=10),
            "s3.put_object": refusal("NoSuchKey", "PutObject", 404),
        }
        client = boto3.client("dynamodb")
        client.update_time_to_live(
            TableName=self.table, TimeToLiveSpecification={"Enabled": True, "AttributeName": "ttl"}
        )
        client.update_continuous_backups(
            TableName=self.table, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
        )
        client.update_table(TableName=self.table, DeletionProtectionEnabled=True)
        self.set_queue(VisibilityTimeout="360")

    def described(self, *without: str) -> dict[str, Any]:
        names = {
            "QueueUrl": self.queue,
            "DeadLetterQueueUrl": self.dead,
            "TableName": self.table,
            "BucketName": self.local.world.aws.resources.bucket,
            "ConsumerName": "consumer",
            "OrchestratorName": "orchestrator",
            "SweeperName": "sweeper",
            "RegistrarName": "registrar",
        }
        outputs = [{"OutputKey": key, "OutputValue": value} for key, value in names.items() if key not in without]
        return {"StackStatus": "UPDATE_COMPLETE", "Outputs": outputs}

    def invoke(self, *, Payload: bytes, **_: Any) -> Any:  # noqa: N803
        """The worker's real handler, but for what the test says of its manifest."""
        lambdas = self.local.world.lambdas
        told = json.loads(lambdas.invoke(lambdas.labelled("worker"), Payload.decode()).payload)
        return {"Payload": io.BytesIO(json.dumps({**told, "manifest": self.manifest}).encode())}

    def configuration(self, *, FunctionName: str) -> Any:  # noqa: N803
        return {
            "State": "Active",
            "LastUpdateStatus": "Successful",
            "Timeout": 60,
            "FunctionArn": f"arn:{FunctionName}",
        }

    def mapping(self, **changed: Any) -> dict[str, Any]:
        return {
            "UUID": "u-1",
            "EventSourceArn": self.queue_arn,
            "State": "Enabled",
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
        } | changed

    def metrics(self, **sums: float) -> Callable[..., Any]:
        return lambda *, MetricName, **_: {"Datapoints": [{"Sum": sums.get(MetricName, 0.0)}]}  # noqa: N803

    def set_queue(self, **attributes: str) -> None:
        boto3.client("sqs").set_queue_attributes(QueueUrl=self.queue, Attributes=attributes)

    def clients(self) -> Callable[[str], Any]:
        real = {"dynamodb", "sqs", "s3"}
        return lambda service: Overlaid(service, self.answers, boto3.client(service) if service in real else None)


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.delenv("COLUMNS", raising=False)
    with LocalStepwell(app, start=datetime.now(UTC)) as local:
        deployed = Stack(local)
        monkeypatch.setattr(command, "aws_clients", deployed.clients)
        yield deployed


def doctor(*arguments: str, status: int = 0, stack: bool = True) -> str:
    result = CliRunner().invoke(cli, ["doctor", *(["--stack", "shop"] if stack else []), *arguments])
    assert result.exit_code == status, result.output
    return result.output


def findings(*levels: str, status: int) -> dict[str, str]:
    """What is not well, by check."""
    told = json.loads(doctor("--json", status=status))
    return {each["check"]: each["what"] for each in told["findings"] if each["level"] in levels}


def the_only_problem(check: str) -> str:
    found = findings("problem", status=1)
    assert list(found) == [check], found
    return found[check]


def test_a_healthy_stack_is_well(stack: Stack) -> None:
    told = json.loads(doctor("--json"))

    assert [each for each in told["findings"] if each["level"] != "ok"] == []
    assert {each["check"] for each in told["findings"]} >= {"lambdas", "event source", "table", "registration", "runs"}
    assert "0 problems, 0 warnings" in doctor()
    assert "The sweeper has run 10 times" in doctor("--all")


def test_a_stack_that_is_none_is_said_to_be_none(stack: Stack) -> None:
    stack.answers["cloudformation.describe_stacks"] = {"Stacks": [{"StackStatus": "CREATE_COMPLETE"}]}
    assert "not-a-stepwell" in doctor(status=1)


def test_without_a_stack_what_the_environment_names_is_looked_at(stack: Stack) -> None:
    told = doctor(stack=False)
    assert "could not check: without --stack" in told
    assert "0 problems" in told


# ---- one thing wrong at a time ---------------------------------------------------------------------------------------


def gone(**_: Any) -> ClientError:
    return refusal("ResourceNotFoundException", "GetFunctionConfiguration", 404)


def no_output(stack: Stack) -> None:
    stack.answers["cloudformation.describe_stacks"] = {"Stacks": [stack.described("RegistrarName")]}


def no_orchestrator(stack: Stack) -> None:
    stack.answers["lambda.get_function_configuration"] = lambda *, FunctionName: (  # noqa: N803
        gone() if FunctionName == "orchestrator" else stack.configuration(FunctionName=FunctionName)
    )


def failed_worker(stack: Stack) -> None:
    def configuration(*, FunctionName: str) -> Any:  # noqa: N803
        failed = {"State": "Failed", "StateReason": "no image"} if "shop" in FunctionName else {}
        return stack.configuration(FunctionName=FunctionName) | failed

    stack.answers["lambda.get_function_configuration"] = configuration


def stopped(stack: Stack) -> None:
    stack.answers["lambda.get_function_concurrency"] = lambda *, FunctionName: (  # noqa: N803
        {"ReservedConcurrentExecutions": 0} if FunctionName == "consumer" else {}
    )


def no_source(stack: Stack) -> None:
    other = stack.mapping(EventSourceArn="arn:aws:sqs:us-east-1:1:other")
    stack.answers["lambda.list_event_source_mappings"] = {"EventSourceMappings": [other]}


def disabled_source(stack: Stack) -> None:
    stack.answers["lambda.list_event_source_mappings"] = {"EventSourceMappings": [stack.mapping(State="Disabled")]}


def whole_batches(stack: Stack) -> None:
    mapping = stack.mapping(FunctionResponseTypes=[])
    stack.answers["lambda.list_event_source_mappings"] = {"EventSourceMappings": [mapping]}


def no_rule(stack: Stack) -> None:
    stack.answers["events.list_rule_names_by_target"] = {"RuleNames": []}


def disabled_rule(stack: Stack) -> None:
    stack.answers["events.describe_rule"] = {"Name": "every-minute", "State": "DISABLED"}


def no_sweep(stack: Stack) -> None:
    stack.answers["cloudwatch.get_metric_statistics"] = stack.metrics(Throttles=10)


def failing_sweeps(stack: Stack) -> None:
    stack.answers["cloudwatch.get_metric_statistics"] = stack.metrics(Invocations=10, Errors=4)


def short_visibility(stack: Stack) -> None:
    stack.set_queue(VisibilityTimeout="90")


def no_redrive(stack: Stack) -> None:
    stack.answers["sqs.get_queue_attributes"] = {
        "Attributes": {"VisibilityTimeout": "360", "QueueArn": stack.queue_arn, "MessageRetentionPeriod": "1209600"}
    }


def foreign_dead_letters(stack: Stack) -> None:
    redrive = json.dumps({"deadLetterTargetArn": stack.queue_arn, "maxReceiveCount": RECEIVES})
    stack.set_queue(RedrivePolicy=redrive)


def short_dead_letters(stack: Stack) -> None:
    boto3.client("sqs").set_queue_attributes(QueueUrl=stack.dead, Attributes={"MessageRetentionPeriod": "345600"})


def no_index(stack: Stack) -> None:
    stack.answers["dynamodb.describe_table"] = {"Table": {"DeletionProtectionEnabled": True}}


def no_expiry(stack: Stack) -> None:
    boto3.client("dynamodb").update_time_to_live(
        TableName=stack.table, TimeToLiveSpecification={"Enabled": False, "AttributeName": "ttl"}
    )


def no_bucket(stack: Stack) -> None:
    stack.answers["s3.list_objects_v2"] = refusal("NoSuchBucket", "ListObjectsV2", 404)


def new_function(stack: Stack) -> None:
    added = {**stack.manifest["functions"][0], "id": "refund"}
    stack.manifest = {**stack.manifest, "functions": [*stack.manifest["functions"], added]}


def changed_function(stack: Stack) -> None:
    changed = {**stack.manifest["functions"][0], "retries": 99}
    stack.manifest = {**stack.manifest, "functions": [changed]}


def broken_worker(stack: Stack) -> None:
    text = json.dumps({"errorType": "ImportError", "errorMessage": "no module named stripe"})
    stack.answers["lambda.invoke"] = lambda **_: {"FunctionError": "Unhandled", "Payload": io.BytesIO(text.encode())}


def a_dead_letter(stack: Stack) -> None:
    stack.local.world.aws.backstage("sqs").send_message(QueueUrl=stack.dead, MessageBody="not json")


@pytest.mark.parametrize(
    ("plant", "check", "said"),
    [
        (no_output, "outputs", "no output RegistrarName"),
        (no_orchestrator, "lambdas", "The orchestrator (orchestrator) does not exist"),
        (failed_worker, "lambdas", "worker shop/default is failed"),
        (stopped, "lambdas", "consumer has a reserved concurrency of 0"),
        (no_source, "event source", "No event source mapping"),
        (disabled_source, "event source", "is disabled"),
        (whole_batches, "event source", "lacks ReportBatchItemFailures"),
        (no_rule, "schedule", "No rule invokes the sweeper"),
        (disabled_rule, "schedule", "every-minute is disabled"),
        (no_sweep, "sweeps", "has not run in the last 10 minutes. It was throttled 10 times"),
        (failing_sweeps, "sweeps", "4 of the last 10 sweeps failed"),
        (short_visibility, "main queue", "At least 360 s are needed"),
        (no_redrive, "main queue", "has no dead-letter queue"),
        (foreign_dead_letters, "main queue", "not to the stack's queue"),
        (short_dead_letters, "dead-letter queue", "kept for 4 days instead of 14"),
        (no_index, "table", "no index 'due'"),
        (no_expiry, "table", "Time to live is not enabled"),
        (no_bucket, "bucket", "NoSuchBucket"),
        (new_function, "registration", "not registered: refund"),
        (changed_function, "registration", "changed: process-order"),
        (broken_worker, "registration", "ImportError: no module named stripe"),
        (a_dead_letter, "dead letters", "1 dead letter"),
    ],
)
def test_a_problem_is_found_and_said(stack: Stack, plant: Callable[[Stack], None], check: str, said: str) -> None:
    plant(stack)

    assert said in the_only_problem(check)
    told = doctor(status=1)
    assert "1 problem" in told
    assert "Traceback" not in told


def test_every_problem_comes_with_advice(stack: Stack) -> None:
    for plant in (no_rule, no_sweep, short_visibility, broken_worker, a_dead_letter):
        plant(stack)
    told = json.loads(doctor("--json", status=1))["findings"]

    assert sum(each["level"] == "problem" for each in told) == 5
    assert all(each["advice"] for each in told if each["level"] != "ok")


@pytest.mark.parametrize(
    ("answers", "check", "said"),
    [
        ({"dynamodb.describe_table": None}, "table", "not protected from deletion"),
        ({"dynamodb.describe_continuous_backups": {"ContinuousBackupsDescription": {}}}, "table", "Point-in-time"),
    ],
)
def test_what_may_be_meant_is_a_warning(stack: Stack, answers: Answers, check: str, said: str) -> None:
    if answers.get("dynamodb.describe_table", ...) is None:
        boto3.client("dynamodb").update_table(TableName=stack.table, DeletionProtectionEnabled=False)
    else:
        stack.answers |= answers

    assert said in findings("warning", status=0)[check]


def test_a_callback_key_that_its_worker_cannot_read_is_a_warning(stack: Stack) -> None:
    assert "The worker of shop can read its callback key." in doctor("--all")
    stack.local._keys = None  # in Parameter Store, where nobody has put one
    cold_start(stack.local)
    said = findings("warning", status=0)["callback keys"]
    assert callback_key_name(stack.table, "shop") in said
    assert "ParameterNotFound" in said
    redeploy(stack.local, app)
    cold_start(stack.local)
    assert "callback keys" not in findings("warning", "problem", "unknown", status=0)


def test_an_index_that_is_being_made_is_a_warning(stack: Stack) -> None:
    making = {"IndexName": "due", "IndexStatus": "CREATING"}
    stack.answers["dynamodb.describe_table"] = {
        "Table": {"DeletionProtectionEnabled": True, "GlobalSecondaryIndexes": [making]}
    }
    assert "is creating" in findings("warning", status=0)["table"]


def test_too_few_deliveries_are_a_warning(stack: Stack) -> None:
    dead = boto3.client("sqs").get_queue_attributes(QueueUrl=stack.dead, AttributeNames=["QueueArn"])
    redrive = {"deadLetterTargetArn": dead["Attributes"]["QueueArn"], "maxReceiveCount": 3}
    stack.set_queue(RedrivePolicy=json.dumps(redrive))

    assert "after 3 deliveries" in findings("warning", status=0)["main queue"]


def test_an_account_without_apps_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalStepwell(Stepwell("empty"), start=datetime.now(UTC)) as local:
        deployed = Stack(local)
        local.world.aws.backstage("dynamodb").delete_item(
            TableName=deployed.table, Key={"pk": {"S": "APP"}, "sk": {"S": "APP#empty"}}
        )
        monkeypatch.setattr(command, "aws_clients", deployed.clients)
        assert "No app is registered" in findings("warning", status=0)["registration"]


# ---- runs ------------------------------------------------------------------------------------------------------------


def change_run(stack: Stack, run: str, **attributes: Any) -> None:
    stack.local.world.aws.backstage("dynamodb").update_item(
        TableName=stack.table,
        Key={"pk": {"S": f"RUN#{run}"}, "sk": {"S": "RUN"}},
        UpdateExpression="SET " + ", ".join(f"{name} = :{name}" for name in attributes),
        ExpressionAttributeValues={f":{name}": value for name, value in attributes.items()},
    )


def sleeping_run(stack: Stack) -> str:
    stack.local.send("order/created", {}, id="o-1")
    stack.local.run_until_idle()
    run = stack.local.run("o-1")
    assert run is not None
    return run.id


def due(age: timedelta) -> dict[str, str]:
    return {"S": f"{round((datetime.now(UTC) - age).timestamp() * 1000):015d}"}


def test_a_run_that_should_have_gone_on_is_found(stack: Stack) -> None:
    run = sleeping_run(stack)
    change_run(stack, run, due_sk=due(timedelta(minutes=4)))
    assert findings("problem", status=0) == {}

    change_run(stack, run, due_sk=due(timedelta(minutes=30)))
    said = the_only_problem("runs")
    assert run in said
    assert "the first 30m" in said  # and perhaps a second


def test_a_run_that_reaches_no_worker_is_found_with_the_reason(stack: Stack) -> None:
    run = sleeping_run(stack)
    change_run(stack, run, due_sk=due(-timedelta(minutes=5)), misfires={"N": "3"}, reason={"S": "no worker: throttled"})

    said = the_only_problem("runs")
    assert run in said
    assert "no worker: throttled" in said


# ---- permissions -----------------------------------------------------------------------------------------------------


def denied(**_: Any) -> ClientError:
    return refusal("AccessDeniedException", "Anything", 400)


@pytest.mark.parametrize(
    ("operation", "check"),
    [
        ("lambda.get_function_configuration", "lambdas"),
        ("lambda.get_function_concurrency", "lambdas"),
        ("lambda.list_event_source_mappings", "event source"),
        ("events.list_rule_names_by_target", "schedule"),
        ("cloudwatch.get_metric_statistics", "sweeps"),
        ("sqs.get_queue_attributes", "main queue"),
        ("dynamodb.describe_table", "table"),
        ("dynamodb.describe_time_to_live", "table"),
        ("s3.list_objects_v2", "bucket"),
        ("lambda.invoke", "registration"),
    ],
)
def test_what_may_not_be_looked_at_is_said_and_no_problem(stack: Stack, operation: str, check: str) -> None:
    stack.answers[operation] = denied

    assert "could not check: Anything is denied" in findings("unknown", status=0)[check]


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        ("sqs.send_message_batch", "may not send events: sqs:SendMessage is denied"),
        ("dynamodb.get_item", "may not look at runs: dynamodb:GetItem is denied"),
        ("dynamodb.query", "dynamodb:Query, dynamodb:Query on the index due are denied"),
        ("dynamodb.update_item", "may not cancel runs and answer callbacks"),
        ("s3.put_object", "may not send large events"),
    ],
)
def test_what_the_caller_may_not_do_is_told(stack: Stack, operation: str, said: str) -> None:
    stack.answers[operation] = denied

    assert said in findings("warning", status=0)["permissions"]


def test_trying_permissions_changes_nothing(stack: Stack) -> None:
    table = stack.local.world.aws.backstage("dynamodb")
    before = table.scan(TableName=stack.table)["Items"]
    doctor()
    stack.local.run_until_idle()

    assert table.scan(TableName=stack.table)["Items"] == before
    assert stack.local.dead_letters() == []
    assert boto3.client("s3").list_objects_v2(Bucket=stack.local.world.aws.resources.bucket)["KeyCount"] == 0
