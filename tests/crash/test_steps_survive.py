"""Steps, one after the other and side by side."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.crash import scenarios
from tests.crash.scenarios import Scenario
from tests.crash.sweeping import Record, sweep

CHOSEN = [
    scenarios.sequential,
    scenarios.parallel,
    scenarios.mapped,
    scenarios.submitted,
    scenarios.spread,
    scenarios.recovering,
]


@pytest.mark.parametrize("make", CHOSEN, ids=[make.__name__ for make in CHOSEN])
def test_they_survive_every_fault_at_every_call(make: Callable[[], Scenario], record_property: Record) -> None:
    sweep(make, record_property)
