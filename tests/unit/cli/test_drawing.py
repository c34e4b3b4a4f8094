"""Lanes as lines: what a reader of a timeline sees."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from stepwell.cli.console import FANCY, PLAIN, Signs
from stepwell.cli.timeline.drawing import draw_run, progress_words, shown_steps
from stepwell.cli.timeline.lanes import Outcome, RunLane, StepLane, Stretch
from stepwell.errors import ErrorInfo
from stepwell.records import RunStatus, StepStatus

T0 = datetime(2026, 3, 1, 12, 0, tzinfo=UTC).timestamp()
DAY = 86_400.0


def step(key: str, *stretches: tuple[float, float | None, Outcome], **fields: object) -> StepLane:
    lane = StepLane(key, status=StepStatus.COMPLETED, attempts=1)
    lane.stretches = [Stretch(T0 + begin, None if end is None else T0 + end, how) for begin, end, how in stretches]
    for name, value in fields.items():
        setattr(lane, name, value)
    return lane


def run(
    *steps: StepLane, status: RunStatus = RunStatus.COMPLETED, ended: float | None = 10, **fields: object
) -> RunLane:
    lane = RunLane("shop.01RUN", "shop", "process-order", status, T0, None if ended is None else T0 + ended)
    lane.steps = {each.key: each for each in steps}
    for name, value in fields.items():
        setattr(lane, name, value)
    return lane


def drawn(
    lane: RunLane, *, now: float = 10, width: int = 100, signs: Signs = FANCY, room: int | None = None
) -> list[str]:
    return [line.plain for line in draw_run(lane, now=T0 + now, width=width, signs=signs, room=room)]


ORDER = run(
    step("charge_card", (0, 1, Outcome.CUT_OFF), (2, 3, Outcome.RECORDED)),
    step("confirm", (3, 4, Outcome.RETRIED), (4.2, 5, Outcome.RECORDED), attempts=2),
    step("shipped", (5, 5 + 2 * DAY, Outcome.WAITED), kind="wait_for_event", attempts=0),
    step("shipped-mail", (5 + 2 * DAY, 6 + 2 * DAY, Outcome.RECORDED)),
    ended=6 + 2 * DAY,
)


def test_a_run_with_a_crash_a_retry_and_two_days_of_waiting_fits_on_a_screen() -> None:
    assert drawn(ORDER, now=6 + 2 * DAY, width=86) == [
        "✔ process-order  shop.01RUN  completed · 2d",
        "                                          2d",
        "  ✔ charge_card   ━━━━╳    ━━━━━         ┊  ┊       worker killed; ran again",
        "  ✔ confirm                    ━━━━━━━━━━┊  ┊       2 attempts",
        "  ✔ shipped                              ┄┄┄┄       waited 2d",
        "  ✔ shipped-mail                         ┊  ┊━━━━━  1s",
    ]


def test_every_line_fits_the_width_it_was_given() -> None:
    for width in (30, 60, 80, 120, 200):
        assert max(map(len, drawn(ORDER, now=6 + 2 * DAY, width=width)[1:])) <= max(width, 60)


def test_on_a_narrow_terminal_the_bars_give_way_to_the_words() -> None:
    lines = drawn(ORDER, now=6 + 2 * DAY, width=50)
    assert "  ✔ charge_card   worker killed; ran again" in lines
    assert not any("━" in line for line in lines)


def test_a_terminal_that_knows_ascii_only_gets_ascii_only() -> None:
    assert all(line.isascii() for line in drawn(ORDER, now=6 + 2 * DAY, signs=PLAIN))


def test_a_wait_says_until_when_and_a_failure_says_why() -> None:
    waiting = step(
        "paid", (1, None, Outcome.WAITED), status=StepStatus.WAITING, kind="wait_for_event", until=T0 + 3 * DAY
    )
    failed = step("charge", (0, 1, Outcome.FAILED), status=StepStatus.FAILED, error=ErrorInfo("Declined", "no money"))
    lines = drawn(run(failed, waiting, status=RunStatus.SUSPENDED, ended=None))
    assert lines[0] == "◐ process-order  shop.01RUN  suspended · 10s"
    assert any(line.startswith("  ✘ charge") and line.endswith("Declined: no money") for line in lines)
    assert any(line.startswith("  ◐ paid") and line.endswith("until 2026-03-04 12:00") for line in lines)


def test_the_headline_says_why_a_run_failed_and_which_attempt_it_was() -> None:
    lane = run(status=RunStatus.FAILED, error=ErrorInfo("ValueError", "bad\nthing"), attempt=4)
    assert drawn(lane) == ["✘ process-order  shop.01RUN  failed · 10s · attempt 4 · ValueError: bad thing"]


def test_the_headline_shows_progress_and_that_another_run_started_it() -> None:
    lane = run(
        status=RunStatus.RUNNING, ended=None, parent="shop.01UP", progress={"done": 3, "total": 7, "message": "x"}
    )
    assert drawn(lane) == ["● ↳ process-order  shop.01RUN  running · 10s · 3/7 x"]


def test_a_body_that_still_runs_reaches_to_now() -> None:
    lane = run(step("slow", (0, None, Outcome.OPEN), status=StepStatus.STARTED), status=RunStatus.RUNNING, ended=None)
    early, late = drawn(lane, now=1)[-1], drawn(lane, now=100)[-1]
    assert early.count("━") == late.count("━") > 20


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"done": 3, "total": 7, "message": "cutting"}, "3/7 cutting"),
        ({"done": 0, "total": None, "message": "looking"}, "looking"),
        ({"done": 1200, "total": None, "message": ""}, "1,200"),
        ({"done": 0, "total": None, "message": ""}, "0"),
        ({}, ""),
    ],
)
def test_progress_is_told_with_what_is_known_of_it(said: dict[str, object], words: str) -> None:
    assert progress_words(said) == words


def test_of_a_thousand_steps_those_that_tell_something_stay() -> None:
    steps = [step(f"batch-{number}", (number, number + 1, Outcome.RECORDED)) for number in range(1000)]
    steps[400].stretches.insert(0, Stretch(T0, T0 + 1, Outcome.CUT_OFF))
    steps[700].status = StepStatus.FAILED
    shown = shown_steps(steps, 10)
    kept = [each.key for each in shown if isinstance(each, StepLane)]
    told = [each for each in shown if isinstance(each, str)]

    assert {"batch-0", "batch-400", "batch-700", "batch-999"} <= set(kept)
    assert len(kept) == 9
    assert sum(int(text.split()[0].replace(",", "")) for text in told) == 1000 - 9
    assert all(text.endswith("all completed") for text in told)


def test_steps_that_fit_are_all_shown() -> None:
    steps = [step("a"), step("b")]
    assert shown_steps(steps, 2) == steps
    assert shown_steps(steps, None) == steps
