"""What a middleware provides to functions and steps, found by its type."""

from __future__ import annotations

from typing import TypeVar

from stepwell.engine.core import current
from stepwell.errors import InvalidOption, MisplacedStep

T = TypeVar("T")


def provided(kind: type[T]) -> T:
    """What a middleware has provided under this class: `db = provided(Database)`, in a function or in a step.

    A step's own comes before the run's. Raises InvalidOption if no middleware provides it, MisplacedStep outside of a
    function.
    """
    here = current.get()
    if here is None:
        raise MisplacedStep("provided() is only known inside of a function or a step.")
    for call in (here.call, here.core.call):
        if call is not None and kind in call.provisions:
            found: T = call.provisions[kind]
            return found
    raise InvalidOption(
        f"No middleware of app {here.core.run.app!r} provides {kind.__qualname__}. In its on_run or on_step: "
        f"run.provide(value, {kind.__qualname__})."
    )
