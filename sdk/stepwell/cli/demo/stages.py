"""Where a performance is seen while it goes on: on a terminal, as plain lines, or not at all."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.spinner import Spinner
from rich.text import Text

from stepwell.cli.console import signs
from stepwell.cli.demo.closing import opening, show_performance
from stepwell.cli.timeline.drawing import draw_run
from stepwell.cli.words import duration

if TYPE_CHECKING:
    from stepwell.cli.demo.catalogue import Pipeline
    from stepwell.cli.demo.performance import Performance
    from stepwell.cli.demo.recorder import Recorder

PAUSE = 0.9
"""Seconds for which a line of the story stays before it goes on."""
FRAMES = 8
"""A second."""
LINES_OF_A_RUN = 12
"""Plain lines about the steps of one run, before only every tenth, hundredth ... is told."""


class Stage(Protocol):
    """What a performance tells where it is seen."""

    owns_stdout: bool
    """Whether nothing else may print to standard output."""

    def setting_up(self, name: str) -> AbstractContextManager[None]:
        """A pipeline is being imported."""
        ...

    def leave_out(self, name: str, why: str) -> None:
        """A pipeline cannot be played here."""
        ...

    def playing(self, pipeline: Pipeline, recorder: Recorder) -> AbstractContextManager[None]:
        """It plays."""
        ...

    def say(self, text: str) -> None:
        """The play tells its story."""
        ...

    def hear(self, line: str, second: float) -> None:
        """Something happened, at that virtual second."""
        ...

    def ended(self, performance: Performance) -> None:
        """It is over."""
        ...


def stage_for(console: Console, *, silent: bool) -> Stage:
    """The stage that fits: silent for JSON, live on a terminal, lines otherwise (pipes, CI)."""
    if silent:
        return SilentStage()
    if console.is_terminal and not os.environ.get("CI"):
        return LiveStage(console)
    return PlainStage(console)


class SilentStage:
    """Nothing is seen."""

    owns_stdout = True

    def setting_up(self, name: str) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def leave_out(self, name: str, why: str) -> None:
        return None

    def playing(self, pipeline: Pipeline, recorder: Recorder) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def say(self, text: str) -> None:
        return None

    def hear(self, line: str, second: float) -> None:
        return None

    def ended(self, performance: Performance) -> None:
        return None


class PlainStage:
    """Line after line."""

    owns_stdout = False

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told: Counter[str] = Counter()

    def setting_up(self, name: str) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def leave_out(self, name: str, why: str) -> None:
        self._console.print(Text(f"{name} is left out: {why}", style="yellow"))

    @contextmanager
    def playing(self, pipeline: Pipeline, recorder: Recorder) -> Iterator[None]:
        self._told.clear()
        self._console.print(opening(pipeline))
        yield

    def say(self, text: str) -> None:
        self._console.print(Text(f"  {signs(self._console).arrow} {text}", style="bold"), soft_wrap=True)

    def hear(self, line: str, second: float) -> None:
        if self._worth(line):
            self._console.print(Text(f"    {virtual_time(second):>15}  {line}"), soft_wrap=True)

    def _worth(self, line: str) -> bool:
        """Whether the line is printed: of the thousandth completed step nobody needs to hear."""
        if not line.endswith(" completed"):
            return True
        subject = line.partition(" ")[0]
        self._told[subject] += 1
        count = self._told[subject]
        every: int = 10 ** len(str(count // LINES_OF_A_RUN)) if count > LINES_OF_A_RUN else 1
        return count % every == 0

    def ended(self, performance: Performance) -> None:
        show_performance(self._console, performance)


class LiveStage:
    """A timeline that moves. The story's lines scroll above it; when it ends, it stays as it was last."""

    owns_stdout = False

    def __init__(self, console: Console, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._console = console
        self._pause = pause

    def setting_up(self, name: str) -> AbstractContextManager[None]:
        return _spinning(self._console, f"setting up a local AWS for {name}")

    def leave_out(self, name: str, why: str) -> None:
        self._console.print(Text(f"{name} is left out: {why}", style="yellow"))

    @contextmanager
    def playing(self, pipeline: Pipeline, recorder: Recorder) -> Iterator[None]:
        self._console.print(opening(pipeline))
        spinner = Spinner("dots")
        with Live(
            get_renderable=lambda: self._frame(recorder, spinner),
            console=self._console,
            refresh_per_second=FRAMES,
            transient=True,
        ):
            yield

    def say(self, text: str) -> None:
        self._console.print(Text(f"  {signs(self._console).arrow} {text}", style="bold"))
        self._pause(PAUSE)

    def hear(self, line: str, second: float) -> None:
        return None  # the timeline shows it

    def ended(self, performance: Performance) -> None:
        show_performance(self._console, performance)

    def _frame(self, recorder: Recorder, spinner: Spinner) -> RenderableType:
        with recorder.lock:
            return self._drawn(recorder, spinner)

    def _drawn(self, recorder: Recorder, spinner: Spinner) -> RenderableType:
        spinner.update(
            text=Text.assemble(
                (virtual_time(recorder.virtual_seconds), "bold"),
                (f" of virtual time, {duration(recorder.real_seconds)} of real time", "dim"),
            )
        )
        room = max(6, self._console.height - 4)
        blocks: list[list[Text]] = []
        # The runs that something last happened to are at the end; the older ones give way.
        for run in reversed(recorder.story.shown()):
            steps = max(2, room - 3)
            block = draw_run(
                run, now=recorder.now(), width=self._console.width - 4, signs=signs(self._console), room=min(steps, 12)
            )
            if blocks and len(block) > room:
                break
            blocks.append(block)
            room -= len(block)
        lines = [line for block in reversed(blocks) for line in block]
        for line in lines:
            line.truncate(self._console.width - 4)
        return Padding(Group(*lines, spinner), (0, 0, 0, 2))


def virtual_time(second: float) -> str:
    """A virtual second as a day and a time: 'day 3, 00:10:00'."""
    day, rest = divmod(int(second), 86_400)
    clock = f"{rest // 3600:02}:{rest % 3600 // 60:02}:{rest % 60:02}"
    return f"day {day + 1}, {clock}"


@contextmanager
def _spinning(console: Console, text: str) -> Iterator[None]:
    with console.status(Text(text, style="dim")):
        yield
