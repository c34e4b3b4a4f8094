"""Runs, listed: the live ones and those that have ended, newest first.

Whatever its filters, a list asks at most

    8                                          queries for the live ones: all of their keys are read, and where there are
                                               a thousand to a query, those due soon once more; or, if none of them
                                               are wanted, for those that have just ended and still owe that to somebody
    4 x functions x ends                       queries for those that have ended: the newest 25 keys of each partition
    1 for each 100 runs that are looked at     to read the runs

and from there on as much as it gives out. How old the deployment is, and how many runs it has had, does not matter.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from typing import TypeVar

from stepwell.ids import app_of, run_millis, ulid_of
from stepwell.records import LIVE, TERMINAL, RunState, RunStatus
from stepwell.store import Store
from stepwell.store.layout import DONE_SHARDS, DUE_SHARDS, TAKEN
from stepwell.threads import Threads, together

T = TypeVar("T")

Rank = tuple[str, str]

_PAGE = 100
_FEW = 25


def list_runs(
    store: Store,
    functions: Iterable[tuple[str, str]],
    *,
    statuses: Collection[RunStatus] = tuple(RunStatus),
    since: int = 0,
    until: int,
    now: int,
    all_live: bool = False,
    taken: bool = False,
    threads: Threads | None = None,
) -> Iterator[RunState]:
    """The runs of these (app, function) pairs in these states whose events came from `since` to `until`.

    Steps that run as child runs are not among them; their parents name them. Neither are, unless `taken`, the runs of
    events that a batch took along. `all_live`: of the live ones also those of other functions. Newest first; each run is
    read before it is given out, so its state is the current one even where the index lags. With `threads` what can be
    asked for at the same time is.
    """
    wanted = set(functions)
    apps = None if all_live else {app for app, _ in wanted}
    ends = [status.value for status in statuses if status in TERMINAL] + ([TAKEN] if taken else [])
    # What is due comes first: a run that ends, or has told its end, in between is then in the one list, or the other, or both.
    read = store.runs.owing if LIVE.isdisjoint(statuses) else partial(store.runs.live, now=now)
    due = _due(read, apps, since, until, threads) if statuses else []
    seen: set[str] = set()
    ended = _ended(store, wanted, ends, since, until, threads)
    for page in pages(heapq.merge(due, ended, key=rank, reverse=True)):
        fresh = [run for run in dict.fromkeys(page) if run not in seen]
        seen.update(fresh)
        found = store.runs.read_many(fresh)
        for run in (found[each] for each in fresh if each in found):
            meant = (run.app, run.function) in wanted or (all_live and run.is_live)
            if meant and run.status in statuses and run.call is None and (taken or run.taken_by is None):
                yield run


def _ended(
    store: Store,
    functions: Collection[tuple[str, str]],
    ends: Collection[str],
    since: int,
    until: int,
    threads: Threads | None,
) -> Iterator[str]:
    """Ended runs, newest first."""
    partitions = [
        store.runs.ended(app, function, end, shard, since=since, until=until)
        for app, function in sorted(functions)
        for end in ends
        for shard in range(DONE_SHARDS)
    ]
    heads = _all([partial(next, partition, None) for partition in partitions], threads)
    begun = [chain([head], rest) for head, rest in zip(heads, partitions, strict=True) if head is not None]
    return heapq.merge(*begun, key=rank, reverse=True)


def _due(
    read: Callable[[int], Iterator[str]],
    apps: Collection[str] | None,
    since: int,
    until: int,
    threads: Threads | None,
) -> list[str]:
    """Runs that are due some time, newest first: all that live, if they are wanted, and those that have ended and owe their
    end to somebody. The index has them by that time, so all have to be looked at."""
    lowest, highest = ulid_of(since, b"\0" * 10), ulid_of(until, b"\xff" * 10)
    shards = _all([partial(_ids, read, shard) for shard in range(DUE_SHARDS)], threads)
    runs = [run for shard in shards for run in shard if apps is None or app_of(run) in apps]
    return sorted((run for run in runs if lowest <= rank(run)[0] <= highest), key=rank, reverse=True)


def _ids(read: Callable[[int], Iterator[str]], shard: int) -> list[str]:
    return list(read(shard))


def _all(calls: Sequence[Callable[[], T]], threads: Threads | None) -> list[T]:
    return [call() for call in calls] if threads is None else together(threads, calls)


def rank(run: str) -> Rank:
    """Where a run stands in a list: by age. Runs of two apps for one event are of the same age, to the bit."""
    return run.rpartition(".")[2], run


def millis_of(run: str) -> int:
    """When what started the run was received, milliseconds."""
    return run_millis(run) or 0


def pages(entries: Iterable[T]) -> Iterator[list[T]]:
    """The entries in lists to be read at once: a few to begin with, as most lists are short, then as many as may be."""
    iterator, size = iter(entries), _FEW
    while page := list(islice(iterator, size)):
        yield page
        size = _PAGE
