"""A run on the screen: once, or until it ends."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.syntax import Syntax
from rich.text import Text

from stepwell.cli.console import RUN_STYLES, out, run_sign, signs
from stepwell.cli.shapes import run_shape, whole_run_shape
from stepwell.cli.timeline.drawing import draw_run, progress_words
from stepwell.cli.timeline.recorded import lane_of
from stepwell.cli.words import ago, duration, moment, preview
from stepwell.errors import UnknownRun
from stepwell.records import RunStatus, StepStatus

if TYPE_CHECKING:
    from stepwell.client import Client
    from stepwell.views import Run

STEPS_AT_MOST = 40
"""Steps of one run that are shown; the rest is told in words."""
APPEARS_WITHIN = 15.0
"""Seconds after which a run that was asked for must be there: its message has to be handled first."""


def portrait(run: Run, console: Console, *, now: datetime, traceback: bool = False, room: int | None = None) -> Group:
    """All about a run."""
    marks = signs(console)
    parts: list[RenderableType] = []
    lines = draw_run(lane_of(run), now=now.timestamp(), width=console.width, signs=marks, room=room or STEPS_AT_MOST)
    event = run.event
    tags = f" {marks.dot} {', '.join(f'{name}={value}' for name, value in run.tags.items())}" if run.tags else ""
    facts = Text("  ")
    facts.append(f"{event.name}  {event.id} {marks.dot} accepted {moment(run.created_at, now)}, ")
    facts.append(f"{ago(run.created_at, now)}{tags}")
    facts.stylize("dim")
    data = Text(f"  {preview(event.data, max(20, console.width - 4))}", style="dim")
    parts += [lines[0], facts, data, *lines[1:]]
    if waiting := why_waiting(run, now):
        parts.append(Text(f"  {waiting}", style="blue"))
    if run.reason and run.status.is_terminal:
        parts.append(Text(f"  {run.status.value}: {run.reason}", style="yellow"))
    if run.status is RunStatus.COMPLETED and run.result is not None:
        text = json.dumps(run.result, indent=2, ensure_ascii=False)
        short = "\n" not in text or len(preview(run.result, 10_000)) < console.width - 12
        shown = preview(run.result, 10_000) if short else text
        parts += [Text("  result", style="dim"), Padding(_json(shown, console), (0, 0, 0, 2))]
    if run.error is not None:
        at = f" at step {run.error.step}" if run.error.step else ""
        parts.append(Text(f"  {run.error.type}{at}: {run.error.message}", style="red"))
        if traceback and run.error.traceback:
            parts.append(Padding(Text(run.error.traceback.rstrip(), style="dim red"), (0, 0, 0, 2)))
        elif run.error.traceback:
            parts.append(Text("  (--traceback shows where)", style="dim"))
    return Group(*parts)


def _json(text: str, console: Console) -> RenderableType:
    if not console.is_terminal:
        return Text(text)
    return Syntax(text, "json", theme="ansi_dark", background_color="default", word_wrap=True)


def why_waiting(run: Run, now: datetime) -> str:
    """In one sentence, what a live run waits for; empty if for nothing."""
    if run.status is RunStatus.SCHEDULED:
        return "It waits for its time, a slot or a limit before it starts." + (f" {run.reason}." if run.reason else "")
    if run.status is not RunStatus.SUSPENDED:
        return ""
    reasons = []
    for key, step in run.steps.items():
        until = f" until {moment(step.until, now)} ({ago(step.until, now)})" if step.until else ""
        if step.status is StepStatus.RETRYING:
            reasons.append(f"for the next attempt of step {key}, after {step.attempts}")
        elif step.status is StepStatus.WAITING:
            what = {
                "sleep": "sleeps at step",
                "wait_for_event": "for the event of step",
                "callback": "for the answer to step",
            }
            reasons.append(f"{what.get(step.kind, 'for the run of step' if step.child else 'for')} {key}{until}")
    if not reasons:
        return "It waits for the next attempt of its body." if run.attempt > 1 else ""
    return (
        "It waits "
        + ", ".join(reasons[:3]).replace("It waits sleeps", "It sleeps")
        + (f" and {len(reasons) - 3} more." if len(reasons) > 3 else ".")
    )


def follow(
    client: Client, run: str, *, as_json: bool = False, every: float = 1.0, timeout: float | None = None
) -> None:
    """Show the run until it ends. Exits with status 1 unless it completed; raises TimeoutError."""
    last: Run | None = None
    if as_json:
        for last in _looks(client, run, every, timeout):
            print(json.dumps(run_shape(last), ensure_ascii=False), flush=True)
        if last is not None:
            print(json.dumps(whole_run_shape(last), ensure_ascii=False), flush=True)
    elif (console := out()).is_terminal:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            for last in _looks(client, run, every, timeout, always=True):
                room = max(4, console.height - 8)
                live.update(portrait(last, console, now=datetime.now(UTC), room=room), refresh=True)
        if last is not None:
            console.print(portrait(last, console, now=datetime.now(UTC)))
    else:
        for last in _looks(client, run, every, timeout):
            console.print(_line(last, console))
        if last is not None:
            console.print(portrait(last, console, now=datetime.now(UTC)))
    if last is None or last.status is not RunStatus.COMPLETED:
        raise typer.Exit(1)


def _looks(client: Client, run: str, every: float, timeout: float | None, *, always: bool = False) -> Iterator[Run]:
    """The run, whenever it has changed (or at each look), until it has ended."""
    begun = time.monotonic()
    before: object = None
    while True:
        waited = time.monotonic() - begun
        try:
            found = client.run(run)
        except UnknownRun:
            if waited > APPEARS_WITHIN:
                raise
            found = None
        if found is not None:
            state = (
                found.status,
                found.attempt,
                found.progress,
                [(k, s.status, s.attempts) for k, s in found.steps.items()],
            )
            if always or state != before:
                yield found
            before = state
            if found.status.is_terminal:
                return
        if timeout is not None and waited >= timeout:
            raise TimeoutError(f"Run {run} has not ended within {duration(timeout)}; it goes on without being watched.")
        pause(every)


def pause(seconds: float) -> None:
    """Wait between two looks."""
    time.sleep(seconds)


def _line(run: Run, console: Console) -> Text:
    marks = signs(console)
    done = sum(step.status is StepStatus.COMPLETED for step in run.steps.values())
    line = Text(f"{run_sign(run.status, marks)} {run.status.value:<10}", style=RUN_STYLES[run.status])
    line.append(f" {run.function}  {done} of {len(run.steps)} steps done", style="default")
    if run.progress:
        line.append(f"  {progress_words(run.progress)}", style="dim")
    return line
