"""The command: every check in its order, then a verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from stepwell.cli.friendly import Trouble, friendly
from stepwell.cli.target import AsJson, Stack


def add_to(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command()(doctor)


def aws_clients() -> Callable[[str], Any]:
    """boto3 clients by service, each made once; they follow the environment as every client does."""
    from functools import cache

    import boto3

    session = boto3.Session()
    return cache(lambda service: session.client(service))


@friendly
def doctor(
    stack: Stack = None,
    as_json: AsJson = False,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Also show what is well.")] = False,
) -> None:
    """Look at a deployment: what is wrong with it, what that means, what to do. Exit status 1 if there are problems."""
    from stepwell.cli.console import print_json
    from stepwell.cli.doctor.patient import Level, examine

    patient = _patient(stack, aws_clients())
    findings = [(name, finding) for name, check in _checks().items() for finding in examine(check, patient)]
    problems = sum(finding.level is Level.PROBLEM for _, finding in findings)
    if as_json:
        print_json(
            {
                "stack": stack,
                "problems": problems,
                "findings": [
                    {"check": name, "level": each.level.value, "what": each.what, "advice": each.advice or None}
                    for name, each in findings
                ],
            }
        )
    else:
        _print(findings, everything)
    if problems:
        raise typer.Exit(1)


def _checks() -> Mapping[str, Any]:
    """The checks by name, in the order in which one explains the next."""
    from stepwell.cli.doctor import access, deployment, schedules, state, storage

    return {
        "outputs": deployment.outputs,
        "lambdas": deployment.lambdas,
        "event source": deployment.source,
        "schedule": deployment.schedule,
        "sweeps": deployment.swept,
        "main queue": storage.queue,
        "dead-letter queue": storage.dead_letter_queue,
        "table": storage.table,
        "bucket": storage.bucket,
        "permissions": access.permissions,
        "registration": state.registration,
        "callback keys": state.callback_keys,
        "runs": state.stuck,
        "schedules": schedules.schedules,
        "backlog": state.backlog,
        "dead letters": state.dead_letters,
    }


def _patient(stack: str | None, clients: Callable[[str], Any]) -> Any:
    import os

    import botocore.session

    from stepwell.cli.doctor.patient import Patient
    from stepwell.client import OUTPUTS
    from stepwell.ports import Config, Ports

    outputs: dict[str, str] = {}
    if stack is None:
        config = Config.from_env()
    else:
        described = clients("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
        outputs = {each["OutputKey"]: each["OutputValue"] for each in described.get("Outputs", [])}
        missing = [name for name in OUTPUTS if name not in outputs]
        if missing:
            raise Trouble(
                "not-a-stepwell",
                f"Stack {stack!r} ({described.get('StackStatus')}) has no output {', '.join(missing)}.",
                "Is it the stack that holds the Stepwell, and was it deployed without outputs=False?",
            )
        found: dict[str, Any] = {field: outputs[output] for output, field in OUTPUTS.items()}
        region = clients("sqs").meta.region_name
        config = Config(**found, region=region, endpoint_url=os.environ.get("AWS_ENDPOINT_URL") or None)
    return Patient(stack, outputs, Ports.build(botocore.session.get_session(), config), clients)


def _print(findings: list[tuple[str, Any]], everything: bool) -> None:
    from rich.padding import Padding
    from rich.text import Text

    from stepwell.cli.console import hint, out, signs
    from stepwell.cli.doctor.patient import Level
    from stepwell.cli.words import several

    console = out()
    marks = signs(console)
    shown = {
        Level.OK: (marks.done, "green"),
        Level.WARNING: (marks.skipped, "yellow"),
        Level.UNKNOWN: (marks.dash, "dim"),
        Level.PROBLEM: (marks.failed, "red"),
    }
    for name, finding in findings:
        if finding.level is Level.OK and not everything:
            continue
        sign, style = shown[finding.level]
        console.print(Text.assemble((f"{sign} ", style), (f"{name}  ", "bold"), (finding.what, style)))
        if finding.advice:
            console.print(Padding(Text(finding.advice, style="dim"), (0, 0, 0, 2)))
    counts = {level: sum(finding.level is level for _, finding in findings) for level in Level}
    words = [several(counts[Level.PROBLEM], "problem"), several(counts[Level.WARNING], "warning")]
    if counts[Level.UNKNOWN]:
        words.append(f"{counts[Level.UNKNOWN]} not checked")
    hint(console, f"{several(counts[Level.OK], 'check')} well, {', '.join(words)}.")
