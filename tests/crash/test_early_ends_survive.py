"""Cancelling events, time limits, run events and detached children."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.crash.early_ends import EARLY_ENDS
from tests.crash.scenarios import Scenario
from tests.crash.sweeping import Record, sweep


@pytest.mark.parametrize("make", EARLY_ENDS, ids=[make.__name__ for make in EARLY_ENDS])
def test_they_survive_every_fault_at_every_call(make: Callable[[], Scenario], record_property: Record) -> None:
    sweep(make, record_property, EARLY_ENDS)
