"""What gates decide, against models that say the same in the simplest words."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.decisions.flow import UNLIMITED, pause_gate, resolve, slot_limits
from stepwell.decisions.verdicts import admit, rate_log, throttled
from stepwell.records import RunState, RunStatus

GAPS = st.lists(st.integers(min_value=0, max_value=90_000), min_size=1, max_size=40)


def times(gaps: list[int]) -> list[int]:
    now, found = 1_000_000, []
    for gap in gaps:
        now += gap
        found.append(now)
    return found


def entry(**flow: Any) -> dict[str, Any]:
    return {"id": "fn", "flow": flow}


def scope(**data: Any) -> dict[str, Any]:
    return {"name": "go", "id": "e", "data": data, "ts": 0, "tenant": None}


# ---- throttle


@given(GAPS, st.integers(1, 50_000), st.integers(1, 4))
def test_a_throttle_never_starts_early_out_of_order_or_more_than_it_says(
    gaps: list[int], limit: int, burst: int
) -> None:
    policy = {"limit": limit, "period": 60, "burst": burst}
    memory: Any = {}
    starts = []
    for now in times(gaps):
        start, memory, _ = throttled(memory, policy, now)
        assert start >= now
        starts.append(start)
    assert starts == sorted(starts)
    for early, late in zip(starts, starts[burst:], strict=False):
        assert late - early > 60_000 / limit - 1  # times are whole milliseconds, rounded up
    for early, late in zip(starts, starts[limit + burst - 1 :], strict=False):
        assert late - early >= 60_000


@given(GAPS, st.integers(1, 60_000))
def test_a_throttle_makes_nobody_wait_longer_than_a_queue_with_a_clock(gaps: list[int], limit: int) -> None:
    """Without a burst it is a queue that lets one through, and the next one an interval later."""
    interval = Fraction(60_000, limit)
    memory: Any = {}
    free = Fraction(0)
    for number, now in enumerate(times(gaps), start=1):
        start, memory, _ = throttled(memory, {"limit": limit, "period": 60}, now)
        exact = max(Fraction(now), free)
        # An interval is rounded up to a microsecond, a start to a millisecond.
        assert ceil(exact) <= start <= ceil(exact + Fraction(number, 1000))
        free = exact + interval


@pytest.mark.parametrize("limit", [7, 600, 10_000])
def test_a_throttle_is_as_fast_as_it_says_also_within_a_millisecond(limit: int) -> None:
    memory: Any = {}
    starts = []
    for _ in range(limit + 1):
        start, memory, _ = throttled(memory, {"limit": limit, "period": 1}, 5_000)
        starts.append(start)
    assert starts[-1] in (6_000, 6_001), "the first one of the next second"


# ---- rate limit


@given(GAPS, st.integers(1, 64))
def test_a_rate_limit_takes_exactly_those_for_which_there_is_room(gaps: list[int], limit: int) -> None:
    log: Any = ()
    taken: list[int] = []
    for now in times(gaps):
        room = sum(at > now - 60_000 for at in taken) < limit
        kept = rate_log(log, {"limit": limit, "period": 60}, now)
        assert (kept is not None) == room
        if kept is not None:
            log = kept
            taken.append(now)


@given(st.lists(st.integers(0, 400), min_size=200, max_size=600), st.integers(65, 200))
def test_a_large_rate_limit_is_never_passed_and_its_memory_stays_small(gaps: list[int], limit: int) -> None:
    log: Any = ()
    taken: list[int] = []
    for now in times(gaps):
        kept = rate_log(log, {"limit": limit, "period": 60}, now)
        if kept is None:
            # Refused only if it is full, or would have been a sixty-fourth of the period ago.
            assert sum(at > now - 60_000 - 60_000 // 64 for at in taken) >= limit
            continue
        log = kept
        taken.append(now)
        assert sum(at > now - 60_000 for at in taken) <= limit
        assert len(log) <= 66


# ---- what stands between


def test_the_same_limit_keeps_its_gate_when_its_number_changes() -> None:
    few = resolve("shop", entry(concurrency=[{"limit": 1, "key": "event.data.t"}]), scope(t="a"), triggered=True)
    many = entry(concurrency=[{"limit": 9, "key": "event.data.t"}])
    (slot,) = slot_limits(many, tuple(each.gate for each in few.slots))
    assert slot.limit == 9


def test_a_limit_that_is_gone_from_the_code_holds_nobody_back_but_is_still_counted() -> None:
    old = resolve("shop", entry(concurrency=[{"limit": 1}]), scope(), triggered=True)
    (slot,) = slot_limits(entry(), tuple(each.gate for each in old.slots))
    assert (slot.gate, slot.limit) == (old.slots[0].gate, UNLIMITED)


def test_other_keys_scopes_and_values_are_other_gates() -> None:
    policies: list[dict[str, Any]] = [
        {"limit": 1},
        {"limit": 1, "key": "event.data.t"},
        {"limit": 1, "key": "event.data.u"},
        {"limit": 1, "scope": "app"},
    ]
    gates = {
        slot.gate
        for policy in policies
        for value in ("a", "b")
        for slot in resolve("shop", entry(concurrency=[policy]), scope(t=value, u=value), triggered=True).slots
    }
    assert len(gates) == 1 + 2 + 2 + 1
    assert pause_gate("shop", "fn") not in gates


def test_every_gate_lies_in_a_partition_of_its_app() -> None:
    """IAM fences the workers of apps from each other by these keys."""
    flow = resolve(
        "shop",
        entry(concurrency=[{"limit": 1, "scope": "app"}], throttle={"limit": 1, "period": 1}),
        scope(),
        triggered=True,
    )
    gates = [slot.gate for slot in flow.slots] + [bucket.gate for bucket in flow.buckets] + [pause_gate("shop", "fn")]
    assert all(gate.startswith("shop#") for gate in gates)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("120", 120_000),
        ("event.data.seconds", 7_500),
        ("5000", 600_000),
        ("-5000", -600_000),
        ("event.data.nothing", 0),
        ("'urgent'", 0),
        ("true", 0),
        ("0.0 / 0.0", 0),
    ],
)
def test_a_priority_is_a_number_of_seconds_within_bounds(source: str, expected: int) -> None:
    flow = resolve("shop", entry(concurrency=[{"limit": 1}], priority=source), scope(seconds=7.5), triggered=True)
    assert flow.priority == expected


def test_what_is_asked_for_by_name_is_only_held_up_never_dropped() -> None:
    everything = entry(
        concurrency=[{"limit": 1}],
        idempotency={"key": "'k'"},
        rate_limit={"limit": 1, "period": 1},
        singleton={"mode": "skip"},
        throttle={"limit": 1, "period": 1},
    )
    flow = resolve("shop", everything, scope(), triggered=False)
    assert [bucket.kind for bucket in flow.buckets] == ["throttle"]
    assert len(flow.slots) == 1


def test_the_first_gate_that_refuses_decides_and_the_others_count_nothing() -> None:
    flow = resolve(
        "shop",
        entry(idempotency={"key": "'k'"}, rate_limit={"limit": 5, "period": 60}),
        scope(),
        triggered=True,
    )
    seen = {flow.buckets[0].gate: {"run": "shop.1", "until": 5_000}}
    verdict = admit(flow, seen, {}, run="shop.2", now=4_000, received=4_000, not_before=0)
    assert (verdict.status, verdict.remembers) == (RunStatus.SKIPPED, ())
    assert verdict.reason == 'idempotency: run shop.1 was started for "k" less than 24 hours ago'


# ---- collectors


def a_run(id: str, status: RunStatus = RunStatus.SCHEDULED, epoch: int = 0) -> RunState:
    return RunState(id, "shop", "fn", status, 0, "", "e", "go", "", epoch=epoch)


@given(st.lists(st.tuples(st.integers(0, 40_000), st.booleans()), min_size=1, max_size=30))
def test_a_debounce_starts_the_last_event_when_no_more_come(events: list[tuple[int, bool]]) -> None:
    flow = resolve("shop", entry(debounce={"period": 20, "timeout": 60}), scope(), triggered=True)
    gate = flow.buckets[0].gate
    memory: dict[str, Any] = {}
    waiting: RunState | None = None
    now, due, first, number = 0, 0, 0, 0
    for gap, _ in events:
        now, number = now + gap, number + 1
        if waiting is not None and due <= now:
            waiting = None  # it has started
        verdict = admit(
            flow,
            {gate: memory} if memory else {},
            {waiting.id: waiting} if waiting else {},
            run=f"shop.{number}",
            now=now,
            received=now,
            not_before=0,
        )
        first = first if waiting else now
        assert verdict.status is RunStatus.SCHEDULED
        assert verdict.replaces == (waiting.id if waiting else None)
        assert verdict.wake_at == max(now, min(now + 20_000, first + 60_000))
        ((_, kept, _),) = verdict.remembers
        memory, waiting, due = dict(kept), a_run(f"shop.{number}"), verdict.wake_at


@given(st.lists(st.integers(0, 20_000), min_size=1, max_size=40), st.integers(1, 6))
def test_a_batch_takes_each_event_once_and_never_too_many(gaps: list[int], size: int) -> None:
    flow = resolve("shop", entry(batch={"max_size": size, "timeout": 30}), scope(), triggered=True)
    gate = flow.buckets[0].gate
    memory: dict[str, Any] = {}
    leader: RunState | None = None
    until, taken = 0, {}
    for number, now in enumerate(times(gaps)):
        if leader is not None and until <= now:
            leader = None
        runs = {leader.id: leader} if leader else {}
        verdict = admit(
            flow, {gate: memory} if memory else {}, runs, run=f"shop.{number}", now=now, received=now, not_before=0
        )
        if verdict.joins is not None:
            assert leader is not None
            assert verdict.joins == leader.id
            assert verdict.place == len(taken[leader.id])
            taken[leader.id].append(number)
            assert verdict.completes == (len(taken[leader.id]) == size)
            if verdict.completes:
                leader = None
        else:
            assert leader is None, "an open batch takes what comes"
            taken[f"shop.{number}"] = [number]
            leader, until = (a_run(f"shop.{number}"), verdict.wake_at or 0) if size > 1 else (None, 0)
        ((_, kept, _),) = verdict.remembers
        memory = dict(kept)
    assert sorted(each for group in taken.values() for each in group) == list(range(len(gaps)))
    assert all(len(group) <= size for group in taken.values())
