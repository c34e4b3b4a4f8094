"""Where output goes, and the signs it is made of."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from stepwell.records import RunStatus, StepStatus

PIPED_WIDTH = 160
"""Columns of output that no terminal shows: wide enough that ids stay whole."""


@dataclass(frozen=True, slots=True)
class Signs:
    """What stands for what. All are one column wide."""

    done: str = "✔"
    failed: str = "✘"
    cancelled: str = "⊘"
    skipped: str = "↷"
    running: str = "●"
    queued: str = "○"
    resting: str = "◐"
    bar: str = "━"
    wait: str = "┄"
    gap: str = "┊"
    cut: str = "╳"
    child: str = "↳"
    dot: str = "·"
    more: str = "⋮"
    dash: str = "–"
    arrow: str = "→"


FANCY = Signs()
PLAIN = Signs("+", "x", "/", ">", "*", "o", "~", "=", ".", ":", "X", ">", "-", ":", "-", "->")
"""For terminals that know ASCII only."""

RUN_STYLES = {
    RunStatus.SCHEDULED: "blue",
    RunStatus.QUEUED: "cyan",
    RunStatus.RUNNING: "cyan",
    RunStatus.SUSPENDED: "blue",
    RunStatus.COMPLETED: "green",
    RunStatus.FAILED: "red",
    RunStatus.CANCELLED: "yellow",
    RunStatus.SKIPPED: "yellow",
}
STEP_STYLES = {
    StepStatus.STARTED: "cyan",
    StepStatus.RETRYING: "yellow",
    StepStatus.WAITING: "blue",
    StepStatus.COMPLETED: "green",
    StepStatus.FAILED: "red",
    StepStatus.TIMED_OUT: "yellow",
}


def out() -> Console:
    """Standard output, as it is now."""
    return _console(stderr=False)


def err() -> Console:
    """Standard error, as it is now."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPED_WIDTH
    return console


def signs(console: Console) -> Signs:
    """The signs this console can show."""
    return PLAIN if console.options.ascii_only else FANCY


def run_sign(status: RunStatus, signs: Signs) -> str:
    """The sign of a run's state."""
    return {
        RunStatus.COMPLETED: signs.done,
        RunStatus.FAILED: signs.failed,
        RunStatus.CANCELLED: signs.cancelled,
        RunStatus.SKIPPED: signs.skipped,
        RunStatus.RUNNING: signs.running,
        RunStatus.QUEUED: signs.queued,
    }.get(status, signs.resting)


def step_sign(status: StepStatus, signs: Signs) -> str:
    """The sign of a step's state."""
    return {
        StepStatus.COMPLETED: signs.done,
        StepStatus.FAILED: signs.failed,
        StepStatus.TIMED_OUT: signs.failed,
        StepStatus.STARTED: signs.running,
    }.get(status, signs.resting)


def print_json(value: Any) -> None:
    """One JSON document on standard output, and nothing else."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def hint(console: Console, text: str) -> None:
    """A quiet line: what to do next, or that there is nothing. Other people's brackets in it are no markup."""
    console.print(Text(text, style="dim"))


def report(console: Console, sign: str, style: str, what: str, subject: str, note: str = "") -> None:
    """A line that says what was done to what."""
    console.print(Text.assemble((sign, style), f" {what} ", (subject, "bold"), f"  {note}" if note else ""))
