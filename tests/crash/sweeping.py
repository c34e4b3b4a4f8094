"""Every scenario, with faults at calls to AWS. How many, TEST_SWEEP says:

sample   each eleventh of the cuts, and each fourth of the wrong gates: what a change is tried with (`make test`)
cuts     every call is cut before and after its effect: what is merged has passed this (`.ci/run`)
every    also throttled, its answer lost, its batch refused in part; and two longer outages, in which the SDK gives up,
         shared out among the scenarios (`make sweep`)
full     all faults at every call everywhere

The scenarios stand in several modules, because a module is what one worker of the test run takes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from stepwell.testing import FaultKind, crash_sweep
from tests.crash.scenarios import SCENARIOS, Scenario

Record = Callable[[str, Any], None]

SAMPLE = 11
"""An odd number, so that cuts before and after an effect come in turn."""
OUTAGES = (FaultKind.REFUSED, FaultKind.UNKNOWN)
DEPTH = os.environ.get("TEST_SWEEP", "sample")
DEPTHS = ("sample", "cuts", "every", "full")


def kinds(number: int) -> list[FaultKind]:
    """The faults that a scenario is put through."""
    assert DEPTH in DEPTHS, f"TEST_SWEEP is {DEPTH!r}; there are {', '.join(DEPTHS)}"
    if DEPTH in ("sample", "cuts"):
        return [FaultKind.CRASH_BEFORE, FaultKind.CRASH_AFTER]
    full = DEPTH == "full"
    return [kind for kind in FaultKind if full or kind not in OUTAGES or kind is OUTAGES[number % len(OUTAGES)]]


def sweep(make: Callable[[], Scenario], record: Record, among: Sequence[Callable[[], Scenario]] = SCENARIOS) -> None:
    """Crash a scenario everywhere, and record how many fault points there were. The longer outages are shared out
    `among` these."""
    scenario = make()
    number, sample = among.index(make), DEPTH == "sample"
    points = crash_sweep(
        scenario.everything(),
        scenario.event,
        check=scenario.check,
        play=scenario.play,
        function=scenario.function,
        kinds=kinds(number),
        every=SAMPLE if sample else 1,
        first=number % SAMPLE if sample else 0,
    )
    record("fault_points", points)
    assert points > (1 if sample else 15)
