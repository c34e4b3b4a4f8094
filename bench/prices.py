"""What the bench's workload comes to in dollars. The prices are those that `stepwell cost` uses, from their dated file."""

from __future__ import annotations

from dataclasses import dataclass

from stepwell.cli.pricing.bill import CONSUMER_MB, ORCHESTRATOR_MB
from stepwell.cli.pricing.prices import MILLION as MILLION
from stepwell.cli.pricing.prices import load

_PRICES = load()
DATE = f"{_PRICES.date:%Y-%m}"

WRITE_UNIT = _PRICES.each("dynamodb.write_units")
READ_UNIT = _PRICES.each("dynamodb.read_units")
SQS_REQUEST = _PRICES.each("sqs.requests")
LAMBDA_REQUEST = _PRICES.each("lambda.requests")
LAMBDA_GB_SECOND = _PRICES.of("lambda.gb_second")
"""arm64."""
STATE_TRANSITION = _PRICES.each("step_functions.transitions")
"""Step Functions, standard workflows."""
DURABLE_OPERATION = _PRICES.each("durable_functions.operations")
DURABLE_GB_WRITTEN = _PRICES.of("durable_functions.written_gb")
"""Lambda durable functions."""

WORKER_GB = 0.5
OTHERS_GB = (CONSUMER_MB + ORCHESTRATOR_MB) / 2 / 1024
"""Consumer and orchestrator on average, as they are deployed."""
DYNAMODB_CALL = _PRICES.of("assumed.call_ms") / 1000
"""Seconds that a write takes within a region, during which the worker waits and is paid."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one run uses."""

    write_units: float
    read_units: float
    sqs: float
    invocations: int
    worker_seconds: float
    """Besides the work of the steps."""
    other_seconds: float
    """Of consumer and orchestrator together."""


def run_cost(usage: Usage) -> float:
    """US dollars of one run, the work of its steps left out."""
    return (
        usage.write_units * WRITE_UNIT
        + usage.read_units * READ_UNIT
        + usage.sqs * SQS_REQUEST
        + usage.invocations * LAMBDA_REQUEST
        + usage.worker_seconds * WORKER_GB * LAMBDA_GB_SECOND
        + usage.other_seconds * OTHERS_GB * LAMBDA_GB_SECOND
    )


def step_functions_cost(steps: int) -> float:
    """The same run as a standard workflow: a transition for each step and one to start; a Lambda invoked for each step."""
    return (steps + 1) * STATE_TRANSITION + steps * LAMBDA_REQUEST


def durable_functions_cost(steps: int, kilobytes: float = 1.0) -> float:
    """The same run as a Lambda durable function: an operation for each step and one to start, results written."""
    written = (steps + 1) * kilobytes / MILLION
    return (steps + 1) * DURABLE_OPERATION + written * DURABLE_GB_WRITTEN + LAMBDA_REQUEST
