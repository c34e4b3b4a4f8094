"""The order in which a function saw its resolutions, kept and replayed."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from stepwell.engine.journal import Journal, Superseded
from stepwell.errors import NonDeterminism
from stepwell.records import RunState, RunStatus, StepState, StepStatus


class Table:
    """Keeps what is recorded; `first` stands there before us."""

    def __init__(self, first: dict[str, StepState] | None = None) -> None:
        self.steps: dict[str, StepState] = dict(first or {})
        self.run: RunState | None = None

    def record(self, run: str, step: StepState, *, beat_by: int | None = None) -> StepState | None:
        stands = self.steps.get(step.key)
        if stands is not None and not stands.status.is_open:
            return stands
        self.steps[step.key] = step
        return None

    def read(self, run: str) -> RunState | None:
        return self.run


def a_run(epoch: int = 1, status: RunStatus = RunStatus.RUNNING) -> RunState:
    return RunState("shop.x", "shop", "fn", status, 1, "00", "e", "go", "d", epoch=epoch)


def step(key: str, status: StepStatus = StepStatus.COMPLETED, **fields: Any) -> StepState:
    return StepState(key, key, "run", status, "shape", **{"epoch": 1, **fields})


def journal(table: Table, steps: Iterable[StepState] = (), *, fresh: bool = True) -> Journal:
    ports: Any = SimpleNamespace(
        store=SimpleNamespace(runs=table),
        clock=SimpleNamespace(now=lambda: 5.0),
        now=lambda: 5000,
        fresh=lambda run, seen: fresh,
        config=SimpleNamespace(retention=100.0),
    )
    table.run = a_run()
    return Journal(ports, a_run(), steps)


def order_of(made: Journal) -> list[str]:
    """The order in which the resolutions are handed out to a function that asks for all of them at once."""
    handed = []
    while waiting := [key for key in made.places if key not in made.delivered]:
        (following,) = [key for key in waiting if made.is_next(key)]
        made.hand_out(following)
        handed.append(following)
    return handed


def test_what_is_recorded_is_numbered_in_the_order_of_recording() -> None:
    table = Table()
    made = journal(table)
    for key in ("b", "a", "c"):
        made.record(step(key))
        made.hand_out(key)
    assert {key: each.seq for key, each in table.steps.items()} == {"b": 1, "a": 2, "c": 3}
    assert order_of(journal(table, table.steps.values())) == ["b", "a", "c"]


def test_an_open_record_has_no_place_yet() -> None:
    table = Table()
    made = journal(table)
    made.record(step("a", StepStatus.RETRYING))
    made.record(step("b"))
    assert (table.steps["a"].seq, table.steps["b"].seq) == (None, 1)
    made.record(step("a"))
    assert table.steps["a"].seq == 2


def test_a_resolution_from_outside_has_its_place_noted_in_the_next_checkpoint() -> None:
    outside = step("event", epoch=0)
    table = Table({"event": outside})
    made = journal(table, [outside])
    made.record(step("first"))
    made.hand_out("first")
    made.hand_out("event")
    made.record(step("after"))
    assert table.steps["after"].saw == {"event": 2}
    assert table.steps["after"].seq == 3
    assert order_of(journal(table, table.steps.values())) == ["first", "event", "after"]


def test_a_resolution_that_nothing_was_recorded_after_may_come_at_another_place() -> None:
    outside = step("event", epoch=0)
    table = Table({"event": outside})
    made = journal(table, [outside])
    made.hand_out("event")
    replayed = journal(table, table.steps.values())
    assert replayed.place("event") is None
    replayed.record(step("first"))
    assert table.steps["first"].saw == {}


def test_what_was_noted_in_an_open_record_stays_noted_when_it_closes() -> None:
    outside = step("event", epoch=0)
    table = Table({"event": outside})
    made = journal(table, [outside])
    made.hand_out("event")
    made.record(step("flaky", StepStatus.RETRYING))
    assert table.steps["flaky"].saw == {"event": 1}
    made.record(step("flaky"))
    assert table.steps["flaky"].saw == {"event": 1}
    assert order_of(journal(table, table.steps.values())) == ["event", "flaky"]


def test_the_loser_of_a_record_goes_on_with_the_winner_and_notes_again_what_it_saw() -> None:
    outside, winner = step("event", epoch=0), step("wait", epoch=0, result='"theirs"')
    table = Table({"event": outside, "wait": winner})
    made = journal(table, [outside])
    made.hand_out("event")
    assert made.record(step("wait", result='"ours"')).result == '"theirs"'
    made.record(step("after"))
    assert "event" in table.steps["after"].saw


def test_the_loser_to_a_newer_holder_stops() -> None:
    table = Table({"work": step("work", epoch=2)})
    with pytest.raises(Superseded):
        journal(table).record(step("work"))


@pytest.mark.parametrize("found", [None, a_run(2), a_run(1, RunStatus.CANCELLED), a_run(1, RunStatus.QUEUED)])
def test_a_holder_that_lost_its_run_stops_when_it_looks(found: RunState | None) -> None:
    table = Table()
    stale = journal(table, fresh=False)
    trusting = journal(table, fresh=True)
    table.run = found
    trusting.check()
    for look in (lambda: stale.check(), lambda: trusting.check(strict=True)):
        with pytest.raises(Superseded):
            look()


def test_a_step_that_comes_back_as_something_else_is_shown_from_both_sides() -> None:
    recorded = step("pay", args='"o-1"')
    made = journal(Table({"pay": recorded}), [recorded])
    assert made.find("pay", "run", "shape", '"o-1"') is recorded
    assert made.find("new", "run", "shape", "") is None
    for kind, shape in (("run", "other"), ("sleep", "shape")):
        with pytest.raises(NonDeterminism, match=r"'pay' was recorded as run\(\"o-1\"\), but .* asks for"):
            made.find("pay", kind, shape, '"o-2"')
    assert made.fatal is not None


def test_a_checkpoint_is_kept_well_beyond_the_time_its_run_wakes() -> None:
    table = Table()
    made = journal(table)
    made.record(step("a"))
    made.record(step("sleep", StepStatus.WAITING, until=10_000_000))
    assert table.steps["a"].ttl == 5 + 100 + 30 * 86400
    assert table.steps["sleep"].ttl == 10_000 + 100 + 30 * 86400


def test_a_function_is_replaying_until_it_asks_for_something_new() -> None:
    table = Table()
    assert not journal(table).replaying
    table.steps = {"a": step("a", seq=1), "rest": step("rest", StepStatus.WAITING)}
    made = journal(table, table.steps.values())
    made.find("a", "run", "shape", "")
    made.hand_out("a")
    assert made.replaying, "the wait it rested at comes after this code"
    made.find("rest", "run", "shape", "")
    assert not made.replaying
    renamed = journal(table, table.steps.values())
    renamed.find("something new", "run", "shape", "")
    renamed.hand_out("a")
    assert not renamed.replaying
