"""What a verb asks for: operations to be brought to their ends, and the type of what comes of it."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from stepwell.engine.async_driver import AsyncDriver
from stepwell.engine.operations import Operation
from stepwell.engine.sync_driver import SyncDriver

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Later = Coroutine[Any, Any, T]
"""What is to be awaited. By this name mypy does not see the Any in it; written out, all that `asyncio.gather` gives is Any."""


class Ask(Generic[T_co]):
    """What a verb asks of the driver of its face."""

    @property
    def name(self) -> str:
        """Of the step, to say which one was never awaited."""
        raise NotImplementedError

    def result(self, driver: SyncDriver) -> T_co:
        """Block until it is there."""
        raise NotImplementedError

    def finish(self, driver: AsyncDriver) -> Later[T_co]:
        """Wait until it is there."""
        raise NotImplementedError


@dataclass(frozen=True)
class One(Ask[T_co]):
    """The value of one operation."""

    operation: Operation

    @property
    def name(self) -> str:
        return self.operation.key

    def result(self, driver: SyncDriver) -> T_co:
        value: T_co = driver.finish(self.operation)
        return value

    def finish(self, driver: AsyncDriver) -> Later[T_co]:
        return driver.finish(self.operation)


@dataclass(frozen=True)
class Many(Ask[T_co]):
    """The values of operations that run side by side, in their order."""

    base: str
    """What their keys have in common."""
    operations: Sequence[Operation]
    limit: int
    """At once."""
    tolerated: int
    """So many may fail; their errors stand in the places of their values."""

    @property
    def name(self) -> str:
        return self.base

    def result(self, driver: SyncDriver) -> T_co:
        values: Any = driver.map(self.operations, self.limit, self.tolerated)
        return values  # type: ignore[no-any-return]

    def finish(self, driver: AsyncDriver) -> Later[T_co]:
        values: Any = driver.map(self.operations, self.limit, self.tolerated)
        return values  # type: ignore[no-any-return]
