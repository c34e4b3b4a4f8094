"""`stepwell functions`: what is deployed, what starts it, and when if that is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from stepwell.cli.friendly import friendly
from stepwell.cli.target import AsJson, Stack, connect

EXPLAINED = frozenset({"id", "name", "triggers", "retries", "compute", "flow"})
"""Entries of a function in the manifest that have a column; the others are options, listed by name."""


def add_to(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command()(functions)


@friendly
def functions(stack: Stack = None, as_json: AsJson = False) -> None:
    """The registered functions and their triggers; of a schedule also the next tick."""
    import time

    from stepwell.cli.console import hint, out, print_json
    from stepwell.cli.words import several

    known, now = connect(stack).functions(), round(time.time() * 1000)
    if as_json:
        print_json([function_shape(name.partition("/")[0], entry, now) for name, entry in known.items()])
        return
    console = out()
    if not known:
        hint(
            console,
            "No function is registered. A deployment registers the functions of each StepwellApp; in code they begin "
            "with @app.function(on=...).",
        )
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("function", no_wrap=True)
    table.add_column("starts on")
    table.add_column("retries", justify="right")
    table.add_column("options", style="dim")
    for name, entry in known.items():
        app, _, id = name.partition("/")
        table.add_row(
            Text.assemble((f"{app}/", "dim"), (id, "bold")),
            Text("\n".join(trigger_words(trigger, now) for trigger in entry.get("triggers", ()))),
            str(entry.get("retries", "")),
            Text(option_words(entry)),
        )
    console.print(table)
    apps = {name.partition("/")[0] for name in known}
    hint(console, f"{several(len(known), 'function')} in {several(len(apps), 'app')}")


def function_shape(app: str, entry: Mapping[str, Any], now: int) -> dict[str, Any]:
    """A function as JSON: its entry in the manifest, and the next tick (UTC) of each schedule."""
    from stepwell.cli.words import iso
    from stepwell.clock import from_millis
    from stepwell.schedules import Schedule

    triggers = [
        {**trigger, "next_at": iso(from_millis(Schedule.from_json(trigger).after(now)))}
        if "cron" in trigger
        else trigger
        for trigger in entry.get("triggers", ())
    ]
    return {"app": app, **entry, "triggers": triggers}


def trigger_words(trigger: Mapping[str, Any], now: int) -> str:
    """A trigger of the manifest in one line; of a schedule with its next tick after `now` (milliseconds), local time."""
    if "cron" in trigger:
        from stepwell.durations import spoken
        from stepwell.schedules import Schedule

        schedule = Schedule.from_json(trigger)
        following = schedule.local(schedule.after(now))[:16].replace("T", " ")
        jitter = f", up to {spoken(schedule.jitter)} later" if schedule.jitter else ""
        return f"cron {schedule.expression}, next {following} {schedule.tz}{jitter}"
    where = f"  where {trigger['where']}" if trigger.get("where") else ""
    return f"{trigger.get('event', '?')}{where}"


def option_words(entry: Mapping[str, Any]) -> str:
    """What is set beyond the defaults."""
    words = [] if entry.get("compute", "default") == "default" else [f"compute {entry['compute']}"]
    for name, value in {**entry, **entry.get("flow", {})}.items():
        if name in EXPLAINED or value in (None, False, [], {}):
            continue
        label = name.replace("_", " ")
        words.append(label if value is True else f"{label} {_value(value)}")
    return ", ".join(words)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "(" + " ".join(f"{name}={_value(each)}" for name, each in value.items()) + ")"
    if isinstance(value, list):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    return str(value)
