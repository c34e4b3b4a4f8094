"""EventBridge, S3 and SNS at the main queue: their messages start runs, once, whatever is delivered how often."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest
from pydantic import BaseModel

from stepwell import Context, Run, RunStatus, Stepwell, Trigger
from stepwell.sources import EventBridgeEvent, S3ObjectCreated, SnsMessage, eventbridge_name
from stepwell.testing import Fault, FaultKind, FaultPlan, LocalStepwell
from tests.unit.test_native import EC2, PUT, S3_TEST, SNS, over_sns, record

from .support import Deploy, only_dead_letter, run_of


class Detail(BaseModel):
    state: str


class Changed(EventBridgeEvent, name=eventbridge_name("aws.ec2", "EC2 Instance State-change Notification")):
    detail: Detail


class Told(SnsMessage, name="aws/sns/ExampleTopic1"):
    message: str


def put(local: LocalStepwell, *bodies: Any) -> None:
    """As the service puts it there: past any client of Stepwell."""
    entries = [{"Id": str(n), "MessageBody": json.dumps(body)} for n, body in enumerate(bodies)]
    boto3.client("sqs").send_message_batch(QueueUrl=local.queue_url, Entries=entries)


def completed(local: LocalStepwell) -> list[Run]:
    return list(local.client.runs(status="completed"))


@pytest.fixture
def app(app: Stepwell) -> Stepwell:
    @app.function(on=S3ObjectCreated)
    def index(ctx: Context[S3ObjectCreated]) -> str:
        data = ctx.event.data
        return ctx.step.run("index", lambda: f"{data.bucket}/{data.key}: {data.size}")

    @app.function(on=Changed)
    def changed(ctx: Context[Changed]) -> list[str]:
        return [ctx.event.data.detail.state, *ctx.event.data.resources]

    @app.function(on=Told)
    def told(ctx: Context[Told]) -> str:
        return f"{ctx.event.data.subject}: {ctx.event.data.message}"

    @app.function(on="order/created")
    def order(ctx: Context[dict[str, Any]]) -> Any:
        return ctx.event.data

    return app


def test_an_upload_starts_a_run_with_typed_data_at_its_time(app: Stepwell, deploy: Deploy) -> None:
    local = deploy(app)
    put(local, PUT)
    local.run_until_idle()
    (run,) = completed(local)
    assert (run.function, run.result) == ("index", "mybucket/HappyFace.jpg: 1024")
    assert run.event is not None
    assert run.event.ts.isoformat() == "1970-01-01T00:00:00+00:00"


def test_an_event_of_a_rule_starts_a_run_and_its_id_finds_it(app: Stepwell, deploy: Deploy) -> None:
    local = deploy(app)
    put(local, EC2)
    local.run_until_idle()
    assert run_of(local, EC2["id"]).result == ["terminated", *EC2["resources"]]


def test_a_notification_of_a_topic_starts_a_run(app: Stepwell, deploy: Deploy) -> None:
    local = deploy(app)
    put(local, SNS)
    local.run_until_idle()
    assert run_of(local, SNS["MessageId"]).result == "TestSubject: This is a test message."


def test_an_event_sent_to_a_topic_is_that_event(app: Stepwell, deploy: Deploy) -> None:
    local = deploy(app)
    put(local, over_sns({"name": "order/created", "data": {"n": 1}, "id": "o-1"}))
    local.run_until_idle()
    assert run_of(local, "o-1").result == {"n": 1}


@pytest.mark.parametrize("body", [PUT, EC2, SNS, over_sns(PUT), over_sns({"name": "order/created", "data": {}})])
def test_what_is_delivered_three_times_runs_once(app: Stepwell, deploy: Deploy, body: dict[str, Any]) -> None:
    local = deploy(app)
    put(local, body, body)
    local.run_until_idle()
    local.advance("1d")
    put(local, body)
    local.run_until_idle()
    assert len(completed(local)) == 1
    assert local.dead_letters() == []


def test_one_object_told_of_directly_and_over_a_topic_runs_once(app: Stepwell, deploy: Deploy) -> None:
    local = deploy(app)
    put(local, PUT, over_sns(PUT))
    local.run_until_idle()
    assert len(completed(local)) == 1


def test_each_record_of_a_notification_is_a_run_of_its_own(app: Stepwell, deploy: Deploy) -> None:
    local = deploy(app)
    put(local, {"Records": [record(key=f"{n}.jpg") for n in range(12)]})
    local.run_until_idle()
    assert sorted(run.result for run in completed(local)) == sorted(f"mybucket/{n}.jpg: 1024" for n in range(12))


@pytest.mark.parametrize("bad", [{"eventSource": "aws:s3", "s3": {}, "note": "\ud800"}, record(key=""), None])
@pytest.mark.parametrize("kind", [None, FaultKind.REFUSED, FaultKind.CRASH_BEFORE])
def test_a_record_that_cannot_be_read_is_a_dead_letter_alone_and_once(
    app: Stepwell, deploy: Deploy, bad: Any, kind: FaultKind | None
) -> None:
    fault = kind and Fault(kind, operation="dynamodb.TransactWriteItems", label="orchestrator")
    local = deploy(app, plan=FaultPlan([fault] if fault else []))
    put(local, {"Records": [record(key="a.jpg"), bad, record(key="b.jpg")]})
    local.advance("1d")
    assert sorted(run.result for run in completed(local)) == ["mybucket/a.jpg: 1024", "mybucket/b.jpg: 1024"]
    letter = only_dead_letter(local)
    assert (letter.code, json.loads(letter.body)) == ("invalid-event", {"Records": [bad]})
    local.client.redrive()
    local.run_until_idle()
    assert json.loads(only_dead_letter(local).body) == {"Records": [bad]}
    assert len(completed(local)) == 2


def test_the_test_message_of_s3_is_swallowed_and_leaves_nothing(app: Stepwell, deploy: Deploy) -> None:
    local = deploy(app)
    put(local, S3_TEST, PUT)
    local.run_until_idle()
    local.advance("1d")
    assert len(list(local.client.events())) == 1
    assert local.dead_letters() == []


def test_a_condition_chooses_the_bucket(deploy: Deploy) -> None:
    app = Stepwell("chooser")
    where = "event.data.bucket == 'uploads' && event.data.key.endsWith('.csv')"
    app.function(on=Trigger("aws/s3/*", where=where), id="fn")(lambda ctx: ctx.event.data["key"])
    local = deploy(app)
    wanted = record(key="a.csv")
    wanted["s3"]["bucket"]["name"] = "uploads"
    put(local, {"Records": [record(key="a.csv"), wanted]})
    local.run_until_idle()
    assert [run.result for run in completed(local)] == ["a.csv"]


def test_a_wait_ends_with_the_upload_it_waits_for(deploy: Deploy) -> None:
    app = Stepwell("waiter")

    @app.function(on="go")
    def fn(ctx: Context[Any]) -> Any:
        match = {"data.bucket": "mybucket", "data.key": "HappyFace.jpg"}
        upload = ctx.step.wait_for_event("upload", event=S3ObjectCreated, match=match, timeout="1h")
        return upload and upload.data.size

    local = deploy(app)
    event_id = local.send("go")
    local.run_until_idle()
    put(local, PUT)
    local.run_until_idle()
    assert run_of(local, event_id).result == 1024


class TestSeveralInOneMessage:
    """Some of the records of one notification fail; the others must not suffer, and none may be lost."""

    TWO = {"Records": [record(key="a"), record(key="b")]}  # noqa: RUF012

    @pytest.mark.parametrize("kind", [FaultKind.CRASH_BEFORE, FaultKind.CRASH_AFTER, FaultKind.REFUSED])
    @pytest.mark.parametrize("at", [0, 1, 2, 3])
    def test_a_record_that_could_not_be_stored_comes_again_with_its_message_and_runs_once(
        self, app: Stepwell, deploy: Deploy, kind: FaultKind, at: int
    ) -> None:
        fault = Fault(kind, operation="dynamodb.PutItem", occurrence=at, label="orchestrator")
        local = deploy(app, plan=FaultPlan([fault]))
        put(local, self.TWO)
        local.advance("10m")
        assert sorted(run.result for run in completed(local)) == ["mybucket/a: 1024", "mybucket/b: 1024"]
        assert local.dead_letters() == []

    def test_a_record_that_can_never_be_handled_is_a_dead_letter_by_itself(self, app: Stepwell, deploy: Deploy) -> None:
        local = deploy(app)
        put(local, {"Records": [record(key="b")]})
        local.run_until_idle()
        put(local, {"Records": [record(key="a"), record(key="b", size=7)]})  # the same write, said to be another
        local.run_until_idle()
        assert sorted(run.result for run in completed(local)) == ["mybucket/a: 1024", "mybucket/b: 1024"]
        letter = only_dead_letter(local)
        assert (letter.code, json.loads(letter.body)["data"]["size"]) == ("duplicate-event", 7)

        local.client.redrive(letter.id)  # it is an event by itself, and can be sent back as one
        local.run_until_idle()
        assert only_dead_letter(local).code == "duplicate-event"


@pytest.mark.parametrize(
    "body",
    [
        {**EC2, "source": 7},
        {**SNS, "Type": "SubscriptionConfirmation"},
        {"Records": [{"eventSource": "aws:s3", "s3": {}}]},
        {"Records": []},
        {**EC2, "source": "x" * 300},
        over_sns({"name": "a b", "data": {}}),
        over_sns({"name": "a", "data": {}, "id": 5}),
    ],
)
def test_a_message_of_theirs_that_cannot_be_read_is_a_dead_letter_and_harms_no_neighbour(
    app: Stepwell, deploy: Deploy, body: dict[str, Any]
) -> None:
    local = deploy(app)
    put(local, PUT, body, EC2)
    local.run_until_idle()
    assert only_dead_letter(local).code == "invalid-event"
    assert {run.status for run in completed(local)} == {RunStatus.COMPLETED}
    assert len(completed(local)) == 2
