"""Runs and their steps in the table. What each condition means stands in `layout`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from stepwell.ids import ulid_of
from stepwell.records import Lease, RunState, RunStatus, StepState, Stored
from stepwell.store import layout
from stepwell.store.due import due_by
from stepwell.store.items import changes, run_from, run_item, step_from, step_item
from stepwell.store.table import Item, Lost, Table

FIRST_PAGE = 25
"""Keys read at once of each partition of ended runs: there are many partitions, and most lists want the newest few."""


LONG = 1_000
"""Keys of a shard from which on reading it may take more than one page, which is 1 MB."""
SOON = 20 * 60_000
"""Milliseconds, more than any lease still has: what wakes up, runs or ends while a shard is read is due by then."""


class LostRun(Exception):
    """A conditional write to a run was refused; `run` is how it stands, None if it does not exist."""

    def __init__(self, run: RunState | None) -> None:
        super().__init__("the run is not as it was")
        self.run = run

    @classmethod
    def to(cls, item: Item | None) -> LostRun:
        """The refusal that gave this item as what stands there."""
        return cls(run_from(item) if item else None)


class Runs:
    """Every verb is one request, atomic, conditional as its docstring says; the loser sees the winner."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def create(self, run: RunState) -> RunState | None:
        """Put a new run. CREATE: returns None if it is new, else the run that is already there."""
        try:
            self._table.put(run_item(run), if_=layout.CREATE)
        except Lost as lost:
            return run_from(lost.item or {})
        return None

    def put_input(self, run: str, event: Stored, *, ttl: int) -> None:
        """Keep the event of a run beside it. CREATE: the first one stays. `ttl` as for a step: past the run's end."""
        item = {"pk": layout.run_pk(run), "sk": layout.INPUT_SK, "event": event, "ttl": ttl}
        try:
            self._table.put(item, if_=layout.CREATE)
        except Lost:
            return

    def read_input(self, run: str) -> Stored | None:
        """The event kept beside a run."""
        item = self._table.get(layout.run_pk(run), layout.INPUT_SK)
        return item["event"] if item else None

    def read(self, run: str) -> RunState | None:
        """A run as it is now, strongly consistent."""
        item = self._table.get(layout.run_pk(run), layout.RUN_SK)
        return run_from(item) if item else None

    def read_many(self, runs: Iterable[str]) -> dict[str, RunState]:
        """Those of the runs that exist, strongly consistent."""
        items = self._table.batch_get((layout.run_pk(run), layout.RUN_SK) for run in runs)
        return {run.id: run for run in map(run_from, items)}

    def claim(self, run: str, *, seen: int, lease: Lease, now: int) -> RunState:
        """Take a queued run. CLAIM: one of all deliveries of a dispatch wins. Raises LostRun."""
        set_ = {
            "status": RunStatus.RUNNING.value,
            "epoch": seen + 1,
            "holder": lease.holder,
            "lease_until": lease.until,
        }
        if seen == 0:
            set_["started"] = now
        try:
            item = self._table.update(
                layout.run_pk(run),
                layout.RUN_SK,
                set_=set_,
                if_=layout.CLAIM,
                values={":seen": seen},
            )
        except Lost as lost:
            stands = lost.item or {}
            if stands.get("epoch") == seen + 1 and stands.get("holder") == lease.holder:
                return run_from(stands)  # our own claim, whose answer was lost
            raise LostRun.to(stands) from None
        return run_from(item)

    def change(self, run: str, if_: str, **fields: Any) -> RunState:
        """Change a run under a condition of `layout`. `fields` as `changes` takes them. Raises LostRun."""
        set_, gone, values = changes(run, fields)
        try:
            return run_from(
                self._table.update(layout.run_pk(run), layout.RUN_SK, set_=set_, remove=gone, if_=if_, values=values)
            )
        except Lost as lost:
            raise LostRun.to(lost.item) from None

    def count_wake(self, run: str) -> RunState:
        """Tell a running holder that something happened. RUNNING; raises LostRun."""
        try:
            item = self._table.update(layout.run_pk(run), layout.RUN_SK, add={"wakes": 1}, if_=layout.RUNNING)
        except Lost as lost:
            raise LostRun.to(lost.item) from None
        return run_from(item)

    # ---- steps

    def steps(self, run: str, *, after: str = "") -> Iterator[StepState]:
        """All checkpoints of a run, or those that stand after that of the step `after`: one paged Query, strongly
        consistent."""
        last = layout.step_sk(after) if after else ""
        for item in self._table.query(layout.run_pk(run), prefix=layout.STEP_PREFIX, after=last):
            yield step_from(item)

    def step(self, run: str, key: str) -> StepState | None:
        """One checkpoint, strongly consistent."""
        item = self._table.get(layout.run_pk(run), layout.step_sk(key))
        return step_from(item) if item else None

    def record(self, run: str, step: StepState, *, beat_by: int | None = None) -> StepState | None:
        """Write a checkpoint. OPEN (UNBEATEN if a heartbeat was due by `beat_by`): returns None if it stands, else the
        one that was first.

        A checkpoint of the same epoch and status that is already there is our own write, whose answer was lost: in one
        epoch only one invocation writes.
        """
        try:
            if beat_by is None:
                self._table.put(step_item(run, step), if_=layout.OPEN)
            else:
                self._table.put(step_item(run, step), if_=layout.UNBEATEN, values={":beaten": beat_by})
        except Lost as lost:
            first = step_from(lost.item or {})
            ours = (first.epoch, first.status, first.by) == (step.epoch, step.status, step.by)
            return None if ours else first
        return None

    def resolve(self, run: str, step: StepState) -> StepState | None:
        """Resolve a wait from outside, whether or not its own record is written yet. AWAITED.

        Returns None if this resolution stands, else the one that was first. What the waiting invocation recorded with
        the step stays.
        """
        item = step_item(run, step)
        fields = {name: value for name, value in item.items() if name not in ("pk", "sk", "epoch")}
        try:
            self._table.update(item["pk"], item["sk"], set_=fields, if_=layout.AWAITED, returning="NONE")
        except Lost as lost:
            return step_from(lost.item or {})
        return None

    def answer(self, run: str, key: str, *, now: int, **fields: Any) -> StepState:
        """Resolve a callback from outside, or note its heartbeat. ANSWERABLE; raises Lost with the step's item."""
        set_ = {name: value for name, value in fields.items() if value is not None}
        return step_from(
            self._table.update(
                layout.run_pk(run), layout.step_sk(key), set_=set_, if_=layout.ANSWERABLE, values={":now": now}
            )
        )

    def keep(self, run: str, steps: Iterable[StepState]) -> None:
        """Write checkpoints under the id of a run that does not exist yet, so nobody else writes there. Not atomic."""
        self._table.put_many(step_item(run, step) for step in steps)

    def beside(self, run: str) -> Iterator[tuple[str, int]]:
        """All that lies beside a run and is to expire (its event, those it takes along, checkpoints): sort key and ttl."""
        for item in self._table.query(layout.run_pk(run)):
            if item["sk"] != layout.RUN_SK and "ttl" in item:
                yield item["sk"], item["ttl"]

    def prolong(self, run: str, sk: str, ttl: int) -> None:
        """Keep something beside a run until `ttl` (epoch seconds). EXISTING: what is gone is not made anew."""
        with suppress(Lost):
            self._table.update(layout.run_pk(run), sk, set_={"ttl": ttl}, if_=layout.EXISTING, returning="NONE")

    # ---- lists

    def due(self, shard: int, until: int) -> Iterator[str]:
        """Runs that may be due in one shard of the index, the most overdue first. The sweeper reads `Due` instead."""
        yield from _runs_of(due_by(self._table, shard, until))

    def live(self, shard: int, *, now: int) -> Iterator[str]:
        """All live runs of one shard, by the time they are due; before them those that have ended and owe their end.

        Between two pages a run may move from what is not read yet to what has been: one that ends, or wakes up, does. So of
        a shard of several pages the beginning is read once more, after all the rest.
        """
        pk = layout.due_pk(shard)
        keys = list(self._table.query_index(pk))
        if len(keys) >= LONG:
            keys += self._table.query_index(pk, between=(layout.OWING, f"{now + SOON:015d}"))
        yield from dict.fromkeys(_runs_of(keys))

    def owing(self, shard: int) -> Iterator[str]:
        """The runs of one shard that have ended and still owe their end to somebody."""
        span = (layout.OWING, layout.OWING + layout.LAST)
        yield from _runs_of(self._table.query_index(layout.due_pk(shard), between=span))

    def ended(self, app: str, function: str, end: str, shard: int, *, since: int, until: int) -> Iterator[str]:
        """Runs that have ended, of one function, end (a status, or `taken`) and shard, created from `since` to `until`
        (milliseconds), newest first: one range Query, whose first page is small."""
        lowest, highest = ulid_of(since, b"\0" * 10), ulid_of(until, b"\xff" * 10)
        pk, span = layout.done_pk(app, function, end, shard), (f"{app}.{lowest}", f"{app}.{highest}")
        for key in self._table.query_index(pk, between=span, newest_first=True, first_page=FIRST_PAGE):
            yield key["due_sk"]


def _runs_of(keys: Iterable[Item]) -> Iterator[str]:
    """The runs among the keys of the index: not only runs are due."""
    for key in keys:
        if key["pk"].startswith("RUN#"):
            yield key["pk"].removeprefix("RUN#")
