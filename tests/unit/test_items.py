"""Records to items and back: nothing that is kept is lost on the way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwell.errors import ErrorInfo
from stepwell.records import TERMINAL, Lease, Parent, RunState, RunStatus, StepState, StepStatus
from stepwell.schedules import Schedule
from stepwell.store import layout
from stepwell.store.crons import CronState, cron_from, cron_item
from stepwell.store.items import run_from, run_item, step_from, step_item
from stepwell.store.table import marshal, unmarshal

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
NAME = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
MS = st.integers(0, (1 << 48) - 1)
STORED = TEXT | st.binary(max_size=20) | st.just({"s3": "shop/x/y", "size": 99_999})
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**37), 10**37) | TEXT | st.binary(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(NAME, inner.filter(lambda v: v is not None), max_size=4)
    ),
    max_leaves=10,
)

RUNS = st.builds(
    RunState,
    id=st.just("shop-1.01KDVDNA007C8AARAGDHXZEC8K"),
    app=st.just("shop-1"),
    function=NAME,
    status=st.sampled_from(RunStatus),
    created=MS,
    seed=NAME,
    event_id=NAME,
    event_name=NAME,
    event_digest=NAME,
    event=st.none() | STORED,
    compute=st.sampled_from(["default", "large"]),
    epoch=st.integers(0, 99),
    attempt=st.integers(1, 9),
    wakes=st.integers(0, 99),
    wake_at=st.none() | MS,
    due_at=st.none() | st.integers(0, 10**14),
    started=st.none() | MS,
    ended=st.none() | MS,
    reason=st.none() | NAME,
    owes=st.lists(st.sampled_from(["parent", "on_failure", "children"]), unique=True).map(tuple),
    parent=st.none() | st.builds(Parent, run=NAME, step=NAME, id=NAME, kind=NAME, shape=NAME),
    child=st.booleans(),
    call=st.none() | NAME,
    taken_by=st.none() | NAME,
    tags=st.dictionaries(NAME, NAME, max_size=2),
    replay_of=st.none() | NAME,
    on_failure=st.booleans(),
    start_within=st.none() | MS,
    finish_within=st.none() | MS,
    guards=st.lists(NAME, max_size=2).map(tuple),
    announces=st.lists(st.sampled_from(["completed", "failed"]), unique=True).map(tuple),
    quiet=st.booleans(),
)

STEPS = st.builds(
    StepState,
    key=NAME | st.text("k", min_size=1, max_size=1500),
    id=NAME,
    kind=st.sampled_from(["run", "sleep", "invoke"]),
    status=st.sampled_from(StepStatus),
    shape=NAME,
    epoch=st.integers(0, 99),
    seq=st.none() | st.integers(1, 999),
    attempts=st.integers(0, 9),
    started=st.none() | MS,
    ended=st.none() | MS,
    until=st.none() | MS,
    retry_at=st.none() | MS,
    failures=st.integers(0, 9),
    result=st.none() | STORED,
    error=st.none() | st.builds(ErrorInfo, type=NAME, message=TEXT, traceback=st.none() | TEXT, step=st.none() | NAME),
    saw=st.dictionaries(NAME, st.integers(1, 99), max_size=3),
    beat=st.none() | MS,
    beat_by=st.none() | MS,
    child=st.none() | NAME,
    by=st.none() | NAME,
    args=st.none() | NAME,
    ttl=st.integers(0, 1 << 40),
)


@settings(max_examples=40)
@given(st.dictionaries(NAME, PLAIN.filter(lambda value: value is not None)))
def test_an_item_survives_dynamodbs_notation(item: dict[str, Any]) -> None:
    assert unmarshal(marshal(item)) == item


def test_an_absent_value_is_an_absent_attribute_but_stays_in_lists() -> None:
    assert marshal({"a": None, "b": [None, 1], "c": {"d": None}}) == {
        "b": {"L": [{"NULL": True}, {"N": "1"}]},
        "c": {"M": {}},
    }


def test_sets_hold_text_and_true_is_no_number() -> None:
    assert marshal({"a": {"y", "x"}, "b": True, "c": 1}) == {
        "a": {"SS": ["x", "y"]},
        "b": {"BOOL": True},
        "c": {"N": "1"},
    }
    assert unmarshal({"a": {"SS": ["x", "y"]}, "n": {"N": "1.5"}}) == {"a": {"x", "y"}, "n": 1.5}


@pytest.mark.parametrize("value", [1.5, object(), complex(1, 2)])
def test_what_has_no_type_there_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="no DynamoDB type"):
        marshal({"a": value})


@settings(max_examples=40)
@given(RUNS)
def test_a_run_survives_the_table(run: RunState) -> None:
    ended = run.status in TERMINAL and not run.owes
    assert run_from(unmarshal(marshal(run_item(run)))) == (replace(run, due_at=None) if ended else run)


@settings(max_examples=40)
@given(RUNS)
def test_a_live_run_that_is_due_stands_in_the_due_index_and_an_ended_one_under_its_end(run: RunState) -> None:
    item = run_item(run)
    if run.status in TERMINAL and not run.owes:
        end = run.status.value if run.taken_by is None else "taken"
        assert item["due_pk"] in {f"DONE#shop-1/{run.function}#{end}#{shard}" for shard in range(4)}
        assert item["due_sk"] == run.id
    elif run.due_at is not None:
        assert item["due_pk"].startswith("DUE#")
        assert layout.due_millis(item["due_sk"]) == run.due_at
        assert item["due_sk"].startswith("!") is (run.status in TERMINAL), "those that have ended stand by themselves"
    else:
        assert "due_pk" not in item


@settings(max_examples=40)
@given(STEPS)
def test_a_checkpoint_survives_the_table(step: StepState) -> None:
    item = step_item("shop.x", step)
    assert len(item["sk"].encode()) <= 1024, "DynamoDB's limit"
    assert step_from(unmarshal(marshal(item))) == step


@settings(max_examples=40)
@given(st.text("k", min_size=890, max_size=2000), st.text("k", min_size=890, max_size=2000))
def test_long_keys_stay_apart(one: str, other: str) -> None:
    assert (layout.step_sk(one) == layout.step_sk(other)) is (one == other)


def test_what_a_lease_says_is_read_with_the_run() -> None:
    item = run_item(RunState("shop.x", "shop", "fn", RunStatus.RUNNING, 1, "s", "e", "go", "d"))
    run = run_from(item | {"holder": "h", "lease_until": 5, "error": '{"type":"E","message":"m","later":1}'})
    assert (run.lease, run.error) == (Lease("h", 5), ErrorInfo("E", "m"))


@pytest.mark.parametrize("jitter", [0.0, 0.5, 300.0])
def test_a_schedule_comes_back_as_it_was(jitter: float) -> None:
    cron = CronState("shop-1", "daily.report", Schedule("0 0 * * FRI#2", "America/Port-au-Prince", jitter), 5, 3)
    item = cron_item(cron)
    assert cron_from(unmarshal(marshal(item))) == cron
    assert (item["pk"], item["sk"]) == cron.key == ("CRON#shop-1", "daily.report#America/Port-au-Prince#0 0 * * FRI#2")
    assert item["due_pk"].startswith("DUE#")


def test_due_times_sort_as_text_like_numbers() -> None:
    times = [0, 9, 10, 99_999, 1_800_000_000_000, 9_999_999_999_999]
    assert [layout.due_key("r", ms)[1] for ms in times] == sorted(layout.due_key("r", ms)[1] for ms in times)


def test_equal_values_are_waited_for_in_one_place_and_different_ones_in_others() -> None:
    place = layout.waiter_pk("shop", "paid", "data.x", {"a": 1, "b": 2})
    assert place == layout.waiter_pk("shop", "paid", "data.x", {"b": 2, "a": 1})
    others = [layout.waiter_pk("shop", "paid", "data.x", value) for value in (1, "1", True, None, 1.5, "x" * 500)]
    assert len({place, *others}) == 7
    assert max(map(len, others)) < 400


def test_a_default_costs_no_byte() -> None:
    small = run_item(RunState("shop.x", "shop", "fn", RunStatus.QUEUED, 1, "s", "e", "go", "d"))
    assert set(small) == {
        "pk", "sk", "function", "status", "epoch", "wakes", "created", "seed", "event_id", "event_name", "event_digest",
    }  # fmt: skip
    step = step_item("shop.x", StepState("k", "k", "run", StepStatus.COMPLETED, "s", 1))
    assert set(step) == {"pk", "sk", "kind", "status", "shape", "epoch"}
