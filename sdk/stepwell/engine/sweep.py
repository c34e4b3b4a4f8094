"""The sweeper: once a minute, whatever is overdue.

It only posts messages and moves due_at, the message first and the move conditional on the due_at it saw; so it may run
twice at once, or die anywhere. The orchestrator, which gets the messages, decides.

What it finds in the index may be of several kinds. KINDS says by the prefix of the pk who decides about which: a new
kind of item that is due at some time needs an entry there, and nothing else here.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from botocore.exceptions import BotoCoreError, ClientError

from stepwell.decisions.deadlines import deadline
from stepwell.decisions.next import GRACE, Next, decide, look_again, rest
from stepwell.engine.due import Action, Kind
from stepwell.engine.lines import BACKSTOP, overdue_lines
from stepwell.engine.receiving import overdue_effects
from stepwell.engine.ticking import overdue_schedules
from stepwell.ports import Ports
from stepwell.queue import Message, look
from stepwell.records import RunState, RunStatus
from stepwell.store.due import Key
from stepwell.store.layout import DUE_SHARDS, SEEN_DUE, due_key
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
        for page in _pages(ports.store.due.until(shard, now)):
            if remaining() < 5.0:
                return Swept(looked_at, posted)
            looked_at += len(page)
            posted += _carry_out(ports, _decided(ports, page, now))
    return Swept(looked_at, posted)


def _decided(ports: Ports, page: Sequence[Key], now: int) -> list[Action]:
    kinds: dict[str, list[Key]] = defaultdict(list)
    for key in page:
        kinds[key[0].partition("#")[0]].append(key)
    actions = []
    for prefix, keys in kinds.items():
        if prefix in KINDS:
            actions += KINDS[prefix](ports, keys, now)
        else:
            logger.error("items that this version does not know are due: %s", keys[:5])
    return actions


def _carry_out(ports: Ports, actions: Sequence[Action]) -> int:
    messages = [message for action in actions for message in action.messages]
    if messages:
        ports.queue.send(*messages)
    for action in actions:
        try:
            action.move()
        except (ClientError, BotoCoreError) as error:
            # It stays due. Raised, it would keep all that comes after it from being looked at, sweep after sweep.
            logger.warning("could not move what is due: %s", error)
    return len(messages)


def _overdue_runs(ports: Ports, keys: Sequence[Key], now: int) -> list[Action]:
    runs = ports.store.runs.read_many(pk.removeprefix("RUN#") for pk, _ in keys)
    actions = []
    for pk, _ in keys:
        run = runs.get(pk.removeprefix("RUN#"))
        if run is None or run.due_at is None or run.due_at > now:
            continue  # the index was behind
        message, due = _move(run, now)
        actions.append(Action(_moving(ports, run, due), () if message is None else (message,)))
    return actions


def _moving(ports: Ports, run: RunState, due: int) -> Callable[[], None]:
    def move() -> None:
        due_pk, due_sk = due_key(run.id, due, owing=not run.is_live)
        try:
            ports.store.runs.change(run.id, SEEN_DUE, due_pk=due_pk, due_sk=due_sk, _seen_due=run.due_sk)
        except LostRun:
            logger.debug("run %s moved on by itself", run.id)

    return move


def _move(run: RunState, now: int) -> tuple[Message | None, int]:
    """What to post about a run that is due, and when to look again."""
    needed = decide(run, now)
    if run.line is not None and needed in (Next.QUEUE, Next.NOTHING):
        # Its gate, which is looked at more often, has not called it. It is looked at all the same: it must outlast its wait.
        return look(run.id), now + BACKSTOP if run.wake_at is None else min(now + BACKSTOP, rest(run.wake_at, now)[0])
    if needed is Next.NOTHING and run.status is RunStatus.RUNNING and run.lease is not None:
        ends = deadline(run)
        if ends is None or ends > run.lease.until:
            return None, run.lease.until + 1  # it lives; nobody paid for moving due_at when it was claimed
        due, delay = rest(ends, now)
        return None if delay is None else look(run.id, delay=delay), due
    if needed is Next.NOTHING and run.wake_at is not None:
        return None, rest(run.wake_at, now)[0]
    missed = run.epoch if needed is Next.ASK_AGAIN else None
    if needed is Next.POST and run.wake_at is not None:
        return look(run.id, delay=(run.wake_at - now) / 1000), run.wake_at + GRACE
    return look(run.id, missed=missed), look_again(run, needed, now)


def _pages(keys: Iterator[Key]) -> Iterator[list[Key]]:
    while page := list(islice(keys, PAGE)):
        yield page


KINDS: Mapping[str, Kind] = {
    "RUN": _overdue_runs,
    "CRON": overdue_schedules,
    "GATE": overdue_lines,
    "EVENTS": overdue_effects,
}
"""Who decides about an item that is due, by what its pk begins with."""
