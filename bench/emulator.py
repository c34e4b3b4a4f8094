"""The whole way over an emulator on the loopback interface: SQS, consumer, orchestrator, worker, DynamoDB.

Wall time, the emulator's own included: on two cores it is most of it. What does not depend on how busy the machine is
comes last: a step in units of the bare conditional write that it cannot do without, measured in the same minute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count as count_up
from itertools import pairwise
from statistics import median
from uuid import uuid4

from bench.fast_lambda import FastLambda, clocked
from bench.figures import Figure
from bench.ministack import create_resources, ministack, session
from stepwell.ports import Config

SEQUENTIAL = 1_000
RUNS = 500
STEPS = 5
SINGLE = 40
"""Runs from send to finish, one after the other; their median is one sample."""
BARE = 200
POLLERS = 5
"""An event source mapping of AWS begins with five."""
WORKERS = 8

PEERS = {
    "sequential": {"DBOS, SQLite": 1.7, "Restate": 1.1, "Lambda durable SDK, local": 1.8, "Inngest dev server": 150.0},
    "throughput": {
        "DBOS, SQLite": 320.0,
        "Restate": 2180.0,
        "Lambda durable SDK, local": 260.0,
        "Inngest dev server": 234.0,
    },
    "single": {"DBOS, SQLite": 12.0, "Restate": 9.0, "Inngest dev server": 1050.0},
}
"""Measured on such a machine (two cores), each by its own client against its own local server, durable on local disk."""


def bench(rounds: int) -> list[Figure]:
    """The figures; every round has a server and a table of its own."""
    sequential, throughput, single = [], [], []
    bare: list[tuple[float, ...]] = []
    for number in range(rounds):
        with ministack() as url:
            config = create_resources(url, f"stepwell-bench-{number}")
            with FastLambda(config, pollers=POLLERS, workers=WORKERS).open() as lambdas:
                _runs(lambdas, 5, 2)  # clients are made, schemas read
                writes = [bare_writes(config, BARE)]
                single.append(median(_runs(lambdas, 1, STEPS) for _ in range(SINGLE)) * 1000)
                writes.append(bare_writes(config, BARE))
                sequential.append(_runs(lambdas, 1, SEQUENTIAL) * 1000 / SEQUENTIAL)
                writes.append(bare_writes(config, BARE))
                throughput.append(RUNS * STEPS / _runs(lambdas, RUNS, STEPS))
                writes.append(bare_writes(config, BARE))
                bare.append(tuple((before + after) / 2 for before, after in pairwise(writes)))
    by_single, by_sequential, by_throughput = zip(*bare, strict=True)
    return [
        Figure(
            f"{SEQUENTIAL:,} sequential steps in one run",
            "ms a step",
            tuple(sequential),
            1.8,
            peers=PEERS["sequential"],
        ),
        Figure(
            f"{RUNS} runs of {STEPS} steps", "steps a second", tuple(throughput), 400, True, peers=PEERS["throughput"]
        ),
        Figure(f"one run of {STEPS} steps, send to finish, p50", "ms", tuple(single), 30, peers=PEERS["single"]),
        Figure("bare conditional write, botocore as it comes", "ms", tuple(by_sequential)),
        Figure("a sequential step, in bare writes", "times", _each(lambda a, b: a / b, sequential, by_sequential), 1.7),
        Figure(
            "steps done in the time of a bare write",
            "steps",
            _each(lambda a, b: a * b / 1000, throughput, by_throughput),
            0.42,
            True,
        ),
        Figure(f"one run of {STEPS} steps, in bare writes", "times", _each(lambda a, b: a / b, single, by_single), 28),
    ]


def _each(of: Callable[[float, float], float], figures: Sequence[float], bare: Sequence[float]) -> tuple[float, ...]:
    return tuple(of(figure, write) for figure, write in zip(figures, bare, strict=True))


def bare_writes(config: Config, count: int) -> float:
    """Milliseconds of one conditional write of a small item, without Stepwell and without its settings."""
    client = session().create_client("dynamodb", endpoint_url=config.endpoint_url)

    partition, numbers = f"BARE#{uuid4()}", count_up()

    def write() -> None:
        client.put_item(
            TableName=config.table,
            Item={
                "pk": {"S": partition},
                "sk": {"S": str(next(numbers))},
                "result": {"S": "x" * 400},
                "ttl": {"N": "1"},
            },
            ConditionExpression="attribute_not_exists(pk) OR #status = :open",
            ExpressionAttributeNames={"#status": "status"},
            ExpressionAttributeValues={":open": {"S": "open"}},
        )

    for _ in range(20):
        write()

    def writes() -> None:
        for _ in range(count):
            write()

    return clocked(writes) * 1000 / count


def _runs(lambdas: FastLambda, count: int, steps: int) -> float:
    """Seconds from the first send to the end of the last run."""
    ended, outcomes = lambdas.ended, len(lambdas.outcomes)

    def play() -> None:
        event = {"name": "bench/plain", "data": {"steps": steps}}
        lambdas.client.send([event] * count)
        lambdas.await_ended(ended + count)

    seconds = clocked(play)
    if lambdas.outcomes[outcomes:] != ["completed"] * count:
        raise RuntimeError(f"the runs ended as {set(lambdas.outcomes[outcomes:])}")
    return seconds
