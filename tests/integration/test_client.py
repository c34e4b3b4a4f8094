"""The client: sending, waiting, cancelling, replaying."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from stepwell import Client, Context, Cron, EventModel, RunCancelled, RunFailed, RunStatus, Stepwell, StepwellError
from stepwell.errors import InvalidEvent, InvalidOption, UnknownFunction, UnknownRun

from .support import Deploy, play, run_of


class Paid(EventModel, name="order/paid"):
    order_id: str


@pytest.fixture
def shop(app: Stepwell) -> Stepwell:
    """An app whose function does what its event says."""

    @app.function(on=["go", Paid], id="fn", retries=0)
    def fn(ctx: Context[Any]) -> Any:
        data = ctx.event.data if isinstance(ctx.event.data, dict) else ctx.event.data.model_dump()
        done = ctx.step.run("work", lambda: runs.append(ctx.run_id) or len(runs))
        if data.get("sleep"):
            ctx.step.sleep("rest", data["sleep"])
            ctx.step.run("after", lambda: runs.append("after"))
        if data.get("fail"):
            raise ValueError(data["fail"])
        return {"done": done, "data": data}

    runs: list[str] = []
    return app


# ---- sending


def test_a_list_of_events_is_sent_in_few_requests_and_gives_the_ids_in_order(shop: Stepwell, deploy: Deploy) -> None:
    local = deploy(shop)
    events: list[Any] = [{"name": "go", "data": {"n": n}} for n in range(11)]
    events += [Paid(order_id="o-1"), {"name": "go", "id": "mine", "tenant": "acme", "data": {}}]
    ids = local.client.send(events)
    assert local.requests.calls["sqs.SendMessageBatch"] == 2
    local.run_until_idle()
    assert [run_of(local, event_id).result["data"].get("n") for event_id in ids[:11]] == list(range(11))
    assert run_of(local, ids[11]).event.name == "order/paid"
    assert ids[12] == "mine"
    assert run_of(local, "mine").event.tenant == "acme"
    assert local.client.send([]) == []


@pytest.mark.parametrize(
    ("event", "data", "options", "word"),
    [
        ("", None, {}, "name"),
        ("has space", None, {}, "white space"),
        ("star/*", None, {}, r"\*"),
        ("stepwell/run.failed", {"run_id": "x"}, {}, "A client cannot send 'stepwell/run.failed'.*engine's own"),
        ("go", [1], {}, "object"),
        ("go", None, {"id": ""}, "id"),
        ("go", None, {"id": "x" * 300}, "256"),
        ("go", None, {"tenant": "with space"}, "tenant"),
        ("go", None, {"ts": "tomorrow"}, "ISO 8601"),
        (7, None, {}, "name"),
        (Paid(order_id="1"), {"n": 1}, {}, "already carries"),
    ],
)
def test_what_can_never_be_accepted_is_refused_at_once(
    shop: Stepwell, deploy: Deploy, event: Any, data: Any, options: dict[str, Any], word: str
) -> None:
    local = deploy(shop)
    with pytest.raises(StepwellError, match=word):
        local.client.send(event, data, **options)
    assert local.requests.sqs == 0


def test_a_tuple_or_generator_is_a_list_of_events_and_a_dict_is_one_event(shop: Stepwell, deploy: Deploy) -> None:
    local = deploy(shop)
    events: list[dict[str, Any]] = [{"name": "go", "id": f"e-{n}"} for n in range(2)]
    assert local.client.send(tuple(events)) == ["e-0", "e-1"]
    assert local.client.send(each for each in events) == ["e-0", "e-1"]
    assert local.client.send({"name": "go", "id": "alone", "data": {"n": 1}}) == "alone"
    local.run_until_idle()
    assert run_of(local, "alone").result["data"] == {"n": 1}


@pytest.mark.parametrize("options", [{"data": {}}, {"id": "x"}, {"ts": datetime.now(UTC)}, {"tenant": "acme"}])
@pytest.mark.parametrize("event", [[Paid(order_id="1")], {"name": "go"}])
def test_options_beside_events_that_bring_their_own_are_refused(
    shop: Stepwell, deploy: Deploy, event: Any, options: dict[str, Any]
) -> None:
    local = deploy(shop)
    with pytest.raises(InvalidOption, match=f"send: {next(iter(options))}= beside an? .* would be lost"):
        local.client.send(event, **options)
    assert local.requests.sqs == 0


@pytest.mark.parametrize("one", [True, False])
def test_a_field_that_events_have_not_is_refused_naming_those_they_have(
    shop: Stepwell, deploy: Deploy, one: bool
) -> None:
    event = {"name": "go", "data": {}, "idd": "x"}
    with pytest.raises(InvalidEvent, match="'go' has a field 'idd'; there are name, data, id, ts, tenant"):
        deploy(shop).client.send(event if one else [event])


def test_data_that_does_not_fit_the_model_it_is_sent_as_is_refused_naming_the_field(
    shop: Stepwell, deploy: Deploy
) -> None:
    local = deploy(shop)
    with pytest.raises(InvalidEvent, match=r"'order/paid' does not fit Paid: order_id: .* string\.$"):
        shop.send(Paid, {"order_id": 7})
    with pytest.raises(InvalidEvent, match="order_id: Field required"):
        shop.send(Paid)
    with pytest.raises(ValidationError):
        Paid(order_id=7)  # type: ignore[arg-type]
    assert local.requests.sqs == 0


def test_the_same_event_sent_twice_starts_one_run(shop: Stepwell, deploy: Deploy) -> None:
    local = deploy(shop)
    for pause in ("1m", "3d", "20d"):
        local.send("go", {"n": 1}, id="o-1")
        local.advance(pause)
    assert len(list(local.client.runs())) == 1
    assert local.dead_letters() == []
    local.send(Paid(order_id="1"), id="o-1")
    local.run_until_idle()
    assert len(local.client.runs_of_event("o-1")) == 2, "an id belongs to a name"


# ---- waiting for results


def test_result_waits_and_gives_what_the_function_returned(shop: Stepwell, deploy: Deploy) -> None:
    local = deploy(shop)
    run = local.client.invoke("shop/fn", {"sleep": "3d"})
    start = local.now()
    assert local.client.result(run) == {"done": 1, "data": {"sleep": "3d"}}
    assert timedelta(days=3) <= local.now() - start < timedelta(days=3, minutes=1)


def test_result_raises_what_became_of_a_run_that_did_not_complete(shop: Stepwell, deploy: Deploy) -> None:
    local = deploy(shop)
    failed = local.client.invoke("shop/fn", {"fail": "no"})
    with pytest.raises(RunFailed, match="ValueError: no") as caught:
        local.client.result(failed)
    assert (caught.value.run_id, caught.value.error.type) == (failed, "ValueError")
    asleep = local.client.invoke("shop/fn", {"sleep": "3d"})
    with pytest.raises(TimeoutError, match="has not ended within 1m"):
        local.client.result(asleep, timeout=60)
    assert local.client.cancel(asleep)
    with pytest.raises(RunCancelled):
        local.client.result(asleep)


# ---- invoking


def test_a_function_is_invoked_without_an_event_for_others_to_see(shop: Stepwell, deploy: Deploy) -> None:
    shop.function(on="*", id="audit")(lambda ctx: None)
    local = deploy(shop)
    run_id = local.client.invoke(shop.functions["fn"], Paid(order_id="o-1"))
    assert run_id.startswith("shop.")
    assert local.client.result(run_id)["data"] == {"order_id": "o-1"}
    assert list(local.client.runs(function="shop/audit")) == []


@pytest.mark.parametrize("data", [[], [1], "", "hi", 0, 5, [("a", 1)]])
def test_a_function_is_invoked_with_an_object_or_not_at_all(shop: Stepwell, deploy: Deploy, data: Any) -> None:
    local = deploy(shop)
    with pytest.raises(InvalidOption, match=r"invoke shop/fn: data must be an object \(a dict or a model\), got"):
        local.client.invoke("shop/fn", data)
    assert local.client.result(local.client.invoke("shop/fn"))["data"] == {}


@pytest.mark.parametrize("name", ["shop/gone", "gone/fn", "fn"])
def test_a_function_that_is_not_registered_is_refused_naming_those_that_are(
    shop: Stepwell, deploy: Deploy, name: str
) -> None:
    with pytest.raises(UnknownFunction, match="Registered: shop/fn"):
        deploy(shop).client.invoke(name)


# ---- cancelling


def test_a_cancelled_run_does_nothing_more(shop: Stepwell, deploy: Deploy) -> None:
    local = deploy(shop)
    event_id = local.send("go", {"sleep": "1h"})
    local.run_until_idle()
    run = run_of(local, event_id)
    assert local.client.cancel(run.id) is True
    local.advance("2h")
    cancelled = run_of(local, event_id)
    assert cancelled.status == RunStatus.CANCELLED
    assert "cancelled by the client" in str(cancelled.reason)
    assert "after" not in cancelled.steps
    assert cancelled.ended_at is not None
    assert local.client.cancel(run.id) is False
    assert local.client.cancel(play(local).id) is False


def test_a_run_that_is_cancelled_while_it_runs_stops_before_its_next_step(app: Stepwell, deploy: Deploy) -> None:
    done: list[str] = []

    @app.function(on="go")
    def fn(ctx: Context[Any]) -> None:
        ctx.step.run("first", lambda: local.client.cancel(ctx.run_id))
        done.append("between")
        ctx.step.run("second", lambda: done.append("second"))

    local = deploy(app)
    run = play(local, wait="1h")
    assert run.status == RunStatus.CANCELLED
    assert "second" not in done
    assert "second" not in run.steps


def test_unknown_runs_are_named(shop: Stepwell, deploy: Deploy) -> None:
    local = deploy(shop)
    for act in (local.client.run, local.client.cancel, local.client.replay):
        with pytest.raises(UnknownRun, match=r"shop\.01AAAAAAAAAAAAAAAAAAAAAAAA"):
            act("shop.01AAAAAAAAAAAAAAAAAAAAAAAA")


def test_the_result_of_a_run_that_there_is_not_is_refused_without_waiting(shop: Stepwell, deploy: Deploy) -> None:
    shop.function(on=Cron("* * * * *"), id="ticks")(lambda ctx: None)  # something is always left to happen
    local = deploy(shop)
    before = local.now()
    with pytest.raises(UnknownRun, match="There is no run 'no-such-run'"):
        local.client.result("no-such-run")
    assert local.now() == before
    run = local.client.invoke("shop/fn", {"n": 1})
    assert local.client.result(run)["data"] == {"n": 1}


# ---- replaying


def test_a_replay_is_a_new_run_with_the_same_event(shop: Stepwell, deploy: Deploy) -> None:
    local = deploy(shop)
    event_id = local.send("go", {"n": 1}, tenant="acme")
    local.advance("1d")
    first = run_of(local, event_id)
    again = local.client.replay(first.id)
    assert again != first.id
    assert local.client.result(again) == {"done": 2, "data": {"n": 1}}
    replayed = local.client.run(again)
    assert (replayed.event.id, replayed.event.name, replayed.event.ts) == (event_id, "go", first.event.ts)
    assert run_of(local, event_id).id == first.id, "the original stays the run of the event"
    assert {run.id for run in local.client.runs(function="shop/fn")} == {first.id, again}


def test_a_replay_keeps_the_tenant_of_its_event(shop: Stepwell, deploy: Deploy) -> None:
    local = deploy(shop)
    event_id = local.send("go", {"n": 1}, tenant="acme")
    local.run_until_idle()
    again = local.client.replay(run_of(local, event_id).id)
    local.run_until_idle()
    assert local.client.run(again).event.tenant == "acme"


def test_a_live_run_of_a_future_event_can_be_cancelled_before_it_begins(shop: Stepwell, deploy: Deploy) -> None:
    local = deploy(shop)
    event_id = local.send("go", ts=local.now() + timedelta(days=1))
    local.run_until_idle()
    assert local.client.cancel(run_of(local, event_id).id)
    local.advance("2d")
    run = run_of(local, event_id)
    assert (run.status, run.started_at, dict(run.steps)) == (RunStatus.CANCELLED, None, {})


# ---- finding Stepwell


def test_without_the_environment_the_error_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STEPWELL_TABLE", raising=False)
    with pytest.raises(InvalidOption, match=r"STEPWELL_TABLE is not set.*from_stack"):
        Client.from_env()


def test_a_client_from_the_environment_talks_to_the_same_stepwell(
    shop: Stepwell, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = deploy(shop, start=datetime.now(UTC))
    made = local.world.aws.resources
    for name, value in (("TABLE", made.table), ("QUEUE_URL", made.queue_url), ("BUCKET", made.bucket)):
        monkeypatch.setenv(f"STEPWELL_{name}", value)
    client = Client.from_env()
    event_id = client.send("go", ts=local.now())
    local.run_until_idle()
    assert [run.status for run in client.runs_of_event(event_id)] == [RunStatus.COMPLETED]


@pytest.mark.parametrize(("told", "days"), [({"RetentionDays": "90"}, 90), ({}, 30)])
def test_a_client_of_a_stack_knows_how_long_things_are_kept_there(told: dict[str, str], days: int) -> None:
    outputs = {"QueueUrl": "q", "DeadLetterQueueUrl": "d", "TableName": "t", "BucketName": "b", **told}

    class Account:
        """A boto3 session, as far as it is looked at."""

        region_name, _session = "eu-central-1", None

        def client(self, service: str) -> Account:
            assert service == "cloudformation"
            return self

        def describe_stacks(self, *, StackName: str) -> Any:  # noqa: N803 (AWS's spelling)
            return {
                "Stacks": [{"Outputs": [{"OutputKey": key, "OutputValue": value} for key, value in outputs.items()]}]
            }

    client = Client.from_stack("mine", session=Account())
    assert client._ports.config.retention == days * 86_400
    assert client._ports.config.region == "eu-central-1"
