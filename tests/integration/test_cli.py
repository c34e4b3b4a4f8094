"""The command against a world: what is sent arrives, what is listed is there, what goes wrong is said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from typer.testing import CliRunner

from stepwell import CancelOn, Client, Context, NonRetriableError, Stepwell, step
from stepwell.cli import watching
from stepwell.cli.root import cli
from stepwell.testing import LocalStepwell

app = Stepwell("shop")


@step
def charge(order: str) -> dict[str, str]:
    return {"charge": f"ch-{order}"}


@step
def decline(order: str) -> None:
    raise NonRetriableError(f"{order} is [declined]")


@app.function(on="order/created", cancel_on=CancelOn("order/cancelled", match={"data.order": "event.data.order"}))
def process_order(ctx: Context[Any]) -> dict[str, str]:
    order = ctx.event.data["order"]
    ctx.progress(1, 2, "charging")
    charged = ctx.step.run(charge, order)
    ctx.step.wait_for_event("shipped", event="order/shipped", match={"data.order": order}, timeout="3d")
    return charged


@app.function(on="order/refused", retries=7)
def refuse(ctx: Context[Any]) -> None:
    ctx.step.run(decline, ctx.event.data.get("order", "nobody"))


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalStepwell]:
    """A world at the real time: the command has the machine's clock."""
    monkeypatch.delenv("COLUMNS", raising=False)
    with LocalStepwell(app, start=datetime.now(UTC)) as world:
        yield world


def stepwell(*arguments: str, status: int = 0, input: str | None = None) -> str:
    result = CliRunner().invoke(cli, arguments, input=input)
    assert result.exit_code == status, result.output
    return result.stdout if status == 0 else result.output


def settle(local: LocalStepwell) -> None:
    """Handle what was sent. The command sends by the machine's clock, which the world's has to catch up with first.

    An event ahead of the world's clock is scheduled, and a wake-up comes up to a second late; so a little further.
    """
    local.advance(max(0.0, (datetime.now(UTC) - local.now()).total_seconds()) + 2.0)


def from_json(*arguments: str, status: int = 0) -> Any:
    return json.loads(stepwell(*arguments, "--json", status=status))


def an_order(local: LocalStepwell, order: str = "o-1") -> str:
    """The run of an order that waits to be shipped."""
    stepwell("send", "order/created", json.dumps({"order": order}), "--id", order)
    settle(local)
    [run] = from_json("runs", "list", "--event", order)
    return str(run["id"])


# ---- send and invoke -------------------------------------------------------------------------------------------------


def test_a_sent_event_starts_its_functions(local: LocalStepwell) -> None:
    told = stepwell("send", "order/created", '{"order": "o-1"}', "--id", "o-1", "--tenant", "acme")
    assert "sent order/created  o-1" in told
    settle(local)

    run = local.run("o-1")
    assert run is not None
    assert (run.event.data, run.event.tenant) == ({"order": "o-1"}, "acme")


def test_the_generated_id_is_told_as_json(local: LocalStepwell) -> None:
    sent = from_json("send", "order/created", '{"order": "o-1"}')
    settle(local)
    assert [run["function"] for run in from_json("runs", "list", "--event", sent["id"])] == ["process-order"]


def test_data_may_come_from_standard_input(local: LocalStepwell) -> None:
    stepwell("send", "order/created", "-", "--id", "o-9", input='{"order": "o-9"}')
    settle(local)
    run = local.run("o-9")
    assert run is not None
    assert run.event.data == {"order": "o-9"}


def test_an_event_may_take_effect_later(local: LocalStepwell) -> None:
    stepwell("send", "order/created", '{"order": "o-1"}', "--id", "o-1", "--ts", "+1h")
    settle(local)
    assert from_json("runs", "list", "--event", "o-1")[0]["status"] == "scheduled"
    local.advance("61m")
    assert from_json("runs", "list", "--event", "o-1")[0]["status"] == "suspended"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("send", "two words", "{}"), "invalid-event"),
        (("send", "order/created", "[1]"), "invalid-event"),
        (("send", "order/created", "{nope}"), "invalid-json"),
        (("send", "order/created", "{}", "--ts", "soon"), "invalid-time"),
        (("invoke", "process-order"), "unknown-function"),
        (("invoke", "shop/nothing"), "unknown-function"),
        (("runs", "show", "shop.01ARZ3NDEKTSV4RRFFQ69G5FAV"), "unknown-run"),
        (("runs", "cancel", "shop.01ARZ3NDEKTSV4RRFFQ69G5FAV"), "unknown-run"),
        (("runs", "list", "--status", "sleeping"), "invalid-option"),
        (("runs", "list", "--since", "soon"), "invalid-option"),
        (("runs", "list", "--function", "shop/nothing"), "unknown-function"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_code_and_status_1(
    local: LocalStepwell, arguments: tuple[str, ...], code: str
) -> None:
    told = stepwell(*arguments, status=1)
    assert f"x {code}" in told or f"✘ {code}" in told
    assert "Traceback" not in told


def test_an_invoked_function_runs_without_an_event_for_others(local: LocalStepwell) -> None:
    run = from_json("invoke", "shop/refuse", '{"order": "o-1"}')["run_id"]
    settle(local)
    shown = from_json("runs", "show", run)
    assert (shown["function"], shown["status"], shown["error"]["type"]) == ("refuse", "failed", "NonRetriableError")


# ---- runs ------------------------------------------------------------------------------------------------------------


def test_runs_are_listed_newest_first_with_what_there_is_to_say(local: LocalStepwell) -> None:
    waiting = an_order(local)
    stepwell("send", "order/refused", '{"order": "o-2"}')
    settle(local)

    listed = from_json("runs", "list")
    assert [(run["function"], run["status"]) for run in listed] == [
        ("refuse", "failed"),
        ("process-order", "suspended"),
    ]
    told = stepwell("runs", "list")
    assert waiting in told
    assert "shop/process-order" in told
    assert "1/2 charging" in told
    assert "NonRetriableError: o-2 is [declined]" in told
    assert "2 runs" in told


def test_runs_are_found_by_state_and_function(local: LocalStepwell) -> None:
    an_order(local, "o-1")
    an_order(local, "o-2")
    stepwell("send", "order/refused")
    settle(local)

    assert len(from_json("runs", "list", "--status", "failed", "--status", "completed")) == 1
    assert len(from_json("runs", "list", "--function", "shop/process-order")) == 2
    newest, other = (run["id"] for run in from_json("runs", "list", "--function", "shop/process-order"))
    [newest_of_all] = [run["id"] for run in from_json("runs", "list", "--limit", "1")]
    assert newest_of_all == from_json("runs", "list")[0]["id"]
    assert f"There are more: --before {newest_of_all}" in stepwell("runs", "list", "--limit", "1")
    older = from_json("runs", "list", "--function", "shop/process-order", "--before", newest)
    assert [run["id"] for run in older] == [other]


def test_a_cancelled_run_says_why(local: LocalStepwell) -> None:
    run = an_order(local)
    stepwell("send", "order/cancelled", '{"order": "o-1"}', "--id", "a-rather-long-id-of-the-event-that-did-it")
    settle(local)
    why = "cancelled by order/cancelled a-rather-long-id-of-the-event-that-did-it"
    assert why in stepwell("runs", "show", run)
    assert why[:40] in stepwell("runs", "list")
    assert from_json("runs", "show", run)["reason"] == why


def test_empty_lists_say_what_to_do_next(local: LocalStepwell) -> None:
    assert "stepwell send" in stepwell("runs", "list")
    assert "--since 7d" in stepwell("runs", "list", "--status", "failed")
    assert "has started nothing" in stepwell("runs", "list", "--event", "never-sent")
    assert "stepwell send" in stepwell("events")
    assert from_json("runs", "list") == []
    assert from_json("events") == []


def test_a_run_is_shown_with_its_event_its_steps_and_what_it_waits_for(local: LocalStepwell) -> None:
    run = an_order(local)
    told = stepwell("runs", "show", run)
    assert f"process-order  {run}  suspended" in told
    assert "order/created  o-1" in told
    assert '{"order": "o-1"}' in told
    assert "It waits for the event of step shipped until" in told
    assert "charge" in told


def test_a_completed_run_is_shown_with_its_result(local: LocalStepwell) -> None:
    run = an_order(local)
    stepwell("send", "order/shipped", '{"order": "o-1"}')
    settle(local)

    assert '{"charge": "ch-o-1"}' in stepwell("runs", "show", run)
    shown = from_json("runs", "show", run)
    assert shown["result"] == {"charge": "ch-o-1"}
    assert shown["event"]["data"] == {"order": "o-1"}
    assert [(each["key"], each["status"]) for each in shown["steps"]] == [
        ("charge", "completed"),
        ("shipped", "completed"),
    ]


def test_the_traceback_of_a_failed_run_is_there_when_asked_for(local: LocalStepwell) -> None:
    run = from_json("invoke", "shop/refuse", '{"order": "o-1"}')["run_id"]
    settle(local)
    assert "NonRetriableError at step decline: o-1 is [declined]" in stepwell("runs", "show", run)
    assert "raise NonRetriableError" in stepwell("runs", "show", run, "--traceback")


def test_watching_ends_with_the_run_and_its_status_tells_how_it_ended(
    local: LocalStepwell, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = an_order(local)
    looks: list[float] = []

    def meanwhile(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            local.advance("4d")  # past the time-out of the wait

    monkeypatch.setattr(watching, "pause", meanwhile)
    told = stepwell("runs", "watch", run, "--every", "0.5")
    assert looks == [0.5, 0.5]
    assert told.index("suspended") < told.index("completed")
    assert '{"charge": "ch-o-1"}' in told

    failed = from_json("invoke", "shop/refuse")["run_id"]
    settle(local)
    assert "failed" in stepwell("runs", "watch", failed, status=1)


def test_watching_prints_a_line_of_json_for_every_change(local: LocalStepwell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "pause", lambda seconds: local.advance("4d"))
    lines = stepwell("invoke", "shop/process-order", '{"order": "o-1"}', "--watch", "--json").splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["completed", "completed"]
    assert json.loads(lines[-1])["result"] == {"charge": "ch-o-1"}


def test_watching_stops_after_its_time_out(local: LocalStepwell) -> None:
    run = an_order(local)
    told = stepwell("runs", "watch", run, "--timeout", "0s", status=1)
    assert "timeout" in told
    assert "goes on without being watched" in told


def test_a_cancelled_run_stays_cancelled_and_cancelling_it_again_says_so(local: LocalStepwell) -> None:
    run = an_order(local)
    assert "cancelled" in stepwell("runs", "cancel", run)
    assert f"had already cancelled: {run}" in stepwell("runs", "cancel", run)
    assert from_json("runs", "cancel", run) == [{"run_id": run, "cancelled": False}]
    assert from_json("runs", "show", run)["status"] == "cancelled"


def test_a_replay_is_a_new_run_of_the_same_event(local: LocalStepwell) -> None:
    run = an_order(local)
    told = from_json("runs", "replay", run)
    settle(local)
    assert told["replay_of"] == run
    assert from_json("runs", "show", told["run_id"])["event"]["id"] == "o-1"
    assert len(from_json("runs", "list", "--function", "shop/process-order")) == 2


# ---- events and functions --------------------------------------------------------------------------------------------


def test_accepted_events_are_listed_whether_or_not_they_matched(local: LocalStepwell) -> None:
    an_order(local)
    stepwell("send", "nobody/listens", '{"a": "[x]"}')
    settle(local)

    assert {event["name"] for event in from_json("events")} == {"order/created", "nobody/listens"}
    assert [event["data"] for event in from_json("events", "--name", "nobody/listens")] == [{"a": "[x]"}]
    told = stepwell("events")
    assert "nobody/listens" in told
    assert '{"a": "[x]"}' in told
    assert "2 events" in told


def test_functions_are_listed_with_what_starts_them(local: LocalStepwell) -> None:
    told = stepwell("functions")
    assert "shop/process-order" in told
    assert "order/created" in told
    assert "2 functions in 1 app" in told
    listed = {entry["id"]: entry for entry in from_json("functions")}
    assert listed["refuse"]["retries"] == 7
    assert listed["refuse"]["triggers"] == [{"event": "order/refused"}]


def test_an_account_without_functions_says_where_they_come_from() -> None:
    with LocalStepwell(Stepwell("empty"), start=datetime.now(UTC)):
        assert "@app.function(on=...)" in stepwell("functions")
        assert "No function is registered" in stepwell("runs", "list")


def test_a_stack_that_is_named_is_used_instead_of_the_environment(
    local: LocalStepwell, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def from_stack(name: str) -> Client:
        asked.append(name)
        return local.client

    monkeypatch.delenv("STEPWELL_TABLE")
    monkeypatch.setattr(Client, "from_stack", from_stack)
    assert len(from_json("functions", "--stack", "production")) == 2
    assert asked == ["production"]
