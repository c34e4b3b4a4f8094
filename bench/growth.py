"""Long runs: does a step cost more when there are thousands before it, and what does it take to go on from them?"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from bench.apps import app
from bench.canned import CannedDynamoDb, canned_ports, queued_run
from bench.figures import Figure
from bench.invocations import InvocationContext
from bench.ministack import create_resources, ministack, session
from bench.timed import Spent, TimedClient
from stepwell.engine.look import look_at
from stepwell.invoker import Invoker
from stepwell.ports import Ports
from stepwell.records import RunState, RunStatus
from stepwell.store import Store
from stepwell.store.table import Table
from stepwell_lambdas.worker.handler import make_handler

STEPS = 10_000
EARLY, LATE = 100, 9_900
WINDOW = 100
"""Steps around each of the two, whose median is taken."""
RATIO = 1.3
PAGE = 1_048_576
"""Bytes of items on one page of a Query (DynamoDB API, Query)."""


@dataclass
class Marks:
    """Hooks around the steps that note how much engine time had passed when each body began."""

    spent: Spent
    times: list[float] = field(default_factory=list)

    def before(self, name: str, key: str, run_id: str) -> None:
        self.times.append(time.thread_time() - self.spent.seconds)

    def after(self, name: str, key: str, run_id: str) -> None:
        return None

    def replace(self, name: str) -> Callable[..., Any] | None:
        return None

    def around(self, step: int) -> float:
        """The median engine seconds of the steps around this one."""
        window = range(step - WINDOW // 2, step + WINDOW // 2)
        return median(self.times[n] - self.times[n - 1] for n in window)


def ratio() -> float:
    """Engine time of a late step over that of an early one, in one run over a table that answers at once."""
    spent = Spent()
    marks = Marks(spent)
    table = CannedDynamoDb(queued_run("plain-steps", "bench/plain", {"steps": STEPS}))
    handler = make_handler(canned_ports(table, spent), app, marks)
    run = table.get_item()["Item"]["pk"]["S"].removeprefix("RUN#")
    _expect("completed", handler({"run": run, "epoch": 0}, InvocationContext("bench")))
    return marks.around(LATE) / marks.around(EARLY)


@dataclass(frozen=True, slots=True)
class LongRun:
    """What a long run took on the emulator."""

    first: float
    """Seconds of the invocation that ran the steps."""
    resumed: float
    """Seconds of the one that went on after them."""
    pages: int
    """Query requests of the latter."""
    pages_needed: int
    """What the bytes of its steps come to."""
    reads: int
    """Single items it read."""


def long_run(url: str) -> LongRun:
    """Execute a run of many steps, let it rest, resume it. Raises RuntimeError unless it completes."""
    config = create_resources(url, "stepwell-bench-growth")
    spent, started = Spent(), _Started()
    ports = Ports.build(session(), config)
    client = TimedClient(session().create_client("dynamodb", endpoint_url=url), spent)
    store = Store(Table(lambda: client, config.table), ports.payloads, retention=config.retention)
    ports = replace(ports, open_store=lambda: store, invoker=Invoker(lambda: started, lambda: started))
    store.apps.write(app.manifest(), {"default": "worker"}, ports.now())
    run = queued_run("steps-and-a-rest", "bench/rest", {"steps": STEPS})
    store.runs.create(replace(run, lease=None))
    handler = make_handler(ports, app)

    began = time.perf_counter()
    _expect("suspended", handler({"run": run.id, "epoch": 0}, InvocationContext("bench")))
    first = time.perf_counter() - began
    _until_due(ports, run)
    look_at(ports, run.id)
    spent.calls.clear()
    began = time.perf_counter()
    _expect("completed", handler(started.payload, InvocationContext("bench")))
    resumed = time.perf_counter() - began
    calls = dict(spent.calls)
    size = sum(_size(item) for item in store.table.query(f"RUN#{run.id}", prefix="STEP#"))
    return LongRun(first, resumed, calls.get("query", 0), math.ceil(size / PAGE), calls.get("get_item", 0))


def bench(rounds: int) -> list[Figure]:
    """The figures. The long run on the emulator is played once."""
    ratios = tuple(ratio() for _ in range(rounds))
    with ministack() as url:
        long = long_run(url)
    return [
        Figure(f"engine time at step {LATE:,}, in that of step {EARLY}", "times", ratios, RATIO),
        Figure(f"run of {STEPS:,} steps on the emulator", "ms a step", (long.first * 1000 / STEPS,)),
        Figure(f"Query pages to resume {STEPS:,} steps", "requests", (long.pages,), long.pages_needed + 1),
        Figure(f"single reads while resuming {STEPS:,} steps", "requests", (long.reads,), math.ceil(long.resumed) + 1),
        Figure(f"resuming {STEPS:,} steps", "ms", (long.resumed * 1000,)),
    ]


class _Started:
    """Lambda, as far as it is needed here: keeps what it was asked to start."""

    payload: Any = None

    def invoke(self, **request: Any) -> dict[str, Any]:
        self.payload = json.loads(request["Payload"])
        return {}


def _until_due(ports: Ports, run: RunState) -> None:
    while True:
        stands = ports.store.runs.read(run.id)
        if stands is None or stands.status is not RunStatus.SUSPENDED or stands.wake_at is None:
            raise RuntimeError(f"the run does not rest: {stands}")
        if stands.wake_at <= ports.now():
            return
        time.sleep((stands.wake_at - ports.now()) / 1000 + 0.01)


def _size(item: dict[str, Any]) -> int:
    """Bytes of an item, roughly: its names and its values as text."""
    return sum(len(name) + len(str(value).encode()) for name, value in item.items())


def _expect(outcome: str, answer: dict[str, Any]) -> None:
    if answer["outcome"] != outcome:
        raise RuntimeError(f"the run ended as {answer['outcome']}, not {outcome}")
