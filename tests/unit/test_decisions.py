"""What should happen, decided without touching anything: tables of values in and values out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.decisions.next import DISPATCH_DEADLINE, GRACE, LEAD, PATIENCE, POSTABLE, Next, decide, look_again, rest
from stepwell.decisions.retries import MAX_MISFIRES, backoff_delay, crash_delay, misfire_delay
from stepwell.decisions.routing import matching, name_matches
from stepwell.events import Envelope
from stepwell.records import LIVE, TERMINAL, TRANSITIONS, Lease, RunState, RunStatus, StepStatus

NOW = 1_800_000_000_000


def run(status: RunStatus, **fields: Any) -> RunState:
    return RunState("shop.x", "shop", "fn", status, NOW, "00", "e", "go", "d", **fields)


def lease(until: int) -> Lease:
    return Lease("holder", until)


@pytest.mark.parametrize(
    ("state", "missed", "expected"),
    [
        (run(RunStatus.QUEUED, due_at=NOW + 1), None, Next.NOTHING),
        (run(RunStatus.QUEUED, due_at=NOW), None, Next.ASK_AGAIN),
        (run(RunStatus.QUEUED, due_at=NOW + DISPATCH_DEADLINE, epoch=3), 3, Next.ASK_AGAIN),
        (run(RunStatus.QUEUED, due_at=NOW + DISPATCH_DEADLINE, epoch=4), 3, Next.NOTHING),
        (run(RunStatus.RUNNING, lease=lease(NOW)), None, Next.NOTHING),
        (run(RunStatus.RUNNING, lease=lease(NOW - 1)), None, Next.RECLAIM),
        (run(RunStatus.RUNNING), None, Next.RECLAIM),
        (run(RunStatus.SUSPENDED, wake_at=NOW), None, Next.QUEUE),
        (run(RunStatus.SUSPENDED), None, Next.QUEUE),
        (run(RunStatus.SUSPENDED, wake_at=NOW + 1), None, Next.POST),
        (run(RunStatus.SUSPENDED, wake_at=NOW + POSTABLE), None, Next.POST),
        (run(RunStatus.SUSPENDED, wake_at=NOW + POSTABLE + 1), None, Next.NOTHING),
        (run(RunStatus.SCHEDULED, wake_at=NOW), None, Next.QUEUE),
        (run(RunStatus.SCHEDULED, wake_at=NOW + 2 * POSTABLE), None, Next.NOTHING),
        *((run(status), None, Next.NOTHING) for status in TERMINAL),
        *((run(status, owes=("parent",)), None, Next.DELIVER) for status in TERMINAL),
    ],
)
def test_what_a_run_needs_now(state: RunState, missed: int | None, expected: Next) -> None:
    assert decide(state, NOW, missed=missed) is expected


@given(st.integers(0, 10**9))
def test_what_does_not_move_is_looked_at_within_a_minute_at_first_and_once_an_hour_in_the_end(stood: int) -> None:
    stuck = run(RunStatus.FAILED, owes=("parent",), ended=NOW - stood)
    wait = look_again(stuck, Next.DELIVER, NOW) - NOW
    assert GRACE <= wait <= PATIENCE
    assert wait == GRACE or wait <= stood / 8
    assert stood < 8 * PATIENCE or wait == PATIENCE


@given(st.integers(-(10**9), 10**11))
def test_whoever_rests_is_looked_at_after_its_posted_wake_up_or_before_a_far_one(gap: int) -> None:
    due, delay = rest(NOW + gap, NOW)
    if gap <= POSTABLE:
        assert delay is not None
        assert delay <= 900
        assert NOW + delay * 1000 >= NOW + gap, "never early"
        assert due >= NOW + GRACE
    else:
        assert delay is None
        assert due == NOW + gap - LEAD > NOW


def test_every_state_is_either_live_or_an_end() -> None:
    assert set(RunStatus) == LIVE | TERMINAL
    assert {str(status) for status in TERMINAL} == {"completed", "failed", "cancelled", "skipped"}
    assert all(TRANSITIONS[status] for status in LIVE)
    reachable = set().union(*TRANSITIONS.values())
    assert reachable | {RunStatus.SCHEDULED} == set(RunStatus)
    assert [status.value for status in StepStatus if status.is_open] == ["started", "retrying", "waiting"]


# ---- when to try again


@pytest.mark.parametrize(("failures", "full"), [(1, 1), (2, 2), (3, 4), (5, 16), (13, 3600), (5000, 3600)])
def test_the_default_pauses_double_up_to_an_hour(failures: int, full: float) -> None:
    assert backoff_delay(None, failures, 1.0) == full
    assert backoff_delay(None, failures, 0.0) == full / 2


@given(
    st.integers(1, 10_000), st.floats(0, 1), st.floats(1, 10), st.floats(0, 1000), st.floats(0, 10_000), st.booleans()
)
def test_a_pause_is_never_longer_than_its_maximum(
    failures: int, chance: float, factor: float, initial: float, maximum: float, jitter: bool
) -> None:
    policy = {"initial": initial, "factor": factor, "maximum": maximum, "jitter": jitter}
    delay = backoff_delay(policy, failures, chance)
    assert 0 <= delay <= maximum
    if not jitter:
        assert delay == backoff_delay(policy, failures, 0.123)


def test_a_run_that_reaches_no_worker_is_tried_for_a_day() -> None:
    total = sum(misfire_delay(misfires) for misfires in range(1, MAX_MISFIRES + 1))
    assert 0.98 <= total / 86_400 <= 1.1
    assert max(map(misfire_delay, range(200))) <= 900


def test_a_crash_is_followed_at_once_at_first_and_ever_more_slowly_then() -> None:
    assert [crash_delay(crashes) for crashes in (1, 2, 3, 4, 5, 10, 50)] == [0, 0, 2, 4, 8, 256, 300]


# ---- which functions an event starts


@pytest.mark.parametrize(
    ("pattern", "name", "takes"),
    [
        ("a", "a", True),
        ("a", "ab", False),
        ("a/*", "a/b/c", True),
        ("a/*", "a/", True),
        ("a/*", "a", False),
        ("a*", "ab", True),
        ("*", "anything", True),
        ("*", "stepwell/run.failed", False),
        ("st*", "stepwell/run.failed", False),
        ("stepwell/*", "stepwell/run.failed", True),
        ("stepwell/run.failed", "stepwell/run.failed", True),
    ],
)
def test_names_match_exactly_or_by_prefix(pattern: str, name: str, takes: bool) -> None:
    assert name_matches(pattern, name) is takes


def test_each_function_is_started_once_however_many_triggers_match() -> None:
    functions = [
        {"id": "a", "triggers": [{"event": "x"}, {"event": "*"}]},
        {"id": "b", "triggers": [{"event": "x", "where": "event.data.n > 1"}]},
        {"id": "c", "triggers": [{"event": "x", "where": "event.data.n > 2"}, {"cron": "0 0 * * *"}]},
        {"id": "d", "triggers": []},
    ]
    matched, undecided = matching(functions, Envelope("e", "x", {"n": 2}, 0))
    assert [entry["id"] for entry in matched] == ["a", "b"]
    assert undecided == []


def test_a_condition_that_cannot_be_evaluated_leaves_its_function_undecided_unless_another_trigger_matches() -> None:
    endless = {"event": "x", "where": "event.data.l.all(a, event.data.l.all(b, event.data.l.all(c, a + b + c >= 0)))"}
    functions = [
        {"id": "a", "triggers": [endless]},
        {"id": "b", "triggers": [endless, {"event": "*"}]},
        {"id": "c", "triggers": [{"event": "y"}, endless]},
        {"id": "d", "triggers": [{"event": "x", "where": "event.data.missing > 1"}]},
    ]
    matched, undecided = matching(functions, Envelope("e", "x", {"l": list(range(100))}, 0))
    assert [entry["id"] for entry in matched] == ["b"]
    assert [entry["id"] for entry, _ in undecided] == ["a", "c"]
    assert all("cannot be evaluated" in why for _, why in undecided)
