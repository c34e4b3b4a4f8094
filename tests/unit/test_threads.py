"""Calls made at the same time."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from stepwell.threads import AT_ONCE, SystemThreads, together


@pytest.mark.parametrize("count", [0, 1, 2, AT_ONCE, 5 * AT_ONCE + 1])
def test_answers_come_in_the_order_of_the_calls(count: int) -> None:
    assert together(SystemThreads(), [partial(int.__mul__, n, 2) for n in range(count)]) == [
        2 * n for n in range(count)
    ]


def test_several_are_under_way_at_once_and_no_more_than_agreed() -> None:
    meeting, lock, under_way, most = threading.Barrier(AT_ONCE), threading.Lock(), 0, 0

    def call() -> None:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        meeting.wait(timeout=30)  # nobody goes on before as many as are allowed have come
        with lock:
            under_way -= 1

    together(SystemThreads(), [call] * (2 * AT_ONCE))
    assert most == AT_ONCE


def test_what_one_of_them_raises_is_raised_and_the_rest_is_left() -> None:
    made: list[int] = []

    def call(number: int) -> None:
        if number == 0:
            raise ValueError("no")
        made.append(number)

    with pytest.raises(ValueError, match="no"):
        together(SystemThreads(), [partial(call, number) for number in [0] * AT_ONCE + [1] * 100])
    assert len(made) < 100
