"""What a function is given: its event, and the verbs of ctx.step.

Context is for `def` functions, AsyncContext for `async def` ones, where every verb of ctx.step is awaited. Both are thin
faces over the same core.
"""

from __future__ import annotations

import logging
import random
from collections.abc import MutableMapping
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from stepwell.clock import from_millis
from stepwell.engine.async_driver import AsyncDriver
from stepwell.engine.core import Core
from stepwell.engine.sync_driver import SyncDriver
from stepwell.events import Event
from stepwell.planning.planner import Planner
from stepwell.verbs import AsyncSteps, Steps

T_co = TypeVar("T_co", covariant=True)

_logger = logging.getLogger("stepwell.function")


class _Logger(logging.LoggerAdapter[logging.Logger]):
    """Silent while the function goes over what it has done before; names the run otherwise."""

    def __init__(self, core: Core) -> None:
        super().__init__(_logger, {"run_id": core.run.id, "function": core.run.function})
        self._core = core

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 (logging's own name)
        return not self._core.replaying and super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **kwargs.get("extra", {})}
        return msg, kwargs


class _BaseContext(Generic[T_co]):
    """What both contexts have."""

    def __init__(self, core: Core, events: list[Event[T_co]], max_attempts: int) -> None:
        self._core = core
        self.events = events
        """The events of a batch; otherwise the one event."""
        self.max_attempts = max_attempts
        """Attempts of the function's body: retries + 1."""
        self.logger: logging.LoggerAdapter[logging.Logger] = _Logger(core)
        """Logs with the run's id, and is silent while replaying."""

    @property
    def event(self) -> Event[T_co]:
        """The event that started the run."""
        return self.events[0]

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._core.run.id

    @property
    def attempt(self) -> int:
        """Which attempt of the function's body this is, from 1."""
        return self._core.run.attempt

    def now(self) -> datetime:
        """The time of the latest checkpoint the function has seen (UTC); the same on every replay, and free."""
        return from_millis(self._core.now())

    def uuid(self) -> UUID:
        """A random UUID (version 4); the same on every replay, and free."""
        return UUID(bytes=self._core.draw("uuid")[:16], version=4)

    def random(self) -> float:
        """A random number from 0 up to 1; the same on every replay, and free."""
        return random.Random(self._core.draw("random")).random()

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Say how far the run is. Written at most once a second (one write unit); read it from Run.progress."""
        self._core.report(done, total, message)


class Context(_BaseContext[T_co]):
    """The context of a `def` function."""

    def __init__(
        self, core: Core, events: list[Event[T_co]], max_attempts: int, planner: Planner, driver: SyncDriver
    ) -> None:
        super().__init__(core, events, max_attempts)
        self.step = Steps(planner, driver)


class AsyncContext(_BaseContext[T_co]):
    """The context of an `async def` function."""

    def __init__(
        self, core: Core, events: list[Event[T_co]], max_attempts: int, planner: Planner, driver: AsyncDriver
    ) -> None:
        super().__init__(core, events, max_attempts)
        self.step = AsyncSteps(planner, driver)
