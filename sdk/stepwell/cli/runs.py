"""`stepwell runs`: list, show, watch; what starts and ends them is in `again`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from stepwell.cli import again
from stepwell.cli.filters import Before, Function, OfEvent, Status, Tag, Until, Where, chosen
from stepwell.cli.friendly import friendly
from stepwell.cli.target import AsJson, Stack, connect

if TYPE_CHECKING:
    from rich.table import Table

    from stepwell.cli.console import Signs
    from stepwell.views import Run

RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")]


def add_to(cli: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="Look at runs, follow, cancel, replay and fork them.", no_args_is_help=True)
    group.command("list")(list_)
    group.command()(show)
    group.command()(watch)
    again.add_to(group)
    cli.add_typer(group, name="runs")


@friendly
def list_(
    function: Function = None,
    status: Status = None,
    since: Annotated[
        str | None,
        typer.Option("--since", help="How far back: 24h (unless there is a --tag or --event), 7d, or ISO 8601."),
    ] = None,
    until: Until = None,
    before: Before = None,
    tag: Tag = None,
    event: OfEvent = None,
    where: Where = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")] = 20,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Runs, newest first."""
    from stepwell.cli.console import hint, out, print_json, signs
    from stepwell.cli.shapes import run_shape
    from stepwell.cli.words import several

    back = since or ("24h" if tag is None and event is None else None)  # a tag and an id are keys, not times
    which = chosen(
        function=function, status=status, since=back, until=until, before=before, tag=tag, event=event, where=where,
        limit=limit + 1,  # one more than is shown, to know whether there are more
    )  # fmt: skip
    client = connect(stack)
    found = list(client.runs(**which.filters))
    shown = found[:limit]
    if as_json:
        print_json([run_shape(run) for run in shown])
        return
    console = out()
    if not shown:
        narrowed = function or status or tag or where or before or until
        hint(console, _nothing(function, status, back, tag, event, bool(narrowed), bool(client.functions())))
        return
    console.print(_table(shown, datetime.now(UTC), signs(console)))
    if len(found) > limit:
        hint(
            console, f"There are more: --before {shown[-1].id}, or narrow it down with --function, --status and --tag."
        )
    else:
        hint(console, several(len(shown), "run"))


def _nothing(
    function: str | None,
    status: list[str] | None,
    since: str | None,
    tag: str | None,
    event: str | None,
    narrowed: bool,
    has_functions: bool,
) -> str:
    if not has_functions:
        return (
            "No function is registered here, so nothing can run yet. A deployment of a StepwellApp registers its app."
        )
    if event is not None and not narrowed and since is None:
        return (
            f"Event {event} has started nothing: either it matched no trigger (`stepwell functions` shows them), or it "
            "has not been handled yet."
        )
    of = (f" of {function}" if function else "") + (f" with the tag {tag}" if tag else "")
    of += f" that event {event} has started" if event else ""
    state = f" {' or '.join(status)}" if status else ""
    if since is None:
        return f"No{state} runs{of}." + (" `stepwell functions` shows which functions have tags." if tag else "")
    return (
        f"No{state} runs{of} since {since}. Look further back with --since 7d, or start one: "
        "stepwell send order/created '{...}'"
    )


def _table(runs: list[Run], now: datetime, signs: Signs) -> Table:
    from rich.table import Table
    from rich.text import Text

    from stepwell.cli.console import RUN_STYLES, run_sign
    from stepwell.cli.timeline.drawing import progress_words
    from stepwell.cli.words import ago, cut, duration

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("status", no_wrap=True)
    table.add_column("function", no_wrap=True)
    table.add_column("run", no_wrap=True, style="dim")
    table.add_column("accepted", no_wrap=True)
    table.add_column("took", no_wrap=True, justify="right")
    table.add_column("", overflow="ellipsis", no_wrap=True)
    for run in runs:
        style = RUN_STYLES[run.status]
        took = "" if run.ended_at is None else duration((run.ended_at - run.created_at).total_seconds())
        said = Text()
        if run.error:
            said = Text(cut(f"{run.error.type}: {run.error.message}", 60), style="red")
        elif run.reason:
            said = Text(cut(run.reason, 60), style="yellow")
        elif run.progress:
            said = Text(progress_words(run.progress), style="dim")
        table.add_row(
            Text(f"{run_sign(run.status, signs)} {run.status.value}", style=style),
            Text(f"{run.app}/{run.function}"),
            run.id,
            ago(run.created_at, now),
            took,
            said,
        )
    return table


@friendly
def show(
    run: RunId,
    traceback: Annotated[bool, typer.Option("--traceback", help="Also the traceback of its error.")] = False,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """One run: its event, its steps on a timeline, its result."""
    from stepwell.cli.console import out, print_json
    from stepwell.cli.shapes import whole_run_shape
    from stepwell.cli.watching import portrait

    found = connect(stack).run(run)
    if as_json:
        print_json(whole_run_shape(found))
        return
    console = out()
    console.print(portrait(found, console, now=datetime.now(UTC), traceback=traceback))


@friendly
def watch(
    run: RunId,
    every: Annotated[float, typer.Option("--every", min=0.1, help="Seconds between two looks.")] = 1.0,
    timeout: Annotated[
        str | None, typer.Option("--timeout", help="Stop watching after that long, such as 10m.")
    ] = None,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Follow a run until it ends. Exit status 0 if it completed, else 1."""
    from stepwell.cli.watching import follow
    from stepwell.durations import seconds

    allowed = seconds(timeout, what="--timeout") if timeout else None
    follow(connect(stack), run, as_json=as_json, every=every, timeout=allowed)
