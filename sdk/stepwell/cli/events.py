"""`stepwell events`: what was accepted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from stepwell.cli.filters import Until, Where
from stepwell.cli.friendly import friendly
from stepwell.cli.target import AsJson, Stack, connect


def add_to(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command()(events)


@friendly
def events(
    name: Annotated[str | None, typer.Option("--name", help="Only with this name.")] = None,
    since: Annotated[str, typer.Option("--since", help="How far back: 24h, 7d, or ISO 8601.")] = "24h",
    until: Until = None,
    where: Where = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")] = 20,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Accepted events, newest first: those that started runs and those that matched nothing."""
    from stepwell.cli.console import hint, out, print_json
    from stepwell.cli.shapes import event_shape
    from stepwell.cli.words import ago, point_in_time, preview, several

    now = datetime.now(UTC)
    begin = point_in_time(since, now=now, option="--since")
    end = point_in_time(until, now=now, option="--until") if until else None
    found = list(connect(stack).events(name=name, since=begin, until=end, where=where, limit=limit + 1))
    shown = found[:limit]
    if as_json:
        print_json([event_shape(event) for event in shown])
        return
    console = out()
    if not shown:
        called = (f" called {name}" if name else "") + (" for which that holds" if where else "")
        hint(
            console,
            f"No events{called} since {since}. Look further back with --since 7d, or send one: "
            "stepwell send order/created '{...}'",
        )
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column, style in (("event", ""), ("id", "dim"), ("time", ""), ("tenant", ""), ("data", "dim")):
        table.add_column(column, style=style, no_wrap=True)
    for event in shown:
        # Built as Text: names and data are other people's, and square brackets in them are no markup.
        cells = (event.name, event.id, ago(event.ts, now), event.tenant or "", preview(event.data, 60))
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)
    hint(console, f"There are more: --limit {limit * 5}." if len(found) > limit else several(len(shown), "event"))
