"""Names of things, and what is derived from them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.clock import iso
from stepwell.ids import (
    SystemIds,
    app_of,
    child_run_id,
    digest,
    event_id_of,
    event_key,
    event_millis,
    is_run_id,
    run_id,
    shard_of,
    ulid_millis,
    ulid_of,
)
from stepwell.records import RunState, RunStatus
from stepwell.store.layout import day_of, done_key

MS = st.integers(0, (1 << 48) - 1)
TEN = st.binary(min_size=10, max_size=10)


@given(MS, TEN)
def test_a_ulid_carries_its_time(ms: int, randomness: bytes) -> None:
    assert ulid_millis(ulid_of(ms, randomness)) == ms
    assert event_millis(event_id_of(ulid_of(ms, randomness))) == ms


@given(MS, MS, TEN, TEN)
def test_ulids_sort_by_their_time(a: int, b: int, one: bytes, two: bytes) -> None:
    if a != b:
        assert (ulid_of(a, one) < ulid_of(b, two)) == (a < b)


def test_times_that_fit_no_ulid_are_clamped() -> None:
    assert ulid_millis(ulid_of(-5, b"\0" * 10)) == 0
    assert ulid_millis(ulid_of(1 << 60, b"\0" * 10)) == (1 << 48) - 1


@given(st.text())
def test_what_a_sender_chose_is_never_taken_for_a_made_id(text: str) -> None:
    if not text.startswith("evt_"):
        assert event_millis(text) is None
    assert event_millis("evt_" + text + "!") is None


def test_an_event_key_knows_made_ids_by_themselves_and_chosen_ones_with_their_name() -> None:
    made = event_id_of(ulid_of(1, b"0123456789"))
    assert event_key("a", made) == event_key("b", made)
    assert event_key("a", "o-1") != event_key("b", "o-1")
    assert len(event_key("a", "o-1")) == 32


@given(st.text(max_size=8), st.text(max_size=8), st.text(max_size=8))
def test_a_digest_is_of_its_parts_in_order(a: str, b: str, c: str) -> None:
    assert digest(a, b, c) == digest(a, b, c)
    if a != b:
        assert digest(a, b) != digest(b, a)


def test_a_digest_takes_text_that_is_no_unicode() -> None:
    assert digest("\ud800") != digest("\ud801")


def test_a_run_id_is_the_same_for_the_same_event_and_function_and_begins_with_its_app() -> None:
    key = event_key("a", "o-1")
    first = run_id("shop-2", "fn", 1_700_000_000_000, key)
    assert first == run_id("shop-2", "fn", 1_700_000_000_000, key)
    assert len({first, run_id("shop-2", "fm", 1_700_000_000_000, key), run_id("shop-2", "fn", 1, key)}) == 3
    assert app_of(first) == "shop-2"
    assert ulid_millis(first.rpartition(".")[2]) == 1_700_000_000_000


def test_a_child_has_one_id_for_each_step_of_its_parent() -> None:
    parent = run_id("shop", "fn", 5, "k")
    ids = {child_run_id("shop", target, parent, step) for target in ("a", "b") for step in ("x", "x:1")}
    assert len(ids) == 4
    assert {ulid_millis(child.rpartition(".")[2]) for child in ids} == {5}


@given(st.text(), st.integers(1, 64))
def test_a_shard_is_one_of_those_there_are_and_stays_the_same(text: str, shards: int) -> None:
    assert 0 <= shard_of(text, shards) < shards
    assert shard_of(text, shards) == shard_of(text, shards)


def test_shards_are_used_evenly() -> None:
    counts = [0] * 8
    for n in range(4000):
        counts[shard_of(f"run-{n}", 8)] += 1
    assert min(counts) > 400


def test_ids_of_the_system_are_never_the_same() -> None:
    ids = SystemIds()
    assert len({ids.ulid(1) for _ in range(100)} | {ids.token_bytes(16).hex() for _ in range(100)}) == 200


def test_the_latest_time_a_ulid_can_carry_has_a_day_though_no_datetime_can_hold_it() -> None:
    """What was stored under such an id must still be listed, and its run be ended: otherwise it is asked for for ever."""
    latest = "7" + "Z" * 25
    assert day_of(ulid_millis(latest) or 0) == "9999-12-31"
    assert iso(ulid_millis(latest) or 0).startswith("9999-12-31T23:59:59")
    run = RunState(f"shop.{latest}", "shop", "fn", RunStatus.FAILED, 0, "", "e", "go", "")
    assert done_key(run, RunStatus.FAILED)[1] == f"shop.{latest}"
    assert iso(-1) == "1970-01-01T00:00:00.000Z"


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("shop.01KDVDNA00Q7JY7EJWQZ60DMEE", True),
        ("my-shop-2.7ZZZZZZZZZZZZZZZZZZZZZZZZZ", True),
        ("shop.8ZZZZZZZZZZZZZZZZZZZZZZZZZ", False),
        ("Shop.01KDVDNA00Q7JY7EJWQZ60DMEE", False),
        (".01KDVDNA00Q7JY7EJWQZ60DMEE", False),
        ("01KDVDNA00Q7JY7EJWQZ60DMEE", False),
        ("a.b.01KDVDNA00Q7JY7EJWQZ60DMEE", False),
        ("x" * 49 + ".01KDVDNA00Q7JY7EJWQZ60DMEE", False),
        ("", False),
    ],
)
def test_whether_a_text_can_be_the_id_of_a_run(text: str, is_one: bool) -> None:
    assert is_run_id(text) is is_one
