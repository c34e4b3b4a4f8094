"""Each law is broken by exactly what it forbids, and says so."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest

from stepwell.ids import child_run_id
from stepwell.store.table import marshal
from stepwell.testing import invariants
from stepwell.testing.invariants import InvariantBroken, Law
from stepwell.testing.invocations import Invocation
from stepwell.testing.observations import BodyBegan, Crashed, Observation, Observations, Wrote
from stepwell.testing.shadow import Image, image_of

WORKER = Invocation(1, "worker", "worker", "r-1", run_id="shop.1")
LIVE = {"due_pk": "DUE#1", "due_sk": "1"}


def image(values: dict[str, Any] | None) -> Image | None:
    return None if values is None else image_of(marshal(values))


def run_item(status: str, run: str = "shop.1", **more: Any) -> dict[str, Any]:
    return {"pk": f"RUN#{run}", "sk": "RUN", "function": "process", "status": status, "epoch": 1, **more}


def step_item(status: str, **more: Any) -> dict[str, Any]:
    return {"pk": "RUN#shop.1", "sk": "STEP#charge", "status": status, **more}


def wrote(before: dict[str, Any] | None, after: dict[str, Any] | None) -> Wrote:
    item = after or before
    assert item is not None
    return Wrote(0.0, WORKER, item["pk"], item["sk"], image(before), image(after))


def began(key: str = "charge") -> BodyBegan:
    return BodyBegan(0.0, WORKER, "shop.1", key, key)


def broken(entries: Iterable[Observation], *laws: Law) -> str:
    with pytest.raises(InvariantBroken) as raised:
        invariants.check(Observations(entries), laws or None)
    return str(raised.value).partition("\n\n")[0]


def lives(*statuses: str) -> list[Observation]:
    """A run that passes through these states."""
    items: list[dict[str, Any] | None] = [None]
    items += [
        run_item(status, **({} if status in ("completed", "failed", "cancelled") else LIVE)) for status in statuses
    ]
    return [wrote(before, after) for before, after in pairwise(items)]


def test_an_ordinary_run_breaks_no_law() -> None:
    entries = [
        *lives("queued", "running"),
        began(),
        wrote(None, step_item("completed", result="1")),
        *lives("queued", "running", "suspended", "queued", "running", "completed")[2:],
    ]
    invariants.check(Observations(entries))


def test_i1_a_run_is_created_once() -> None:
    entries = [wrote(None, run_item("queued", **LIVE))] * 2
    assert broken(entries) == "I1: run shop.1 was created 2 times"


@pytest.mark.parametrize("change", [{"result": "2"}, {"status": "failed"}, {"error": "x"}])
def test_i2_a_recorded_result_never_changes(change: dict[str, str]) -> None:
    first = step_item("completed", result="1")
    assert broken([wrote(first, {**first, **change})]).startswith("I2: run shop.1, STEP#charge: recorded ")


def test_i2_a_recorded_result_is_not_deleted_either() -> None:
    assert "recorded status changed" in broken([wrote(step_item("completed"), None)])


def test_i2_an_open_step_may_change_and_a_closed_one_may_live_longer() -> None:
    closed = step_item("completed", result="1")
    open_then_closed = [wrote(step_item("waiting"), closed), wrote(closed, {**closed, "ttl": 5})]
    invariants.check(Observations(open_then_closed))


def test_i3_no_body_begins_after_its_result() -> None:
    entries = [wrote(None, step_item("completed", result="1")), began()]
    assert broken(entries) == "I3: run shop.1: the body of charge began again after its result was recorded"


def test_i4_attempts_are_bounded_by_retries_and_crashes() -> None:
    law = invariants.attempts_within(1)
    crash = Crashed(0.0, WORKER, "before call 3")
    invariants.check(Observations([began(), began(), crash, began()]), [law])
    assert broken([began(), began(), began(), crash, began()], law) == (
        "I4: run shop.1: charge began 4 times with 1 retries and 1 crashes"
    )


@pytest.mark.parametrize(
    ("old", "new"), [("completed", "failed"), ("cancelled", "running"), ("suspended", "completed")]
)
def test_i5_a_run_ends_once_and_moves_only_as_it_may(old: str, new: str) -> None:
    entry = wrote(run_item(old, **LIVE), run_item(new, **LIVE))
    assert broken([entry]) == f"I5: run shop.1 went from {old} to {new}"


def test_i5_a_run_is_not_deleted() -> None:
    assert broken([wrote(run_item("running", **LIVE), None)]) == "I5: run shop.1 was deleted while running"


def test_i6_nothing_begins_after_the_end() -> None:
    entries = [*lives("queued", "cancelled"), began()]
    assert broken(entries) == "I6: run shop.1: the body of charge began after the run had ended"


def test_i7_a_live_run_always_has_a_next_cause() -> None:
    expected = "I7: run shop.1 was left suspended without a time at which it is due"
    assert broken([wrote(None, run_item("suspended"))]) == expected
    done = run_item("suspended", due_pk="DONE#x", due_sk="1")
    assert broken([wrote(None, done)]) == expected


def test_i7_an_ended_run_that_owes_its_end_is_due_too() -> None:
    owing = run_item("failed", owes=["parent"])
    assert broken([wrote(None, owing)]) == "I7: run shop.1 was left failed without a time at which it is due"


def test_i9_no_more_runs_at_once_than_the_limit() -> None:
    law = invariants.concurrency_within(1)
    first, second = (
        [wrote(None, run_item("running", run, **LIVE)), wrote(run_item("running", run), run_item("completed", run))]
        for run in ("shop.1", "shop.2")
    )
    invariants.check(Observations([*first, *second]), [law])
    message = broken([first[0], second[0], first[1], second[1]], law)
    assert message == "I9: 2 runs of process at once, the limit is 1: ['shop.1', 'shop.2']"


def test_i10_on_failure_has_a_run_if_and_only_if_the_run_failed() -> None:
    handler = child_run_id("shop", "process.on-failure", "shop.1", "on_failure")
    failed = wrote(None, run_item("failed", on_failure=True))
    completed = wrote(None, run_item("completed", on_failure=True))
    handling = wrote(None, run_item("completed", handler, function="process.on-failure"))
    law = invariants.failures_are_handled
    invariants.check(Observations([failed, handling]), [law])
    invariants.check(Observations([completed]), [law])
    assert broken([failed], law) == "I10: run shop.1 failed, but its on_failure handler never got a run"
    assert (
        broken([completed, handling], law) == "I10: run shop.1 ended as completed, but its on_failure handler has a run"
    )


def test_i11_a_fan_out_has_the_children_it_should_have() -> None:
    parent = {"run": "shop.1", "step": "s", "id": "s", "kind": "run", "shape": "x"}
    children = [wrote(None, run_item("queued", f"shop.{n}", parent=parent, **LIVE)) for n in (2, 3)]
    invariants.check(Observations(children), [invariants.children_of("shop.1", 2)])
    assert broken(children, invariants.children_of("shop.1", 3)) == "I11: run shop.1 has 2 children instead of 3"


def test_a_broken_law_comes_with_the_story_of_the_run() -> None:
    with pytest.raises(InvariantBroken, match=r"What happened:\n.*worker #1 .*RUN: absent -> suspended \(epoch 1\)"):
        invariants.check(Observations([wrote(None, run_item("suspended"))]))
