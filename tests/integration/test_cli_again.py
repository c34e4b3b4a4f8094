"""The command, operating on runs: cancel, replay and fork, one or many, and why they wait."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from stepwell import Callback, Context, StepError, Stepwell, step
from stepwell.cli.root import cli
from stepwell.testing import LocalStepwell

app = Stepwell("shop")
works: list[bool] = []
tokens: list[str] = []


@step
def charge(order: str) -> str:
    return f"ch-{order}"


@app.function(on="order/created", retries=0, tags={"order": "event.data.order"})
def process_order(ctx: Context[Any]) -> list[str]:
    charged = ctx.step.run(charge, ctx.event.data["order"])
    if not works:
        raise ValueError("a bug")
    packed = ctx.step.run("pack", lambda: f"packed {ctx.event.data['order']}")
    return [charged, packed]


@app.function(on="order/followed")
def follow_order(ctx: Context[Any]) -> None:
    ctx.step.wait_for_event("paid", event="order/paid", match={"data.order": ctx.event.data["order"]}, timeout="3d")


@app.function(on="approval/wanted")
def approve(ctx: Context[Any]) -> Any:
    try:
        return ctx.step.wait_for_callback("answer", timeout="3d", heartbeat="30m", submit=hand_out)
    except StepError as error:
        return f"{type(error).__name__}: {error.message}"


def hand_out(callback: Callback) -> None:
    tokens.append(callback.token)


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalStepwell]:
    """A world ten minutes ago: the command has the machine's clock."""
    monkeypatch.delenv("COLUMNS", raising=False)
    works.clear()
    with LocalStepwell(app, start=datetime.now(UTC) - timedelta(minutes=10)) as world:
        yield world


def stepwell(*arguments: str, status: int = 0, input: str | None = None) -> str:
    result = CliRunner().invoke(cli, arguments, input=input)
    assert result.exit_code == status, result.output
    return result.stdout if status == 0 else result.output


def from_json(*arguments: str) -> Any:
    return json.loads(stepwell(*arguments, "--json"))


def orders(local: LocalStepwell, *names: str, event: str = "order/created") -> list[str]:
    """The runs of these orders, after their events have been handled."""
    ids = [local.client.send(event, {"order": name}) for name in names]
    settle(local)
    found = [local.run(event_id) for event_id in ids]
    return [run.id for run in found if run is not None]


def settle(local: LocalStepwell) -> None:
    """Handle what was sent."""
    local.advance(2)


# ---- finding


def test_runs_are_listed_by_their_tags_however_old(local: LocalStepwell) -> None:
    first, _ = orders(local, "o-1", "o-2")
    assert [run["id"] for run in from_json("runs", "list", "--tag", "order=o-1")] == [first]
    assert from_json("runs", "list", "--tag", "order=o-1")[0]["tags"] == {"order": "o-1"}
    assert "No runs with the tag order=o-9." in stepwell("runs", "list", "--tag", "order=o-9")
    assert "invalid-option" in stepwell("runs", "list", "--tag", "o-1", status=1)


def test_why_a_run_waits_is_told_in_a_sentence(local: LocalStepwell) -> None:
    [run] = orders(local, "o-1", event="order/followed")
    local.client.send("order/paid", {"order": "o-2"})
    settle(local)
    told = stepwell("runs", "why", run).replace("\n", " ")
    assert told.startswith("waiting for order/paid where data.order = o-1 until ")
    assert "1 near miss: other order" in told
    assert from_json("runs", "why", run)["why"].startswith("waiting for order/paid")
    assert "unknown-run" in stepwell("runs", "why", "shop.01AAAAAAAAAAAAAAAAAAAAAAAA", status=1)


# ---- forks


def test_a_run_is_forked_at_a_step(local: LocalStepwell) -> None:
    [run] = orders(local, "o-1")
    works.append(True)
    told = stepwell("runs", "fork", run, "charge", "--result", '"by hand"')
    assert f"forked {run}" in told
    edited = from_json("runs", "fork", run, "charge", "--input", '{"order": "o-7"}')
    settle(local)
    assert (edited["fork_of"], edited["forked_at"]) == (run, "charge")
    shown = from_json("runs", "show", edited["run_id"])
    assert (shown["fork_of"], shown["forked_at"], shown["result"]) == (run, "charge", ["ch-o-7", "packed o-7"])
    [by_hand] = [each for each in from_json("runs", "list", "--status", "completed") if each["id"] != edited["run_id"]]
    assert from_json("runs", "show", by_hand["id"])["result"] == ["by hand", "packed o-1"]
    assert "completed" in stepwell("runs", "show", by_hand["id"])


def test_a_step_that_is_not_there_is_told_with_those_that_are(local: LocalStepwell) -> None:
    [run] = orders(local, "o-1")
    told = stepwell("runs", "fork", run, "pack", status=1)
    assert "unknown-step" in told
    assert "Its steps: charge." in told.replace("\n", " ")


# ---- many


def test_failed_runs_are_replayed_after_saying_how_many_they_are(local: LocalStepwell) -> None:
    orders(local, "o-1", "o-2", "o-3")
    works.append(True)
    which = ("--function", "shop/process-order", "--status", "failed")
    stepwell("runs", "replay", *which, status=1, input="n\n")
    assert local.client.count() == 3, "nobody meant it"
    told = CliRunner().invoke(cli, ["runs", "replay", *which], input="y\n")
    assert "Replay 3 runs (--function shop/process-order, --status failed)?" in told.output
    assert "3 runs asked for." in told.stdout
    settle(local)
    assert len(from_json("runs", "list", "--status", "completed")) == 3
    again = stepwell("runs", "replay", *which, "--yes")
    assert "0 runs asked for." in again
    assert "3 of them are left out" in again
    assert from_json("runs", "replay", *which, "--yes", "--operation", "second") == {
        "matching": 3,
        "replayed": 3,
        "operation": "second",
    }


def test_live_runs_are_cancelled_by_their_filters(local: LocalStepwell) -> None:
    orders(local, "o-1")
    orders(local, "o-1", "o-2", event="order/followed")
    assert "not-confirmed" in stepwell("runs", "cancel", "--function", "shop/follow-order", "--json", status=1)
    assert from_json("runs", "cancel", "--since", "1d", "--yes") == {"matching": 2, "cancelled": 2}
    assert "0 runs cancelled." in stepwell("runs", "cancel", "--since", "1d")
    assert local.client.count(status="failed") == 1


def test_several_runs_are_replayed_by_their_ids(local: LocalStepwell) -> None:
    first, second = orders(local, "o-1", "o-2")
    told = from_json("runs", "replay", first, second)
    assert [each["replay_of"] for each in told] == [first, second]
    assert "watch-one" in stepwell("runs", "replay", first, second, "--watch", status=1)


GONE = "shop.01AAAAAAAAAAAAAAAAAAAAAAAA"


def test_of_several_runs_each_is_cancelled_whatever_becomes_of_the_others(local: LocalStepwell) -> None:
    first, second, third = orders(local, "o-1", "o-2", "o-3", event="order/followed")
    [failed] = orders(local, "o-4")
    result = CliRunner().invoke(cli, ["runs", "cancel", first, GONE, second, failed, first])
    assert result.exit_code == 1
    assert [line[2:] for line in result.stdout.splitlines()] == [
        f"cancelled {first}",
        f"cancelled {second}",
        f"had already failed: {failed}",
    ]
    assert f"There is no run '{GONE}'" in result.stderr
    assert local.client.count(status="cancelled") == 2
    as_json = CliRunner().invoke(cli, ["runs", "cancel", GONE, third, failed, "--json"])
    assert as_json.exit_code == 1
    gone, *rest = json.loads(as_json.stdout)
    assert (gone["run_id"], gone["cancelled"], gone["error"]["code"]) == (GONE, False, "unknown-run")
    assert rest == [{"run_id": third, "cancelled": True}, {"run_id": failed, "cancelled": False}]


def test_of_several_runs_each_is_replayed_once_and_every_new_one_is_named(local: LocalStepwell) -> None:
    first, second = orders(local, "o-1", "o-2")
    result = CliRunner().invoke(cli, ["runs", "replay", first, GONE, second, first])
    assert result.exit_code == 1
    assert f"There is no run '{GONE}'" in result.stderr
    settle(local)
    new = {run.id: run.replay_of for run in local.client.runs() if run.replay_of}
    assert sorted(new.values()) == sorted([first, second]), "named twice, replayed once"
    assert all(f"replaying {old}  as {run}" in result.stdout for run, old in new.items())
    as_json = CliRunner().invoke(cli, ["runs", "replay", GONE, second, "--json"])
    assert as_json.exit_code == 1
    gone, again = json.loads(as_json.stdout)
    assert (gone["run_id"], gone["replay_of"], gone["error"]["code"]) == (None, GONE, "unknown-run")
    assert again["replay_of"] == second
    assert from_json("runs", "replay", second, second)["replay_of"] == second, "one run, one object"
    assert "unknown-run" in stepwell("runs", "replay", GONE, status=1)


@pytest.mark.parametrize(
    "arguments",
    [
        ("runs", "list", "--since", "99999999d"),
        ("events", "--since", "99999999d"),
        ("runs", "cancel", "--until", "9999999w"),
    ],
)
def test_a_time_before_all_times_is_refused_by_the_name_of_its_option(
    local: LocalStepwell, arguments: tuple[str, ...]
) -> None:
    told = stepwell(*arguments, status=1)
    assert "invalid-option" in told
    assert arguments[-2] in told


def test_a_function_is_paused_and_resumed_for_programs_too(local: LocalStepwell) -> None:
    assert from_json("pause", "shop/process-order") == {"function": "shop/process-order", "paused": True}
    [run] = orders(local, "o-1")
    assert local.client.run(run).status == "scheduled"
    assert from_json("resume", "shop/process-order") == {"function": "shop/process-order", "paused": False}
    settle(local)
    assert local.client.run(run).status == "failed"


@pytest.mark.parametrize("verb", ["cancel", "replay"])
def test_which_runs_has_to_be_said_in_one_way(local: LocalStepwell, verb: str) -> None:
    assert "which-runs" in stepwell("runs", verb, status=1)
    assert "not both" in stepwell("runs", verb, "shop.1", "--since", "1d", status=1)


# ---- which runs


def test_the_runs_of_an_event_are_listed_together_with_the_other_options(local: LocalStepwell) -> None:
    [first] = orders(local, "o-1")
    event = local.client.run(first).event.id
    assert [run["id"] for run in from_json("runs", "list", "--event", event)] == [first]
    both = ("runs", "list", "--event", event)
    assert from_json(*both, "--status", "completed") == []
    assert from_json(*both, "--function", "shop/follow-order") == []
    assert from_json(*both, "--tag", "order=o-2") == []
    assert from_json(*both, "--since", "1m") == []
    assert [run["id"] for run in from_json(*both, "--status", "failed", "--tag", "order=o-1")] == [first]
    assert f"No completed runs that event {event} has started." in told(*both, "--status", "completed")
    assert "Event evt_nothing has started nothing" in told("runs", "list", "--event", "evt_nothing")


def told(*arguments: str) -> str:
    return stepwell(*arguments).replace("\n", " ")


def test_runs_and_events_are_searched_by_content(local: LocalStepwell) -> None:
    first, _, third = orders(local, "o-1", "o-2", "p-3")
    where = ("--where", "event.data.order.startsWith('o-')")
    assert [run["id"] for run in from_json("runs", "list", "--where", "event.data.order == 'o-1'")] == [first]
    assert len(from_json("runs", "list", *where)) == 2
    assert {event["data"]["order"] for event in from_json("events", *where)} == {"o-1", "o-2"}
    assert "No events for which that holds since 24h." in told("events", "--where", "event.data.order == 'o-9'")
    works.append(True)
    assert from_json("runs", "replay", *where, "--yes")["replayed"] == 2
    settle(local)
    assert local.client.run(third).status == "failed"
    for command in (("runs", "list"), ("runs", "replay", "--yes"), ("runs", "cancel", "--yes"), ("events",)):
        assert "invalid-option" in stepwell(*command, "--where", "event.data.order ==", status=1)


@pytest.mark.parametrize("verb", ["cancel", "replay"])
def test_many_runs_are_meant_from_a_run_on(local: LocalStepwell, verb: str) -> None:
    event = {"cancel": "order/followed", "replay": "order/created"}[verb]
    runs = [orders(local, f"o-{n}", event=event)[0] for n in range(3)]
    done = from_json("runs", verb, "--before", runs[2], "--yes")
    assert (done["matching"], done[{"cancel": "cancelled", "replay": "replayed"}[verb]]) == (2, 2)
    ended = {"cancel": "cancelled", "replay": "failed"}[verb]
    settle(local)
    assert {run["id"] for run in from_json("runs", "list", "--status", ended, "--before", runs[2])} == set(runs[:2])


def test_one_id_invokes_one_run(local: LocalStepwell) -> None:
    call = ("invoke", "shop/follow-order", '{"order": "o-1"}', "--id", "mine")
    assert from_json(*call) == from_json(*call)
    settle(local)
    assert local.client.count(function="shop/follow-order") == 1
    assert "duplicate-event" in stepwell("invoke", "shop/follow-order", "{}", "--id", "mine", status=1)


# ---- callbacks


@pytest.fixture
def token(local: LocalStepwell) -> str:
    """The token of a callback that a run waits for."""
    tokens.clear()
    local.client.send("approval/wanted")
    settle(local)
    return tokens[0]


def answered(local: LocalStepwell) -> Any:
    settle(local)
    [run] = local.client.runs(function="shop/approve")
    return run.result


def test_a_callback_is_completed_with_a_result(local: LocalStepwell, token: str) -> None:
    assert "answered" in stepwell("callbacks", "complete", token, '{"by": "ada"}')
    assert answered(local) == {"by": "ada"}
    assert "callback-over" in stepwell("callbacks", "complete", token, "1", status=1)


def test_the_result_of_a_callback_may_come_from_standard_input_or_be_nothing(local: LocalStepwell, token: str) -> None:
    assert "invalid-json" in stepwell("callbacks", "complete", token, "{nope", status=1)
    stepwell("callbacks", "complete", token, "-", input='["a", 1]')
    assert answered(local) == ["a", 1]


def test_without_a_result_a_callback_is_completed_with_null(local: LocalStepwell, token: str) -> None:
    assert from_json("callbacks", "complete", token) == {"token": token, "done": "completed"}
    assert answered(local) is None


def test_a_callback_is_failed_with_a_message(local: LocalStepwell, token: str) -> None:
    assert "reported as failed" in stepwell("callbacks", "fail", token, "nobody was there")
    assert answered(local) == "StepError: nobody was there"


def test_a_heartbeat_keeps_a_callback_open(local: LocalStepwell, token: str) -> None:
    assert from_json("callbacks", "heartbeat", token)["done"] == "heartbeat"
    local.advance(
        "35m"
    )  # the command's clock is ten minutes ahead of the world's, so the next is due five minutes later
    stepwell("callbacks", "complete", token, "true")
    assert answered(local) is True
    assert "unknown-callback" in stepwell("callbacks", "heartbeat", "nonsense", status=1)
