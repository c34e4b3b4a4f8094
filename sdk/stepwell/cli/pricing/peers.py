"""The same runs elsewhere, by list price. Each sum is shown, so that it can be checked and corrected.

The steps work as long everywhere, at the price of Lambda, on a machine of the same size.
"""

from __future__ import annotations

from dataclasses import dataclass

from stepwell.cli.pricing.counts import Shape
from stepwell.cli.pricing.prices import GB, HOURS, MILLION, Prices


@dataclass(frozen=True)
class Peer:
    """What runs cost there."""

    name: str
    usd: float
    """Dollars, the work of the steps included."""
    arithmetic: str


def compare(shape: Shape, prices: Prices, runs: float = MILLION) -> list[Peer]:
    """So many runs of this shape in one month, cheapest first."""
    makers = (_step_functions, _durable_functions, _inngest, _temporal)
    return sorted((make(shape, prices, runs) for make in makers), key=lambda peer: peer.usd)


def operations(shape: Shape) -> int:
    """What others count by: the start, each step, each sleep, each wait."""
    return 1 + shape.steps + shape.rests


def _work(shape: Shape, prices: Prices, runs: float) -> float:
    return shape.work_seconds * shape.memory_mb / 1024 * prices.of("lambda.gb_second") * runs


def _invoked(times: float, prices: Prices, runs: float) -> float:
    return times * runs * prices.each("lambda.requests")


def _bytes(shape: Shape) -> float:
    return (shape.event_kb + shape.steps * shape.result_kb) * 1024


def _step_functions(shape: Shape, prices: Prices, runs: float) -> Peer:
    """A state for each step, sleep and wait, and a Lambda invoked for each step."""
    price = prices.of("step_functions.transitions_million")
    transitions = operations(shape) * runs / MILLION * price
    lambdas = _invoked(shape.steps, prices, runs) + _work(shape, prices, runs)
    told = f"{operations(shape)} transitions a run x ${price:g} a million = {usd(transitions)}; Lambda {usd(lambdas)}"
    return Peer("Step Functions Standard", transitions + lambdas, told)


def _durable_functions(shape: Shape, prices: Prices, runs: float) -> Peer:
    """An operation for the start, each step, sleep and wait; checkpoints wait as long as ours for a write."""
    price = prices.of("durable_functions.operations_million")
    durable = operations(shape) * runs / MILLION * price
    gigabytes = _bytes(shape) * runs / GB
    data = gigabytes * prices.of("durable_functions.written_gb")
    months = shape.retention_days * 24 / HOURS
    data += gigabytes * prices.of("durable_functions.retained_gb_month") * months
    waiting = operations(shape) * prices.of("assumed.call_ms") / 1000 * shape.memory_mb / 1024
    lambdas = _invoked(1 + shape.rests, prices, runs) + waiting * prices.of("lambda.gb_second") * runs
    lambdas += _work(shape, prices, runs)
    told = (
        f"{operations(shape)} operations a run x ${price:g} a million = {usd(durable)}; "
        f"data written and kept {usd(data)}; Lambda {usd(lambdas)}"
    )
    return Peer("Lambda durable functions", durable + data + lambdas, told)


def _inngest(shape: Shape, prices: Prices, runs: float) -> Peer:
    """An execution for the run, each step, sleep and wait; the code runs in one's own Lambda, asked for each step."""
    executions = operations(shape) * runs
    included, price = prices.of("inngest.included_executions"), prices.of("inngest.executions_million")
    over = max(0.0, executions - included) / MILLION * price
    lambdas = _invoked(operations(shape), prices, runs) + _work(shape, prices, runs)
    told = (
        f"plan {usd(prices.of('inngest.month'))}; {operations(shape)} executions a run, above {included / MILLION:g} "
        f"million x ${price:g} a million = {usd(over)}; one's own Lambda {usd(lambdas)}"
    )
    return Peer("Inngest Cloud Pro", prices.of("inngest.month") + over + lambdas, told)


def _temporal(shape: Shape, prices: Prices, runs: float) -> Peer:
    """An action for the start, each activity, timer and signal. Workers are one's own and always on."""
    price = prices.of("temporal.actions_million")
    actions = operations(shape) * runs / MILLION * price
    kept = _bytes(shape) * runs / GB * shape.retention_days * 24 * prices.of("temporal.retained_gb_hour")
    plan = (actions + kept) * prices.of("temporal.plan_share")
    work = _work(shape, prices, runs)
    told = (
        f"{operations(shape)} actions a run x ${price:g} a million = {usd(actions)}; histories kept {usd(kept)}; "
        f"plan {prices.of('temporal.plan_share'):.0%} = {usd(plan)}; work {usd(work)}, workers' idle time not counted"
    )
    return Peer("Temporal Cloud, Developer", actions + kept + plan + work, told)


def usd(dollars: float) -> str:
    """Dollars as people write them: $0.0042, $1.25, $12,300."""
    if 0 < dollars < 0.01:
        return f"${dollars:.2g}"
    return f"${dollars:,.2f}" if dollars < 1000 else f"${dollars:,.0f}"
