"""The schedules of docs/writing-functions.md, run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from docs.snippets import outside, schedules
from stepwell.testing import LocalStepwell

PARIS = ZoneInfo("Europe/Paris")


@pytest.fixture
def local() -> Iterator[LocalStepwell]:
    outside.reset()
    with LocalStepwell(schedules.app, start=datetime(2026, 3, 27, tzinfo=PARIS)) as local:  # a Friday
        yield local


def test_a_report_is_sent_every_working_day_at_eight_by_the_clock_on_the_wall(local: LocalStepwell) -> None:
    local.advance("5d")
    runs = sorted(local.client.runs(function="reports/daily-report"), key=lambda run: run.created_at)
    assert [run.event.data["scheduled_at"] for run in runs] == [
        "2026-03-27T08:00:00+01:00",
        "2026-03-30T08:00:00+02:00",  # summer time has begun
        "2026-03-31T08:00:00+02:00",
    ]
    assert [text for _, text in outside.mail] == [f"report of {run.result}" for run in runs]
    assert all(0 <= (run.started_at or run.created_at).astimezone(PARIS).minute < 5 for run in runs)


def test_a_function_may_have_schedules_and_events(local: LocalStepwell) -> None:
    local.send(schedules.ReportAsked(day="2026-02-03"))
    local.advance("20d")
    runs = sorted(local.client.runs(function="reports/long-report"), key=lambda run: run.created_at)
    assert [run.result for run in runs] == ["2026-02-03", "2026-04-01", "2026-04-15"]
