"""The `stepwell` command: one module a group of commands, found in `stepwell.cli.root`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command with the arguments of the process; the exit status is 0 if all went well.

    typer and rich come with the extra `cli`; a library user does without them.
    """
    try:
        from stepwell.cli.root import cli
    except ModuleNotFoundError as missing:
        if missing.name not in {"typer", "rich"}:
            raise
        print("The stepwell command needs two more packages: pip install 'stepwell[cli]'", file=sys.stderr)
        return 1
    cli(prog_name="stepwell")
    return 0
