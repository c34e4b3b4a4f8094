"""`stepwell callbacks`: what a run waits for, answered by hand."""

from __future__ import annotations

from typing import Annotated

import typer

from stepwell.cli.friendly import friendly
from stepwell.cli.target import AsJson, Stack, connect

Token = Annotated[str, typer.Argument(metavar="TOKEN", help="The callback's token, as the function handed it out.")]


def add_to(cli: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="Answer callbacks: complete, fail, heartbeat.", no_args_is_help=True)
    for command in (complete, fail, heartbeat):
        group.command()(command)
    cli.add_typer(group, name="callbacks")


@friendly
def complete(
    token: Token,
    result: Annotated[
        str | None,
        typer.Argument(help="JSON, or @file, or - for standard input. Without it: null.", show_default=False),
    ] = None,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Answer a callback: the function goes on with this result. The first answer stands."""
    from stepwell.cli.sending import read_data

    connect(stack).complete_callback(token, None if result is None else read_data(result))
    _tell("completed", token, as_json)


@friendly
def fail(
    token: Token,
    message: Annotated[
        str, typer.Argument(metavar="MESSAGE", help="What went wrong, for the function and for people.")
    ],
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Report that what a callback waits for has failed: the function gets a StepError with this message."""
    connect(stack).fail_callback(token, message)
    _tell("failed", token, as_json)


@friendly
def heartbeat(token: Token, stack: Stack = None, as_json: AsJson = False) -> None:
    """Say that somebody is still working on it."""
    connect(stack).heartbeat_callback(token)
    _tell("heartbeat", token, as_json)


def _tell(what: str, token: str, as_json: bool) -> None:
    from stepwell.cli.console import out, print_json, report, signs

    if as_json:
        print_json({"token": token, "done": what})
        return
    console = out()
    said = {"completed": "answered", "failed": "reported as failed", "heartbeat": "heartbeat noted for"}[what]
    report(console, signs(console).done, "green", said, token)
