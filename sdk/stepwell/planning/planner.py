"""What the plans of one invocation share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stepwell.durations import YEAR, Duration, seconds
from stepwell.engine.core import Core
from stepwell.engine.operations import Policy
from stepwell.errors import InvalidOption
from stepwell.steps import check_step_id, options_of
from stepwell.typed import Typed

Target = tuple[str, str, Typed]
"""App and id of a function to invoke, and how its results are read."""


class Planner:
    """What is known in one invocation when a step is asked for."""

    def __init__(
        self, core: Core, retries: int, backoff: dict[str, Any] | None, target: Callable[[Any], Target]
    ) -> None:
        self.core = core
        self.target = target
        """Finds a function to invoke."""
        self._retries = retries
        self._backoff = backoff

    def key(self, id: str) -> str:
        """The identity of the next step with this id. Raises InvalidOption if it is none."""
        return self.core.key_for(check_step_id(id))

    def policy(self, fn: Callable[..., Any]) -> Policy:
        """How a body is run: as its step says, otherwise as the function says."""
        return options_of(fn).policy(self._retries, self._backoff)


def wait_seconds(duration: Duration, what: str) -> float:
    """The seconds of a wait. Raises InvalidOption for more than a year."""
    length = seconds(duration, what=what)
    if length > YEAR:
        raise InvalidOption(f"{what}: {duration!r} is longer than a year, the longest a step may wait.")
    return length
