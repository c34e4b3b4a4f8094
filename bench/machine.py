"""What the figures were measured on, and how much of it there was to be had."""

from __future__ import annotations

import os
import platform
import time
from datetime import UTC, datetime
from importlib.metadata import version


def describe() -> str:
    """Date, machine and versions in one line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {cores} cores ({platform.machine()}), "
        f"Python {platform.python_version()}, botocore {version('botocore')}"
    )


def share_of_a_core(duration: float = 0.3) -> float:
    """The part of a core, 0 to 1, that a busy thread gets now. Well below 1: others are at work, wall times are long."""
    wall, cpu = time.perf_counter(), time.thread_time()
    while time.perf_counter() - wall < duration:
        pass
    return min(1.0, (time.thread_time() - cpu) / (time.perf_counter() - wall))
