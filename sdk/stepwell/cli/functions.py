"""`stepwell functions`: what is deployed, and what starts it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from stepwell.cli.friendly import friendly
from stepwell.cli.target import AsJson, Stack, connect, registered

EXPLAINED = frozenset({"id", "name", "triggers", "retries", "compute"})
"""Entries of a function in the manifest that have a column; the others are options, listed by name."""


def add_to(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command()(functions)


@friendly
def functions(stack: Stack = None, as_json: AsJson = False) -> None:
    """The registered functions and their triggers."""
    from stepwell.cli.console import hint, out, print_json
    from stepwell.cli.words import several

    apps = registered(connect(stack))
    if as_json:
        print_json([{"app": app.id, **entry} for app in apps for entry in app.functions])
        return
    console = out()
    if not any(app.functions for app in apps):
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
    for app in apps:
        for entry in app.functions:
            table.add_row(
                Text.assemble((f"{app.id}/", "dim"), (entry["id"], "bold")),
                Text("\n".join(trigger_words(trigger) for trigger in entry.get("triggers", ()))),
                str(entry.get("retries", "")),
                Text(option_words(entry)),
            )
    console.print(table)
    count = sum(len(app.functions) for app in apps)
    hint(console, f"{several(count, 'function')} in {several(len(apps), 'app')}")


def trigger_words(trigger: Mapping[str, Any]) -> str:
    """A trigger of the manifest in one line."""
    if "cron" in trigger:
        zone = trigger.get("tz", "UTC")
        return f"cron {trigger['cron']}" + (f" ({zone})" if zone != "UTC" else "")
    where = f"  where {trigger['where']}" if trigger.get("where") else ""
    return f"{trigger.get('event', '?')}{where}"


def option_words(entry: Mapping[str, Any]) -> str:
    """What is set beyond the defaults."""
    words = [] if entry.get("compute", "default") == "default" else [f"compute {entry['compute']}"]
    for name, value in entry.items():
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
