"""Many threads, one turn: what decides the order, and what must never hang."""

from __future__ import annotations

import asyncio
import selectors
import threading
import time
from collections.abc import Callable
from random import Random

import pytest

from stepwell.testing.invocations import Crash, Invocation, current_invocation
from stepwell.testing.turns import Turns


def invocation(number: int = 1) -> Invocation:
    return Invocation(number=number, function="worker", label="worker", request_id=f"r-{number}")


def run_all(turns: Turns, *targets: Callable[[], None], group: Invocation | None = None) -> None:
    """Drives the targets, each in a thread of its own, until all have ended."""
    left = [len(targets)]

    def counted(target: Callable[[], None]) -> Callable[[], None]:
        def body() -> None:
            try:
                target()
            finally:
                left[0] -= 1
                turns.wake(None)

        return body

    with turns.driving():
        for number, target in enumerate(targets):
            turns.start(counted(target), name=f"t{number}", group=group or invocation(number))
        assert turns.wait_until(lambda: left[0] == 0, timeout=20)
    assert turns.join(2) == []


def order_of(seed: int) -> str:
    turns = Turns(Random(seed))
    trace: list[str] = []

    def walker(name: str) -> Callable[[], None]:
        def walk() -> None:
            for _ in range(6):
                trace.append(name)
                turns.pause()

        return walk

    run_all(turns, *(walker(name) for name in "abc"))
    assert turns.steals == 0
    return "".join(trace)


def test_the_same_seed_gives_the_same_order() -> None:
    assert order_of(7) == order_of(7)


def test_another_seed_gives_another_order() -> None:
    assert len({order_of(seed) for seed in range(6)}) > 3


def test_only_the_holder_of_the_turn_runs() -> None:
    turns = Turns(Random(1))
    inside: list[int] = [0]

    def critical() -> None:
        for _ in range(50):
            inside[0] += 1
            for _ in range(200):  # long enough for the interpreter to switch threads if another one could run
                assert inside[0] == 1
            inside[0] -= 1
            turns.pause()

    run_all(turns, critical, critical, critical)


def test_two_threads_that_meet_at_a_barrier_do_not_hang_the_world() -> None:
    turns = Turns(Random(1), patience=0.02)
    barrier = threading.Barrier(2, timeout=10)
    met: list[int] = []

    def meet() -> None:
        met.append(barrier.wait())

    run_all(turns, meet, meet)
    assert sorted(met) == [0, 1]
    assert turns.steals >= 1


def test_a_thread_that_computes_keeps_its_turn_longer_than_one_that_sleeps() -> None:
    turns = Turns(Random(1), patience=0.02)
    trace: list[str] = []

    def compute() -> None:
        end = time.thread_time() + 0.15
        while time.thread_time() < end:
            pass
        trace.append("computed")

    def queues() -> None:
        while not trace:
            turns.pause()

    run_all(turns, compute, queues)
    assert trace == ["computed"]
    assert turns.steals == 0


def test_wait_until_gives_up_after_its_time_and_says_so() -> None:
    turns = Turns(Random(1))
    answers: list[bool] = []
    started = time.monotonic()
    run_all(turns, lambda: answers.append(turns.wait_until(lambda: False, timeout=0.03)))
    assert answers == [False]
    assert 0.03 <= time.monotonic() - started < 5


def test_wait_until_ends_when_another_thread_of_the_invocation_notifies() -> None:
    turns = Turns(Random(3))
    group = invocation()
    done: list[str] = []

    def parent() -> None:
        turns.spawn(child, name="child")
        assert turns.wait_until(lambda: "child" in done, timeout=5)
        done.append("parent")

    def child() -> None:
        done.append("child")
        turns.notify()

    run_all(turns, parent, group=group)
    assert done == ["child", "parent"]
    assert turns.steals == 0


def test_a_spawned_thread_acts_for_the_same_invocation() -> None:
    turns = Turns(Random(1))
    group = invocation()
    seen: list[Invocation | None] = []

    def parent() -> None:
        turns.spawn(lambda: seen.append(current_invocation()), name="child")
        turns.wait_until(lambda: bool(seen))

    run_all(turns, parent, group=group)
    assert seen == [group]


def test_a_crash_kills_every_thread_of_its_invocation_where_it_would_go_on_and_no_other() -> None:
    turns = Turns(Random(2))
    dying, living = invocation(1), invocation(2)
    trace: list[str] = []

    def waits() -> None:
        try:
            turns.wait_until(lambda: False)
        except Crash:
            trace.append("waiter died")
            raise

    def runs() -> None:
        try:
            while True:
                turns.pause()
        except Crash:
            trace.append("runner died")
            raise

    def lives() -> None:
        turns.wait_until(lambda: len(trace) >= 2, timeout=5)
        trace.append("other lives")

    with turns.driving():
        turns.start(waits, name="waits", group=dying)
        turns.start(runs, name="runs", group=dying)
        turns.start(lives, name="lives", group=living)
        for _ in range(5):
            turns.pause()
        turns.doom(dying)
        while turns.members(dying):
            turns.pause()
        turns.wake(living)
        while turns.members(living):
            turns.pause()
    assert sorted(trace[:2]) == ["runner died", "waiter died"]
    assert trace[2:] == ["other lives"]


class _Selector(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    """How an event loop tells that it sleeps."""

    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self.turns = turns

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return super().select(timeout)
        with self.turns.blocking():
            return super().select(timeout)


def loop_order(seed: int) -> tuple[str, int]:
    """An event loop whose two threads finish beside a busy third one: who comes when?"""
    turns = Turns(Random(seed))
    trace: list[str] = []

    def looping() -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            futures = [loop.create_future() for _ in range(2)]

            def finish(future: asyncio.Future[None], name: str) -> Callable[[], None]:
                def body() -> None:
                    turns.pause()
                    trace.append(name)
                    loop.call_soon_threadsafe(future.set_result, None)

                return body

            for future, name in zip(futures, "xy", strict=True):
                turns.spawn(finish(future, name), name=name)
            for future in futures:
                await future
                trace.append("L")

        loop = asyncio.SelectorEventLoop(_Selector(turns))
        try:
            loop.run_until_complete(main())
        finally:
            loop.close()

    def busy() -> None:
        for _ in range(8):
            trace.append(".")
            turns.pause()

    run_all(turns, looping, busy)
    return "".join(trace), turns.steals


@pytest.mark.parametrize("seed", range(5))
def test_an_event_loop_that_sleeps_in_select_takes_its_turn_in_an_order_the_seed_decides(seed: int) -> None:
    first, steals = loop_order(seed)
    assert steals == 0
    for _ in range(5):
        assert loop_order(seed) == (first, 0)


def test_a_crash_wakes_an_event_loop_that_sleeps_in_select() -> None:
    turns = Turns(Random(1))
    group = invocation()
    trace: list[str] = []

    def looping() -> None:
        async def main() -> None:
            trace.append("sleeps")
            await asyncio.get_running_loop().create_future()

        loop = asyncio.SelectorEventLoop(_Selector(turns))
        try:
            loop.run_until_complete(main())
        except Crash:
            trace.append("died")
            raise
        finally:
            for task in asyncio.all_tasks(loop):
                task.cancel()
                task._log_destroy_pending = False  # type: ignore[attr-defined]
            loop.close()

    with turns.driving():
        turns.start(looping, name="loop", group=group)
        while not trace:
            turns.pause()
        turns.doom(group)
        while turns.members(group):
            turns.pause()
            time.sleep(0.001)
    assert trace == ["sleeps", "died"]


def test_passing_the_turn_to_oneself_is_cheap() -> None:
    turns = Turns(Random(1))
    with turns.driving():
        started = time.perf_counter()
        for _ in range(20_000):
            turns.pause()
        assert time.perf_counter() - started < 1.0  # 50 microseconds each would already be far too much


def test_a_thread_of_the_users_own_may_wait_too() -> None:
    turns = Turns(Random(1))
    flag: list[bool] = []
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(turns.wait_until(lambda: bool(flag), timeout=5)))
    thread.start()
    flag.append(True)
    turns.notify()
    thread.join(5)
    assert answers == [True]
