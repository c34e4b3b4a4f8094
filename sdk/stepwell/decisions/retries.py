"""Whether and when to try again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAX_CRASHES = 10
"""Invocations in a row that died without a new checkpoint or mark, after which a run is ended instead of looping."""
MAX_STALLS = 5
"""Hand-overs in a row without a new checkpoint: the code between two steps takes longer than a Lambda may run."""
MAX_MISFIRES = 104
"""Dispatches in a row that reached no worker: with the delays below, 24 hours of them."""

_DEFAULT: Mapping[str, Any] = {"initial": 1.0, "factor": 2.0, "maximum": 3600.0, "jitter": True}


def backoff_delay(policy: Mapping[str, Any] | None, failures: int, chance: float) -> float:
    """Seconds until the next attempt after `failures` failed ones.

    `chance` is a random number from 0 to 1. With jitter the delay lies in the upper half of the exponential value:
    spread out, and never so short that the pause loses its sense.
    """
    use = {**_DEFAULT, **(policy or {})}
    try:
        full = use["initial"] * use["factor"] ** (failures - 1)
    except OverflowError:
        full = use["maximum"]
    delay: float = min(full, use["maximum"])
    return delay * (0.5 + chance / 2) if use["jitter"] else delay


def redelivery_delay(receives: int, chance: float) -> float:
    """Seconds until a message that was received so often without being handled is delivered again; at most 15 minutes.

    `chance` is a random number from 0 to 1: messages that failed together come again apart from each other.
    """
    delay: float = 2.0 ** (min(receives, 10) + chance)
    return min(900.0, delay)


def misfire_delay(misfires: int) -> float:
    """Seconds until a worker that could not be reached is asked again."""
    return min(900.0, 5.0 * 2.0 ** min(misfires, 10))


def crash_delay(crashes: int) -> float:
    """Seconds until a run whose invocations keep dying is tried again; the first two times at once."""
    return 0.0 if crashes <= 2 else min(300.0, 2.0 ** (crashes - 2))
