"""What one run asks of AWS, by formula. A test plays such runs and compares every number with what was counted.

    create    the run's item, new in the index          u + 1    by the orchestrator
    claim     by the worker                             u
    a step    its checkpoint                            s
    finish    the run's item, moved within the index    u + 2
    a sleep   its checkpoint, suspend, wake, claim      1 + (u + 2) + (u + 2) + u
              if over 15 minutes: due_at moved          u + 2    by the sweeper
    a wait    the same as a sleep, and besides it the waiter put and deleted, the event recorded, the wait resolved

u and s are the write units of the run's item and of a checkpoint: 1 up to a kilobyte.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stepwell.codec import units
from stepwell.decisions.next import POSTABLE
from stepwell.engine.keeping import KEEP
from stepwell.errors import InvalidOption
from stepwell.payloads import INLINE_RUN, INLINE_STEP

RUN_BYTES = 350
"""A run's item without its event: ids, states, times and the names of attributes, as they usually are."""
STEP_BYTES = 170
"""A checkpoint without its result."""
INPUT_BYTES = 70
"""The item of an event that lies beside its run, without the event."""
REST_BYTES = 150
"""The checkpoint of a sleep."""
WAIT_BYTES = 330
"""The checkpoint of a wait, with a small event."""
ITEM_BYTES = 100
"""What DynamoDB adds to each item when it charges storage."""
READ_UNIT = 4096
SQS_CHUNK = 65_536
MOST_EVENT_KB = 256.0
"""Larger ones travel through S3, at a price that has little to do with a run's."""


@dataclass(frozen=True)
class Shape:
    """A run as its user sees it. Sleeps and waits come after the steps, so all checkpoints are read again at each.

    Raises InvalidOption for numbers that cannot be.
    """

    steps: int = 5
    step_ms: float = 100.0
    """What one step works, milliseconds."""
    memory_mb: int = 1024
    """Of the worker; the default of a compute class."""
    event_kb: float = 0.5
    """The event as JSON, with its name and id; over 2 KB as it is stored, compressed."""
    result_kb: float = 0.5
    """The result of a step as it is stored: as JSON, compressed where that makes it cheaper."""
    sleeps: int = 0
    sleep_seconds: float = 3600.0
    waits: int = 0
    """Waits for an event that comes in the end; the event is small."""
    batch: float = 1.0
    """Messages that are sent together and handled together; 1 where events come one by one, at most 10 by default."""
    retention_days: float = 30.0

    def __post_init__(self) -> None:
        numbers = (self.steps, self.step_ms, self.event_kb, self.result_kb, self.sleeps, self.waits)
        if min(*numbers, self.retention_days, self.sleep_seconds) < 0:
            raise InvalidOption("A run has no negative numbers of anything.")
        if not 128 <= self.memory_mb <= 10_240:
            raise InvalidOption(f"memory is {self.memory_mb} MB: a Lambda has 128 to 10240.")
        if not 1 <= self.batch <= 10_000:
            raise InvalidOption(f"batch is {self.batch:g}: an event source takes 1 to 10000 messages at a time.")
        if self.event_kb > MOST_EVENT_KB:
            raise InvalidOption(
                f"The event is {self.event_kb:g} KB: above {MOST_EVENT_KB:g} KB put it into S3 yourself."
            )

    @property
    def rests(self) -> int:
        """How often a run suspends."""
        return self.sleeps + self.waits

    @property
    def work_seconds(self) -> float:
        """What the steps of a run work."""
        return self.steps * self.step_ms / 1000


@dataclass(frozen=True)
class Counts:
    """What one run asks of AWS. What a batch shares is a fraction."""

    write_units: float
    read_units: float
    sqs: float
    puts: float
    gets: float
    consumer: float
    """Invocations, as the next two."""
    orchestrator: float
    worker: float
    worker_calls: float
    """Calls, other than to S3, for which the worker waits."""
    engine_calls: float
    """The same of the orchestrator, for which the consumer waits."""
    stored_bytes: float
    """What stays in the table until it expires."""
    object_bytes: float
    """And in S3."""


def count(shape: Shape) -> Counts:
    """What one run of this shape asks of AWS, after the first one: a first run also looks up what is registered."""
    event, result = shape.event_kb * 1024, shape.result_kb * 1024
    apart = event > INLINE_RUN  # in an item of its own, read by each invocation
    run_bytes = RUN_BYTES + (0 if apart else event)
    u = units(math.ceil(run_bytes))
    event_item = INPUT_BYTES + (event if event <= INLINE_STEP else 60)
    large = result > INLINE_STEP
    step_item = STEP_BYTES + (60 if large else result)
    s = units(math.ceil(step_item))
    invocations = 1 + shape.rests
    far = shape.sleep_seconds * 1000 > POSTABLE
    kept_longer = shape.steps * s if shape.sleep_seconds > KEEP else 0

    start = u + 1 + (units(math.ceil(event_item)) if apart else 0)
    rest = 1 + (u + 2) + (u + 2) + u
    sleep = rest + (u + 2 if far else 0) + kept_longer
    wait = rest + 4  # the waiter, twice; the event; the resolution
    resumed = sum(_resume_reads(shape, step_item, n) for n in range(shape.rests))
    object_gets = (invocations if apart and event > INLINE_STEP else 0) + (
        (invocations - 1) * shape.steps if large else 0
    )
    message = math.ceil(shape.batch * event / SQS_CHUNK) / shape.batch if event else 0.0
    message = max(message, 1 / shape.batch)
    return Counts(
        write_units=start + u + shape.steps * s + u + 2 + shape.sleeps * sleep + shape.waits * wait,
        read_units=(1 + shape.waits) * 2 / shape.batch  # what is registered, and which paths are waited on
        + shape.waits  # who waits
        + shape.rests * _reads(run_bytes)  # a wake-up looks at the run
        + (shape.sleeps if far else 0)  # the sweeper, too
        + resumed
        + (invocations * _reads(event_item) if apart else 0),
        sqs=2 * message + 1 / shape.batch  # sent, received, deleted
        + shape.sleeps * (1 + 2 / shape.batch)  # a wake-up is sent by itself
        + shape.waits * 3 / shape.batch,
        puts=(1 if apart and event > INLINE_STEP else 0) + (shape.steps if large else 0),
        gets=object_gets,
        consumer=invocations / shape.batch,
        orchestrator=invocations / shape.batch,
        worker=invocations,
        worker_calls=2 + shape.steps + (invocations if apart else 0)
        + shape.sleeps * (4 + (0 if far else 1) + (shape.steps if kept_longer else 0))
        + shape.waits * 6,
        engine_calls=2 + (1 if apart else 0) + 1 / shape.batch + shape.sleeps * 3 + shape.waits * (6 + 1 / shape.batch),
        stored_bytes=run_bytes + 2 * ITEM_BYTES  # in the table and in the index
        + (event_item + ITEM_BYTES if apart else 0)
        + shape.steps * (step_item + ITEM_BYTES)
        + shape.sleeps * (REST_BYTES + ITEM_BYTES)
        + shape.waits * 2 * (WAIT_BYTES + ITEM_BYTES),
        object_bytes=(event if apart and event > INLINE_STEP else 0) + (shape.steps * result if large else 0),
    )  # fmt: skip


def _reads(size: float) -> int:
    return max(1, math.ceil(size / READ_UNIT))


def _resume_reads(shape: Shape, step_item: float, before: int) -> int:
    """One query of all checkpoints there are: those of the steps, of this rest, and of the rests `before` it."""
    sleeps = min(before + 1, shape.sleeps)
    return _reads(shape.steps * step_item + sleeps * REST_BYTES + (before + 1 - sleeps) * WAIT_BYTES)
