"""Time spent in AWS clients, told apart from time spent in Stepwell."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any


class Spent:
    """CPU seconds that the calling thread has spent in clients, and how often each operation was called."""

    def __init__(self) -> None:
        self._local = threading.local()
        self.calls: Counter[str] = Counter()

    @property
    def seconds(self) -> float:
        """Of the calling thread, so far."""
        return getattr(self._local, "seconds", 0.0)

    def add(self, operation: str, seconds: float) -> None:
        """One call."""
        self._local.seconds = self.seconds + seconds
        self.calls[operation] += 1


class TimedClient:
    """A client whose calls are timed."""

    def __init__(self, client: Any, spent: Spent) -> None:
        self._client = client
        self._spent = spent

    def __getattr__(self, operation: str) -> Any:
        method = getattr(self._client, operation)
        spent = self._spent

        def call(**arguments: Any) -> Any:
            began = time.thread_time()
            try:
                return method(**arguments)
            finally:
                spent.add(operation, time.thread_time() - began)

        self.__dict__[operation] = call
        return call
