"""Every scenario, with faults at every call to AWS.

By default each call is cut before and after its effect. `make sweep` (`TEST_SWEEP=every`) also throttles it and makes it lose
its answer, refuses batches in part, and shares two longer outages (an SDK that gives up) out among the scenarios;
`TEST_SWEEP=full` tries all faults at every call everywhere.
The scenarios stand in several modules, because a module is what one worker of the test run takes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from stepwell.testing import FaultKind, crash_sweep
from tests.crash.scenarios import SCENARIOS, Scenario

Record = Callable[[str, Any], None]

OUTAGES = (FaultKind.REFUSED, FaultKind.UNKNOWN)
DEPTH = os.environ.get("TEST_SWEEP", "short")


def kinds(number: int) -> list[FaultKind]:
    """The faults that a scenario is put through."""
    if DEPTH == "short":
        return [FaultKind.CRASH_BEFORE, FaultKind.CRASH_AFTER]
    full = DEPTH == "full"
    return [kind for kind in FaultKind if full or kind not in OUTAGES or kind is OUTAGES[number % len(OUTAGES)]]


def sweep(make: Callable[[], Scenario], record: Record, among: Sequence[Callable[[], Scenario]] = SCENARIOS) -> None:
    """Crash a scenario everywhere, and record how many fault points there were. The longer outages are shared out
    `among` these."""
    scenario = make()
    points = crash_sweep(
        scenario.everything(),
        scenario.event,
        check=scenario.check,
        play=scenario.play,
        function=scenario.function,
        kinds=kinds(among.index(make)),
    )
    record("fault_points", points)
    assert points > 20
