"""The command, operating on runs: cancel, replay and fork, one or many, and why they wait."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from stepwell import Context, Stepwell, step
from stepwell.cli.root import cli
from stepwell.testing import LocalStepwell

app = Stepwell("shop")
works: list[bool] = []


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
    assert "3 runs started." in told.stdout
    settle(local)
    assert len(from_json("runs", "list", "--status", "completed")) == 3
    again = stepwell("runs", "replay", *which, "--yes")
    assert "0 runs started." in again
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


@pytest.mark.parametrize("verb", ["cancel", "replay"])
def test_which_runs_has_to_be_said_in_one_way(local: LocalStepwell, verb: str) -> None:
    assert "which-runs" in stepwell("runs", verb, status=1)
    assert "not both" in stepwell("runs", verb, "shop.1", "--since", "1d", status=1)
