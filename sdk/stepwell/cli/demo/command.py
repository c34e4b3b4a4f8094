"""The command itself."""

from __future__ import annotations

from typing import Annotated

import typer

from stepwell.cli.friendly import debug, friendly
from stepwell.cli.target import AsJson


def add_to(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command()(demo)


@friendly
def demo(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="orders, debate, sermons, pricing_sync, clips. Without any: orders and sermons.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Decides every order that real life leaves open.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Play example pipelines on a local AWS, kill a worker in each, and show that no finished step runs again.

    No account and no network: SQS, Lambda and DynamoDB are simulated in this process, the clock is virtual, and the
    code of Stepwell is the one that is deployed. Exit status 0 only if everything ended as it should.
    """
    from stepwell.cli.console import out, print_json
    from stepwell.cli.demo import catalogue
    from stepwell.cli.demo.closing import closing, performance_shape
    from stepwell.cli.demo.performance import perform, quiet_logging
    from stepwell.cli.demo.stages import stage_for

    stage = stage_for(out(), silent=as_json)
    performances = []
    with quiet_logging(show=debug.get()):
        for name in names or catalogue.DEFAULT:
            try:
                with stage.setting_up(name):
                    pipeline = catalogue.load(name)
            except catalogue.CannotPlay as why:
                if names:
                    raise
                stage.leave_out(name, why.message)
                continue
            performances.append(perform(pipeline, seed=seed, stage=stage))
    if as_json:
        print_json([performance_shape(each) for each in performances])
    else:
        closing(out(), performances)
    if not performances or any(each.problems for each in performances):
        raise typer.Exit(1)
