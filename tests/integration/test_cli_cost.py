"""`stepwell cost`: its counts are what the engine really asks of AWS, its dollars are counts times prices."""

from __future__ import annotations

import inspect
import json
import random
import string
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from stepwell import Context, RunStatus, Stepwell
from stepwell.cli.pricing import bill
from stepwell.cli.pricing.bill import Item, fixed_items, run_items, total
from stepwell.cli.pricing.counts import Counts, Shape, count
from stepwell.cli.pricing.peers import compare, usd
from stepwell.cli.pricing.prices import MILLION, load
from stepwell.cli.root import cli
from stepwell.codec import dumps, squeeze
from stepwell.errors import InvalidOption
from stepwell.testing import LocalStepwell
from stepwell.testing.meter import Requests

app = Stepwell("costs")
PRICES = load()


def noise(length: int) -> str:
    """Text that hardly compresses."""
    return "".join(random.Random(length).choices(string.ascii_letters + string.digits, k=length))


def stored_kb(text: str) -> float:
    """What a JSON text takes in an item."""
    stored = squeeze(text, 0)
    return len(stored) / 1024


@app.function(on="order/created")
def shaped(ctx: Context[Any]) -> None:
    """A run of the shape that its event asks for."""
    wanted = ctx.event.data
    for number in range(wanted["steps"]):
        ctx.step.run(f"step-{number}", noise, wanted["result"])
    for number in range(wanted["sleeps"]):
        ctx.step.sleep(f"sleep-{number}", wanted["sleep"])
    for number in range(wanted["waits"]):
        ctx.step.wait_for_event(f"wait-{number}", event="order/paid", match={"data.key": wanted["key"]}, timeout="3d")


class Played:
    """What runs of a shape asked of a local AWS that has seen one like it before."""

    def __init__(self, shape: Shape, *, event: int, result: int) -> None:
        self.data = {
            "steps": shape.steps, "sleeps": shape.sleeps, "waits": shape.waits, "sleep": shape.sleep_seconds,
            "result": result, "pad": noise(event),
        }  # fmt: skip
        self.shape, self.batch = shape, int(shape.batch)
        with LocalStepwell(app) as local:
            self._check(local, self._play(local, 0))
            before = local.requests
            events = self._play(local, 1)
            self.requests: Requests = local.requests - before
            self._check(local, events)

    def _play(self, local: LocalStepwell, nth: int) -> list[str]:
        """A batch of runs, from their events to their ends; the events' ids."""
        keys = [f"{nth}-{n}" for n in range(self.batch)]
        sent = [{"name": "order/created", "data": {**self.data, "key": key}} for key in keys]
        events: list[str] = local.client.send(sent)
        local.run_until_idle()
        for _ in range(self.shape.sleeps):
            local.advance(self.shape.sleep_seconds)
        for _ in range(self.shape.waits):
            local.client.send([{"name": "order/paid", "data": {"key": key}} for key in keys])
            local.run_until_idle()
        return events

    def _check(self, local: LocalStepwell, events: list[str]) -> None:
        runs = [local.run(event) for event in events]
        assert [run and run.status for run in runs] == [RunStatus.COMPLETED] * self.batch

    @property
    def calls(self) -> float:
        """Calls for which the worker or the orchestrator waited: all but the sender's, the sweeper's and S3's."""
        asked = self.requests.calls
        own = sum(n for call, n in asked.items() if call.startswith(("dynamodb.", "lambda.")))
        return own - self.requests.invocations["consumer"]


SHAPES = {
    "no steps": (Shape(steps=0), 100, 0),
    "five small steps": (Shape(), 100, 100),
    "many steps": (Shape(steps=40), 100, 100),
    "an event that fills the run's item": (Shape(steps=2), 900, 100),
    "an event too large for the run's item": (Shape(steps=2), 8_000, 100),
    "an event in S3": (Shape(steps=2), 60_000, 100),
    "large results": (Shape(steps=3), 100, 6_000),
    "results in S3": (Shape(steps=2), 100, 60_000),
    "a batch": (Shape(steps=3, batch=10), 100, 100),
    "a short sleep": (Shape(steps=2, sleeps=1, sleep_seconds=120), 100, 100),
    "short sleeps": (Shape(steps=2, sleeps=3, sleep_seconds=120), 100, 100),
    "a short sleep with large checkpoints": (Shape(steps=4, sleeps=1, sleep_seconds=120), 8_000, 6_000),
    "a short sleep with objects": (Shape(steps=2, sleeps=1, sleep_seconds=120), 60_000, 60_000),
    "short sleeps in a batch": (Shape(steps=2, sleeps=1, sleep_seconds=120, batch=10), 100, 100),
    "a wait": (Shape(steps=2, waits=1), 100, 100),
    "waits in a batch": (Shape(steps=1, waits=2, batch=5), 100, 100),
    "a sleep and a wait": (Shape(steps=5, sleeps=1, sleep_seconds=120, waits=1), 100, 100),
}


def counted(shape: Shape, event: int, result: int) -> tuple[Played, Counts]:
    """What was counted, and what the formula says of a shape with the sizes that were played."""
    played = Played(shape, event=event, result=result)
    envelope = dumps({"id": "e" * 30, "name": "order/created", "ts": 1_760_000_000_000, "data": played.data})
    kb = len(envelope) / 1024
    event_kb = kb if kb <= 2 else stored_kb(envelope)
    return played, count(
        Shape(**{**vars(shape), "event_kb": event_kb, "result_kb": stored_kb(dumps(noise(result))) if result else 0.0})
    )


@pytest.mark.parametrize("name", SHAPES)
def test_the_formula_says_what_a_run_really_asks_of_aws(name: str) -> None:
    shape, event, result = SHAPES[name]
    played, formula = counted(shape, event, result)
    asked, batch = played.requests, shape.batch

    assert formula.write_units * batch == pytest.approx(asked.write_units)
    assert formula.read_units * batch == pytest.approx(asked.read_units)
    assert formula.sqs * batch == pytest.approx(asked.sqs)
    assert (formula.puts + formula.gets) * batch == pytest.approx(asked.s3)
    assert formula.puts * batch == pytest.approx(asked.calls["s3.PutObject"])
    assert {
        "consumer": formula.consumer * batch,
        "orchestrator": formula.orchestrator * batch,
        "worker": formula.worker * batch,
    } == pytest.approx({name: asked.invocations[name] for name in ("consumer", "orchestrator", "worker")})


@pytest.mark.parametrize("name", ["five small steps", "a batch", "a wait", "an event too large for the run's item"])
def test_the_calls_that_lambdas_wait_for_are_counted_too(name: str) -> None:
    shape, event, result = SHAPES[name]
    played, formula = counted(shape, event, result)

    assert (formula.worker_calls + formula.engine_calls) * shape.batch == pytest.approx(played.calls)


def test_a_long_sleep_costs_one_move_of_the_sweeper_more() -> None:
    short, long = (Played(Shape(sleeps=1, sleep_seconds=seconds), event=100, result=100) for seconds in (120, 7200))
    formula = [count(Shape(sleeps=1, sleep_seconds=seconds)).write_units for seconds in (120, 7200)]

    assert long.requests.write_units - short.requests.write_units == formula[1] - formula[0] == 3
    assert long.requests.sqs == short.requests.sqs


def test_a_sleep_beyond_the_retention_writes_the_checkpoints_once_more() -> None:
    month, year = (
        Played(Shape(steps=3, sleeps=1, sleep_seconds=days * 86_400), event=100, result=100) for days in (20, 200)
    )
    formula = [count(Shape(steps=3, sleeps=1, sleep_seconds=days * 86_400)).write_units for days in (20, 200)]

    assert year.requests.write_units - month.requests.write_units == formula[1] - formula[0] == 3


# ---- dollars ---------------------------------------------------------------------------------------------------------


def test_a_million_runs_cost_what_their_requests_cost() -> None:
    usd_of = {item.name: item.usd for item in run_items(Shape(), PRICES)}

    assert usd_of["DynamoDB writes"] == pytest.approx(11 * 0.625)
    assert usd_of["DynamoDB reads"] == pytest.approx(2 * 0.125)
    assert usd_of["SQS"] == pytest.approx(3 * 0.4)
    assert usd_of["Lambda requests"] == pytest.approx(3 * 0.2)
    assert usd_of[bill.WORK] == pytest.approx(5 * 0.1 * 13.3334)
    assert "S3 writes" not in usd_of


def test_work_is_left_out_when_it_is_named() -> None:
    items = [Item("a", 2, "x", 3.0), Item(bill.WORK, 10, "y", 1.0)]

    assert (total(items), total(items, without=bill.WORK)) == (16.0, 6.0)


def test_the_engines_lambdas_are_as_large_as_they_are_deployed() -> None:
    from stepwell_cdk import ComputeClass
    from stepwell_cdk import Stepwell as Platform

    deployed = inspect.signature(Platform.__init__).parameters
    assert deployed["consumer_memory"].default == bill.CONSUMER_MB
    assert deployed["orchestrator_memory"].default == bill.ORCHESTRATOR_MB
    assert deployed["sweeper_memory"].default == bill.SWEEPER_MB
    assert Shape().memory_mb == ComputeClass().memory


def test_the_alarms_that_are_paid_for_are_those_that_are_deployed() -> None:
    snapshots = Path(__file__).parents[1] / "infra" / "__snapshots__" / "test_snapshot"
    (platform,) = [file for file in snapshots.iterdir() if "[Platform]" in file.name]
    text = platform.read_text("utf-8")
    classes = text.count('"AsyncEventsDropped"')

    assert classes > 0
    assert text.count('"AWS::CloudWatch::Alarm"') == bill.ALARMS + 4 * (classes - 1)


def test_others_are_what_their_price_lists_say() -> None:
    peers = {peer.name: peer for peer in compare(Shape(retention_days=0), PRICES)}
    work = 0.5 * 13.3334

    assert peers["Step Functions Standard"].usd == pytest.approx(6 * 25 + 5 * 0.2 + work)
    assert peers["Inngest Cloud Pro"].usd == pytest.approx(99 + 5 * 50 + 6 * 0.2 + work)
    assert peers["Temporal Cloud, Developer"].usd == pytest.approx(6 * 50 * 1.1 + work)
    durable = 6 * 8 + 3.0 * 1024 * 1e6 / 1024**3 * 0.25 + 0.2 + 6 * 0.006 * 13.3334 + work
    assert peers["Lambda durable functions"].usd == pytest.approx(durable)


def test_a_plan_is_paid_for_even_where_little_runs() -> None:
    few = {peer.name: peer.usd for peer in compare(Shape(step_ms=0), PRICES, 1000)}

    assert few["Inngest Cloud Pro"] == pytest.approx(99 + 6000 * 0.2 / MILLION)


@pytest.mark.parametrize(
    "wrong", [{"steps": -1}, {"memory_mb": 64}, {"batch": 0.5}, {"event_kb": 300.0}, {"retention_days": -1.0}]
)
def test_a_shape_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption):
        Shape(**wrong)


@pytest.mark.parametrize(
    ("dollars", "shown"), [(0.0, "$0.00"), (0.0042, "$0.0042"), (1.25, "$1.25"), (12_300.4, "$12,300")]
)
def test_dollars_are_written_as_people_write_them(dollars: float, shown: str) -> None:
    assert usd(dollars) == shown


# ---- the command -----------------------------------------------------------------------------------------------------


def stepwell(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(cli, ["cost", *arguments])
    assert result.exit_code == status, result.output
    return result.stdout if status == 0 else result.output


def test_the_bill_stands_item_by_item_with_the_date_of_its_prices() -> None:
    told = " ".join(stepwell().split())  # a narrow terminal breaks the lines elsewhere

    assert "1,000,000 runs of 5 steps" in told
    assert "11,000,000 write units" in told
    assert PRICES.date.isoformat() in told
    assert "6 transitions a run x $25 a million = $150.00" in told


def test_json_adds_up() -> None:
    told = json.loads(stepwell("--sleeps", "2", "--waits", "1", "--runs", "1000", "--json"))

    assert told["usd"] == pytest.approx(sum(item["usd"] for item in told["items"]), abs=1e-5)
    assert told["shape"]["sleeps"] == 2
    assert told["usd"] == pytest.approx(total(run_items(Shape(sleeps=2, waits=1), PRICES, 1000)), abs=1e-5)
    assert [peer["times"] for peer in told["compared"]] == sorted(peer["times"] for peer in told["compared"])
    assert {item["name"] for item in told["fixed_per_month"]} == {item.name for item in fixed_items(PRICES)}


def test_nonsense_is_refused_with_its_reason() -> None:
    assert "128 to 10240" in stepwell("--memory-mb", "64", status=1)
    assert "--sleep-for" in stepwell("--sleep-for", "soon", status=1)
