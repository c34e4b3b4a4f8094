"""`stepwell send` and `stepwell invoke`: what starts runs."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from stepwell.cli.friendly import Trouble, friendly
from stepwell.cli.target import AsJson, Stack, connect

Data = Annotated[
    str | None, typer.Argument(help="JSON, or @file, or - for standard input. Without it: {}.", show_default=False)
]


def add_to(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.command()(send)
    cli.command()(invoke)


@friendly
def send(
    name: Annotated[str, typer.Argument(help="The event's name, such as order/created.")],
    data: Data = None,
    id: Annotated[
        str | None, typer.Option("--id", help="An id of your own: a second event with it starts nothing.")
    ] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Whose it is, for fair queueing.")] = None,
    ts: Annotated[
        str | None, typer.Option("--ts", metavar="TIME", help="When it takes effect: ISO 8601 (naive is UTC), or +10m.")
    ] = None,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Send an event. When the command ends, the queue has stored it."""
    from stepwell.cli.console import hint, out, print_json, report, signs

    body = read_data(data)
    if not isinstance(body, dict):
        raise Trouble("invalid-event", f"The data of an event is a JSON object, not {json.dumps(body)[:60]}.")
    event_id = connect(stack).send(name, body, id=id, tenant=tenant, ts=_moment(ts))
    if as_json:
        print_json({"id": event_id, "name": name})
        return
    console = out()
    report(console, signs(console).done, "green", "sent", name, event_id)
    hint(console, f"  what it starts: stepwell runs list --event {event_id}")


@friendly
def invoke(
    function: Annotated[str, typer.Argument(metavar="APP/FUNCTION", help="As `stepwell functions` shows it.")],
    data: Data = None,
    id: Annotated[
        str | None, typer.Option("--id", help="An id of your own: asked for again with it, it is the same run.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow the run until it ends.")] = False,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Start a run of one function directly, without an event that others see."""
    from stepwell.cli.console import hint, out, print_json, report, signs

    if function.count("/") != 1:
        raise Trouble("unknown-function", f"A function is named app/function-id, not {function!r}.", SEE_FUNCTIONS)
    client = connect(stack)
    run = client.invoke(function, read_data(data), id=id)
    if watch:
        from stepwell.cli.watching import follow

        follow(client, run, as_json=as_json)
    elif as_json:
        print_json({"run_id": run})
    else:
        console = out()
        report(console, signs(console).done, "green", "invoked", function, run)
        hint(console, f"  how it goes: stepwell runs watch {run}")


SEE_FUNCTIONS = "`stepwell functions` shows what is registered."


def read_data(given: str | None) -> Any:
    """The JSON value that was given on the command line, in a file or on standard input. Raises Trouble."""
    if given is None:
        return {}
    source, text = "the data", given
    if given == "-":
        source, text = "standard input", sys.stdin.read()
    elif given.startswith("@"):
        source = given[1:]
        try:
            text = Path(source).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Trouble("no-data", f"{source} cannot be read: {error}.") from error
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = text.splitlines()[error.lineno - 1] if text.strip() else ""
        raise Trouble(
            "invalid-json",
            f"{source} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
            + (f": {line[max(0, error.colno - 30) : error.colno + 30]}" if line else "."),
            """Quote it for the shell, for example '{"order_id": "o-1"}', or write it to a file and pass @file.""",
        ) from error


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    from datetime import timedelta

    from stepwell.durations import seconds
    from stepwell.errors import InvalidOption

    now = datetime.now(UTC)
    try:
        if text.startswith("+"):
            return now + timedelta(seconds=seconds(text[1:], what="--ts"))
        value = datetime.fromisoformat(text)
    except (ValueError, OverflowError, InvalidOption):
        raise Trouble(
            "invalid-time", f"--ts: {text!r} is neither ISO 8601, such as 2026-03-01T12:00, nor a delay such as +10m."
        ) from None
    return value if value.tzinfo else value.replace(tzinfo=UTC)
