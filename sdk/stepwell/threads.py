"""Where the engine's threads come from, so that a test can decide who runs when.

In Lambda they are plain threads. The local world passes turns between them one at a time, which makes a test
deterministic and lets a seed search for races.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar

T = TypeVar("T")

AT_ONCE = 16
"""Calls that `together` makes at the same time."""


class Threads(Protocol):
    """Starting threads and waiting for what they do."""

    def spawn(self, target: Callable[[], None], *, name: str) -> None:
        """Run `target` in a thread of its own. It must not raise."""
        ...

    def wait_until(self, ready: Callable[[], bool], timeout: float | None = None) -> bool:
        """Block the caller until `ready()` holds or `timeout` real seconds passed; says whether it holds."""
        ...

    def notify(self) -> None:
        """What some `ready()` looks at may have changed."""
        ...

    def blocking(self) -> AbstractContextManager[None]:
        """Around a call in which the caller blocks in the operating system."""
        ...


class SystemThreads:
    """Threads of the operating system, one condition variable for all waiting."""

    def __init__(self) -> None:
        self._changed = threading.Condition()

    def spawn(self, target: Callable[[], None], *, name: str) -> None:
        threading.Thread(target=target, name=name, daemon=True).start()

    def wait_until(self, ready: Callable[[], bool], timeout: float | None = None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not ready():
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._changed.wait(left)
            return True

    def notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    @contextmanager
    def blocking(self) -> Iterator[None]:
        yield


def together(threads: Threads, calls: Sequence[Callable[[], T]]) -> list[T]:
    """What these calls give, in their order, made in several threads. Raises what the first of them to fail raised."""
    workers = min(AT_ONCE, len(calls))
    if workers <= 1:
        return [call() for call in calls]
    lock, left = threading.Lock(), iter(enumerate(calls))
    answers: dict[int, T] = {}
    raised: list[BaseException] = []
    done: list[None] = []

    def work() -> None:
        try:
            while not raised:
                with lock:
                    number, call = next(left, (-1, None))
                if call is None:
                    break
                answers[number] = call()
        except BaseException as error:  # a thread must not raise; whoever waits does
            raised.append(error)
        done.append(None)
        threads.notify()

    for number in range(workers):
        threads.spawn(work, name=f"stepwell-together-{number}")
    threads.wait_until(lambda: len(done) == workers)
    if raised:
        raise raised[0]
    return [answers[number] for number in range(len(calls))]
