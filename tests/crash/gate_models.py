"""What each kind of gate promises, said once more in the simplest words, over every write in the order it happened.

A model sees run items and nothing of how gates decide. `KINDS` says how a random function declares such a gate, and which
model its trace has to fit; `test_models_bite` shows that each model refuses gates that do something else.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from stepwell import Batch, Concurrency, Debounce, RateLimit, Run, RunStatus, Singleton, Throttle
from stepwell.records import LIVE, RunState
from stepwell.store.items import run_from
from stepwell.store.layout import PAUSED_PREFIX, RUN_SK
from stepwell.testing import LocalStepwell
from stepwell.testing.observations import Wrote

DECIDING = 200
"""Milliseconds that may lie between a decision and the write that shows it, where calls take time."""
TENANTS = ("a", "b")
KEY = "event.data.tenant"

Runs = list[Run]
Holds = Callable[[LocalStepwell, Runs], None]


@dataclass(frozen=True)
class Change:
    """A run, before and after one write."""

    at: int
    """Milliseconds."""
    before: RunState | None
    after: RunState


def changes(local: LocalStepwell) -> Iterator[Change]:
    """Every write to a run, in order."""
    for write in local.world.observations.of(Wrote):
        if write.sk == RUN_SK and write.after is not None:
            before = run_from(write.before.plain()) if write.before else None
            yield Change(round(write.at * 1000), before, run_from(write.after.plain()))


def tenant_of(run: Run) -> str:
    return str(run.event.data["tenant"])


def by_tenant(runs: Runs) -> dict[str, Runs]:
    found: dict[str, Runs] = defaultdict(list)
    for run in runs:
        found[tenant_of(run)].append(run)
    return found


def first_start(local: LocalStepwell) -> dict[str, int]:
    """When each run was first taken by a worker, milliseconds."""
    starts: dict[str, int] = {}
    for change in changes(local):
        if change.after.epoch:
            starts.setdefault(change.after.id, change.at)
    return starts


# ---- slots


class Line:
    """Who holds a gate's slots and who waits for one, by the runs' own word."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.holders: set[str] = set()
        self.waiting: dict[str, tuple[int, str]] = {}

    def sees(self, gate: str, run: RunState) -> None:
        """One write. Nobody gets a slot that is not there, nobody goes past those for whom there is none."""
        holds = run.held and gate in run.gates
        if holds and run.id not in self.holders:
            free = self.limit - len(self.holders)
            place = (run.created - run.priority, run.id)  # also of one that has gone on to wait for another gate
            ahead = [each for each in self.waiting.values() if each < place]
            assert free > 0, f"{run.id} took a slot of {gate}, but all {self.limit} were taken"
            assert len(ahead) < free or not ahead, f"{run.id} went past {ahead} in the line of {gate}"
        (self.holders.add if holds else self.holders.discard)(run.id)
        self.waiting.pop(run.id, None)
        if run.line == gate and run.is_live:
            self.waiting[run.id] = (run.created - run.priority, run.id)


def slots_are_kept(local: LocalStepwell, limit_of: Callable[[str], int]) -> int:
    """No gate ever has more holders than its limit, and its line keeps its order; how often somebody had to wait."""
    lines: dict[str, Line] = {}
    waited = 0
    for change in changes(local):
        run = change.after
        waited += run.line is not None and (change.before is None or change.before.line != run.line)
        for gate in {*run.gates, *([run.line] if run.line else ())}:
            lines.setdefault(gate, Line(limit_of(gate))).sees(gate, run)
    assert not any(line.holders or line.waiting for line in lines.values()), "in the end nobody holds or waits"
    return waited


def slots(random: Random) -> tuple[dict[str, Any], Holds]:
    limit, shared = random.randint(1, 3), random.randint(1, 4)
    options = {"concurrency": [Concurrency(limit, key=KEY), Concurrency(shared, scope="app")]}
    if random.random() < 0.5:
        options["priority"] = "event.data.order % 3 * 10"  # type: ignore[assignment]

    def holds(local: LocalStepwell, runs: Runs) -> None:
        assert {run.status for run in runs} == {RunStatus.COMPLETED}
        slots_are_kept(local, lambda gate: shared if gate.split("#")[1] == "*" else limit)

    return options, holds


def pausing(random: Random) -> tuple[dict[str, Any], Holds]:
    """A function that is paused and resumed meanwhile (by the driver), with a slot or without."""
    options = {"concurrency": Concurrency(1)} if random.random() < 0.5 else {}

    def holds(local: LocalStepwell, runs: Runs) -> None:
        assert {run.status for run in runs} == {RunStatus.COMPLETED}
        paused = False
        waiting: dict[str, tuple[int, str]] = {}
        for write in local.world.observations.of(Wrote):
            if write.sk.startswith(PAUSED_PREFIX):
                paused = write.after is not None
            if write.sk != RUN_SK or write.after is None:
                continue
            run = run_from(write.after.plain())
            stood = waiting.pop(run.id, None)
            if run.line is not None and run.line.endswith("#pause#"):
                waiting[run.id] = (run.created, run.id)
            elif stood is not None:
                assert not paused, f"{run.id} left the line while its function was paused"
                assert all(stood < each for each in waiting.values()), f"{run.id} went past {waiting}"
        assert waiting == {}

    return options, holds


# ---- buckets


def throttle(random: Random) -> tuple[dict[str, Any], Holds]:
    period, burst = random.choice([10, 60]), random.randint(1, 3)

    def holds(local: LocalStepwell, runs: Runs) -> None:
        assert {run.status for run in runs} == {RunStatus.COMPLETED}
        tenants = {run.id: tenant_of(run) for run in runs}
        turns: dict[str, list[int]] = defaultdict(list)
        accepted: dict[str, list[int]] = defaultdict(list)
        begun = first_start(local)
        for change in changes(local):
            run = change.after
            if change.before is None:  # its turn is decided when it is accepted, whatever befalls it afterwards
                turn = run.wake_at or change.at
                turns[tenants[run.id]].append(turn)
                accepted[tenants[run.id]].append(change.at)
                assert begun[run.id] >= turn, "started before its turn"
        for times in turns.values():
            assert times == sorted(times), "a turn before that of an event that was accepted earlier"
            for early, late in zip(times, times[burst:], strict=False):
                assert late - early > period * 1000 - DECIDING, "more turns at once than it says"
        for tenant, times in turns.items():
            for came, before, turn in zip(accepted[tenant], [0, *times], times, strict=False):
                assert turn - max(came, before) <= period * 1000, "held up for nothing"

    return {"throttle": Throttle(1, period, burst=burst, key=KEY)}, holds


def rate_limit(random: Random) -> tuple[dict[str, Any], Holds]:
    limit = random.randint(1, 3)

    def holds(local: LocalStepwell, runs: Runs) -> None:
        for group in by_tenant(runs).values():
            taken = sorted(run.created_at.timestamp() for run in group if run.status is RunStatus.COMPLETED)
            assert taken
            for early, late in zip(taken, taken[limit:], strict=False):
                assert late - early >= 60, "more starts in a period than the limit"
            for run in group:
                if run.status is RunStatus.SKIPPED:
                    at = run.created_at.timestamp()
                    assert sum(at - 60 <= other <= at for other in taken) >= limit, "skipped although there was room"

    return {"rate_limit": RateLimit(limit, "1m", key=KEY)}, holds


def idempotency(random: Random) -> tuple[dict[str, Any], Holds]:
    def holds(local: LocalStepwell, runs: Runs) -> None:
        tenants = {run.id: tenant_of(run) for run in runs}
        first: dict[str, str] = {}
        for change in changes(local):
            if change.before is None:
                first.setdefault(tenants[change.after.id], change.after.id)
        for run in runs:
            expected = RunStatus.COMPLETED if first[tenants[run.id]] == run.id else RunStatus.SKIPPED
            assert run.status is expected, "the first one runs, and nobody else"

    return {"idempotency": KEY}, holds


def singleton(random: Random) -> tuple[dict[str, Any], Holds]:
    mode: Any = random.choice(["skip", "cancel"])

    def holds(local: LocalStepwell, runs: Runs) -> None:
        tenants = {run.id: tenant_of(run) for run in runs}
        live: dict[str, set[str]] = defaultdict(set)
        ended: dict[str, int] = defaultdict(int)
        makes_way: dict[
            str, str
        ] = {}  # by tenant: the newcomer and the end of its forerunner are one write, seen in turn
        for change in changes(local):
            run, tenant = change.after, tenants[change.after.id]
            there = live[tenant]
            ends = change.before is not None and change.before.is_live and run.status is RunStatus.CANCELLED
            if tenant in makes_way:
                assert ends, f"{run.id} lives although another one came in its place"
                assert makes_way.pop(tenant) == run.id, "not the one that was to make way"
            elif ends:
                raise AssertionError(f"{run.id} was cancelled without another one in its place")
            elif change.before is None and run.status is RunStatus.SKIPPED:
                assert there or change.at - ended[tenant] <= DECIDING, "skipped although no other run lived"
            elif change.before is None and there:
                assert mode == "cancel", "two runs lived at once"
                (makes_way[tenant],) = there
            if run.status not in LIVE and run.id in there:
                ended[tenant] = change.at  # who has decided by then may not know it yet
            (there.add if run.status in LIVE else there.discard)(run.id)
        for group in by_tenant(runs).values():
            assert Counter(run.status for run in group)[RunStatus.COMPLETED] >= 1
            if mode == "cancel":
                latest = max(run.id.rpartition(".")[2][:10] for run in group)
                assert any(
                    run.status is RunStatus.COMPLETED for run in group if run.id.rpartition(".")[2][:10] == latest
                ), "the last event's run is the one that stays"

    return {"singleton": Singleton(mode, key=KEY)}, holds


# ---- collectors


def debounce(random: Random) -> tuple[dict[str, Any], Holds]:
    period = random.choice([2, 20])
    timeout = period * random.choice([2, 6])

    def holds(local: LocalStepwell, runs: Runs) -> None:
        tenants = {run.id: tenant_of(run) for run in runs}
        open_: dict[str, tuple[str, int]] = {}  # by tenant: the run that waits, and when the first of its kind came
        for change in changes(local):
            run, tenant = change.after, tenants[change.after.id]
            if change.before is None and run.status is RunStatus.SCHEDULED:
                first = open_[tenant][1] if tenant in open_ else change.at
                expected = max(change.at, min(change.at + period * 1000, first + timeout * 1000))
                assert abs((run.wake_at or 0) - expected) < DECIDING, "another time to start"
                open_[tenant] = (run.id, first)
            elif change.before is None and run.status is RunStatus.QUEUED:
                assert tenant in open_, "started at once although nothing came before it"
                first = open_[tenant][1]
                assert change.at > first + timeout * 1000 - DECIDING, "started at once, and before its time"
                open_[tenant] = (run.id, first)
            elif change.before is None:
                newer = [other for other, each in tenants.items() if each == tenant and other > run.id]
                assert newer, "skipped although nothing is newer"
            elif run.status is RunStatus.SKIPPED:
                assert open_[tenant][0] != run.id, "skipped although nothing came in its place"
            elif run.status is not RunStatus.SCHEDULED and open_.get(tenant, ("", 0))[0] == run.id:
                del open_[tenant]
        assert open_ == {}
        for group in by_tenant(runs).values():
            assert {run.status for run in group} <= {RunStatus.COMPLETED, RunStatus.SKIPPED}
            # Whatever was skipped was skipped for an event that was received later, or in the same millisecond.
            latest = max(run.id.rpartition(".")[2][:10] for run in group)
            assert any(run.status is RunStatus.COMPLETED for run in group if run.id.rpartition(".")[2][:10] == latest)

    return {"debounce": Debounce(period, timeout=timeout, key=KEY)}, holds


def batch(random: Random) -> tuple[dict[str, Any], Holds]:
    size = random.randint(1, 4)

    def holds(local: LocalStepwell, runs: Runs) -> None:
        orders = {run.id: run.event.data["order"] for run in runs}
        tenants = {run.id: tenant_of(run) for run in runs}
        expected: dict[str, list[Any]] = {}
        opened: dict[str, int] = {}
        for change in changes(local):
            run = change.after
            if change.before is not None:
                continue
            if run.taken_by is None:
                expected[run.id], opened[run.id] = [orders[run.id]], change.at
            else:
                assert tenants[run.id] == tenants[run.taken_by], "taken along by another tenant's batch"
                expected[run.taken_by].append(orders[run.id])
        results = {run.id: run.result for run in runs if run.status is RunStatus.COMPLETED}
        assert results == expected, "each event is in the batch that took it, in the order they came"
        assert all(len(taken) <= size for taken in results.values())
        begun = first_start(local)
        for run, taken in results.items():
            full = len(taken) == size
            assert full or begun[run] > opened[run] + 60_000 - DECIDING, (
                "started before it was full, and before its time"
            )

    return {"batch": Batch(size, "1m", key=KEY)}, holds


KINDS: list[Callable[[Random], tuple[dict[str, Any], Holds]]] = [
    slots,
    pausing,
    throttle,
    rate_limit,
    idempotency,
    singleton,
    debounce,
    batch,
]
