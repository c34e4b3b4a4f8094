"""What is printed around a performance: its title, its timeline and proof, and at the end where everything went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stepwell.cli.console import signs
from stepwell.cli.timeline.drawing import draw_run
from stepwell.cli.words import duration, several

if TYPE_CHECKING:
    from stepwell.cli.demo.catalogue import Pipeline
    from stepwell.cli.demo.performance import Performance
    from stepwell.cli.timeline.lanes import RunLane

STEPS_AT_MOST = 14
LABELS = ("consumer", "orchestrator", "worker", "sweeper")


def opening(pipeline: Pipeline) -> Text:
    """The headline of a pipeline."""
    return Text.assemble("\n", (pipeline.name, "bold magenta"), "  ", (pipeline.title, "italic"))


def show_performance(console: Console, performance: Performance) -> None:
    """The timeline of its runs as it is at the end, and the proof."""
    marks = signs(console)
    console.print()
    for run in performance.runs:
        end = run.ended if run.ended is not None else _last(run)
        for line in draw_run(run, now=end, width=console.width - 2, signs=marks, room=STEPS_AT_MOST):
            console.print(Text("  ") + line, soft_wrap=True)
    console.print()
    for kill in performance.kills:
        over = f"; {kill.resumed_by} took the run over, {kill.kept_words}" if kill.resumed_by else "; nobody took over"
        line = Text(f"  {marks.cut} ", style="bold red")
        line.append(f"{kill.worker} was killed {kill.why}{over}.", style="default not bold")
        console.print(line, soft_wrap=not console.is_terminal)
    if (proof := performance.proof) is not None:
        parts = [
            f"{proof.recorded:,} recorded",
            f"{proof.retried:,} failed and tried again" if proof.retried else "",
            f"{proof.asked:,} polls too early" if proof.asked else "",
            f"{proof.cut_off:,} lost with the worker" if proof.cut_off else "",
        ]
        counted = f"{several(proof.bodies, 'step body')} began = {' + '.join(part for part in parts if part)}"
        again = "no finished step ran again" if not proof.ran_again else "FINISHED STEPS RAN AGAIN"
        _verdict(console, not proof.ran_again, f"{again}: {counted}.")
        kept = f"all {proof.promises} promises hold over everything that happened"
        _verdict(console, not proof.broken, kept if not proof.broken else f"{len(proof.broken)} promises were broken")
    for problem in performance.problems:
        _verdict(console, False, problem)


def _verdict(console: Console, well: bool, text: str) -> None:
    marks = signs(console)
    sign, style = (marks.done, "green") if well else (marks.failed, "red")
    verdict = Text.assemble((f"  {sign} ", style), (text, "" if well else style))
    console.print(verdict, soft_wrap=not console.is_terminal)


def _last(run: RunLane) -> float:
    ends = [run.created]
    for stretches in [run.executions, *(step.stretches for step in run.steps.values())]:
        ends += [stretch.end if stretch.end is not None else stretch.begin for stretch in stretches]
    return max(ends)


def closing(console: Console, performances: Sequence[Performance]) -> None:
    """Where everything went, and the last word."""
    if not performances:
        return
    console.print()
    console.print(_where_it_went(performances))
    for performance in performances:
        names = ", ".join(f"{kind} {name}" for kind, name in performance.resources.items())
        console.print(Text(f"local AWS of {performance.pipeline.name}: {names}", style="dim"), soft_wrap=True)
    runs = sum(len(performance.runs) for performance in performances)
    bad = [performance.pipeline.name for performance in performances if performance.problems]
    setup = sum(performance.setup_seconds for performance in performances)
    real = sum(performance.real_seconds for performance in performances)
    console.print()
    if bad:
        _verdict(console, False, f"{', '.join(bad)} did not end as {'it' if len(bad) == 1 else 'they'} should.")
        return
    virtual = duration(sum(performance.virtual_seconds for performance in performances))
    _verdict(
        console,
        True,
        f"{several(len(performances), 'pipeline')}, {several(runs, 'run')}: all ended as they should. {virtual} of "
        f"virtual time in {duration(real)}, after {duration(setup)} of setting up.",
    )
    console.print(
        Text(
            "    Next: read examples/orders/app.py, write your own function, test it with stepwell.testing.",
            style="dim",
        )
    )


def _where_it_went(performances: Sequence[Performance]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", title="where it went", title_justify="left")
    table.title_style = "bold"
    table.add_column("")
    for performance in performances:
        table.add_column(performance.pipeline.name, justify="right", header_style="bold magenta")
    rows: list[tuple[str, list[str]]] = [
        ("runs", [f"{len(each.runs):,}" for each in performances]),
        ("steps", [f"{sum(len(run.steps) for run in each.runs):,}" for each in performances]),
        ("write units", [f"{each.requests.write_units:,.0f}" for each in performances]),
        ("read units", [f"{each.requests.read_units:,.1f}".removesuffix(".0") for each in performances]),
        ("SQS requests", [f"{each.requests.sqs:,}" for each in performances]),
        ("S3 requests", [f"{each.requests.s3:,}" for each in performances]),
        *(
            (f"{label} invocations", [f"{each.requests.invocations[label]:,}" for each in performances])
            for label in LABELS
        ),
        ("virtual time", [duration(each.virtual_seconds) for each in performances]),
        ("real time", [duration(each.real_seconds) for each in performances]),
    ]
    for name, values in rows:
        if set(values) == {"0"}:
            continue
        table.add_row(Text(name, style="dim"), *values)
    return table


def performance_shape(performance: Performance) -> dict[str, Any]:
    """A performance as JSON."""
    proof, requests = performance.proof, performance.requests
    return {
        "pipeline": performance.pipeline.name,
        "ok": not performance.problems,
        "problems": performance.problems,
        "said": performance.said,
        "runs": [
            {
                "id": run.id,
                "app": run.app,
                "function": run.function,
                "status": run.status.value,
                "steps": [
                    {"key": key, "kind": step.kind, "status": step.status.value, "bodies": step.bodies}
                    for key, step in run.steps.items()
                ],
            }
            for run in performance.runs
        ],
        "kills": [
            {"worker": kill.worker, "run": kill.run, "why": kill.why, "resumed_by": kill.resumed_by}
            for kill in performance.kills
        ],
        "proof": None
        if proof is None
        else {
            "bodies": proof.bodies,
            "recorded": proof.recorded,
            "retried": proof.retried,
            "polled": proof.asked,
            "cut_off": proof.cut_off,
            "ran_again": list(proof.ran_again),
            "broken_promises": list(proof.broken),
        },
        "requests": {
            "write_units": requests.write_units,
            "read_units": requests.read_units,
            "sqs": requests.sqs,
            "s3": requests.s3,
            "invocations": dict(Counter(requests.invocations)),
        },
        "resources": performance.resources,
        "virtual_seconds": round(performance.virtual_seconds, 3),
        "real_seconds": round(performance.real_seconds, 3),
        "setup_seconds": round(performance.setup_seconds, 3),
    }
