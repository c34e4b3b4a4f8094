"""Engine overhead: CPU time per inline step, outside of the AWS clients.

CPU time, not wall time: the engine does nothing but compute, and other processes on the machine do not count.
"""

from __future__ import annotations

import time

from bench.apps import app
from bench.canned import CannedDynamoDb, canned_ports, queued_run
from bench.figures import Figure
from bench.invocations import InvocationContext
from bench.timed import Spent
from stepwell_lambdas.worker.handler import make_handler

STEPS = 300
TARGET = 0.3
"""Milliseconds."""
KINDS = {
    "plain": ("plain-steps", "bench/plain"),
    "typed": ("typed-steps", "bench/typed"),
    "async": ("async-steps", "bench/async"),
}


def per_step(kind: str, steps: int = STEPS, *, replayed: bool = False) -> float:
    """Milliseconds of the engine for each step of one run.

    `replayed`: the run has executed all its steps before, and an invocation only goes over them.
    """
    function, event = KINDS[kind]
    table = CannedDynamoDb(queued_run(function, event, {"steps": steps}))
    first = _execute(table, 0)
    if not replayed:
        return first * 1000 / steps
    again = CannedDynamoDb(queued_run(function, event, {"steps": steps}, epoch=1))
    again.steps = table.steps
    return _execute(again, 1) * 1000 / steps


def _execute(table: CannedDynamoDb, epoch: int) -> float:
    """Seconds that one invocation spends outside of the clients."""
    spent = Spent()
    handler = make_handler(canned_ports(table, spent), app)
    run = table.get_item()["Item"]["pk"]["S"].removeprefix("RUN#")
    event, context = {"run": run, "epoch": epoch}, InvocationContext("bench")
    began = time.thread_time()
    answer = handler(event, context)
    engine = time.thread_time() - began - spent.seconds
    if answer["outcome"] != "completed":
        raise RuntimeError(f"the run ended as {answer['outcome']}")
    return engine


def bench(rounds: int) -> list[Figure]:
    """The figures."""
    for kind in KINDS:
        per_step(kind, 20)  # code that runs for the first time is slower: annotations are read, schemas built
    fresh = {kind: tuple(per_step(kind) for _ in range(rounds)) for kind in KINDS}
    replayed = tuple(per_step("typed", replayed=True) for _ in range(rounds))
    return [
        Figure("inline step, plain result", "ms CPU", fresh["plain"], TARGET),
        Figure("inline step, model as result", "ms CPU", fresh["typed"], TARGET),
        Figure("inline step, async function", "ms CPU", fresh["async"], TARGET),
        Figure("replayed step, model as result", "ms CPU", replayed),
    ]
