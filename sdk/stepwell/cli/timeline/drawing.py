"""Lanes as lines of text. Pure: the same lanes, time and width always give the same lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.text import Text

from stepwell.cli.console import RUN_STYLES, STEP_STYLES, Signs, run_sign, step_sign
from stepwell.cli.timeline.axis import Axis
from stepwell.cli.timeline.lanes import Outcome, RunLane, StepLane, Stretch
from stepwell.cli.words import cut, duration, moment, several
from stepwell.records import StepStatus

NAME_AT_MOST = 28
NOTE = 34
BAR_AT_LEAST = 12
BAR_AT_MOST = 64

_STYLES = {
    Outcome.OPEN: "cyan",
    Outcome.RECORDED: "green",
    Outcome.FAILED: "red",
    Outcome.RETRIED: "yellow",
    Outcome.ASKED: "green dim",
    Outcome.CUT_OFF: "bold red",
    Outcome.WAITED: "blue dim",
}


def draw_run(run: RunLane, *, now: float, width: int, signs: Signs, room: int | None = None) -> list[Text]:
    """A run and its steps, one line each, at most `room` lines for the steps."""
    steps = shown_steps(list(run.steps.values()), room)
    names = [step.key for step in steps if isinstance(step, StepLane)]
    name_width = min(NAME_AT_MOST, max((len(name) for name in names), default=0))
    bar_width = min(BAR_AT_MOST, width - name_width - NOTE - 8)
    lines = [headline(run, now=now, signs=signs)]
    if bar_width < BAR_AT_LEAST:
        axis = None
    else:
        end = run.ended if run.ended is not None else now
        axis = Axis(run.busy(now), run.created, max(end, run.created), bar_width)
        if any(gap.label for gap in axis.gaps) and names:
            lines.append(Text(" " * (name_width + 6)) + _ruler(axis))
    for step in steps:
        if isinstance(step, str):
            lines.append(Text(f"  {signs.more} {step}", style="dim"))
            continue
        line = Text("  ")
        line.append(step_sign(step.status, signs), style=STEP_STYLES[step.status])
        line.append(" " + cut(step.key, name_width).ljust(name_width) + "  ")
        if axis is not None:
            line.append_text(_bar(step, axis, now, signs)).append("  ")
        line.append_text(_note(step, now))
        line.rstrip()
        lines.append(line)
    return lines


def headline(run: RunLane, *, now: float, signs: Signs) -> Text:
    """One line about a run."""
    style = RUN_STYLES[run.status]
    line = Text()
    line.append(f"{run_sign(run.status, signs)} ", style=style)
    if run.parent:
        line.append(f"{signs.child} ", style="dim")
    line.append(run.function, style="bold")
    line.append(f"  {run.id}  ", style="dim")
    line.append(run.status.value, style=style)
    line.append(f" {signs.dot} {duration((run.ended if run.ended is not None else now) - run.created)}", style="dim")
    if run.attempt > 1:
        line.append(f" {signs.dot} attempt {run.attempt}", style="yellow")
    if run.progress:
        line.append(f" {signs.dot} {progress_words(run.progress)}", style="dim")
    if run.error:
        line.append(f" {signs.dot} {cut(f'{run.error.type}: {run.error.message}', 60)}", style="red")
    elif run.reason:
        line.append(f" {signs.dot} {cut(run.reason, 60)}", style="yellow")
    return line


def progress_words(said: Mapping[str, Any]) -> str:
    """What a function last said by ctx.progress: '3/7 cutting'."""
    done, total, message = said.get("done"), said.get("total"), said.get("message") or ""
    figures = "" if done is None else f"{done:,}/{total:,}" if total else f"{done:,}" if done or not message else ""
    return " ".join(part for part in (figures, cut(message, 40)) if part)


def shown_steps(steps: Sequence[StepLane], room: int | None) -> list[StepLane | str]:
    """At most `room` of the steps, the rest as one line in words.

    Those that tell something stay: open, failed, tried again, cut off; then the first and the last ones.
    """
    if room is None or len(steps) <= room:
        return list(steps)
    keep = max(2, room - 1)
    order = sorted(range(len(steps)), key=lambda index: (-_interest(steps[index]), _from_the_edge(index, len(steps))))
    chosen = sorted(order[:keep])
    result: list[StepLane | str] = []
    at = 0
    for index in [*chosen, len(steps)]:
        if index > at:
            hidden = steps[at:index]
            done = sum(step.status is StepStatus.COMPLETED for step in hidden)
            all_done = "all completed" if done == len(hidden) else f"{done:,} of them completed"
            result.append(f"{several(len(hidden), 'more step')}, {all_done}")
        if index < len(steps):
            result.append(steps[index])
        at = index + 1
    return result


def _interest(step: StepLane) -> int:
    if step.status is not StepStatus.COMPLETED:
        return 3
    if step.count(Outcome.CUT_OFF):
        return 3
    return 2 if step.count(Outcome.RETRIED) or step.attempts > 1 else 0


def _from_the_edge(index: int, count: int) -> int:
    return min(index, count - 1 - index)


def _ruler(axis: Axis) -> Text:
    """The lengths of the hidden gaps, above them."""
    cells = [" "] * axis.width
    for gap in axis.gaps:
        for offset, character in enumerate(gap.label.center(gap.width)):
            if gap.column + offset < axis.width:
                cells[gap.column + offset] = character
    return Text("".join(cells).rstrip(), style="dim italic")


def _bar(step: StepLane, axis: Axis, now: float, signs: Signs) -> Text:
    cells: list[tuple[str, str]] = [(" ", "")] * axis.width
    for gap in axis.gaps:
        for column in {gap.column, gap.column + gap.width - 1}:
            if column < axis.width:
                cells[column] = (signs.gap, "dim")
    for stretch in sorted(step.stretches, key=lambda stretch: stretch.begin):
        _draw(stretch, cells, axis, now, signs)
    bar = Text()
    for character, style in cells:
        bar.append(character, style=style)
    return bar


def _draw(stretch: Stretch, cells: list[tuple[str, str]], axis: Axis, now: float, signs: Signs) -> None:
    waits = stretch.outcome is Outcome.WAITED
    first = axis.column(stretch.begin)
    last = max(first, axis.last_column(stretch.end if stretch.end is not None else now))
    style = "blue" if waits and stretch.end is None else _STYLES[stretch.outcome]
    for column in range(first, last + 1):
        cells[column] = (signs.wait if waits else signs.bar, style)
    if stretch.outcome is Outcome.CUT_OFF:
        cells[last] = (signs.cut, style)


def _note(step: StepLane, now: float) -> Text:
    note = Text()
    cut_off, retried = step.count(Outcome.CUT_OFF), step.count(Outcome.RETRIED)
    tries = max(step.attempts, retried + 1 if retried else 0)
    if step.error is not None and step.status in (StepStatus.FAILED, StepStatus.TIMED_OUT, StepStatus.RETRYING):
        note.append(cut(f"{step.error.type}: {step.error.message}", NOTE), style="red")
        return note
    if cut_off:
        note.append("worker killed; ran again" if not _open(step) else "worker killed", style="bold red")
    elif tries > 1:
        note.append(several(tries, "attempt"), style="yellow")
    elif step.status is StepStatus.WAITING and step.until is not None:
        when = moment(datetime.fromtimestamp(step.until, UTC), datetime.fromtimestamp(now, UTC))
        note.append(f"until {when}", style="blue")
    elif step.status is StepStatus.WAITING:
        note.append("waiting", style="blue")
    elif waited := [stretch for stretch in step.stretches if stretch.outcome is Outcome.WAITED]:
        verb = "slept" if step.kind == "sleep" else "waited"
        note.append(f"{verb} {duration(sum((each.end or now) - each.begin for each in waited))}", style="dim")
    elif step.stretches and not _open(step):
        note.append(duration(sum((each.end or now) - each.begin for each in step.stretches)), style="dim")
    if step.child is not None and step.kind == "run":
        note.append(f"{', ' if len(note) else ''}own worker", style="dim")
    return note


def _open(step: StepLane) -> bool:
    return step.status in (StepStatus.STARTED, StepStatus.RETRYING, StepStatus.WAITING)
