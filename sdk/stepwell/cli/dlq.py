"""`stepwell dlq`: messages that could not be handled."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from stepwell.cli.friendly import Trouble, friendly
from stepwell.cli.target import AsJson, Stack, connect
from stepwell.errors import UnknownLetter


def add_to(cli: typer.Typer) -> None:
    """Add the group."""
    dlq = typer.Typer(help="Dead letters: list, show, redrive.", no_args_is_help=True)
    for command, name in ((list_letters, "list"), (show, "show"), (redrive, "redrive")):
        dlq.command(name)(command)
    cli.add_typer(dlq, name="dlq")


@friendly
def list_letters(stack: Stack = None, as_json: AsJson = False) -> None:
    """What lies in the dead-letter queue, and why. Looking takes nothing away."""
    from stepwell.cli.console import hint, out, print_json
    from stepwell.cli.words import ago, cut, preview, several

    letters = sorted(connect(stack).dead_letters(), key=lambda letter: letter.sent_at)
    if as_json:
        print_json([_shape(letter) for letter in letters])
        return
    console = out()
    if not letters:
        hint(console, "No dead letters: every message was handled.")
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    columns = 5 if console.width >= 100 else 4  # with less room the reason is worth more than the body
    for column, style in (("id", "dim"), ("sent", ""), ("code", "red"), ("reason", ""), ("body", "dim"))[:columns]:
        table.add_column(column, style=style, no_wrap=column in ("id", "sent", "code"))
    for letter in letters:
        sent = ago(letter.sent_at, datetime.now(UTC))
        cells = (letter.id, sent, letter.code, letter.reason, preview(letter.body, 40))
        # One line for each letter: what is not to be cut is as wide as it is, the rest is cut to what room there is.
        table.add_row(*(Text(cut(cell, 400), no_wrap=True, overflow="ellipsis") for cell in cells[:columns]))
    console.print(table)
    hint(console, f"{several(len(letters), 'dead letter')}. The whole story of one: stepwell dlq show ID")


@friendly
def show(letter_id: Annotated[str, typer.Argument(metavar="ID")], stack: Stack = None, as_json: AsJson = False) -> None:
    """One dead letter: the reason in full, and the message as it was sent."""
    from stepwell.cli.console import out, print_json

    letter = next((each for each in connect(stack).dead_letters() if each.id == letter_id), None)
    if letter is None:
        raise UnknownLetter(f"There is no dead letter {letter_id}.")
    if as_json:
        print_json(_shape(letter))
        return
    from rich.text import Text

    console = out()
    console.print(Text.assemble((letter.code, "bold red"), f"  {letter.sent_at:%Y-%m-%d %H:%M:%S} UTC"))
    console.print(Text(letter.reason))
    console.print(Text(letter.body, style="dim"))


@friendly
def redrive(
    letter_id: Annotated[str | None, typer.Argument(metavar="[ID]")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Send a dead letter back to the main queue, or all of them. Mend what was wrong first. One that cannot be sent stays,
    and does not keep the others."""
    from stepwell.cli.console import hint, out, print_json
    from stepwell.cli.words import several

    if (letter_id is None) != everything:
        raise Trouble("which-letter", "Say which dead letter: an ID from `stepwell dlq list`, or --all.", "")
    moved = connect(stack).redrive(letter_id)
    if as_json:
        print_json({"redriven": moved})
        return
    hint(out(), f"{several(moved, 'message')} back on the main queue.")


def _shape(letter: Any) -> dict[str, Any]:
    return {
        "id": letter.id,
        "code": letter.code,
        "reason": letter.reason,
        "sent_at": letter.sent_at.isoformat(),
        "body": letter.body,
    }
