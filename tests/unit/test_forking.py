"""Which checkpoints stand before a step."""

from __future__ import annotations

from typing import Any

import pytest

from stepwell.decisions.forking import kept_before
from stepwell.records import StepState, StepStatus

NOW = 1_000


def step(key: str, seq: int | None = None, kind: str = "run", status: str = "completed", **more: Any) -> StepState:
    fields = {"epoch": 3, "started": 10, "ended": 20, "args": "1", **more}
    return StepState(key, key.partition(":")[0], kind, StepStatus(status), "shape", seq=seq, **fields)


def kept(key: str, *steps: StepState, **options: Any) -> list[str]:
    return [each.key for each in kept_before(steps, key, NOW, **options)]


def test_what_was_seen_before_is_kept_in_the_order_in_which_it_was_seen() -> None:
    steps = [step("c", 3), step("a", 1), step("b", 2, status="failed"), step("d", 4)]
    assert kept("c", *steps) == ["a", "b"]
    assert kept("a", *steps) == []


def test_a_place_that_another_step_has_noted_counts() -> None:
    steps = [step("paid", None, "wait_for_event"), step("a", 2, saw={"paid": 1}), step("b", 3)]
    assert [(each.key, each.seq) for each in kept_before(steps, "b", NOW)] == [("paid", 1), ("a", 2)]


def test_what_is_open_is_not_kept_and_everything_that_was_seen_is_before_it() -> None:
    steps = [
        step("a", 1),
        step("tries", None, status="retrying", retry_at=50),
        step("begun", None, status="started"),
        step("waits", None, "wait_for_event", "waiting", ended=None),
        step("b", 2),
    ]
    assert kept("tries", *steps) == ["a", "b"]
    assert kept("waits", *steps) == ["a", "b"]
    assert kept("b", *steps) == ["a"]


def test_what_came_from_outside_and_was_not_seen_is_ordered_by_when_it_came() -> None:
    steps = [
        step("a", 1),
        step("early", None, "wait_for_event", ended=30),
        step("late", None, "invoke", ended=40),
        step("open", None, "callback", "waiting", ended=None, started=50),
    ]
    assert kept("early", *steps) == ["a"]
    assert kept("late", *steps) == ["a", "early"]
    assert kept("open", *steps) == ["a", "early", "late"]


@pytest.mark.parametrize(
    ("until", "seq", "expected"), [(900, None, True), (NOW, None, True), (2_000, None, False), (2_000, 1, True)]
)
def test_a_sleep_is_over_when_it_was_seen_to_be_or_its_time_has_come(
    until: int, seq: int | None, expected: bool
) -> None:
    asleep = step("rest", None, "sleep", "waiting", ended=None, until=until)
    others = [step("a", 2, saw={"rest": seq} if seq else {}), step("open", None, status="retrying")]
    assert ("rest" in kept("open", asleep, *others)) is expected


def test_a_kept_step_stands_whatever_its_arguments_are_and_is_nobodys() -> None:
    [each] = kept_before([step("a", 1, beat=5, beat_by=6, by="evt"), step("b", 2)], "b", NOW)
    assert (each.shape, each.epoch, each.saw, each.beat, each.beat_by) == ("", 0, {}, None, None)
    assert (each.seq, each.started, each.ended, each.by, each.args) == (1, 10, 20, "evt", "1")


def test_a_callback_that_begins_anew_is_handed_out_anew() -> None:
    created = step("answer", 5, "callback", started=15, ended=90, begun=1, submit="answer.submit")
    steps = [step("a", 1, started=5), step("answer.submit", 2, started=16), step("b", 3, started=17), created]
    assert kept("answer", *steps) == ["a"], "b may have handed it out, too"
    assert kept("answer", *steps, decided=True) == ["a", "answer.submit", "b"]
    assert kept("b", *steps) == ["a"], "its answer came after b"
    assert kept("after", *steps, step("after", 6)) == ["a", "answer.submit", "b", "answer"]


def test_a_fork_at_a_callback_keeps_what_there_was_when_it_was_created_and_nothing_that_began_later() -> None:
    at = {"started": 15}
    steps = [
        step("seen", 1, **at),
        step("asked-before", None, "wait_for_event", started=14, ended=30),
        step("asked-then", None, "invoke", ended=30, **at),
        step("hand-out", 2, **at),
        step("answer", None, "callback", "waiting", ended=None, begun=1, **at),
    ]
    assert kept("answer", *steps) == ["seen", "asked-before"], "of one millisecond the order tells which came first"


def test_whoever_hands_a_callback_out_is_known_by_its_record() -> None:
    steps = [
        step("1.submit", 1),
        step("1", 2, "callback", submit="1.submit"),
        step("1.submit:1", 3),
        step("1:1", None, "callback", "waiting", ended=None, submit="1.submit:1"),
    ]
    assert kept("later", *steps, step("later", None, status="retrying")) == ["1.submit", "1"]
