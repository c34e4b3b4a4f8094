"""Counts the fault points of the crash suite and says at the end how many there were."""

from __future__ import annotations

from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, [])]
    tried = sum(value for report in reports for name, value in report.user_properties if name == "fault_points")
    programs = sum(value for report in reports for name, value in report.user_properties if name == "programs")
    if tried or programs:
        broken = sum(1 for report in terminalreporter.stats.get("failed", []) if "tests/crash" in report.nodeid)
        terminalreporter.write_line(
            f"crash suite: {tried:,} fault points and {programs:,} random programs tried, {broken} violations"
        )
