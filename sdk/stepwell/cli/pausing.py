"""`stepwell pause` and `stepwell resume`: hold back the starts of a function."""

from __future__ import annotations

from typing import Annotated

import typer

from stepwell.cli.friendly import friendly
from stepwell.cli.target import AsJson, Stack, connect

Name = Annotated[str, typer.Argument(metavar="APP/FUNCTION", help="As `stepwell functions` lists it.")]


def add_to(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.command()(pause)
    cli.command()(resume)


@friendly
def pause(function: Name, stack: Stack = None, as_json: AsJson = False) -> None:
    """Let new runs of a function wait until it is resumed. Runs that have begun go on; nothing is lost."""
    from stepwell.cli.console import hint, out, print_json

    connect(stack).pause(function)
    if as_json:
        print_json({"function": function, "paused": True})
        return
    console = out()
    console.print(f"paused [bold]{function}[/]")
    hint(console, f"What starts it from now on waits in line. Go on with: stepwell resume {function}")


@friendly
def resume(function: Name, stack: Stack = None, as_json: AsJson = False) -> None:
    """Start the runs that wait for a paused function, in the order of their events."""
    from stepwell.cli.console import out, print_json

    connect(stack).resume(function)
    if as_json:
        print_json({"function": function, "paused": False})
        return
    out().print(f"resumed [bold]{function}[/]")
