"""Watches a local world while it plays: every observation, with the real time at which it was made."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stepwell.cli.timeline.story import Story
from stepwell.testing.observations import Observation, Observations


class Recorder(Observations):
    """The observations of a world, told to a story as they come. Safe to read from another thread under `lock`."""

    def __init__(self, begin: float, timer: Callable[[], float], heard: Callable[[str, float], None]) -> None:
        """begin: the virtual time at which it starts. heard: gets each line worth telling, and its virtual second."""
        super().__init__()
        self.story = Story()
        self.lock = threading.Lock()
        self.begin = self._at = begin
        self._timer = timer
        self._heard = heard
        self._started = timer()
        self._idle = 0.0
        self._paused_at: float | None = None

    def append(self, entry: Observation) -> None:
        """One more."""
        with self.lock:
            super().append(entry)
            self._at = max(self._at, entry.at)
            line = self.story.note(entry, self.now())
        if line is not None:
            self._heard(line, entry.at - self.begin)

    def now(self) -> float:
        """This moment on the story's lanes: virtual time plus the real time that has passed."""
        return self._at + self.real_seconds

    @property
    def real_seconds(self) -> float:
        """The real time that has passed, pauses for the reader left out."""
        return (self._timer() if self._paused_at is None else self._paused_at) - self._started - self._idle

    @property
    def virtual_seconds(self) -> float:
        """The virtual time that has passed, as far as anything has happened in it."""
        return self._at - self.begin

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The real time does not count: the reader reads."""
        self._paused_at = self._timer()
        try:
            yield
        finally:
            self._idle += self._timer() - self._paused_at
            self._paused_at = None
