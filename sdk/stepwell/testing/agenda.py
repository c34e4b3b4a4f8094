"""What will happen at which virtual time."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(order=True, slots=True)
class _Entry:
    at: float
    order: int
    action: Callable[[], None] = field(compare=False)
    what: str = field(compare=False)


class Agenda:
    """Things to do, in order of their time, then in the order in which they were added."""

    def __init__(self) -> None:
        self._heap: list[_Entry] = []
        self._count = 0

    def add(self, at: float, action: Callable[[], None], what: str) -> None:
        """Do `action` at `at` (epoch seconds, virtual); `what` says it for people."""
        self._count += 1
        heapq.heappush(self._heap, _Entry(at, self._count, action, what))

    def next_at(self) -> float | None:
        """When the next thing is to be done, or None."""
        return self._heap[0].at if self._heap else None

    def run_due(self, now: float) -> int:
        """Do all that is due, in order; says how much that was."""
        done = 0
        while self._heap and self._heap[0].at <= now:
            heapq.heappop(self._heap).action()
            done += 1
        return done

    def describe(self) -> list[tuple[float, str]]:
        """What is to come, in order."""
        return [(entry.at, entry.what) for entry in sorted(self._heap)]
