"""Dollars: what runs of a shape cost, item by item, and what a deployment costs without any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stepwell.cli.pricing.counts import Counts, Shape, count
from stepwell.cli.pricing.prices import GB, HOURS, MILLION, Prices

CONSUMER_MB, ORCHESTRATOR_MB, SWEEPER_MB = 512, 1024, 512
"""As the constructs deploy them unless told otherwise; a test compares."""
ALARMS = 16
"""Of a Stepwell with one app of one compute class."""
POLLS = 650_000
"""Empty receives of an idle event source mapping in a month: five pollers, three long polls a minute each."""
WORK = "steps' own work"


@dataclass(frozen=True)
class Item:
    """One line of a bill."""

    name: str
    quantity: float
    unit: str
    price: float
    """Dollars for one."""

    @property
    def usd(self) -> float:
        """Dollars."""
        return self.quantity * self.price


def engine_seconds(counts: Counts, prices: Prices) -> float:
    """What the orchestrator takes for one run; the consumer waits for it, so it takes as long."""
    return (
        counts.engine_calls * prices.of("assumed.call_ms") + counts.orchestrator * prices.of("assumed.overhead_ms")
    ) / 1000


def worker_seconds(counts: Counts, prices: Prices) -> float:
    """What the worker takes for one run besides the work of its steps."""
    calls = counts.worker_calls * prices.of("assumed.call_ms")
    objects = (counts.puts + counts.gets) * prices.of("assumed.object_ms")
    return (calls + objects + counts.worker * prices.of("assumed.overhead_ms")) / 1000


def run_items(shape: Shape, prices: Prices, runs: float = MILLION) -> list[Item]:
    """What so many runs of this shape cost."""
    one = count(shape)
    second, gb = prices.of("lambda.gb_second"), shape.memory_mb / 1024
    engine_gb = (CONSUMER_MB + ORCHESTRATOR_MB) / 1024
    months = shape.retention_days * 24 / HOURS
    kept = prices.of("dynamodb.storage_gb_month") + prices.of("dynamodb.backup_gb_month")
    invocations = one.consumer + one.orchestrator + one.worker
    lines = [
        Item("DynamoDB writes", one.write_units, "write units", prices.each("dynamodb.write_units")),
        Item("DynamoDB reads", one.read_units, "read units", prices.each("dynamodb.read_units")),
        Item("SQS", one.sqs, "requests", prices.each("sqs.requests")),
        Item("Lambda requests", invocations, "invocations", prices.each("lambda.requests")),
        Item("consumer and orchestrator", engine_seconds(one, prices) * engine_gb, "GB-seconds", second),
        Item("worker, waiting for AWS", worker_seconds(one, prices) * gb, "GB-seconds", second),
        Item("S3 writes", one.puts, "requests", prices.each("s3.put")),
        Item("S3 reads", one.gets, "requests", prices.each("s3.get")),
        Item("kept in the table, with backup", one.stored_bytes / GB * months, "GB-months", kept),
        Item("kept in S3", one.object_bytes / GB * months, "GB-months", prices.of("s3.storage_gb_month")),
        Item(WORK, shape.work_seconds * gb, "GB-seconds", second),
    ]
    return [Item(each.name, each.quantity * runs, each.unit, each.price) for each in lines if each.quantity]


def fixed_items(prices: Prices) -> list[Item]:
    """What a month costs when nothing happens: nothing is always on, but something looks, once a minute."""
    sweeps = HOURS * 60
    queries = 2 * 8  # of each shard, those that live and those that owe their end
    seconds = (queries * prices.of("assumed.call_ms") + prices.of("assumed.overhead_ms")) / 1000
    return [
        Item("alarms", ALARMS, "alarms", prices.of("cloudwatch.alarm_month")),
        Item("dashboard", 1, "dashboard", prices.of("cloudwatch.dashboard_month")),
        Item("SQS, polled while empty", POLLS, "requests", prices.each("sqs.requests")),
        Item("sweeper, invoked", sweeps, "invocations", prices.each("lambda.requests")),
        Item("sweeper, running", sweeps * seconds * SWEEPER_MB / 1024, "GB-seconds", prices.of("lambda.gb_second")),
        Item("sweeper, reading the index", sweeps * queries * 0.5, "read units", prices.each("dynamodb.read_units")),
    ]


def total(items: Sequence[Item], *, without: str = "") -> float:
    """Dollars of all lines, one left out if it is named."""
    return sum(item.usd for item in items if item.name != without)
