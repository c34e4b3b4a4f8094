"""The same done to several runs: to each of them, whatever becomes of the others, and all of it told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import typer

from stepwell.cli.friendly import Trouble, debug, explain, show

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What came of one of the runs."""

    run: str
    value: T | None
    trouble: Trouble | None = None

    def shape(self, **fields: Any) -> dict[str, Any]:
        """As JSON: these fields, and the error if there was one."""
        if self.trouble is None:
            return fields
        return {**fields, "error": {"code": self.trouble.code, "message": self.trouble.message}}


def each(runs: Iterable[str], act: Callable[[str], T], told: Callable[[str, T], None] | None) -> list[Outcome[T]]:
    """Do it to each run, to one that is named twice once, and tell at once what came of it; with no `told` nothing is said,
    since all of it becomes one document. What goes wrong with the only run is raised."""
    named, outcomes = list(dict.fromkeys(runs)), list[Outcome[T]]()
    for run in named:
        try:
            value = act(run)
        except Exception as error:
            if debug.get() or len(named) == 1:
                raise
            outcomes.append(Outcome(run, None, explain(error)))
            if told is not None:
                show(explain(error))
        else:
            outcomes.append(Outcome(run, value))
            if told is not None:
                told(run, value)
    return outcomes


def end(outcomes: Iterable[Outcome[Any]]) -> None:
    """End with status 1 if anything went wrong."""
    if any(outcome.trouble is not None for outcome in outcomes):
        raise typer.Exit(1)
