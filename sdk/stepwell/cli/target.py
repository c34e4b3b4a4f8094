"""Which Stepwell a command talks to: a stack by name, or the one that the environment points to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from stepwell.cli.friendly import Trouble

if TYPE_CHECKING:
    from stepwell.client import Client

Stack = Annotated[
    str | None,
    typer.Option(
        "--stack",
        metavar="NAME",
        help="The deployed CloudFormation stack. Without it: STEPWELL_TABLE, STEPWELL_QUEUE_URL and STEPWELL_BUCKET.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def connect(stack: str | None) -> Client:
    """A client. Raises Trouble if nothing says of which Stepwell, InvalidOption if the stack is none."""
    from stepwell.client import Client

    if stack is not None:
        return Client.from_stack(stack)
    missing = [name for name in ("STEPWELL_TABLE", "STEPWELL_QUEUE_URL") if not os.environ.get(name)]
    if missing:
        raise Trouble(
            "which-stepwell",
            f"No Stepwell was named: there is no --stack, and {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not set.",
            "Pass --stack NAME of a deployed stack, or set the variables from its outputs. Nothing deployed yet? "
            "`stepwell demo` needs no account.",
        )
    return Client.from_env()
