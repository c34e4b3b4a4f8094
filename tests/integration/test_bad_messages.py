"""What is no event becomes a dead letter at once, with its reason, and harms none of its neighbours."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest

from stepwell import RunStatus, Stepwell
from stepwell.engine import orchestrate
from stepwell.testing import Fault, FaultKind, FaultPlan, LocalStepwell

from .support import Deploy, only_dead_letter, run_of


@pytest.fixture
def local(app: Stepwell, deploy: Deploy) -> LocalStepwell:
    app.function(on="go", id="fn")(lambda ctx: ctx.event.data)
    return deploy(app)


def put(local: LocalStepwell, *bodies: str) -> None:
    entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies)]
    boto3.client("sqs").send_message_batch(QueueUrl=local.queue_url, Entries=entries)


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        ("not json", "not-json", "not JSON"),
        ("{", "not-json", "not JSON"),
        ("[" * 100_000, "not-json", "not JSON"),
        ("[]", "invalid-event", "not a list"),
        ('"text"', "invalid-event", "not text"),
        ("null", "invalid-event", "not null"),
        ("{}", "invalid-event", "needs a name"),
        ('{"name": "go"}', "invalid-event", "data must be a JSON object"),
        ('{"name": "go", "data": [1]}', "invalid-event", "not a list"),
        ('{"name": "go", "data": {}, "id": 5}', "invalid-event", "event id"),
        ('{"name": "go", "data": {}, "ts": "soon"}', "invalid-event", "ISO 8601"),
        ('{"name": "go now", "data": {}}', "invalid-event", "white space"),
        (
            '{"name": "stepwell/run.failed", "data": {}}',
            "invalid-event",
            "events below 'stepwell/' are the engine's own",
        ),
        ('{"stepwell": "explode"}', "invalid-event", "'explode'"),
        ('{"stepwell": "look"}', "invalid-event", "not complete"),
        ('{"stepwell": ["look"]}', "invalid-event", "['look']"),
        (
            '{"stepwell": "invoke", "run": "r", "app": "shop", "function": "fn", "data": [1]}',
            "invalid-event",
            "no object",
        ),
        ('{"stepwell": "invoke", "run": "r", "app": "shop", "function": "fn"}', "invalid-event", "no object"),
        ('{"requestContext": [], "requestPayload": {"run": "x"}}', "invalid-event", "not of a worker's"),
        ('{"requestContext": {}, "requestPayload": {"other": 1}}', "invalid-event", "not of a worker's"),
    ],
)
def test_what_is_no_event_is_a_dead_letter_with_its_reason(
    local: LocalStepwell, body: str, code: str, says: str
) -> None:
    put(local, body)
    local.run_until_idle()
    letter = only_dead_letter(local)
    assert (letter.code, letter.body) == (code, body)
    assert says in letter.reason
    local.advance("1d")
    assert only_dead_letter(local).id == letter.id


@pytest.mark.parametrize(
    ("bad", "code", "says"),
    [
        ('{"name":"go","data":{"x":["\\ud800"]}}', "not-serializable", "x[0] holds half of a surrogate pair"),
        ('{"name":"go\\ud800","data":{}}', "invalid-event", "white space"),
        ('{"name":"go","id":"\\ud800","data":{}}', "invalid-event", "event id"),
        ('{"name":"go","data":{"x":NaN}}', "not-json", "NaN"),
        ('{"name":"go","data":{"x":1e999}}', "not-serializable", "x is inf"),
        ('{"name":"go","data":{"x":' + "[" * 900 + "]" * 900 + "}}", "invalid-event", "deep"),
        ('{"name":"go","data":{},"ts":1' + "0" * 400 + "}", "invalid-event", "after 9999"),
        ('{"name":"go","data":{},"ts":"9999-01-01"}', "invalid-event", "366 days ahead"),
        ('{"name":"go","data":{},"id":"evt_7' + "Z" * 25 + '"}', "invalid-event", "in the future"),
        ('{"name":"go","data":{},"id":"evt_0' + "0" * 25 + '"}', "invalid-event", "before 2020"),
        ('{"stepwell":"drain","gate":["a"]}', "invalid-event", "not complete"),
        ('{"stepwell":"fanout","event":1,"cursor":{},"sent":0}', "invalid-event", "not complete"),
        ('{"stepwell":"fanout","event":{"name":1},"cursor":{},"sent":0}', "invalid-event", "names none"),
    ],
)
def test_one_message_that_nobody_can_pass_on_is_a_dead_letter_alone(
    local: LocalStepwell, bad: str, code: str, says: str
) -> None:
    good = local.client.send([{"name": "go", "data": {"n": n}} for n in range(9)])
    put(local, bad)
    local.run_until_idle()
    assert [run_of(local, event_id).result["n"] for event_id in good] == list(range(9))
    letter = only_dead_letter(local)
    assert (letter.code, letter.body) == (code, bad)
    assert says in letter.reason
    assert local.requests.invocations["orchestrator"] == 1


@pytest.mark.parametrize(
    "body",
    [
        {"name": {"patient": "sesame"}, "data": {}},
        {"name": "go sesame", "data": {}},
        {"name": "go", "data": {}, "id": ["sesame"]},
        {"name": "go", "data": {}, "ts": "sesame"},
        {"name": "go", "data": {}, "tenant": "sesame ü"},
        {"stepwell": "sesame"},
    ],
)
def test_what_a_bad_message_says_is_in_its_letter_and_in_no_log(
    local: LocalStepwell, caplog: pytest.LogCaptureFixture, body: Any
) -> None:
    put(local, json.dumps(body, ensure_ascii=False))
    local.run_until_idle()
    assert "sesame" in only_dead_letter(local).reason
    assert "is a dead letter: invalid-event" in caplog.text
    assert "sesame" not in caplog.text


def test_a_message_that_takes_the_name_of_another_harms_nobody(local: LocalStepwell) -> None:
    put(local, *['{"stepwell":"look","run":"shop.x","id":"another","kind":"wake"}'] * 2)
    event_id = local.send("go", {})
    local.run_until_idle()
    assert run_of(local, event_id).status is RunStatus.COMPLETED
    assert local.world.failures == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("[1]", "invalid-event"),
        ("not json", "invalid-event"),
        ('{"x": NaN}', "invalid-event"),
        ('{"x": 1e999}', "not-serializable"),
        ('{"x": ' + "[" * 200 + "]" * 200 + "}", "invalid-event"),
    ],
)
def test_large_data_in_s3_that_no_event_can_have_is_a_dead_letter_at_once(
    local: LocalStepwell, text: str, code: str
) -> None:
    boto3.client("s3").put_object(Bucket=local.world.aws.resources.bucket, Key="events/x/y", Body=text.encode())
    put(local, json.dumps({"name": "go", "data_ref": "events/x/y"}))
    local.run_until_idle()
    assert only_dead_letter(local).code == code


def test_a_message_that_kills_the_orchestrator_takes_its_neighbours_along_once(
    local: LocalStepwell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orchestrate, "look_at", lambda *args, **options: local.world.crash("as it ran out of time"))
    put(local, '{"stepwell":"look","run":"shop.01KDVDNA00Q7JY7EJWQZ60DMEE"}')
    ids = local.client.send([{"name": "go", "data": {"n": n}} for n in range(9)])
    local.run_until_idle()
    assert not any(local.client.runs_of_event(event_id) for event_id in ids)
    local.advance("10s")
    assert [run_of(local, event_id).result["n"] for event_id in ids] == list(range(9))
    assert local.dead_letters() == []
    local.advance("6h")
    assert only_dead_letter(local).code == "too-many-receives"


def test_an_outage_of_five_hours_makes_no_dead_letter(local: LocalStepwell, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*args: Any) -> None:
        raise ConnectionError("the table does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(orchestrate, "_handle", down)
        ids = local.client.send([{"name": "go", "data": {"n": n}} for n in range(20)])
        local.advance("5h")
        assert not any(local.client.runs_of_event(event_id) for event_id in ids)
    local.advance("15m")
    assert [run_of(local, event_id).result["n"] for event_id in ids] == list(range(20))
    assert local.dead_letters() == []


def test_the_neighbours_of_a_bad_message_run(local: LocalStepwell) -> None:
    put(
        local,
        '{"name": "go", "data": {"n": 1}, "id": "one"}',
        "not json",
        '{"name": "", "data": {}}',
        '{"name": "go", "data": {"n": 2}, "id": "two"}',
    )
    local.run_until_idle()
    assert [run_of(local, event_id).result["n"] for event_id in ("one", "two")] == [1, 2]
    assert len(local.dead_letters()) == 2
    assert local.requests.invocations["consumer"] == 1


@pytest.mark.parametrize("kind", [FaultKind.CRASH_BEFORE, FaultKind.CRASH_AFTER, FaultKind.REFUSED])
def test_a_record_the_orchestrator_could_not_store_comes_again_and_runs_once(
    app: Stepwell, deploy: Deploy, kind: FaultKind
) -> None:
    runs: list[Any] = []
    app.function(on="go", id="fn")(lambda ctx: runs.append(ctx.event.data["n"]))
    fault = Fault(kind, operation="dynamodb.PutItem", occurrence=1, label="orchestrator")
    local = deploy(app, plan=FaultPlan([fault]))
    ids = local.client.send([{"name": "go", "data": {"n": n}} for n in range(3)])
    local.advance("10m")
    assert {run_of(local, event_id).status for event_id in ids} == {RunStatus.COMPLETED}
    assert sorted(runs) == [0, 1, 2]
    assert local.dead_letters() == []


def test_a_dead_letter_that_cannot_be_moved_is_kept_in_the_queue_and_tried_again(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go", id="fn")(lambda ctx: None)
    fault = Fault(FaultKind.REFUSED, operation="sqs.SendMessage", label="consumer")
    local = deploy(app, plan=FaultPlan([fault]))
    put(local, "not json")
    local.run_until_idle()
    assert local.dead_letters() == []
    local.advance("10m")
    assert only_dead_letter(local).code == "not-json"


def test_a_large_value_that_is_gone_from_s3_is_tried_again_and_ends_as_a_dead_letter(local: LocalStepwell) -> None:
    put(local, json.dumps({"name": "go", "data_ref": "events/never/written"}))
    local.advance("2d")
    assert only_dead_letter(local).code == "too-many-receives"
