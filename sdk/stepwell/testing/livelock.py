"""When to believe that a world will never become idle."""

from __future__ import annotations

from collections import Counter

LIVELOCK = 5_000
"""Invocations for one run, or of one Lambda that serves them all, while time stands still."""
PER_TASK = 20
"""By how many the second bound grows for each thing the world was given to do. A message passes the consumer once, and so
does what follows from it: a slot that becomes free, a child, an end."""


class Livelock:
    """Counts invocations for as long as time stands still: work that was given comes to an end, a circle does not.

    A run is a thing of its own, and its bound is fixed. The consumer and the orchestrator serve all, so theirs grows
    with the messages that came from outside at this moment and with what was pending when it began, but not with what
    the handlers add themselves.
    """

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()
        self._tasks = 0

    def time_moved(self, pending: int) -> None:
        """A new moment begins, in which `pending` things may happen."""
        self._begun.clear()
        self._tasks = pending

    def given(self) -> None:
        """A message came from outside."""
        self._tasks += 1

    def began(self, subject: str, *, serves_all: bool) -> bool:
        """Count an invocation; whether it is one too many."""
        self._begun[subject] += 1
        return self._begun[subject] > LIVELOCK + (PER_TASK * self._tasks if serves_all else 0)

    def why(self, subject: str) -> str:
        """What keeps the world busy."""
        busiest = ", ".join(f"{name} ({count})" for name, count in self._begun.most_common(5))
        return (
            f"{self._begun[subject] - 1} invocations for {subject} without time moving; the world would never become "
            f"idle. Busiest: {busiest}."
        )
