"""`stepwell keys`: who may send events over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stepwell.cli.friendly import Trouble, friendly
from stepwell.cli.target import AsJson, Stack, connect

if TYPE_CHECKING:
    from stepwell.store.keys import EventKey


def add_to(cli: typer.Typer) -> None:
    """Add the group."""
    keys = typer.Typer(help="Keys for sending events over HTTP: create, list, revoke.", no_args_is_help=True)
    for command, name in ((create, "create"), (list_keys, "list"), (revoke, "revoke")):
        keys.command(name)(command)
    cli.add_typer(keys, name="keys")


@friendly
def create(
    name: Annotated[str, typer.Argument(help="Whose it is, for people: such as website.")],
    events: Annotated[
        list[str] | None,
        typer.Option(
            "--events", metavar="NAME", help="What may be sent with it, 'order/*' for all below. May be repeated."
        ),
    ] = None,
    limit: Annotated[
        str | None, typer.Option("--limit", metavar="N/PERIOD", help="Requests, such as 100/1s. Usually 6000/1m.")
    ] = None,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Make an event key. It is shown once: only a hash of it is kept."""
    from stepwell.cli.console import hint, out, print_json
    from stepwell.door.keys import make_key
    from stepwell.webhooks import Limit

    ports = connect(stack)._ports
    key, kept = make_key(ports, name, events=events or (), limit=Limit.parse(limit) if limit else None)
    url = ports.config.api_url
    if as_json:
        print_json({"key": key, **_shape(kept), "url": f"{url.rstrip('/')}/e/{key}" if url else None})
        return
    print(key)
    console = out()
    where = f"{url.rstrip('/')}/e/{key}" if url else "/e/KEY at the stack's output ApiUrl"
    hint(console, f"Keep it now, it is not shown again. POST events to {where}")


@friendly
def list_keys(stack: Stack = None, as_json: AsJson = False) -> None:
    """The event keys there are. None of them can be read again."""
    from stepwell.cli.console import hint, out, print_json
    from stepwell.cli.words import ago, several
    from stepwell.clock import from_millis

    keys = connect(stack)._ports.store.keys.all()
    if as_json:
        print_json([_shape(key) for key in keys])
        return
    console = out()
    if not keys:
        hint(console, "No event keys. Make one: stepwell keys create NAME")
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("id", "name", "made", "may send", "limit"):
        table.add_column(column, no_wrap=column != "may send")
    for key in keys:
        made = ago(from_millis(key.created), datetime.now(UTC))
        cells = (key.id, key.name, made, ", ".join(key.events) or "everything", key.limit or "usual")
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)
    hint(console, f"{several(len(keys), 'event key')}. To take one back: stepwell keys revoke ID")


@friendly
def revoke(key_id: Annotated[str, typer.Argument(metavar="ID")], stack: Stack = None, as_json: AsJson = False) -> None:
    """Take a key back. Within a minute it opens nothing any more."""
    from stepwell.cli.console import hint, out, print_json

    keys = connect(stack)._ports.store.keys
    found = [key for key in keys.all() if key.id == key_id]
    if not found:
        raise Trouble("unknown-key", f"There is no event key {key_id}.", "`stepwell keys list` names those there are.")
    keys.remove(found[0].hash)
    if as_json:
        print_json(_shape(found[0]))
        return
    hint(out(), f"The key {key_id} ({found[0].name}) is revoked; within a minute nobody gets in with it.")


def _shape(key: EventKey) -> dict[str, Any]:
    from stepwell.clock import iso

    return {
        "id": key.id,
        "name": key.name,
        "created_at": iso(key.created),
        "events": list(key.events),
        "limit": key.limit,
    }
