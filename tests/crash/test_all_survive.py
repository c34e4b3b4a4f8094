"""No scenario is left out of the sweep."""

from __future__ import annotations

from tests.crash import (
    test_again_survives,
    test_answers_survive,
    test_ends_survive,
    test_steps_survive,
    test_waits_survive,
)
from tests.crash.scenarios import SCENARIOS


def test_every_scenario_is_swept_once() -> None:
    modules = (test_again_survives, test_steps_survive, test_waits_survive, test_answers_survive, test_ends_survive)
    assert sorted(make.__name__ for module in modules for make in module.CHOSEN) == sorted(
        make.__name__ for make in SCENARIOS
    )
