"""The whole way, as a user goes it: bootstrap, deploy, send events, break things, upgrade, destroy.

IAM is enforced all along, so every flow here also proves that the roles allow what their code does.
The tests stand in the order of a deployment's life and share its account; each leaves nothing running.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from stepwell import RunStatus
from stepwell.cli.root import cli

from .conftest import CONTEXT, Cloud, eventually

pytestmark = pytest.mark.slow

PROBE = Path(__file__).with_name("probe")
PROBE_APP = f"{sys.executable} {Path(__file__).with_name('probe_stack.py')}"
ORDER = {"order_id": "o-1", "amount": 4200, "email": "a@example.com", "card": "4242"}


def deploy_probe(cloud: Cloud, code: Path, *options: str) -> None:
    cloud.outputs |= cloud.cdk.deploy("probe", *options, app=PROBE_APP, context={**CONTEXT, "code": str(code)})


def changed_probe(cloud: Cloud, name: str, old: str, new: str) -> Path:
    """A copy of the probe's code with one change."""
    copy = cloud.work / name
    shutil.copytree(PROBE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    source = (copy / "probe.py").read_text(encoding="utf-8")
    assert old in source
    (copy / "probe.py").write_text(source.replace(old, new), encoding="utf-8")
    return copy


# ---- the root app ----------------------------------------------------------------------------------------------------


def test_one_command_deploys_everything_into_an_empty_account(cloud: Cloud) -> None:
    outputs = cloud.outputs["stepwell"]
    assert {"QueueUrl", "DeadLetterQueueUrl", "TableName", "BucketName", "OrchestratorName"} <= set(outputs)
    workers = {name for name in outputs if "WorkerName" in name}
    assert len(workers) == 3  # one for each example app


def test_a_plain_message_on_the_main_queue_becomes_a_run(cloud: Cloud) -> None:
    message = {"name": "order/created", "id": "plain-1", "data": ORDER}
    queue = cloud.outputs["stepwell"]["QueueUrl"]
    cloud.sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(message))

    def charged() -> bool:
        runs = cloud.client.runs_of_event("plain-1")
        return bool(runs) and "charge_card" in runs[0].steps and runs[0].status is RunStatus.SUSPENDED

    eventually(charged, "the order is charged and waits for its shipping")
    (run,) = cloud.client.runs_of_event("plain-1")
    assert run.steps["charge_card"].status == "completed"
    assert cloud.client.cancel(run.id)


@pytest.fixture(scope="module")
def probe(cloud: Cloud) -> Cloud:
    """The account with the probe deployed as well."""
    deploy_probe(cloud, PROBE)
    return cloud


# ---- an app of one's own in a second stack, on the platform that is there --------------------------------------------


def test_events_sent_by_a_client_run(probe: Cloud) -> None:
    events = probe.client.send([{"name": "probe/hello", "data": {"name": name}} for name in ("Ada", "Grace")])
    assert [probe.ended(event, "greet").result for event in events] == ["hello, Ada", "hello, Grace"]


def test_events_sent_by_the_command_run(probe: Cloud) -> None:
    command = [sys.executable, "-m", "stepwell.cli", "send", "probe/hello", '{"name": "Edsger"}', "--json"]
    sent = subprocess.run([*command, "--stack", "stepwell"], capture_output=True, text=True, check=False)
    assert sent.returncode == 0, sent.stderr
    assert probe.ended(json.loads(sent.stdout)["id"], "greet").result == "hello, Edsger"


def knock(cloud: Cloud, path: str, body: Any, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """POST at the webhook door. The emulator has Function URLs but does not serve them, so as one would call the Lambda."""
    event = {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"content-type": "application/json", **(headers or {})},
        "requestContext": {"http": {"method": "POST", "path": path}},
        "body": json.dumps(body),
        "isBase64Encoded": False,
    }
    door = cloud.session.client("lambda")
    told = door.invoke(FunctionName=cloud.outputs["stepwell"]["ApiName"], Payload=json.dumps(event))
    answer = json.loads(told["Payload"].read())
    assert "statusCode" in answer, answer
    return answer["statusCode"], json.loads(answer["body"])


def test_events_come_in_by_key_and_not_without(probe: Cloud) -> None:
    made = CliRunner().invoke(cli, ["keys", "create", "site", "--events", "probe/*", "--stack", "stepwell", "--json"])
    key = json.loads(made.stdout)
    assert key["url"] == f"{probe.outputs['stepwell']['ApiUrl']}e/{key['key']}"
    event = {"name": "probe/hello", "data": {"name": "Hedy"}, "id": "by-http"}
    assert knock(probe, f"/e/{key['key']}", event) == (202, {"ids": ["by-http"]})
    assert probe.ended("by-http", "greet").result == "hello, Hedy"

    assert knock(probe, "/e/swk_made-up", event)[0] == 401
    assert knock(probe, "/w/nobody", event)[0] == 401
    large = {"name": "probe/hello", "data": {"name": "x" * 300_000}, "id": "large-by-http"}
    assert knock(probe, f"/e/{key['key']}", large)[0] == 202
    assert len(probe.ended("large-by-http", "greet").result) > 300_000


def asked(cloud: Cloud, name: str) -> tuple[str, str]:
    """A run that waits for an answer: its event, and the path at the door where the answer goes."""
    letter = cloud.work / name
    event = cloud.client.send("probe/ask", {"letter": str(letter)})
    url = eventually(lambda: letter.exists() and letter.read_text(), "the callback is handed out")
    base = cloud.outputs["stepwell"]["ApiUrl"]
    assert url.startswith(f"{base}c/")
    return event, "/" + url.removeprefix(base)


def callback_keys(cloud: Cloud) -> dict[str, str]:
    """The callback keys in Parameter Store, by app."""
    ssm, path = cloud.session.client("ssm"), f"/stepwell/{cloud.outputs['stepwell']['TableName']}/"
    found = ssm.get_parameters_by_path(Path=path, Recursive=True, WithDecryption=True)["Parameters"]
    assert {each["Type"] for each in found} <= {"SecureString"}
    return {each["Name"].removeprefix(path).removesuffix("/callback-key"): each["Value"] for each in found}


def test_each_app_has_a_callback_key_of_its_own(probe: Cloud) -> None:
    keys = callback_keys(probe)
    assert set(keys) == {"shop", "pricing", "debate", "probe"}
    assert len(set(keys.values())) == 4


def test_the_answer_to_a_callback_comes_in_by_its_url(probe: Cloud) -> None:
    event, path = asked(probe, "letter")
    answer = {"approved": True, "text": "x" * 100_000}  # too large for an item
    assert knock(probe, path, answer) == (200, {"status": "completed"})
    assert probe.ended(event, "ask").result == answer
    assert knock(probe, path, {"approved": False})[0] == 410


def test_a_rule_and_a_topic_start_functions(probe: Cloud) -> None:
    entry = {"Source": "probe", "DetailType": "Something Happened", "Detail": json.dumps({"what": "an event"})}
    (put,) = probe.session.client("events").put_events(Entries=[entry])["Entries"]
    assert probe.ended(put["EventId"], "overhear").result == "an event"

    topic = probe.outputs["probe"]["TopicArn"]
    told = probe.session.client("sns").publish(TopicArn=topic, Message="a notification")
    assert probe.ended(told["MessageId"], "overhear").result == "a notification"


def test_a_sleep_of_two_seconds_ends_by_itself(probe: Cloud) -> None:
    run = probe.ended(probe.client.send("probe/nap", {}), "nap")
    assert run.result == "rested"
    assert run.started_at is not None
    assert run.ended_at is not None
    assert 2 <= (run.ended_at - run.started_at).total_seconds() < 30


def test_runs_take_turns_and_events_are_batched(probe: Cloud) -> None:
    """Slots, lines and batches are transactions; here IAM has its say about each of their writes."""
    turns = probe.client.send([{"name": "probe/turn", "data": {}} for _ in range(4)])
    items = probe.client.send([{"name": "probe/item", "data": {"n": n}} for n in range(3)])
    assert [probe.ended(event, "take-turns").result for event in turns] == [2] * 4
    assert sorted(probe.ended(items[0], "collect").result) == [0, 1, 2]
    assert len({probe.ended(event, "collect").id for event in items}) == 1


def test_a_run_goes_on_where_its_worker_died(probe: Cloud) -> None:
    marker = probe.work / "died"
    run = probe.ended(probe.client.send("probe/crash", {"marker": str(marker)}), "crash")
    assert marker.exists()  # so the worker did die
    process, survived = run.result
    assert survived == "survived"
    assert run.steps["first"].attempts == 1  # what was recorded before the crash did not run again
    assert process


def test_a_workers_role_refuses_what_its_code_never_does(probe: Cloud) -> None:
    other = probe.outputs["stepwell"]["OrchestratorName"]
    run = probe.ended(probe.client.send("probe/trespass", {"other": other}), "trespasser")
    assert run.status is RunStatus.COMPLETED, run.error
    refusals = {name: "Denied" in code or code == "403" for name, code in run.result.items()}
    assert refusals == dict.fromkeys(refusals, True), run.result


def test_the_doctor_finds_nothing_but_what_the_emulator_leaves_out(probe: Cloud) -> None:
    """It applies no time to live from a template, and keeps no metrics of scheduled invocations."""
    told: dict[str, Any] = json.loads(CliRunner().invoke(cli, ["doctor", "--stack", "stepwell", "--json"]).stdout)
    found = {each["check"] for each in told["findings"] if each["level"] in ("problem", "unknown")}
    assert found == {"table", "sweeps"}, told
    registered = [each for each in told["findings"] if each["check"] == "registration"]
    assert [each["level"] for each in registered] == ["ok"] * 4  # three examples, and the probe in its own stack
    keys = [each for each in told["findings"] if each["check"] == "callback keys"]
    assert [each["level"] for each in keys] == ["ok"] * 4  # each worker has read its own, by its role


def test_a_message_nobody_can_handle_lies_in_the_dead_letters_with_its_reason(probe: Cloud) -> None:
    probe.sqs.send_message(QueueUrl=probe.outputs["stepwell"]["QueueUrl"], MessageBody="not json at all")
    (letter,) = eventually(lambda: list(probe.client.dead_letters()), "the message is a dead letter")
    assert (letter.body, letter.code) == ("not json at all", "not-json")

    # Sent back to the main queue it is tried again, and ends here again: nothing is lost and nothing goes round.
    assert probe.client.redrive(letter.id) == 1
    (again,) = eventually(lambda: list(probe.client.dead_letters()), "it is a dead letter again")
    assert again.body == "not json at all"
    assert again.id != letter.id


def test_a_redriven_event_runs(probe: Cloud) -> None:
    """As after a long outage: the event failed thirty times, lies in the dead letters, and is sent back."""
    lost = {"name": "probe/hello", "id": "lost-1", "data": {"name": "Lazarus"}}
    probe.sqs.send_message(QueueUrl=probe.outputs["stepwell"]["DeadLetterQueueUrl"], MessageBody=json.dumps(lost))
    probe.client.redrive()
    assert probe.ended("lost-1", "greet").result == "hello, Lazarus"


def test_new_code_does_not_disturb_a_run_that_is_under_way(probe: Cloud) -> None:
    event = probe.client.send("probe/upgrade", {})

    def waiting() -> bool:
        runs = probe.client.runs_of_event(event)
        return bool(runs) and runs[0].status is RunStatus.SUSPENDED

    eventually(waiting, "the run waits")
    keys, (question, path) = callback_keys(probe), asked(probe, "letter before the upgrade")
    deploy_probe(probe, changed_probe(probe, "two", 'VERSION = "one"', 'VERSION = "two"'), "--exclusively")
    probe.client.send("probe/go", {})
    assert probe.ended(event, "upgrade").result == ["one", "two"]
    assert callback_keys(probe) == keys
    assert knock(probe, path, {"still": "open"})[0] == 200
    assert probe.ended(question, "ask").result == {"still": "open"}


def test_code_that_cannot_be_imported_fails_the_deployment_with_its_traceback(probe: Cloud) -> None:
    broken = changed_probe(probe, "broken", "import boto3\n", "import boto3\nimport a_module_that_is_not_there\n")
    context = {**CONTEXT, "code": str(broken)}
    options = ["--exclusively", "--require-approval", "never"]
    done = probe.cdk.run("deploy", "probe", *options, app=PROBE_APP, context=context)
    assert done.code != 0
    assert "a_module_that_is_not_there" in done.output
    assert "probe.py" in done.output

    event = probe.client.send("probe/hello", {"name": "still"})
    assert probe.ended(event, "greet").result == "hello, still"  # the version before was put back


# ---- the end of a deployment -----------------------------------------------------------------------------------------


def test_an_app_that_is_destroyed_is_forgotten_and_its_runs_stay(probe: Cloud) -> None:
    event = probe.client.send("probe/hello", {"name": "last"})
    run = probe.ended(event, "greet")
    done = probe.cdk.run("destroy", "probe", "--force", app=PROBE_APP, context={**CONTEXT, "code": str(PROBE)})
    assert done.code == 0, done.output
    unheard = probe.client.send("probe/hello", {"name": "nobody"})
    eventually(lambda: [e for e in probe.client.events() if e.id == unheard], "the event is recorded")
    assert probe.client.runs_of_event(unheard) == []
    assert probe.client.run(run.id).result == "hello, last"
    assert "probe" in callback_keys(probe)  # it may come back, and find its runs waiting


def test_destroying_the_platform_leaves_only_what_is_retained(probe: Cloud) -> None:
    done = probe.cdk.run("destroy", "stepwell", "--force", context=CONTEXT)
    assert done.code == 0, done.output
    session = probe.session
    outputs = probe.outputs["stepwell"]
    assert session.client("lambda").list_functions()["Functions"] == []
    assert session.client("lambda").list_event_source_mappings()["EventSourceMappings"] == []
    assert session.client("events").list_rules()["Rules"] == []
    assert session.client("logs").describe_log_groups()["logGroups"] == []
    assert session.client("cloudwatch").describe_alarms()["MetricAlarms"] == []
    roles = [role["RoleName"] for role in session.client("iam").list_roles()["Roles"]]
    assert [name for name in roles if name.startswith(("stepwell-", "probe-"))] == []

    assert outputs["TableName"] in session.client("dynamodb").list_tables()["TableNames"]
    assert outputs["BucketName"] in [bucket["Name"] for bucket in session.client("s3").list_buckets()["Buckets"]]
    kept = set(session.client("sqs").list_queues()["QueueUrls"])
    assert kept == {outputs["QueueUrl"], outputs["DeadLetterQueueUrl"]}
    assert set(callback_keys(probe)) == {"shop", "pricing", "debate", "probe"}
