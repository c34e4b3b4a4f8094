"""Gates to which more comes than they let through, for long: everybody who can start does, at a price that stays the same."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from botocore.exceptions import ClientError

from stepwell import Concurrency, Context, Debounce, RunStatus, Singleton, Stepwell, Throttle, Timeouts
from stepwell.decisions.flow import resolve
from stepwell.engine import lines
from stepwell.invoker import Invoker
from stepwell.store.layout import GATE_SK, gate_pk
from stepwell.testing import LocalStepwell
from stepwell.testing.observations import Wrote

from .support import Deploy, occupied, release


def started(local: LocalStepwell, **filters: Any) -> list[float]:
    """Seconds of virtual time at which runs started, since midnight."""
    runs = [run for run in local.client.runs(**filters) if run.started_at is not None]
    return sorted((run.started_at.timestamp() if run.started_at else 0) % 86_400 for run in runs)


def slot_of(local: LocalStepwell, function: str, which: int, **data: Any) -> str:
    """One of the gates that a run of such an event has to pass."""
    app, _, id = function.partition("/")
    entry = local._ports().store.apps.current()[0][app].function(id)
    assert entry is not None
    return resolve(app, entry, {"name": "go", "data": data}, triggered=True).slots[which].gate


@pytest.mark.parametrize("waiting", [3, 60])
def test_however_many_wait_for_a_small_limit_those_with_a_larger_one_go_past_them(
    app: Stepwell, deploy: Deploy, monkeypatch: pytest.MonkeyPatch, waiting: int
) -> None:
    monkeypatch.setattr(lines, "STARTS", 5)
    monkeypatch.setattr(lines, "PLACES", 20)

    @app.function(on="small", concurrency=Concurrency(1, scope="app"))
    def small(ctx: Context[Any]) -> None: ...

    @app.function(on="big", concurrency=Concurrency(10, scope="app"))
    def big(ctx: Context[Any]) -> None: ...

    local = deploy(app)
    gate = occupied(local, "shop/big", 10)
    for n in range(waiting):
        local.send("small", {"n": n})
    local.run_until_idle()
    local.advance("1s")
    for n in range(12):
        local.send("big", {"n": n})
    local.run_until_idle()
    release(local, gate, 8)
    local.run_until_idle()
    assert local.client.count(function="shop/big", status="completed") == 12
    assert local.client.count(function="shop/small", status="scheduled") == waiting
    release(local, gate, 2)
    local.run_until_idle()
    assert local.client.count(function="shop/small", status="completed") == waiting


def test_with_two_limits_a_longer_line_costs_each_of_its_runs_no_more(deploy: Deploy) -> None:
    def cost(each: int) -> float:
        """Write units of a run; nobody stands in more lines than the two and, if the first has filled up, that once more."""
        app = Stepwell("shop")

        @app.function(on="go", concurrency=[Concurrency(1, key="event.data.tenant"), Concurrency(2, scope="app")])
        def fn(ctx: Context[Any]) -> None:
            ctx.step.run("work", lambda: None)

        local = deploy(app)
        for n in range(each):
            local.send("go", {"tenant": "acme", "n": n})
        for n in range(each):
            local.send("go", {"tenant": f"tenant-{n}", "n": n})
        local.advance("10m")
        assert local.client.count(status="completed") == 2 * each
        stood: Counter[str] = Counter()
        for write in local.world.observations.of(Wrote):
            if write.after is not None and write.pk.startswith("GATE#") and write.sk.startswith("LINE#"):
                stood[write.after.plain()["run"]] += 1
        assert max(stood.values()) <= 3
        return local.requests.write_units / (2 * each)

    few, many = cost(5), cost(20)
    assert many <= 1.4 * few < 45, "they contend more"


@pytest.mark.parametrize(("own", "all_"), [(1, 1), (1, 3), (2, 4)])
def test_a_tenant_that_came_first_is_not_starved_by_the_others_who_keep_coming(
    app: Stepwell, deploy: Deploy, own: int, all_: int
) -> None:
    began: list[str] = []

    @app.function(on="go", concurrency=[Concurrency(own, key="event.data.tenant"), Concurrency(all_)])
    def fn(ctx: Context[Any]) -> None:
        began.append(ctx.event.data["tenant"])
        ctx.step.run("work", lambda: None)

    local = deploy(app)
    gate = gate_pk(slot_of(local, "shop/fn", 1))
    local._ports().store.table.update(gate, GATE_SK, add={"held": all_})
    for n, tenant in enumerate("aaaaaa" + "bcdefghijklm"):
        local.send("go", {"tenant": tenant, "n": n})
        local.run_until_idle()
        local.world.clock.advance(0.01)
    for tenant in "nopqrstu":  # one slot comes free, and one more comes and wants it
        local.send("go", {"tenant": tenant})
        local.run_until_idle()
        release(local, gate)
        local.run_until_idle()
        local._ports().store.table.update(gate, GATE_SK, add={"held": 1})
        local.advance("1s")
    assert began[:6] == ["a"] * 6
    release(local, gate, all_)
    local.advance("1m")
    assert len(began) == 6 + 12 + 8
    assert began == sorted(began)


def test_a_line_longer_than_one_message_moves_through_its_throttle_in_order(app: Stepwell, deploy: Deploy) -> None:
    began: list[int] = []

    @app.function(on="go", concurrency=Concurrency(1), throttle=Throttle(1, "1s"))
    def fn(ctx: Context[Any]) -> None:
        began.append(ctx.event.data["n"])

    local = deploy(app)
    gate = occupied(local, "shop/fn")
    for n in range(2 * lines.STARTS + 5):
        local.send("go", {"n": n})
        local.run_until_idle()
        local.world.clock.advance(0.001)
    release(local, gate)
    local.advance("3m")
    assert began == list(range(2 * lines.STARTS + 5))


def test_many_that_wait_for_another_limit_do_not_hold_up_those_behind_them(
    app: Stepwell, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "STARTS", 5)
    began: list[str] = []

    @app.function(on="go", concurrency=[Concurrency(2, key="event.data.user"), Concurrency(2, key="event.data.disk")])
    def fn(ctx: Context[Any]) -> None:
        began.append(ctx.event.data["disk"])

    local = deploy(app)
    gates = [gate_pk(slot_of(local, "shop/fn", which, user="u", disk="slow")) for which in (0, 1)]
    for gate in gates:
        local._ports().store.table.update(gate, GATE_SK, add={"held": 2})
    for n in range(20):
        local.send("go", {"user": "u", "disk": "slow", "n": n})
        local.run_until_idle()
    for n in range(3):
        local.send("go", {"user": "u", "disk": "fast", "n": n})
        local.run_until_idle()
    release(local, gates[0], 2)
    local.run_until_idle()
    assert began == ["fast"] * 3
    release(local, gates[1], 2)
    local.run_until_idle()
    assert began == ["fast"] * 3 + ["slow"] * 20


def test_who_could_not_start_in_time_takes_no_turn_from_those_who_can(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", throttle=Throttle(1, "1m"), timeouts=Timeouts(start="10m"))
    def fn(ctx: Context[Any]) -> None: ...

    local = deploy(app)
    for n in range(120):  # twice as many as may start, for an hour
        local.send("go", {"n": n})
        local.run_until_idle()
        local.advance("30s")
    at = started(local)
    assert at == [60 * n for n in range(len(at))], "one every minute, without a gap"
    assert len(at) >= 60
    local.advance("1h")
    ends = [(run.status, run.reason) for run in local.client.runs()]
    assert {reason for status, reason in ends if status is RunStatus.CANCELLED} == {"not started within 10m"}
    assert {status for status, _ in ends} == {RunStatus.CANCELLED, RunStatus.COMPLETED}


def test_a_singleton_that_is_replaced_all_the_time_starts_also_if_it_has_only_so_much_time_for_it(
    app: Stepwell, deploy: Deploy
) -> None:
    @app.function(on="go", singleton=Singleton("cancel"), throttle=Throttle(1, "1m"), timeouts=Timeouts(start="1d"))
    def fn(ctx: Context[Any]) -> None: ...

    local = deploy(app)
    for n in range(31):
        local.send("go", {"n": n})
        local.run_until_idle()
        local.advance("10s")
    assert started(local, status="completed") == [0, 60, 120, 180, 240, 300]


def test_after_an_outage_the_turns_that_were_missed_are_made_up_for_one_after_the_other(
    app: Stepwell, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[int] = []

    @app.function(on="go", throttle=Throttle(1, "1m"))
    def fn(ctx: Context[Any]) -> None:
        order.append(ctx.event.data["n"])

    def busy(*_: Any, **__: Any) -> None:
        answer: Any = {"Error": {"Code": "TooManyRequestsException"}}
        raise ClientError(answer, "Invoke")

    local = deploy(app)
    monkeypatch.setattr(Invoker, "start", busy)
    for n in range(40):
        local.send("go", {"n": n})
    local.run_until_idle()
    local.advance("20m")
    assert started(local) == []
    monkeypatch.undo()
    local.advance("1h")
    at = started(local)
    assert sorted(order) == list(range(40))
    assert max(sum(t <= each < t + 60 for each in at) for t in at) <= 4, "at most twice the rate, from any moment on"
    assert at[-1] <= 40 * 60 + 60, "and no later than without the outage"


@pytest.mark.parametrize("between", [2, 15])
def test_a_document_that_is_edited_all_the_time_keeps_its_place_in_the_line(
    app: Stepwell, deploy: Deploy, between: int
) -> None:
    order: list[str] = []

    @app.function(on="go", debounce=Debounce("10s", key="event.data.doc"), concurrency=Concurrency(1))
    def fn(ctx: Context[Any]) -> None:
        order.append(f"{ctx.event.data['doc']} {ctx.event.data['n']}")

    local = deploy(app)
    gate = occupied(local, "shop/fn")

    def edit(doc: str, n: int, wait: float) -> None:
        local.send("go", {"doc": doc, "n": n})
        local.run_until_idle()
        local.advance(wait)

    edit("busy", 1, 30)
    edit("other", 1, 30)
    for n in range(2, 6):
        edit("busy", n, between)
    local.advance("30s")
    release(local, gate)
    local.advance("1m")
    assert order == ["busy 5", "other 1"]


def test_a_singleton_that_replaces_one_in_a_line_takes_its_place(app: Stepwell, deploy: Deploy) -> None:
    order: list[str] = []

    @app.function(on="go", singleton=Singleton("cancel", key="event.data.shop"), concurrency=Concurrency(1))
    def fn(ctx: Context[Any]) -> None:
        order.append(f"{ctx.event.data['shop']} {ctx.event.data['n']}")

    local = deploy(app)
    gate = occupied(local, "shop/fn")
    for n, shop in enumerate(["hot", "a", "hot", "b", "hot", "c"]):
        local.send("go", {"shop": shop, "n": n})
        local.run_until_idle()
        local.advance("5s")
    release(local, gate)
    local.advance("1m")
    assert order == ["hot 4", "a 1", "b 3", "c 5"]
