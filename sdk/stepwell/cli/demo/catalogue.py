"""The pipelines there are: every package of `stepwell_examples` that has a `demo` module."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from stepwell.cli.friendly import Trouble

if TYPE_CHECKING:
    from stepwell import Stepwell
    from stepwell.testing import LocalStepwell

DEFAULT = ("orders", "sermons")

Play = Callable[["LocalStepwell", Callable[[str], None]], list[str]]


class CannotPlay(Trouble):
    """A pipeline that this machine cannot play, or that does not exist."""


@dataclass(frozen=True, slots=True)
class Crash:
    """Where a worker is killed: beside the body of a step."""

    step: str
    after: bool = True
    """After the body, before its result is recorded; else right before the body."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline, ready to be played."""

    name: str
    title: str
    apps: Sequence[Stepwell]
    play: Play
    crash: Crash | None
    """None: the play itself kills one."""


CRASHES = {
    "clips": Crash("find_clips"),
    "debate": Crash("composite"),
    # Its play counts the requests that its API saw, so the worker dies before it makes one.
    "pricing_sync": Crash("batch-700", after=False),
}
"""For plays that kill no worker themselves and whose module has no `crash_after`."""


def names() -> list[str]:
    """All pipelines."""
    import stepwell_examples

    return sorted(module.name for module in pkgutil.iter_modules(stepwell_examples.__path__) if module.ispkg)


def load(name: str) -> Pipeline:
    """Import a pipeline. Raises CannotPlay."""
    wanted = name.replace("-", "_")
    if wanted not in names():
        raise CannotPlay("unknown-pipeline", f"There is no pipeline {name!r}.", f"There are {', '.join(names())}.")
    try:
        module = import_module(f"stepwell_examples.{wanted}.demo")
        story = import_module(f"stepwell_examples.{wanted}.app").__doc__ or wanted
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("stepwell"):
            raise
        raise CannotPlay(
            "missing-package",
            f"{wanted} works with the package {missing.name}, which is not installed.",
            "pip install 'stepwell[cli,examples]'. Not every package of the examples exists for the newest Python.",
        ) from missing
    step = getattr(module, "crash_after", None)
    return Pipeline(
        wanted, story.strip().splitlines()[0], module.apps, module.play, Crash(step) if step else CRASHES.get(wanted)
    )
