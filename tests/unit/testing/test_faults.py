"""Each kind of fault does what it stands for, at exactly the call that was chosen."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError

from stepwell.testing.faults import Fault, FaultKind, FaultPlan
from stepwell.testing.invocations import Crash
from stepwell.testing.observations import Crashed

from .toys import Aws, Toy, bodies, toy_world


def run_worker(worker: Toy, *faults: Fault) -> tuple[list[Any], list[str], Any]:
    """Runs a worker once under a plan; what the main queue got, the calls it made, and its item in the table."""
    messages: list[Any] = []
    plan = FaultPlan(faults)
    consumer: Toy = lambda aws, event, context: messages.extend(bodies(event))  # noqa: E731
    with toy_world(consumer, workers={"w": worker}, plan=plan) as (world, aws):
        aws.start("w", {"run": "1"})
        world.run_until_idle()
        assert plan.pending == ()
        item = world.aws.read_item("RUN#1", "RUN")
        return messages, [f"{call.service}.{call.operation} x{call.attempts}" for call in world.calls], item


def three_writes(aws: Aws, event: Any, context: Any) -> None:
    for note in ("first", "second", "third"):
        aws.put("RUN#1", note=note)


@pytest.mark.parametrize(
    ("fault", "note", "calls"),
    [
        (Fault(FaultKind.CRASH_BEFORE, at=0), None, 1),
        (Fault(FaultKind.CRASH_AFTER, at=0), "first", 1),
        (Fault(FaultKind.CRASH_BEFORE, at=2), "second", 3),
        (Fault(FaultKind.CRASH_AFTER, operation="dynamodb.PutItem", occurrence=1), "second", 2),
        (Fault(FaultKind.CRASH_AFTER, operation="dynamodb.PutItem", occurrence=2, label="worker"), "third", 3),
    ],
)
def test_a_crash_ends_the_lambda_at_its_call_and_comes_back_as_a_record(
    fault: Fault, note: str | None, calls: int
) -> None:
    messages, made, item = run_worker(three_writes, fault)
    assert (item and item["note"]["S"]) == note
    assert len(made) == calls
    assert [message["responsePayload"]["errorType"] for message in messages] == ["Runtime.ExitError"]


def test_user_code_cannot_catch_its_own_death() -> None:
    survived: list[str] = []

    def worker(aws: Aws, event: Any, context: Any) -> None:
        try:
            aws.put("RUN#1")
        except Exception:
            survived.append("caught")
        survived.append("went on")

    run_worker(worker, Fault(FaultKind.CRASH_BEFORE, at=0))
    assert survived == []


def test_cleaning_up_after_a_crash_reaches_nobody() -> None:
    def worker(aws: Aws, event: Any, context: Any) -> None:
        try:
            aws.put("RUN#1", note="first")
        finally:
            aws.put("RUN#1", note="a dead process writes nothing")

    _, _, item = run_worker(worker, Fault(FaultKind.CRASH_AFTER, at=0))
    assert item["note"] == {"S": "first"}


def test_a_crash_takes_all_threads_of_the_invocation_with_it() -> None:
    trace: list[str] = []

    def worker(aws: Aws, event: Any, context: Any) -> None:
        turns = aws.world.turns

        def other() -> None:
            for n in range(100):
                aws.put("RUN#1", f"STEP#{n}")
                trace.append("other")

        turns.spawn(other, name="other")
        aws.put("RUN#1")
        turns.wait_until(lambda: False)

    messages, made, _ = run_worker(worker, Fault(FaultKind.CRASH_AFTER, at=5))
    assert len(messages) == 1
    assert len(made) == 6
    assert len(trace) < 6


def test_a_throttled_call_is_repeated_by_the_sdk() -> None:
    messages, made, item = run_worker(three_writes, Fault(FaultKind.THROTTLED, at=1))
    assert made == ["dynamodb.PutItem x1", "dynamodb.PutItem x2", "dynamodb.PutItem x1"]
    assert item["note"] == {"S": "third"}
    assert messages == []


def test_a_refused_call_reaches_the_caller_as_the_services_own_error() -> None:
    errors: list[str] = []

    def worker(aws: Aws, event: Any, context: Any) -> None:
        for act in (lambda: aws.put("RUN#1"), lambda: aws.send({}), lambda: aws.start("w", {})):
            try:
                act()
            except ClientError as error:
                errors.append(error.response["Error"]["Code"])

    _, made, item = run_worker(worker, *(Fault(FaultKind.REFUSED, at=n) for n in range(3)))
    assert errors == ["ProvisionedThroughputExceededException", "RequestThrottled", "TooManyRequestsException"]
    assert [call[-2:] for call in made] == ["x5"] * 3
    assert item is None


def test_s3_says_slow_down() -> None:
    codes: list[str] = []

    def worker(aws: Aws, event: Any, context: Any) -> None:
        try:
            aws.s3.put_object(Bucket=aws.world.aws.resources.bucket, Key="k", Body=b"x")
        except ClientError as error:
            codes.append(error.response["Error"]["Code"])

    run_worker(worker, Fault(FaultKind.REFUSED, at=0))
    assert codes == ["SlowDown"]


def test_a_lost_answer_makes_the_sdk_meet_its_own_earlier_write() -> None:
    met: list[Any] = []

    def worker(aws: Aws, event: Any, context: Any) -> None:
        try:
            aws.put("RUN#1", condition="attribute_not_exists(pk)", note="mine")
        except ClientError as error:
            met.append((error.response["Error"]["Code"], error.response["Item"]["note"]))

    _, made, item = run_worker(worker, Fault(FaultKind.LOST, at=0))
    assert met == [("ConditionalCheckFailedException", {"S": "mine"})]
    assert made == ["dynamodb.PutItem x2"]
    assert item["note"] == {"S": "mine"}


def test_an_unknown_outcome_is_a_time_out_of_a_write_that_happened() -> None:
    errors: list[str] = []

    def worker(aws: Aws, event: Any, context: Any) -> None:
        try:
            aws.put("RUN#1", note="mine")
        except BotoCoreError as error:
            errors.append(type(error).__name__)

    _, _, item = run_worker(worker, Fault(FaultKind.UNKNOWN, at=0))
    assert errors == [ConnectTimeoutError.__name__]
    assert item["note"] == {"S": "mine"}


def test_a_lost_answer_of_an_invocation_does_not_undo_it() -> None:
    invoked: list[Any] = []

    def consumer(aws: Aws, event: Any, context: Any) -> None:
        aws.call("w", {"body": bodies(event)})

    plan = FaultPlan([Fault(FaultKind.LOST, operation="lambda.Invoke")])
    with toy_world(consumer, workers={"w": lambda aws, event, context: invoked.append(event)}, plan=plan) as (
        world,
        aws,
    ):
        aws.send(1)
        world.run_until_idle()
    assert invoked == [{"body": [1]}, {"body": [1]}]


def test_part_of_a_batch_of_messages_is_refused_by_name() -> None:
    answers: list[Any] = []

    def worker(aws: Aws, event: Any, context: Any) -> None:
        answers.append(aws.send_batch(*({"MessageBody": str(n)} for n in range(3))))

    messages, _, _ = run_worker(worker, Fault(FaultKind.PARTIAL, operation="sqs.SendMessageBatch"))
    assert sorted(messages) == [0, 1]
    assert [failure["Id"] for failure in answers[0]["Failed"]] == ["2"]
    assert [success["Id"] for success in answers[0]["Successful"]] == ["0", "1"]


def test_part_of_a_batch_read_is_left_over() -> None:
    answers: list[Any] = []

    def worker(aws: Aws, event: Any, context: Any) -> None:
        table = aws.world.aws.resources.table
        keys = [{"pk": {"S": f"RUN#{n}"}, "sk": {"S": "RUN"}} for n in (1, 2)]
        for key in keys:
            aws.put(key["pk"]["S"])
        rest = {table: {"Keys": keys, "ConsistentRead": True}}
        while rest:
            answer = aws.dynamodb.batch_get_item(RequestItems=rest)
            rest = answer["UnprocessedKeys"]
            answers.append((len(answer["Responses"].get(table, [])), len(rest.get(table, {}).get("Keys", []))))

    run_worker(worker, Fault(FaultKind.PARTIAL, operation="dynamodb.BatchGetItem"))
    assert answers == [(1, 1), (1, 0)]


def test_a_batch_of_one_is_refused_whole() -> None:
    answers: list[Any] = []

    def worker(aws: Aws, event: Any, context: Any) -> None:
        answers.append(aws.send_batch({"MessageBody": "1"}))

    messages, _, _ = run_worker(worker, Fault(FaultKind.PARTIAL, at=0))
    assert messages == []
    assert [failure["Id"] for failure in answers[0]["Failed"]] == ["0"]


def test_only_calls_of_lambdas_are_numbered_and_faulted() -> None:
    plan = FaultPlan([Fault(FaultKind.REFUSED, at=0)])
    with toy_world(plan=plan) as (world, aws):
        aws.put("RUN#1")
        assert world.calls == []
        assert len(plan.pending) == 1


def test_a_call_of_the_users_own_client_is_a_place_to_crash_at() -> None:
    trace: list[str] = []

    def worker(aws: Aws, event: Any, context: Any) -> None:
        client = boto3.client("dynamodb")
        for name in ("a", "b"):
            client.put_item(TableName=aws.world.aws.resources.table, Item={"pk": {"S": name}, "sk": {"S": "x"}})
            trace.append(name)

    plan = FaultPlan([Fault(FaultKind.CRASH_BEFORE, at=1)])
    with toy_world(workers={"w": worker}, plan=plan) as (world, aws):
        aws.start("w", {})
        world.run_until_idle()
        assert trace == ["a"]
        ((_, call),) = plan.fired
        assert "dynamodb.PutItem (your own client)" in str(call)
        (crash,) = world.observations.of(Crashed)
        assert "before call 1" in crash.why


def test_every_world_has_the_sdks_full_allowance_of_retries() -> None:
    def worker(aws: Aws, event: Any, context: Any) -> None:
        with pytest.raises(ClientError):
            aws.put("RUN#1")

    for _ in range(40):  # each refused call takes 20 of the 500 that a client has
        _, made, _ = run_worker(worker, Fault(FaultKind.REFUSED, at=0))
        assert made == ["dynamodb.PutItem x5"]


def test_a_fault_says_where_it_is() -> None:
    assert str(Fault(FaultKind.LOST, at=3)) == "answer lost at call 3"
    assert str(Fault(FaultKind.CRASH_AFTER, operation="sqs.SendMessage", label="worker")) == (
        "crash after at sqs.SendMessage [0] of the worker"
    )
    with pytest.raises(ValueError, match="needs either"):
        Fault(FaultKind.LOST)
    assert not issubclass(Crash, Exception)
    assert json.dumps(FaultKind.LOST) == '"answer lost"'
