"""Whether every schedule that is declared stands in the table, and none of them is behind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from stepwell.cli.doctor.patient import Finding, Patient, ok, problem, warning
from stepwell.cli.doctor.state import OVERDUE, SHOWN
from stepwell.cli.words import duration, several
from stepwell.schedules import Schedule
from stepwell.store.apps import AppRecord
from stepwell.store.crons import CronState

Named = tuple[str, str, str]
"""A function, an expression, a zone."""


def schedules(patient: Patient) -> Iterator[Finding]:
    """The sweeper follows every schedule."""
    apps, now = patient.ports.store.apps.current()[0], round(patient.now * 1000)
    findings, count = [], 0
    for app in apps.values():
        declared = _declared(app)
        standing = patient.ports.store.crons.of_app(app.id) if declared else []
        count += len(declared)
        findings += list(_of_app(app.id, declared, standing, now))
    yield from findings
    if not findings:
        yield ok(f"{several(count, 'schedule')}, none of them behind." if count else "No function has a schedule.")


def _of_app(app: str, declared: set[Named], standing: list[CronState], now: int) -> Iterator[Finding]:
    found = {(cron.function, cron.schedule.expression, cron.schedule.tz): cron for cron in standing}
    if missing := declared - found.keys():
        yield problem(
            f"{several(len(missing), 'schedule')} of {app} will never tick, because the table does not know of "
            f"{'it' if len(missing) == 1 else 'them'}: {_names(missing)}.",
            "Its registration was cut off, or the items were deleted. Deploy the stack of the app again.",
        )
    late = {
        name: cron.due_at for name, cron in found.items() if name in declared and cron.due_at < now - OVERDUE * 1000
    }
    if late:
        yield problem(
            f"{several(len(late), 'schedule')} of {app} should have been looked at more than {OVERDUE // 60} minutes ago, "
            f"the first {duration((now - min(late.values())) / 1000)} ago: {_names(late)}.",
            "The sweeper takes them up when it runs, and of the ticks missed the last one is made good: see what is said "
            "about it above. If it runs, its log says why it cannot follow them.",
        )
    if gone := found.keys() - declared:
        yield warning(
            f"{several(len(gone), 'schedule')} of {app} ticks for nothing, no function has it any more: {_names(gone)}.",
            "The next deployment of the app removes it.",
        )


def _declared(app: AppRecord) -> set[Named]:
    schedules = [
        (entry["id"], Schedule.from_json(trigger))
        for entry in app.functions
        for trigger in entry.get("triggers", ())
        if "cron" in trigger
    ]
    return {(function, schedule.expression, schedule.tz) for function, schedule in schedules}


def _names(named: Iterable[Named]) -> str:
    names = [f"{function} ({expression} {tz})" for function, expression, tz in sorted(named)]
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
