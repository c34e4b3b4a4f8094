"""What a run costs, in billable requests counted on a local AWS, and in dollars by list price."""

from __future__ import annotations

from bench.apps import app
from bench.figures import Figure
from stepwell.cli.pricing.bill import run_items, total
from stepwell.cli.pricing.counts import Shape
from stepwell.cli.pricing.peers import compare
from stepwell.cli.pricing.prices import load
from stepwell.testing import LocalStepwell
from stepwell.testing.meter import Requests

STEPS = 5
WRITE_UNITS, READ_UNITS, SQS = 11, 2, 3


def one_run() -> tuple[Requests, Requests]:
    """The requests of one run of five small steps, and of one event that matches nothing."""
    with LocalStepwell(app) as local:
        _play(local)  # the first event of all also reads which apps there are
        before = local.requests
        _play(local)
        run = local.requests - before
        before = local.requests
        local.send("bench/nobody", {"steps": STEPS})
        local.run_until_idle()
        return run, local.requests - before


def _play(local: LocalStepwell) -> None:
    event = local.send("bench/plain", {"steps": STEPS})
    local.run_until_idle()
    run = local.run(event)
    if run is None or run.status != "completed" or len(run.steps) != STEPS:
        raise RuntimeError(f"the run did not complete: {run}")


def bench(rounds: int) -> list[Figure]:
    """The figures. Counts are exact, so they are taken once, whatever the number of rounds."""
    run, unmatched = one_run()
    shape, prices = Shape(steps=STEPS, step_ms=0), load()
    peers = {peer.name: peer.usd for peer in compare(shape, prices)}
    return [
        Figure(f"run of {STEPS} steps: DynamoDB writes", "write units", (run.write_units,), WRITE_UNITS),
        Figure(f"run of {STEPS} steps: DynamoDB reads", "read units", (run.read_units,), READ_UNITS),
        Figure(f"run of {STEPS} steps: SQS, unbatched", "requests", (run.sqs,), SQS),
        Figure(f"run of {STEPS} steps: worker", "invocations", (run.invocations["worker"],), 1),
        Figure("event that matches nothing: DynamoDB writes", "write units", (unmatched.write_units,), 1),
        Figure(
            f"a million runs of {STEPS} steps, besides their work",
            f"USD, list {prices.date:%Y-%m}",
            (total(run_items(shape, prices)),),
            peers=peers,
            peers_from="by list price",
        ),
    ]
