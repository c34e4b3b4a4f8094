"""Telling a thread that is stuck from one that works: the first loses its turn, the second keeps it."""

from __future__ import annotations

import time
from pathlib import Path

PATIENCE = 0.25
"""Seconds after which a holder that sleeps loses the turn."""
LONG_PATIENCE = 2.0
"""The same for a holder that works, or waits for a processor to do so."""
ASLEEP = 0.2
"""A thread that worked, or waited for a processor, for less than this share of the time was asleep."""


class Watch:
    """What one who queues has seen of the present holder, to tell one that sleeps from one that works."""

    def __init__(self, turn: int) -> None:
        self.turn = turn
        self._since = self._probed = time.monotonic()
        self._busy: float | None = None

    def finds_stuck(self, native_id: int | None, patience: float) -> bool:
        """Whether the holder should lose the turn: it sleeps, or has worked for far too long."""
        now, busy = time.monotonic(), _busy_seconds(native_id)
        before, probed = self._busy, self._probed
        self._busy, self._probed = busy, now
        held = now - self._since
        if held < patience:
            return False
        if held >= LONG_PATIENCE or busy is None:
            return True
        return before is not None and busy - before < ASLEEP * (now - probed)


def _busy_seconds(native_id: int | None) -> float | None:
    """How long a thread has worked or waited for a processor, all in all; None where the system does not tell.

    A thread that merely lacks a processor (a loaded machine, the interpreter's lock) must keep its turn: taking it away
    would make the order of a test depend on the load.
    """
    try:
        worked, waited, _ = Path(f"/proc/self/task/{native_id}/schedstat").read_text().split()
    except (OSError, ValueError):
        return None
    return (int(worked) + int(waited)) / 1e9
