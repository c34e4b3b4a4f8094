"""Runs, listed: the live ones and those that have ended, newest first."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator
from itertools import islice

from stepwell.ids import ulid_of
from stepwell.records import LIVE, TERMINAL, RunState, RunStatus
from stepwell.store import Store
from stepwell.store.layout import DONE_SHARDS, DUE_SHARDS, day_of

_DAY = 86_400_000


def list_runs(
    store: Store,
    functions: Iterable[tuple[str, str]],
    *,
    statuses: Collection[RunStatus] = tuple(RunStatus),
    since: int,
    until: int,
) -> Iterator[RunState]:
    """The runs of these (app, function) pairs in these states whose events came from `since` to `until`.

    Steps that run as child runs are not among them; their parents name them. Newest first; each run is read before it
    is given out, so its state is the current one even where the index lags.
    """
    wanted = set(functions)
    ids = heapq.merge(
        _ended(store, wanted, set(statuses) & TERMINAL, since, until),
        _live(store, since, until) if set(statuses) & LIVE else iter(()),
        key=rank,
        reverse=True,
    )
    seen: set[str] = set()
    while page := list(islice(ids, 100)):
        fresh = [run for run in dict.fromkeys(page) if run not in seen]
        seen.update(fresh)
        found = store.runs.read_many(fresh)
        for run_id in fresh:
            run = found.get(run_id)
            if run is not None and run.status in statuses and (run.app, run.function) in wanted:
                yield run


def _ended(
    store: Store, functions: set[tuple[str, str]], statuses: Collection[RunStatus], since: int, until: int
) -> Iterator[str]:
    """Ended runs, newest first: day by day, so that whoever wants the last few does not pay for the years before."""
    lowest, highest = ulid_of(since, b"\0" * 10), ulid_of(until, b"\xff" * 10)
    day = until - until % _DAY
    while statuses and day >= since - since % _DAY:
        partitions = [
            store.runs.ended(app, function, day_of(day), status, shard)
            for app, function in functions
            for status in statuses
            for shard in range(DONE_SHARDS)
        ]
        for run in heapq.merge(*partitions, key=rank, reverse=True):
            if lowest <= rank(run)[0] <= highest:
                yield run
        day -= _DAY


def _live(store: Store, since: int, until: int) -> Iterator[str]:
    lowest, highest = ulid_of(since, b"\0" * 10), ulid_of(until, b"\xff" * 10)
    found = [run for shard in range(DUE_SHARDS) for run in store.runs.live(shard) if lowest <= rank(run)[0] <= highest]
    return iter(sorted(found, key=rank, reverse=True))


def rank(run: str) -> tuple[str, str]:
    """Where a run stands in a list: by age. Runs of two apps for one event are of the same age, to the bit."""
    return run.rpartition(".")[2], run
