"""`stepwell runs cancel | replay | fork | why`: one run, several by id, or all that some filters mean."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stepwell.cli.filters import Before, Chosen, Function, Limit, OfEvent, Since, Status, Tag, Until, Where, chosen
from stepwell.cli.friendly import Trouble, friendly
from stepwell.cli.target import AsJson, Stack, connect

if TYPE_CHECKING:
    from stepwell.client import Client

RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")]
RunIds = Annotated[
    list[str] | None, typer.Argument(metavar="[RUN...]", help="The ids of runs; or say which by options.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether it is meant.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Follow the new run until it ends.")]


def add_to(group: typer.Typer) -> None:
    """Add the commands to `stepwell runs`."""
    for command in (cancel, replay, fork, why):
        group.command()(command)


@friendly
def cancel(
    run: RunIds = None,
    function: Function = None,
    status: Status = None,
    since: Since = None,
    until: Until = None,
    before: Before = None,
    tag: Tag = None,
    event: OfEvent = None,
    where: Where = None,
    limit: Limit = None,
    yes: Yes = False,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Cancel runs: each stops before its next step. One that has ended stays as it is."""
    from stepwell.cli.console import hint, out, print_json, report, signs
    from stepwell.cli.singly import each, end
    from stepwell.cli.words import several

    which = chosen(
        function=function, status=status, since=since, until=until, before=before, tag=tag, event=event, where=where,
        limit=limit,
    )  # fmt: skip
    client = connect(stack)
    if _many(run, which, "cancel"):
        live = which.or_status("scheduled", "queued", "running", "suspended")
        count = _confirmed(client, live, "Cancel", yes=yes, as_json=as_json)
        cancelled = client.cancel_all(**live.filters) if count else 0
        if as_json:
            print_json({"matching": count, "cancelled": cancelled})
        else:
            hint(out(), f"{several(cancelled, 'run')} cancelled.")
        return
    console = out()

    def told(run: str, before: str | None) -> None:
        if before is None:
            report(console, signs(console).cancelled, "yellow", "cancelled", run)
        else:
            report(console, signs(console).dash, "dim", f"had already {before}:", run)

    def stop(run: str) -> str | None:
        return None if client.cancel(run) else client.run(run).status.value

    outcomes = each(run or (), stop, None if as_json else told)
    if as_json:
        print_json([one.shape(run_id=one.run, cancelled=not (one.trouble or one.value)) for one in outcomes])
    end(outcomes)


@friendly
def replay(
    run: RunIds = None,
    watch: Watch = False,
    function: Function = None,
    status: Status = None,
    since: Since = None,
    until: Until = None,
    before: Before = None,
    tag: Tag = None,
    event: OfEvent = None,
    where: Where = None,
    limit: Limit = None,
    operation: Annotated[
        str, typer.Option("--operation", metavar="NAME", help="Of many: what was replayed under this name is left out.")
    ] = "replay",
    yes: Yes = False,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Start new runs with the same events, on today's code. Nothing of the old ones is reused."""
    from stepwell.cli.console import hint, out, print_json, report, signs
    from stepwell.cli.singly import each, end
    from stepwell.cli.words import several

    which = chosen(
        function=function, status=status, since=since, until=until, before=before, tag=tag, event=event, where=where,
        limit=limit,
    )  # fmt: skip
    client = connect(stack)
    if _many(run, which, "replay"):
        ended = which.or_status("completed", "failed", "cancelled")
        count = _confirmed(client, ended, "Replay", yes=yes, as_json=as_json)
        asked = client.replay_all(operation=operation, **ended.filters) if count else 0
        if as_json:
            print_json({"matching": count, "replayed": asked, "operation": operation})
            return
        hint(out(), f"{several(asked, 'run')} asked for.")
        if asked < count:
            hint(
                out(),
                f"{count - asked} of them are left out: started by other runs, of functions that are gone, or their "
                f"events were replayed before as {operation!r} (--operation names another attempt).",
            )
        return
    ids = list(dict.fromkeys(run or ()))
    if watch and len(ids) > 1:
        raise Trouble(
            "watch-one", "--watch follows one run; several were named.", "Leave it out, or replay them singly."
        )
    if watch:
        _follow(client, client.replay(ids[0]), as_json=as_json)
        return
    console = out()

    def told(run: str, new: str) -> None:
        report(console, signs(console).done, "green", "replaying", run, f"as {new}")

    outcomes = each(ids, client.replay, None if as_json else told)
    if as_json:
        shapes = [one.shape(run_id=one.value, replay_of=one.run) for one in outcomes]
        print_json(shapes[0] if len(shapes) == 1 else shapes)
    elif new := [one.value for one in outcomes if one.value is not None]:
        hint(console, f"  how it goes: stepwell runs watch {new[-1]}")
    end(outcomes)


@friendly
def fork(
    run: RunId,
    step: Annotated[str, typer.Argument(metavar="STEP", help="Its key, as `stepwell runs show` has it.")],
    input: Annotated[
        str | None, typer.Option("--input", metavar="JSON", help="Other data for the event; or @file, or -.")
    ] = None,
    result: Annotated[
        str | None,
        typer.Option(
            "--result", metavar="JSON", help="What the step has come to, instead of running it; or @file, or -."
        ),
    ] = None,
    watch: Watch = False,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Start a new run that keeps what was recorded before a step and runs the rest, on today's code."""
    from stepwell.cli.console import hint, out, print_json, report, signs
    from stepwell.cli.sending import read_data

    edits: dict[str, Any] = {}
    if input is not None:
        edits["input"] = read_data(input)
    if result is not None:
        edits["result"] = read_data(result)
    client = connect(stack)
    new = client.fork(run, step, **edits)
    if watch:
        _follow(client, new, as_json=as_json)
    elif as_json:
        print_json({"run_id": new, "fork_of": run, "forked_at": step})
    else:
        console = out()
        report(console, signs(console).done, "green", "forked", run, f"at {step} as {new}")
        hint(console, f"  how it goes: stepwell runs watch {new}")


@friendly
def why(run: RunId, stack: Stack = None, as_json: AsJson = False) -> None:
    """What a run waits for, until when, and what it has missed so far."""
    from rich.text import Text

    from stepwell.cli.console import out, print_json

    told = connect(stack).why_waiting(run)
    if as_json:
        print_json({"run_id": run, "why": told})
    else:
        out().print(Text(told))


def _many(run: list[str] | None, which: Chosen, verb: str) -> bool:
    """Whether runs are meant by filters. Raises Trouble if they are meant in both ways, or in none."""
    if bool(run) == which.given:
        raise Trouble(
            "which-runs",
            f"Say which runs to {verb}: their ids, or options such as --function, --status, --since and --tag"
            + (", not both." if run else "."),
            f"`stepwell runs list` shows what options mean. For example: stepwell runs {verb} --function shop/pay --since 1d",
        )
    return which.given


def _confirmed(client: Client, which: Chosen, verb: str, *, yes: bool, as_json: bool) -> int:
    """How many runs are meant, once somebody has said that they are. Raises Trouble if nobody can be asked."""
    from stepwell.cli.words import several

    # What comes in while somebody thinks is not what they were asked about.
    which.filters.setdefault("until", datetime.now(UTC))
    count = client.count(**which.filters)
    if yes or not count:
        return count
    if as_json:
        raise Trouble("not-confirmed", f"{several(count, 'run')} would be changed.", "Add --yes to mean it.")
    typer.confirm(f"{verb} {several(count, 'run')} ({which.told})?", abort=True, err=True)
    return count


def _follow(client: Client, run: str, *, as_json: bool) -> None:
    from stepwell.cli.watching import follow

    follow(client, run, as_json=as_json)
