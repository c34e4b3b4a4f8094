"""The teaching kernel: it does what its page says, in no more lines than the page says."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import docs.kernel
from docs.kernel import LEASE, Context, Kernel

LINES = 150


@pytest.fixture(autouse=True)
def _closed_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that dies closes its files; ours, which only plays dead, would leave them open."""
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def remembered(*arguments: Any, **options: Any) -> sqlite3.Connection:
        opened.append(connect(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", remembered)
    yield
    for connection in opened:
        connection.close()


class Crash(BaseException):
    """The process dies."""


class Shop:
    """Processes over one file, with one clock and one ledger."""

    def __init__(self, path: Path) -> None:
        self.path, self.time = str(path), 0.0
        self.charges: list[str] = []
        self.deaths = 0
        self.outages = 0

    def process(self) -> Kernel:
        """A new process: what is not in the file is forgotten."""
        kernel = Kernel(self.path, now=lambda: self.time)

        @kernel.function(on="order/created")
        def handle_order(ctx: Context) -> dict[str, Any]:
            charge = ctx.step("charge", self.charge, ctx.event["order"])
            ctx.sleep("cool-off", 600)
            shipped = ctx.wait_for_event("shipped", "order/shipped", {"order": ctx.event["order"]}, timeout=86_400)
            return {"charge": charge, "tracking": shipped and shipped["tracking"]}

        return kernel

    def charge(self, order: str) -> str:
        if self.outages:
            self.outages -= 1
            raise ConnectionError("the bank does not answer")
        self.charges.append(order)
        if self.deaths:
            self.deaths -= 1
            raise Crash
        return f"charge-{len(self.charges)}"


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "kernel.db")


def run(kernel: Kernel) -> dict[str, Any]:
    """The only run there is."""
    (row,) = kernel.db.execute("SELECT * FROM runs").fetchall()
    return dict(row)


def pass_time(shop: Shop, kernel: Kernel, seconds: float) -> None:
    shop.time += seconds
    kernel.work()


def test_it_is_small() -> None:
    lines = Path(docs.kernel.__file__).read_text("utf-8").splitlines()
    assert len([line for line in lines if line.strip() and not line.strip().startswith("#")]) <= LINES


def test_a_run_takes_its_steps_sleeps_waits_and_ends(shop: Shop) -> None:
    kernel = shop.process()
    kernel.send("order/created", {"order": "o-1"})
    kernel.work()
    pass_time(shop, kernel, 600)
    kernel.send("order/shipped", {"order": "another", "tracking": "T-0"})
    kernel.send("order/shipped", {"order": "o-1", "tracking": "T-1"})
    kernel.work()

    assert (run(kernel)["status"], run(kernel)["due"]) == ("completed", None)
    assert run(kernel)["result"] == '{"charge": "charge-1", "tracking": "T-1"}'
    assert shop.charges == ["o-1"]


def test_the_same_event_again_starts_nothing(shop: Shop) -> None:
    kernel = shop.process()
    kernel.send("order/created", {"order": "o-1"}, id="o-1")
    kernel.send("order/created", {"order": "o-1"}, id="o-1")
    kernel.work()
    assert shop.charges == ["o-1"]
    assert run(kernel)["status"] == "suspended"


def test_a_wait_that_nobody_answers_ends_as_nothing(shop: Shop) -> None:
    kernel = shop.process()
    kernel.send("order/created", {"order": "o-1"})
    kernel.work()
    pass_time(shop, kernel, 600)
    pass_time(shop, kernel, 86_400)
    assert run(kernel)["result"] == '{"charge": "charge-1", "tracking": null}'


def test_a_step_that_fails_is_tried_again_until_it_succeeds(shop: Shop) -> None:
    kernel, shop.outages = shop.process(), 3
    kernel.send("order/created", {"order": "o-1"})
    kernel.work()
    for pause in (1, 2, 4):
        assert shop.charges == []
        pass_time(shop, kernel, pause)
    assert shop.charges == ["o-1"]


def test_a_step_that_keeps_failing_fails_its_run(shop: Shop) -> None:
    kernel, shop.outages = shop.process(), 4
    kernel.send("order/created", {"order": "o-1"})
    for _ in range(5):
        pass_time(shop, kernel, 10)
    assert (run(kernel)["status"], run(kernel)["result"]) == ("failed", '"the bank does not answer"')
    assert shop.charges == []


def test_after_a_crash_another_process_goes_on_when_the_lease_is_over(shop: Shop) -> None:
    first, shop.deaths = shop.process(), 1
    first.send("order/created", {"order": "o-1"})
    with pytest.raises(Crash):
        first.work()

    second = shop.process()
    second.work()
    assert shop.charges == ["o-1"], "the dead worker's lease still holds"
    pass_time(shop, second, LEASE)
    assert shop.charges == ["o-1", "o-1"], "cut off between effect and record, a step runs again"

    pass_time(shop, second, 600)
    assert shop.charges == ["o-1", "o-1"], "once recorded, it does not"


def test_of_two_processes_one_has_the_run(shop: Shop) -> None:
    first, second = shop.process(), shop.process()
    first.send("order/created", {"order": "o-1"})
    inner: list[Callable[[], None]] = [second.work]
    charge = shop.charge
    shop.charge = lambda order: (inner.pop()(), charge(order))[1]  # type: ignore[method-assign]
    first.work()
    assert shop.charges == ["o-1"]


def test_a_worker_that_comes_back_after_its_lease_changes_nothing(shop: Shop) -> None:
    first, second = shop.process(), shop.process()
    first.send("order/created", {"order": "o-1"})
    charge, sleeping = shop.charge, [True]

    def slow(order: str) -> str:
        if sleeping:
            sleeping.clear()
            pass_time(shop, second, LEASE)  # the second takes over and gets as far as the sleep
        return charge(order)

    shop.charge = slow  # type: ignore[method-assign]
    first.work()

    assert shop.charges == ["o-1", "o-1"], "brief overlapping execution is possible"
    assert run(second)["epoch"] == 2
    pass_time(shop, second, 600)
    pass_time(shop, second, 86_400)
    assert '"charge-1"' in run(second)["result"], "the first record stands"


def test_an_event_that_comes_while_the_function_runs_is_not_slept_over(shop: Shop) -> None:
    kernel = shop.process()

    @kernel.function(on="a")
    def handler(ctx: Context) -> Any:
        try:
            return ctx.wait_for_event("wait", "b", {}, timeout=1000)
        finally:  # it is leaving to wait, and has not let go of the run yet
            if not ctx.kernel.db.execute("SELECT 1 FROM steps WHERE status = 'done'").fetchone():
                kernel.send("b", {"n": 1})

    kernel.send("a", {})
    kernel.work()
    assert run(kernel)["result"] == '{"n": 1}'
