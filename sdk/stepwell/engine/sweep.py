"""The sweeper: once a minute, whatever is overdue.

It only posts messages and moves due_at, the message first and the move conditional on the due_at it saw; so it may run
twice at once, or die anywhere. The orchestrator, which gets the messages, decides.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from stepwell.decisions.next import GRACE, Next, decide, rest
from stepwell.ports import Ports
from stepwell.queue import Message, look
from stepwell.records import RunState, RunStatus
from stepwell.store.layout import DUE_SHARDS, SEEN_DUE
from stepwell.store.runs import LostRun

logger = logging.getLogger("stepwell")

PAGE = 100


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep did."""

    looked_at: int
    posted: int


def sweep(ports: Ports, remaining: Callable[[], float]) -> Swept:
    """Look at all that is due. What is not reached before time runs out is still due at the next sweep."""
    now, looked_at, posted = ports.now(), 0, 0
    for shard in range(DUE_SHARDS):
        for page in _pages(ports.store.runs.due(shard, now)):
            if remaining() < 5.0:
                return Swept(looked_at, posted)
            runs = ports.store.runs.read_many(page)
            looked_at += len(runs)
            posted += _handle(ports, [runs[run] for run in page if run in runs], now)
    return Swept(looked_at, posted)


def _handle(ports: Ports, runs: list[RunState], now: int) -> int:
    messages: list[Message] = []
    moves: list[tuple[RunState, int]] = []
    for run in runs:
        if run.due_at is None or run.due_at > now:
            continue  # the index was behind
        message, due = _move(run, now)
        if message is not None:
            messages.append(message)
        moves.append((run, due))
    if messages:
        ports.queue.send(*messages)
    for run, due in moves:
        try:
            ports.store.runs.change(run.id, SEEN_DUE, due=due, _seen_due=f"{run.due_at:015d}")
        except LostRun:
            logger.debug("run %s moved on by itself", run.id)
    return len(messages)


def _move(run: RunState, now: int) -> tuple[Message | None, int]:
    """What to post about a run that is due, and when to look again."""
    if run.status is RunStatus.RUNNING and run.lease is not None and run.lease.until >= now:
        return None, run.lease.until + 1  # it lives; nobody paid for moving due_at when it was claimed
    needed = decide(run, now)
    if needed is Next.NOTHING and run.wake_at is not None:
        return None, rest(run.wake_at, now)[0]
    missed = run.epoch if needed is Next.ASK_AGAIN else None
    if needed is Next.POST and run.wake_at is not None:
        return look(run.id, delay=(run.wake_at - now) / 1000), run.wake_at + GRACE
    return look(run.id, missed=missed), now + GRACE


def _pages(runs: Iterator[str]) -> Iterator[list[str]]:
    while page := list(islice(runs, PAGE)):
        yield page
