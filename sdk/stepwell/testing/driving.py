"""A client of a simulated world: what it waits for comes, because its waiting moves the clock."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from stepwell.client import Client
from stepwell.durations import seconds, spoken
from stepwell.errors import UnknownRun
from stepwell.ports import Ports
from stepwell.records import RunStatus
from stepwell.store.layout import RUN_SK
from stepwell.testing.observations import Sent
from stepwell.testing.world import World

FAR_AWAY = 400 * 86_400.0
"""Virtual seconds that `client.result()` looks ahead when it is given no time-out."""


class DrivingClient(Client):
    """A client whose waiting moves the virtual clock."""

    def __init__(self, ports: Ports, world: World, *, default_group: str = "stepwell") -> None:
        super().__init__(ports, default_group=default_group)
        self._world = world

    def result(self, run: str, *, timeout: float | timedelta | None = None) -> Any:
        """Let the world go on, in virtual time, until the run has ended; what its function returned, as plain JSON.

        Raises RunFailed, RunCancelled, UnknownRun, and TimeoutError after `timeout` (virtual seconds), or when nothing
        is left to happen that could end the run.
        """
        allowed = FAR_AWAY if timeout is None else seconds(timeout, what="timeout")
        deadline = self._world.clock.now() + allowed
        self._world.run_until_idle()
        while not has_ended(self._world, run):
            if not self._can_come(run):
                raise UnknownRun(f"There is no run {run!r}, or it has expired.")
            at = self._world.next_at()
            if at is None and timeout is None:
                raise TimeoutError(
                    f"Run {run} has not ended, and nothing is left to happen here that could end it: it waits for an "
                    "event or an answer that nobody has sent."
                )
            if at is None or at > deadline:
                self._world.advance(deadline - self._world.clock.now())
                break
            self._world.step()
        try:
            return super().result(run, timeout=0)
        except TimeoutError:
            raise TimeoutError(f"Run {run} has not ended within {spoken(allowed)}.") from None

    def _can_come(self, run: str) -> bool:
        """Whether the run exists, or something that may make it is on its way: a message that names it."""
        if self._world.table.get((f"RUN#{run}", RUN_SK)) is not None:
            return True
        asked = any(f'"{run}"' in sent.body for sent in self._world.observations.of(Sent) if not sent.dead_letter)
        return asked and self._world.next_at() is not None


def has_ended(world: World, run_id: str) -> bool:
    """Whether a run has ended, by what the table holds."""
    image = world.table.get((f"RUN#{run_id}", RUN_SK))
    return image is not None and RunStatus(image.attributes["status"]["S"]).is_terminal
