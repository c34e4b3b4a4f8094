"""SQS to Lambda, Lambda to Lambda, and time: as AWS does it, in an order that a seed decides."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest

from stepwell.testing.invocations import Crash
from stepwell.testing.mailbox import Chaos
from stepwell.testing.world import LeakedThreads, WorldNeverIdle

from .toys import Aws, bodies, toy_world


def failing(*identifiers: str) -> dict[str, Any]:
    return {"batchItemFailures": [{"itemIdentifier": identifier} for identifier in identifiers]}


def test_messages_reach_the_consumer_in_batches_of_ten_as_real_sqs_records() -> None:
    batches: list[Any] = []
    with toy_world(lambda aws, event, context: batches.append(event)) as (world, aws):
        for n in range(12):
            aws.send({"n": n}, MessageGroupId="tenant")
        world.run_until_idle()
        assert [len(batch["Records"]) for batch in batches] in ([10, 2], [2, 10])
        record = batches[0]["Records"][0]
        assert record["eventSource"] == "aws:sqs"
        assert record["eventSourceARN"] == world.aws.resources.queue_arn
        assert record["attributes"]["ApproximateReceiveCount"] == "1"
        assert record["attributes"]["MessageGroupId"] == "tenant"
        assert int(record["attributes"]["SentTimestamp"]) == round(world.clock.now() * 1000)
        assert sorted(body["n"] for batch in batches for body in bodies(batch)) == list(range(12))


def test_message_attributes_arrive_in_lambdas_spelling() -> None:
    seen: list[Any] = []
    with toy_world(lambda aws, event, context: seen.extend(event["Records"])) as (world, aws):
        aws.send({}, MessageAttributes={"why": {"DataType": "String", "StringValue": "because"}})
        world.run_until_idle()
    assert seen[0]["messageAttributes"]["why"] == {
        "stringValue": "because",
        "stringListValues": [],
        "binaryListValues": [],
        "dataType": "String",
    }


def test_a_delayed_message_arrives_at_its_virtual_time_and_keeps_the_time_it_was_sent() -> None:
    seen: list[tuple[float, str]] = []

    def consumer(aws: Aws, event: Any, context: Any) -> None:
        seen.extend((aws.world.clock.now(), record["attributes"]["SentTimestamp"]) for record in event["Records"])

    with toy_world(consumer) as (world, aws):
        start = world.clock.now()
        aws.send({"n": 1}, DelaySeconds=60)
        world.run_until_idle()
        assert seen == []
        world.advance(59)
        assert seen == []
        world.advance(1)
        assert seen == [(start + 60, str(round(start * 1000)))]


def test_delayed_entries_of_a_batch_are_answered_like_the_others() -> None:
    seen: list[Any] = []
    with toy_world(lambda aws, event, context: seen.extend(bodies(event))) as (world, aws):
        answer = aws.send_batch({"MessageBody": "1"}, {"MessageBody": "2", "DelaySeconds": 30}, {"MessageBody": "3"})
        assert sorted(entry["Id"] for entry in answer["Successful"]) == ["0", "1", "2"]
        world.run_until_idle()
        assert sorted(seen) == [1, 3]
        world.advance(30)
        assert sorted(seen) == [1, 2, 3]


@pytest.mark.parametrize("answer", [None, {}, "", {"batchItemFailures": []}, {"batchItemFailures": None}])
def test_an_answer_without_failures_deletes_the_batch(answer: Any) -> None:
    calls: list[Any] = []
    with toy_world(lambda aws, event, context: calls.append(event) or answer) as (world, aws):
        aws.send({})
        world.advance(3600)
        assert len(calls) == 1


@pytest.mark.parametrize(
    "answer",
    [
        "what?",
        {"failures": []},
        {"batchItemFailures": "x"},
        {"batchItemFailures": [{"itemIdentifier": ""}]},
        {"batchItemFailures": [{"itemIdentifier": None}]},
        {"batchItemFailures": [{"item": "x"}]},
        {"batchItemFailures": [{"itemIdentifier": "unknown"}]},
    ],
)
def test_an_answer_lambda_cannot_understand_fails_the_whole_batch(answer: Any) -> None:
    seen: list[int] = []

    def consumer(aws: Aws, event: Any, context: Any) -> Any:
        seen.extend(bodies(event))
        return answer if len(seen) <= 2 else None

    with toy_world(consumer) as (world, aws):
        aws.send(1)
        aws.send(2)
        world.run_until_idle()
        assert sorted(seen) == [1, 2]
        world.advance(180)
        assert sorted(seen) == [1, 1, 2, 2]


def test_only_the_failed_message_of_a_batch_comes_back_after_its_visibility_time_out() -> None:
    seen: list[tuple[float, int, str]] = []

    def consumer(aws: Aws, event: Any, context: Any) -> Any:
        failed = []
        for record in event["Records"]:
            count = record["attributes"]["ApproximateReceiveCount"]
            seen.append((aws.world.clock.now() - start, json.loads(record["body"]), count))
            if record["body"] == "2" and count == "1":
                failed.append(record["messageId"])
        return failing(*failed)

    with toy_world(consumer) as (world, aws):
        start = world.clock.now()
        for n in (1, 2, 3):
            aws.send(n)
        world.run_until_idle()
        world.advance(1000)
    assert sorted(seen) == [(0, 1, "1"), (0, 2, "1"), (0, 3, "1"), (180, 2, "2")]


def test_the_consumer_decides_when_a_failed_message_comes_back() -> None:
    times: list[float] = []

    def consumer(aws: Aws, event: Any, context: Any) -> Any:
        (record,) = event["Records"]
        times.append(aws.world.clock.now() - start)
        aws.sqs.change_message_visibility(
            QueueUrl=aws.world.aws.resources.queue_url,
            ReceiptHandle=record["receiptHandle"],
            VisibilityTimeout=7 * len(times),
        )
        return failing(record["messageId"]) if len(times) < 4 else None

    with toy_world(consumer) as (world, aws):
        start = world.clock.now()
        aws.send({})
        world.advance(1000)
    assert times == [0, 7, 21, 42]


def test_what_fails_thirty_times_goes_to_the_dead_letters() -> None:
    calls: list[Any] = []

    def consumer(aws: Aws, event: Any, context: Any) -> Any:
        calls.append(event)
        raise RuntimeError("poison")

    with toy_world(consumer) as (world, aws):
        aws.send({"bad": True})
        world.advance(7200)
        assert len(calls) == 30
        dead = aws.sqs.receive_message(QueueUrl=world.aws.resources.dlq_url)["Messages"]
        assert [json.loads(message["Body"]) for message in dead] == [{"bad": True}]
        assert [str(failure) for failure in world.failures] == ["poison"] * 30


def test_a_synchronous_invocation_gives_the_answer_back() -> None:
    answers: list[Any] = []

    def consumer(aws: Aws, event: Any, context: Any) -> None:
        answer = aws.call("adder", {"a": 1, "b": 2})
        answers.append((answer["StatusCode"], json.loads(answer["Payload"].read()), "FunctionError" in answer))

    with toy_world(consumer, workers={"adder": lambda aws, event, context: event["a"] + event["b"]}) as (world, aws):
        aws.send({})
        world.run_until_idle()
        assert answers == [(200, 3, False)]
        assert world.requests.invocations == {"consumer": 1, "worker": 1}


@pytest.mark.parametrize("how", ["raises", "crashes", "unserialisable"])
def test_a_synchronous_invocation_that_fails_says_so_in_lambdas_words(how: str) -> None:
    answers: list[Any] = []

    def broken(aws: Aws, event: Any, context: Any) -> Any:
        if how == "raises":
            raise ValueError("no such thing")
        if how == "crashes":
            raise SystemExit(1)
        return object()

    def consumer(aws: Aws, event: Any, context: Any) -> None:
        answer = aws.call("broken", {})
        answers.append((answer["FunctionError"], json.loads(answer["Payload"].read())))

    with toy_world(consumer, workers={"broken": broken}) as (world, aws):
        aws.send({})
        world.run_until_idle()
    ((kind, error),) = answers
    assert kind == "Unhandled"
    expected = {"raises": "ValueError", "crashes": "Runtime.ExitError", "unserialisable": "Runtime.MarshalError"}
    assert error["errorType"] == expected[how]
    if how == "raises":
        assert error["errorMessage"] == "no such thing"
        assert any("broken" in line for line in error["stackTrace"])


def test_an_unknown_function_cannot_be_invoked() -> None:
    with toy_world() as (_, aws), pytest.raises(aws.lambda_.exceptions.ResourceNotFoundException):
        aws.start("nobody", {})


def test_an_asynchronous_event_above_a_megabyte_is_refused() -> None:
    with (
        toy_world(workers={"w": lambda *_: None}) as (_, aws),
        pytest.raises(aws.lambda_.exceptions.ClientError) as raised,
    ):
        aws.start("w", {"x": "y" * 1_100_000})
    assert raised.value.response["Error"]["Code"] == "RequestTooLargeException"


@pytest.mark.parametrize("payload", [b'{"x": NaN}', b'{"x": -Infinity}', b"not json", b"\xff"])
@pytest.mark.parametrize("kind", ["RequestResponse", "Event"])
def test_a_payload_that_is_no_json_is_refused(payload: bytes, kind: str) -> None:
    begun: list[Any] = []
    with toy_world(workers={"w": lambda aws, event, context: begun.append(event)}) as (world, aws):
        with pytest.raises(aws.lambda_.exceptions.ClientError) as raised:
            aws.lambda_.invoke(FunctionName="w", InvocationType=kind, Payload=payload)
        assert raised.value.response["Error"]["Code"] == "InvalidRequestContentException"
        world.run_until_idle()
        assert begun == []


REFUSED_BY_SQS = ["\x00", "\x0b", "\x1f", "\ufffe", "\uffff"]


def test_sqs_takes_no_text_with_certain_characters_from_whatever_client() -> None:
    seen: list[str] = []

    def consumer(aws: Aws, event: Any, context: Any) -> None:
        seen.extend(record["body"] for record in event["Records"])

    with toy_world(consumer) as (world, aws):
        url = world.aws.resources.queue_url
        for client in (aws.sqs, boto3.client("sqs")):
            for character in REFUSED_BY_SQS:
                with pytest.raises(client.exceptions.ClientError) as raised:
                    client.send_message(QueueUrl=url, MessageBody=f"a{character}b")
                assert raised.value.response["Error"]["Code"] == "InvalidMessageContents"
                attributes = {"why": {"DataType": "String", "StringValue": character}}
                with pytest.raises(client.exceptions.ClientError):
                    client.send_message(QueueUrl=url, MessageBody="ab", MessageAttributes=attributes)
            entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(["good", "bad\uffff", "fine"])]
            answer = client.send_message_batch(QueueUrl=url, Entries=entries)
            assert [(each["Id"], each["SenderFault"]) for each in answer["Failed"]] == [("1", True)]
            client.send_message(QueueUrl=url, MessageBody="\t\n\r \x7f\x85\ue000\ufffd\U0001f600\U0010ffff")
        world.run_until_idle()
        assert sorted(set(seen)) == ["\t\n\r \x7f\x85\ue000\ufffd\U0001f600\U0010ffff", "fine", "good"]


def test_a_message_has_a_mebibyte_for_its_body_and_its_attributes_together() -> None:
    with toy_world(lambda aws, event, context: None) as (world, aws):
        url, limit = world.aws.resources.queue_url, 1_048_576
        why = {"why": {"DataType": "String", "StringValue": "ü" * 10}}  # 3 + 6 + 20 bytes
        for client in (aws.sqs, boto3.client("sqs")):
            client.send_message(QueueUrl=url, MessageBody="x" * limit)
            client.send_message(QueueUrl=url, MessageBody="x" * (limit - 29), MessageAttributes=why)
            for entry in (
                {"MessageBody": "x" * (limit + 1)},
                {"MessageBody": "ü" * (limit // 2) + "x"},
                {"MessageBody": "x" * (limit - 28), "MessageAttributes": why},
            ):
                with pytest.raises(client.exceptions.ClientError, match="must be shorter than 1048576 bytes"):
                    client.send_message(QueueUrl=url, **entry)
            halves = [{"Id": str(n), "MessageBody": "ü" * (limit // 4)} for n in range(2)]
            client.send_message_batch(QueueUrl=url, Entries=halves)
            halves[0]["MessageBody"] += "x"
            with pytest.raises(client.exceptions.ClientError, match="Batch requests cannot be longer"):
                client.send_message_batch(QueueUrl=url, Entries=halves)


def test_a_dead_letter_says_of_which_queue_it_was_only_if_sqs_has_moved_it() -> None:
    def consumer(aws: Aws, event: Any, context: Any) -> Any:
        raise RuntimeError("poison")

    with toy_world(consumer) as (world, aws):
        made = world.aws.resources
        aws.send({"moved": True})
        world.advance(7200)
        aws.sqs.send_message(QueueUrl=made.dlq_url, MessageBody="{}")
        for names in (["All"], ["DeadLetterQueueSourceArn"], ["SentTimestamp"]):
            answer = aws.sqs.receive_message(
                QueueUrl=made.dlq_url, MaxNumberOfMessages=10, VisibilityTimeout=0, MessageSystemAttributeNames=names
            )
            told = {
                message["Body"]: message.get("Attributes", {}).get("DeadLetterQueueSourceArn")
                for message in answer["Messages"]
            }
            assert told == {"{}": None, '{"moved": true}': None if names == ["SentTimestamp"] else made.queue_arn}


def test_a_message_that_becomes_a_dead_letter_keeps_its_id_and_the_time_it_was_sent() -> None:
    known: set[tuple[str, str]] = set()

    def consumer(aws: Aws, event: Any, context: Any) -> Any:
        known.update((record["messageId"], record["attributes"]["SentTimestamp"]) for record in event["Records"])
        raise RuntimeError("poison")

    with toy_world(consumer) as (world, aws):
        aws.send({"n": 1})
        aws.send({"n": 2}, DelaySeconds=60)
        world.advance(7200)
        answer = aws.sqs.receive_message(
            QueueUrl=world.aws.resources.dlq_url, MaxNumberOfMessages=10, MessageSystemAttributeNames=["All"]
        )
        dead = {(message["MessageId"], message["Attributes"]["SentTimestamp"]) for message in answer["Messages"]}
        assert len(known) == 2
        assert dead == known


def test_a_failed_asynchronous_invocation_comes_back_to_the_main_queue_as_lambdas_record() -> None:
    seen: list[Any] = []

    def worker(aws: Aws, event: Any, context: Any) -> None:
        raise KeyError("oops")

    with toy_world(lambda aws, event, context: seen.extend(bodies(event)), workers={"w": worker}) as (world, aws):
        aws.start("w", {"run": "r-1", "epoch": 3})
        world.run_until_idle()
    (record,) = seen
    assert record["version"] == "1.0"
    assert record["requestPayload"] == {"run": "r-1", "epoch": 3}
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["requestContext"]["functionArn"].endswith(":function:w:$LATEST")
    assert record["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"}
    assert record["responsePayload"]["errorType"] == "KeyError"


def test_the_failure_record_names_the_request_the_worker_saw() -> None:
    requests: list[str] = []
    records: list[Any] = []

    def worker(aws: Aws, event: Any, context: Any) -> None:
        requests.append(context.aws_request_id)
        raise Crash

    with toy_world(lambda aws, event, context: records.extend(bodies(event)), workers={"w": worker}) as (world, aws):
        aws.start("w", {})
        world.run_until_idle()
    assert [record["requestContext"]["requestId"] for record in records] == requests


def test_asynchronous_invocations_overlap() -> None:
    inside: list[str] = []
    overlaps: list[int] = []

    def worker(aws: Aws, event: Any, context: Any) -> None:
        inside.append(context.aws_request_id)
        aws.put(f"RUN#{event['n']}")
        overlaps.append(len(inside))
        inside.remove(context.aws_request_id)

    with toy_world(workers={"w": worker}) as (world, aws):
        for n in range(8):
            aws.start("w", {"n": n})
        world.run_until_idle()
    assert max(overlaps) > 1


def interleaving(seed: int) -> list[str]:
    trace: list[str] = []

    def worker(aws: Aws, event: Any, context: Any) -> None:
        for n in range(3):
            aws.put(f"RUN#{event['name']}", f"STEP#{n}")
            trace.append(event["name"])

    with toy_world(workers={"w": worker}, seed=seed) as (world, aws):
        for name in "abc":
            aws.start("w", {"name": name})
        world.run_until_idle()
        assert world.turns.steals == 0
    return trace


def test_the_seed_decides_the_order_and_the_same_seed_decides_the_same() -> None:
    orders = {seed: interleaving(seed) for seed in range(4)}
    assert orders == {seed: interleaving(seed) for seed in range(4)}
    assert len({tuple(order) for order in orders.values()}) > 1


def test_an_environment_is_used_again_until_it_crashes() -> None:
    starts: list[int] = []
    crash = [False]

    def build() -> Any:
        starts.append(1)

        def handler(event: Any, context: Any) -> None:
            if crash[0]:
                raise Crash

        return handler

    with toy_world() as (world, aws):
        world.lambdas.add("w", "worker", build)
        for _ in range(3):
            aws.start("w", {})
            world.run_until_idle()
        assert len(starts) == 1
        crash[0] = True
        aws.start("w", {})
        world.run_until_idle()
        crash[0] = False
        aws.start("w", {})
        world.run_until_idle()
        assert len(starts) == 2


def test_the_sweeper_runs_at_the_minute_at_which_something_is_due_and_no_other() -> None:
    times: list[float] = []

    def sweeper(aws: Aws, event: Any, context: Any) -> None:
        times.append(aws.world.clock.now() - start)
        if len(times) == 2:
            aws.update("RUN#1", due_pk="DONE#x", due_sk="r")

    with toy_world(sweeper=sweeper, start=datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)) as (world, aws):
        start = world.clock.now()
        world.advance(3600)
        assert times == []
        start = world.clock.now()
        aws.put("RUN#1", due_pk="DUE#3", due_sk=f"{round((start + 90_000) * 1000):015d}")
        world.advance(86400 * 3)
        # due at 25:00:00 after 13:00:30, so the first full minute is 30 s later; it was still due a minute after that
        assert times == [90_030, 90_090]


def test_virtual_days_pass_in_real_milliseconds() -> None:
    with toy_world(sweeper=lambda *_: None) as (world, _):
        before = world.clock.now()
        world.advance(86400 * 3000)
        assert world.clock.now() == before + 86400 * 3000


def test_plain_boto3_in_the_block_sees_the_same_aws_and_the_environment_comes_back() -> None:
    before = dict(os.environ)
    seen: list[Any] = []
    with toy_world(lambda aws, event, context: seen.extend(bodies(event))) as (world, aws):
        boto3.client("sqs").send_message(QueueUrl=world.aws.resources.queue_url, MessageBody='{"from": "outside"}')
        boto3.client("dynamodb").put_item(
            TableName=world.aws.resources.table, Item={"pk": {"S": "RUN#1"}, "sk": {"S": "RUN"}}
        )
        world.run_until_idle()
        assert seen == [{"from": "outside"}]
        assert aws.get("RUN#1") is not None
    assert dict(os.environ) == before


def test_an_object_that_was_written_can_be_read() -> None:
    with toy_world() as (world, aws):
        bucket = world.aws.resources.bucket
        aws.s3.put_object(Bucket=bucket, Key="k", Body=b"payload")
        assert aws.s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"payload"
        assert world.requests.s3 == 2


def test_worlds_do_not_meet() -> None:
    with toy_world() as (_, first), toy_world() as (_, second):
        first.put("RUN#1", note="first")
        assert second.get("RUN#1") is None


def test_a_world_that_never_becomes_idle_says_what_keeps_it_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepwell.testing.livelock.LIVELOCK", 50)
    with toy_world(lambda aws, event, context: aws.send({"again": True}) and None) as (world, aws):
        aws.send({"again": True})
        with pytest.raises(WorldNeverIdle, match=r"70 invocations for consumer .* consumer \(71\)"):
            world.run_until_idle()


def test_a_world_that_was_given_much_to_do_is_not_taken_for_one_that_never_becomes_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stepwell.testing.livelock.LIVELOCK", 5)
    seen: list[int] = []
    with toy_world(lambda aws, event, context: seen.extend(bodies(event))) as (world, aws):
        for n in range(500):
            aws.send(n)
        world.run_until_idle()
    assert sorted(seen) == list(range(500))


def test_no_more_batches_are_handled_at_once_than_a_stack_would(monkeypatch: pytest.MonkeyPatch) -> None:
    now, most = 0, 0

    def consumer(aws: Aws, event: Any, context: Any) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        aws.world.turns.pause()
        now -= 1

    monkeypatch.setattr("stepwell.testing.world.CONSUMERS", 3)
    with toy_world(consumer) as (world, aws):
        for n in range(100):
            aws.send(n)
        world.run_until_idle()
    assert most == 3


def test_threads_that_outlive_their_handler_are_an_error() -> None:
    def worker(aws: Aws, event: Any, context: Any) -> None:
        aws.world.turns.spawn(lambda: aws.world.turns.wait_until(lambda: False), name="left-behind")

    def play() -> None:
        with toy_world(workers={"w": worker}) as (world, aws):
            aws.start("w", {})
            world.run_until_idle()

    with pytest.raises(LeakedThreads, match="left-behind"):
        play()


@pytest.mark.parametrize("seed", range(3))
def test_chaos_doubles_delays_and_reorders_but_loses_no_message(seed: int) -> None:
    seen: list[int] = []
    chaos = Chaos(duplicate=0.3, delay=0.3, reorder=True)
    with toy_world(lambda aws, event, context: seen.extend(bodies(event)), chaos=chaos, seed=seed) as (world, aws):
        for n in range(30):
            aws.send(n)
        world.advance(1000)
    assert set(seen) == set(range(30))
    assert len(seen) > 30
    assert seen != sorted(seen)


def test_an_invalid_receipt_handle_is_refused() -> None:
    with toy_world() as (world, aws), pytest.raises(aws.sqs.exceptions.ReceiptHandleIsInvalid):
        aws.sqs.change_message_visibility(
            QueueUrl=world.aws.resources.queue_url, ReceiptHandle="nonsense", VisibilityTimeout=1
        )


def test_what_an_invocation_knows_of_a_run_is_stale_once_another_has_written_it() -> None:
    trace: list[Any] = []

    def worker(aws: Aws, event: Any, context: Any) -> None:
        fresh = aws.world.fresh
        trace.append(("not seen yet", fresh("1", 0)))
        aws.get("RUN#1")
        trace.append(("read", fresh("1", 0)))
        aws.update("RUN#1", note="mine")
        trace.append(("written by me", fresh("1", 0)))
        aws.call("other", {})
        trace.append(("written by another", fresh("1", 0)))
        aws.update("RUN#1", note="blind", returning="NONE")
        trace.append(("written blindly", fresh("1", 0)))
        aws.update("RUN#1", note="seen")
        trace.append(("written and shown", fresh("1", 0)))

    other = lambda aws, event, context: aws.update("RUN#1", note="theirs") and None  # noqa: E731
    with toy_world(workers={"w": worker, "other": other}) as (world, aws):
        aws.put("RUN#1")
        aws.start("w", {})
        world.run_until_idle()
    assert trace == [
        ("not seen yet", False),
        ("read", True),
        ("written by me", True),
        ("written by another", False),
        ("written blindly", False),
        ("written and shown", True),
    ]
