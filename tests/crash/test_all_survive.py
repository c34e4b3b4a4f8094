"""No scenario is left out of the sweep."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tests.crash.flow_scenarios import FLOW_SCENARIOS
from tests.crash.scenarios import SCENARIOS


def test_every_scenario_is_swept_once() -> None:
    names = [path.stem for path in Path(__file__).parent.glob("test_*.py") if path.stem != Path(__file__).stem]
    modules = [import_module(f"tests.crash.{name}") for name in names]
    swept = [make for module in modules for make in getattr(module, "CHOSEN", ())]
    scenarios = [*SCENARIOS, *FLOW_SCENARIOS]
    assert len(swept) == len(set(swept))
    assert {make.__name__ for make in scenarios} <= {make.__name__ for make in swept}
