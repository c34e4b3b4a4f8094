"""The root of the command. A new group is one module with an `add_to`, named in `GROUPS`."""

from __future__ import annotations

from typing import Annotated

import typer

from stepwell.cli import callbacks, cost, dlq, events, friendly, functions, keys, pausing, runs, sending
from stepwell.cli.demo import command as demo
from stepwell.cli.doctor import command as doctor

GROUPS = (demo, sending, runs, events, callbacks, functions, pausing, keys, dlq, doctor, cost)
"""In the order of the help. What they need beyond typer they import when a command runs: `--help` has to be quick."""

cli = typer.Typer(
    name="stepwell",
    help="Durable step functions for Python, in your own AWS account.",
    epilog="New here? `stepwell demo` plays two pipelines on a local AWS, kills a worker, and shows what happens.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"stepwell {version('stepwell')}")
        raise typer.Exit


@cli.callback()
def root(
    debug: Annotated[
        bool, typer.Option("--debug", envvar="STEPWELL_DEBUG", help="Show the traceback of an error.")
    ] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    friendly.debug.set(debug)


for group in GROUPS:
    group.add_to(cli)
