"""What ends a run early, as it is declared and decided: time limits, cancelling events, who hears of an end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell import CancelOn, EventModel, Stepwell, Timeouts
from stepwell.decisions.deadlines import deadline, out_of_time, soonest, started_late
from stepwell.decisions.listening import RUN_EVENTS, decidable, listened
from stepwell.decisions.next import Next, decide, rest
from stepwell.errors import InvalidOption
from stepwell.records import LIVE, TERMINAL, Lease, RunState, RunStatus
from stepwell.steps import check_step_id
from stepwell.store import layout
from stepwell.store.guards import PREFIX, guard_name, is_guard
from stepwell.store.waiters import Waiter

NOW = 1_800_000_000_000
MINUTE = 60_000


def run(status: RunStatus = RunStatus.SUSPENDED, **fields: Any) -> RunState:
    return RunState("shop.x", "shop", "fn", status, NOW, "00", "e", "go", "d", **fields)


def fn(ctx: Any) -> None: ...


# ---- time limits


def test_a_run_has_first_its_time_for_starting_then_its_time_for_finishing() -> None:
    limits: dict[str, Any] = {"start_within": MINUTE, "finish_within": 10 * MINUTE}
    assert deadline(run()) is None
    assert deadline(run(started=NOW + 5, start_within=MINUTE)) is None, "it has started"
    assert deadline(run(finish_within=MINUTE)) is None, "it has not started"
    assert deadline(run(**limits)) == NOW + MINUTE
    assert deadline(run(started=NOW + 5, **limits)) == NOW + 5 + 10 * MINUTE


@pytest.mark.parametrize("status", sorted(LIVE))
def test_a_live_run_out_of_time_needs_to_be_ended_whatever_it_is_doing(status: RunStatus) -> None:
    state = run(status, started=NOW, finish_within=MINUTE, lease=Lease("h", NOW + 9 * MINUTE), due_at=NOW, wake_at=NOW)
    assert decide(state, NOW + MINUTE - 1) is not Next.TIME_OUT
    assert decide(state, NOW + MINUTE) is Next.TIME_OUT
    assert decide(state, NOW + MINUTE, missed=0) is Next.TIME_OUT


@given(st.integers(1, 10**11), st.integers(1, 10**11))
def test_a_run_never_rests_beyond_its_time(wake_in: int, within: int) -> None:
    state = run(started=NOW, finish_within=within)
    wake_at = soonest(state, NOW + wake_in)
    assert wake_at == NOW + min(wake_in, within)
    due, _ = rest(wake_at, NOW)
    assert due <= max(NOW + within + MINUTE, NOW)
    assert out_of_time(state, NOW + within)


def test_a_run_without_limits_rests_as_long_as_it_likes() -> None:
    assert soonest(run(started=NOW), NOW + 10**11) == NOW + 10**11


@pytest.mark.parametrize(
    ("fields", "late"),
    [
        ({"started": NOW + MINUTE - 1, "epoch": 1}, False),
        ({"started": NOW + MINUTE, "epoch": 1}, True),
        ({"started": NOW + MINUTE, "epoch": 2}, False),
        ({}, False),
    ],
)
def test_a_first_claim_may_come_too_late(fields: dict[str, Any], late: bool) -> None:
    assert started_late(run(start_within=MINUTE, **fields)) is late


# ---- declaring


class Cancelled(EventModel, name="order/cancelled"):
    order_id: str


def entry(**options: Any) -> dict[str, Any]:
    app = Stepwell("shop")
    return app.function(on="go", **options)(fn).entry


def test_the_manifest_says_what_ends_a_run() -> None:
    declared = entry(
        cancel_on=[
            CancelOn(Cancelled, match={"data.order_id": "event.data.order_id", "data.n": 5}, timeout="1h"),
            CancelOn("shop/closed"),
            CancelOn("x", where="async.data.a == event.data.a"),
        ],
        timeouts=Timeouts(start="10m", finish="2h"),
    )
    assert declared["cancel_on"] == [
        {
            "event": "order/cancelled",
            "match": {"data.order_id": "event.data.order_id", "data.n": 5},
            "timeout": 3600.0,
        },
        {"event": "shop/closed"},
        {"event": "x", "where": "async.data.a == event.data.a"},
    ]
    assert declared["timeouts"] == {"start": 600.0, "finish": 7200.0}
    assert entry(cancel_on=CancelOn("x"), timeouts=Timeouts(start=1))["timeouts"] == {"start": 1.0}
    assert not {"cancel_on", "timeouts"} & entry().keys()


def test_the_handler_for_failures_has_limits_of_its_own_namely_none() -> None:
    app = Stepwell("shop")
    app.function(on="go", cancel_on=CancelOn("x"), timeouts=Timeouts(start=1), on_failure=fn)(fn)
    assert not {"cancel_on", "timeouts"} & app.functions["fn.on-failure"].entry.keys()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"cancel_on": "order/cancelled"}, "takes CancelOn"),
        ({"cancel_on": ["order/cancelled"]}, "takes CancelOn"),
        ({"cancel_on": [None]}, "takes CancelOn"),
        ({"cancel_on": CancelOn("order/*")}, "no wildcards"),
        ({"cancel_on": CancelOn("")}, "name one event"),
        ({"cancel_on": CancelOn(5)}, "got 5"),
        ({"cancel_on": CancelOn("a b")}, "no white space"),
        ({"cancel_on": CancelOn("stepwell/run.ended")}, "of the engine's own there are stepwell/run.finished"),
        ({"cancel_on": CancelOn("x", match={})}, "compares nothing"),
        ({"cancel_on": CancelOn("x", match={"order_id": 1})}, "Did you mean 'data.order_id'?"),
        ({"cancel_on": CancelOn("x", match={"event.data.a": 1})}, "Did you mean 'data.a'?"),
        ({"cancel_on": CancelOn("x", match={"name.a": 1})}, "match['name.a'] is no path into an event"),
        ({"cancel_on": CancelOn("x", match={"data.a": "event.a"})}, "Did you mean event.data.a?"),
        ({"cancel_on": CancelOn("x", match={"data.a": "event.id == async.id"})}, "names async"),
        ({"cancel_on": CancelOn("x", match={"": 1})}, "paths and values"),
        ({"cancel_on": CancelOn("x", match={"data.a": "event.data.("})}, "match['data.a']"),
        ({"cancel_on": CancelOn("x", match={"data.a": object()})}, "match"),
        ({"cancel_on": [CancelOn("x")] * 11}, "at most 10"),
        ({"timeouts": "10m"}, "takes Timeouts"),
        ({"timeouts": Timeouts()}, "limits nothing"),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_is_written(options: dict[str, Any], says: str) -> None:
    with pytest.raises(Exception) as caught:
        entry(**options)
    assert says in str(caught.value)


def test_a_step_cannot_have_the_name_of_a_guard() -> None:
    with pytest.raises(InvalidOption, match="engine's own"):
        check_step_id(f"{PREFIX}0")


def test_a_guard_is_known_by_its_step_and_named_by_its_number_and_place() -> None:
    def waiter(step: str, match: dict[str, Any]) -> Waiter:
        return Waiter("shop", "shop.x", step, "", "", "order/cancelled", 1, 1, match)

    assert is_guard(waiter("!cancel.3", {}))
    assert not is_guard(waiter("cancel.3", {}))
    names = [guard_name(waiter("!cancel.3", match)) for match in ({}, {"data.b": 1, "data.a": "x"})]
    assert names == ["3#order/cancelled#*=null", '3#order/cancelled#data.a="x"']
    place = layout.waiter_pk("shop", "order/cancelled", "data.a", "x")
    assert layout.waiter_key("shop", names[1].partition("#")[2]) == place


# ---- who hears of an end


KNOWN = {"app": "shop", "function": "pay", "run_id": "shop.x", "event": {"data": {"n": 1}}, "parent_id": None}


def heard(*listeners: tuple[str, str | None], **data: Any) -> list[str]:
    functions = [{"triggers": [{"event": event, "where": where}]} for event, where in listeners]
    return [status.value for status in listened(functions, {**KNOWN, **data}, "acme")]


EVERY = ["completed", "failed", "cancelled", "skipped"]


@pytest.mark.parametrize(
    ("event", "where", "ends"),
    [
        ("stepwell/run.failed", None, ["failed"]),
        ("stepwell/run.*", None, EVERY),
        ("stepwell/*", None, EVERY),
        ("*", None, []),
        ("s*", None, []),
        ("order/created", None, []),
        ("stepwell/run.*", "event.data.function == 'pay'", EVERY),
        ("stepwell/run.*", "event.data.function == 'ship'", []),
        ("stepwell/run.*", "event.data.function in ['pay', 'ship'] && event.data.status != 'completed'", EVERY[1:]),
        ("stepwell/run.*", "event.name == 'stepwell/run.skipped'", ["skipped"]),
        ("stepwell/run.*", "event.tenant == 'acme' && event.data.event.data.n == 1", EVERY),
        ("stepwell/run.*", "event.data.parent_id != null", []),
        ("stepwell/run.*", "event.data.event.data.m == 1", []),
        ("stepwell/run.*", "event.data.function == 'ship' && event.data.error.type == 'X'", EVERY),
        ("stepwell/run.*", "event.data.result > 1", EVERY),
    ],
)
def test_which_ends_a_trigger_may_want_to_hear_of(event: str, where: str | None, ends: list[str]) -> None:
    assert heard((event, where)) == ends


def test_all_listeners_together_decide() -> None:
    assert heard(("stepwell/run.failed", None), ("go", None), ("stepwell/run.skipped", None)) == ["failed", "skipped"]
    assert heard() == []
    rule = {"triggers": [], "cancel_on": [{"event": "stepwell/run.cancelled", "where": "event.data.x == 1"}]}
    assert listened([rule], KNOWN, None) == (RunStatus.CANCELLED,)


@pytest.mark.parametrize(
    "where",
    [
        "event.data.result == 1",
        "event.data.function == 'pay' || has(event.data.error)",
        "event['data'].function == 'pay'",
        "size(event.data) > 3",
        "event.data.function == 'a\\'b' ",
        "event.ts > 5",
        "event.data.tags.x == 'y'",
        "event.data.functions == 'x'",
        "true",
        'event.data.function == """x"""',
    ],
)
def test_a_condition_that_asks_for_more_is_left_for_later(where: str) -> None:
    assert not decidable(where)


def test_every_end_has_its_event() -> None:
    assert set(RUN_EVENTS) == TERMINAL
