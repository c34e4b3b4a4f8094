"""Schedules on the command line: when each ticks next, and what the doctor says of those that do not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from stepwell import Context, Cron, Stepwell
from stepwell.cli.doctor.patient import Finding, Level, Patient, examine
from stepwell.cli.doctor.schedules import schedules
from stepwell.cli.root import cli
from stepwell.testing import LocalStepwell

app = Stepwell("shop")


@app.function(on=["go", Cron("0 8 * * *", tz="Europe/Paris"), Cron("30 12 * * 1", jitter="5m")])
def report(ctx: Context[Any]) -> None: ...


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalStepwell]:
    """A world at the real time: the command has the machine's clock."""
    monkeypatch.delenv("COLUMNS", raising=False)
    with LocalStepwell(app, start=datetime.now(UTC)) as world:
        yield world


def stepwell(*arguments: str) -> str:
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_functions_are_listed_with_their_schedules_and_next_ticks(local: LocalStepwell) -> None:
    [listed] = json.loads(stepwell("functions", "--json"))
    event, daily, weekly = listed["triggers"]
    assert event == {"event": "go"}
    assert (daily["cron"], daily["tz"]) == ("0 8 * * *", "Europe/Paris")
    now = local.now()
    assert now < datetime.fromisoformat(daily["next_at"]) <= now + timedelta(days=1, hours=1)
    monday = datetime.fromisoformat(weekly["next_at"])
    assert (monday.isoweekday(), f"{monday:%H:%M}") == (1, "12:30")

    told = " ".join(stepwell("functions").split())
    assert "cron 0 8 * * *, next 20" in told
    assert "08:00 Europe/Paris" in told
    assert f"cron 30 12 * * 1, next {monday:%Y-%m-%d %H:%M} UTC, up to 5m later" in told


# ---- the doctor


def found(local: LocalStepwell) -> list[Finding]:
    return examine(schedules, Patient(None, {}, local._ports(counted=False), lambda service: None))


def test_schedules_that_are_followed_are_well(local: LocalStepwell) -> None:
    assert [(each.level, each.what) for each in found(local)] == [(Level.OK, "2 schedules, none of them behind.")]


def test_where_there_are_none_all_is_well() -> None:
    with LocalStepwell(Stepwell("empty"), start=datetime.now(UTC)) as local:
        assert [each.level for each in found(local)] == [Level.OK]


def test_a_schedule_that_is_not_in_the_table_is_a_problem(local: LocalStepwell) -> None:
    crons = local._ports(counted=False).store.crons
    crons.remove(crons.of_app("shop")[0])
    [finding] = found(local)
    assert finding.level is Level.PROBLEM
    assert "1 schedule of shop will never tick" in finding.what
    assert "Deploy" in finding.advice


def test_a_schedule_that_is_behind_is_a_problem(local: LocalStepwell) -> None:
    crons = local._ports(counted=False).store.crons
    daily = next(each for each in crons.of_app("shop") if each.schedule.tz == "Europe/Paris")
    hour_ago = round(local.now().timestamp() * 1000) - 3_600_000
    assert crons.move(replace(daily, due_at=hour_ago), seen=daily.due_at)
    [finding] = found(local)
    assert finding.level is Level.PROBLEM
    assert "1 schedule of shop should have been looked at more than 5 minutes ago, the first 1h ago" in finding.what
    assert "report (0 8 * * * Europe/Paris)" in finding.what


def test_a_schedule_that_nobody_declares_is_a_warning(local: LocalStepwell) -> None:
    crons = local._ports(counted=False).store.crons
    assert crons.create(replace(crons.of_app("shop")[0], function="gone"))
    [finding] = found(local)
    assert finding.level is Level.WARNING
    assert "ticks for nothing" in finding.what
