"""cancel_on: an event that was received after a run was accepted cancels it, in whatever state it is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from stepwell import CancelOn, Context, Debounce, EventModel, RunStatus, Stepwell
from stepwell.ids import ulid_of
from stepwell.testing import Chaos, Fault, FaultKind, FaultPlan, LocalStepwell

from .support import Declare, Deploy, declare_as, only_dead_letter, run_of, writes_to


class Cancelled(EventModel, name="order/cancelled"):
    order_id: str
    amount: int = 0


def sleeper(ctx: Any) -> Any:
    yield ctx.step.run("begin", lambda: 1)
    yield ctx.step.sleep("wait", "1d")
    yield ctx.step.run("end", lambda: 2)


BY_ORDER = CancelOn(Cancelled, match={"data.order_id": "event.data.order_id"})


def started(local: LocalStepwell, order_id: str = "o-1", **more: Any) -> str:
    event_id = local.send("go", {"order_id": order_id, **more})
    local.run_until_idle()
    return event_id


def test_the_run_whose_event_has_the_same_value_is_cancelled_and_says_by_what(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    declare(app, sleeper, cancel_on=BY_ORDER)
    local = deploy(app)
    one, other = started(local, "o-1"), started(local, "o-2")
    stop = local.send(Cancelled(order_id="o-1"))
    local.run_until_idle()
    assert (run_of(local, one).status, run_of(local, one).reason) == (
        RunStatus.CANCELLED,
        f"cancelled by order/cancelled {stop}",
    )
    local.advance("2d")
    assert run_of(local, other).status == RunStatus.COMPLETED
    assert "end" not in run_of(local, one).steps


@pytest.mark.parametrize(
    ("rule", "own", "incoming", "cancels"),
    [
        ({"match": {"data.order_id": "o-1"}}, {}, {"order_id": "o-1"}, True),
        ({"match": {"data.order_id": "o-1"}}, {}, {"order_id": "o-2"}, False),
        ({"match": {"data.n": 5}}, {}, {"n": 5}, True),
        ({"match": {"data.n": "5"}}, {}, {"n": 5}, False),
        ({"match": {"data.n": "event.data.n + 1"}}, {"n": 4}, {"n": 5}, True),
        ({"match": {"data.n": "event.data.n + 1"}}, {"n": 5}, {"n": 5}, False),
        ({"match": {"data.a.b": "event.data.list"}}, {"list": [1, {"x": None}]}, {"a": {"b": [1, {"x": None}]}}, True),
        ({"match": {"data.x": "event.data.x", "data.y": "event.data.y"}}, {"x": 1, "y": 2}, {"x": 1, "y": 2}, True),
        ({"match": {"data.x": "event.data.x", "data.y": "event.data.y"}}, {"x": 1, "y": 2}, {"x": 1, "y": 3}, False),
        ({"match": {"data.x": "event.data.x"}}, {}, {}, False),
        ({"match": {"data.x": "event.data.x"}}, {"x": None}, {"x": None}, False),
        ({"match": {"data.x": "event.name"}}, {}, {"x": "go"}, True),
        ({"where": "async.data.n > event.data.n"}, {"n": 4}, {"n": 5}, True),
        ({"where": "async.data.n > event.data.n"}, {"n": 5}, {"n": 5}, False),
        ({"where": "async.data.n > event.data.n"}, {}, {"n": 5}, False),
        ({"match": {"data.x": "event.data.x"}, "where": "async.data.n > 1"}, {"x": 1}, {"x": 1, "n": 1}, False),
        ({"match": {"data.x": "event.data.x"}, "where": "async.data.n > 1"}, {"x": 1}, {"x": 1, "n": 2}, True),
        ({}, {}, {}, True),
    ],
)
def test_what_an_event_has_to_have(
    app: Stepwell,
    declare_plain: Declare,
    deploy: Deploy,
    rule: dict[str, Any],
    own: dict[str, Any],
    incoming: dict[str, Any],
    cancels: bool,
) -> None:
    declare_plain(app, sleeper, cancel_on=[CancelOn("stop", **rule)])
    local = deploy(app)
    event_id = local.send("go", own)
    local.run_until_idle()
    local.send("stop", incoming)
    local.run_until_idle()
    assert run_of(local, event_id).status == (RunStatus.CANCELLED if cancels else RunStatus.SUSPENDED)


def test_a_run_is_cancelled_while_it_waits_for_its_time(app: Stepwell, declare_plain: Declare, deploy: Deploy) -> None:
    declare_plain(app, sleeper, cancel_on=BY_ORDER)
    local = deploy(app)
    event_id = local.send("go", {"order_id": "o-1"}, ts=local.now() + timedelta(days=3))
    local.advance("1d")
    assert run_of(local, event_id).status == RunStatus.SCHEDULED
    local.send(Cancelled(order_id="o-1"))
    local.advance("5d")
    assert (run_of(local, event_id).status, run_of(local, event_id).started_at) == (RunStatus.CANCELLED, None)


def test_a_run_is_cancelled_while_it_runs_before_its_next_step(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    ran: list[str] = []

    def body(ctx: Any) -> Any:
        def stop() -> None:
            app.send(Cancelled(order_id="o-1"))
            local.world.turns.pause()
            for _ in range(500):
                if run_of(local, event_id).status is not RunStatus.RUNNING:
                    break
                local.world.turns.pause()
            ran.append("first")

        yield ctx.step.run("first", stop)
        yield ctx.step.run("second", ran.append, "second")

    declare(app, body, cancel_on=BY_ORDER)
    local = deploy(app)
    event_id = local.send("go", {"order_id": "o-1"})
    local.run_until_idle()
    assert run_of(local, event_id).status == RunStatus.CANCELLED
    assert ran == ["first"]


def test_a_run_is_cancelled_while_it_waits_for_the_same_event(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    """Both hear of it, the cancel first."""

    def body(ctx: Any) -> Any:
        yield ctx.step.wait_for_event("stop", event=Cancelled, match={"data.order_id": "o-1"}, timeout="1d")
        yield ctx.step.run("went on", lambda: 1)

    declare(app, body, cancel_on=BY_ORDER)
    local = deploy(app)
    event_id = started(local)
    local.send(Cancelled(order_id="o-1"))
    local.advance("2d")
    run = run_of(local, event_id)
    assert (run.status, list(run.steps)) == (RunStatus.CANCELLED, ["stop"])


def test_an_event_from_before_the_run_does_not_cancel_it(app: Stepwell, declare_plain: Declare, deploy: Deploy) -> None:
    declare_plain(app, sleeper, cancel_on=BY_ORDER)
    local = deploy(app)
    earlier = started(local)
    local.send(Cancelled(order_id="o-1"))
    local.run_until_idle()
    later = started(local)
    local.advance("1s")
    latest = started(local)
    local.advance("2d")
    statuses = [run_of(local, event_id).status for event_id in (earlier, later, latest)]
    assert statuses == [RunStatus.CANCELLED, RunStatus.COMPLETED, RunStatus.COMPLETED]


def test_an_event_sent_right_after_the_start_is_not_missed(
    app: Stepwell, declare_plain: Declare, deploy: Deploy
) -> None:
    declare_plain(app, sleeper, cancel_on=BY_ORDER)
    local = deploy(app)
    event_id = local.send("go", {"order_id": "o-1"})
    local.send(Cancelled(order_id="o-1"))
    local.run_until_idle()
    assert run_of(local, event_id).status == RunStatus.CANCELLED


@pytest.mark.parametrize("operation", ["dynamodb.PutItem", "dynamodb.Query", "lambda.Invoke"])
@pytest.mark.parametrize("when", [FaultKind.CRASH_BEFORE, FaultKind.CRASH_AFTER])
def test_an_event_that_is_handled_before_a_start_that_was_cut_off_cancels_it_all_the_same(
    app: Stepwell, declare_plain: Declare, deploy: Deploy, operation: str, when: FaultKind
) -> None:
    declare_plain(app, sleeper, cancel_on=BY_ORDER)
    plan = FaultPlan([Fault(when, operation=operation, label="orchestrator")])
    local = deploy(app, plan=plan)
    event_id = local.send("go", {"order_id": "o-1"})
    local.run_until_idle()
    local.advance("500ms")  # too early for the start to come again
    local.send(Cancelled(order_id="o-1"))
    local.advance("2d")
    assert run_of(local, event_id).status == RunStatus.CANCELLED


@pytest.mark.parametrize("seed", range(8))
def test_messages_in_any_order_doubled_and_late_lose_no_cancel_and_cancel_nothing_else(
    app: Stepwell, declare_plain: Declare, deploy: Deploy, seed: int
) -> None:
    declare_plain(app, sleeper, cancel_on=BY_ORDER)
    local = deploy(app, seed=seed, chaos=Chaos(duplicate=0.3, delay=0.5, reorder=True, within=30.0))
    before = [local.send(Cancelled(order_id=f"o-{n}")) for n in range(4)]
    local.world.clock.advance(0.002)
    runs = [local.send("go", {"order_id": f"o-{n}"}) for n in range(4)]
    local.world.clock.advance(0.002)
    local.send(Cancelled(order_id="o-1"))
    local.send(Cancelled(order_id="o-3"))
    local.advance("1h")
    cancelled = [run_of(local, event_id).status is RunStatus.CANCELLED for event_id in runs]
    assert cancelled == [False, True, False, True]
    assert all(event_id not in str(run_of(local, run).reason) for event_id in before for run in runs)


def test_a_rule_holds_for_as_long_as_it_says(app: Stepwell, declare_plain: Declare, deploy: Deploy) -> None:
    declare_plain(app, sleeper, cancel_on=[CancelOn("stop", timeout="1h")])
    local = deploy(app)
    soon = started(local)
    local.advance("59m59s")
    late = started(local)
    local.advance("1s")
    local.send("stop")
    local.run_until_idle()
    assert run_of(local, soon).status == RunStatus.SUSPENDED
    assert run_of(local, late).status == RunStatus.CANCELLED


def test_one_event_cancels_all_that_it_means_of_every_app(declare_plain: Declare, deploy: Deploy) -> None:
    apps = [Stepwell("shop"), Stepwell("studio")]
    for each in apps:
        declare_plain(each, sleeper, cancel_on=[CancelOn("maintenance/begun")])
    local = deploy(*apps)
    local.client.send([{"name": "go", "data": {"n": n}} for n in range(60)])
    local.run_until_idle()
    local.send("maintenance/begun")
    local.run_until_idle()
    assert [run.status for run in local.client.runs()] == [RunStatus.CANCELLED] * 120


def test_any_of_several_rules_cancels(app: Stepwell, declare_plain: Declare, deploy: Deploy) -> None:
    rules = [BY_ORDER, CancelOn("shop/closed"), CancelOn("order/cancelled", where="async.data.amount > 100")]
    declare_plain(app, sleeper, cancel_on=rules)
    local = deploy(app)
    one, two, three = started(local, "o-1"), started(local, "o-2"), started(local, "o-3")
    local.send(Cancelled(order_id="o-1"))
    local.run_until_idle()
    statuses = [run_of(local, each).status.value for each in (one, two, three)]
    assert statuses == ["cancelled", "suspended", "suspended"]
    local.send("shop/closed")
    local.run_until_idle()
    assert run_of(local, two).reason == run_of(local, three).reason
    four = started(local, "o-4")
    local.send(Cancelled(order_id="another", amount=101))
    local.run_until_idle()
    assert run_of(local, four).status == RunStatus.CANCELLED


def test_the_event_that_starts_a_run_does_not_cancel_it_but_the_one_before(
    app: Stepwell, declare_plain: Declare, deploy: Deploy
) -> None:
    same = CancelOn("go", match={"data.order_id": "event.data.order_id"})
    declare_plain(app, sleeper, cancel_on=same)
    local = deploy(app)
    first = started(local)
    local.advance("1m")
    second = started(local)
    local.advance("2d")
    assert run_of(local, first).status == RunStatus.CANCELLED
    assert run_of(local, second).status == RunStatus.COMPLETED


def test_an_invoked_run_and_a_replay_are_guarded_too(app: Stepwell, declare_plain: Declare, deploy: Deploy) -> None:
    function = declare_plain(app, sleeper, cancel_on=BY_ORDER)
    local = deploy(app)
    invoked = local.client.invoke(function, {"order_id": "o-1"})
    event_id = started(local, "o-2")
    replayed = local.client.replay(run_of(local, event_id).id)
    local.run_until_idle()
    local.send(Cancelled(order_id="o-1"))
    local.run_until_idle()
    assert local.client.run(invoked).status == RunStatus.CANCELLED
    local.send(Cancelled(order_id="o-2"))
    local.run_until_idle()
    assert local.client.run(replayed).status == RunStatus.CANCELLED


def test_the_handler_for_failures_is_not_cancelled_by_what_cancels_its_function(app: Stepwell, deploy: Deploy) -> None:
    def handle(ctx: Context[Any]) -> str:
        ctx.step.sleep("later", "1h")
        return "handled"

    @app.function(on="go", id="fn", retries=0, cancel_on=CancelOn("stop"), on_failure=handle)
    def fn(ctx: Context[Any]) -> None:
        raise ValueError("no")

    local = deploy(app)
    local.send("go")
    local.run_until_idle()
    local.send("stop")
    local.advance("2h")
    (handler,) = local.client.runs(function="shop/fn.on-failure")
    assert handler.result == "handled"


def test_rules_of_a_run_hold_though_a_deployment_has_dropped_them(app: Stepwell, deploy: Deploy) -> None:
    def body(ctx: Context[Any]) -> None:
        ctx.step.sleep("wait", "1d")

    app.function(on="go", id="fn", cancel_on=BY_ORDER)(body)
    local = deploy(app)
    old = started(local)
    app.functions.pop("fn")
    app.function(on="go", id="fn")(body)
    from stepwell.engine.registration import register

    workers = local._ports().store.apps.current()[0]["shop"].workers
    register(local._ports(counted=False), app.manifest(), workers)
    new = started(local)
    local.send(Cancelled(order_id="o-1"))
    local.run_until_idle()
    assert run_of(local, old).status == RunStatus.CANCELLED
    assert run_of(local, new).status == RunStatus.SUSPENDED


@pytest.mark.parametrize("id", ["stop-1", None])
@pytest.mark.parametrize("starts", [0, 1, 2])
def test_the_same_event_again_cancels_no_run_that_began_in_between(
    app: Stepwell, declare_plain: Declare, deploy: Deploy, id: str | None, starts: int
) -> None:
    """Whether its sender chose the id, or one was made; and however many functions it starts beside."""
    declare_plain(app, sleeper, cancel_on=BY_ORDER)
    for number in range(starts):
        app.function(on=Cancelled, id=f"beside-{number}")(lambda ctx: None)
    local = deploy(app)
    earlier = started(local)
    local.advance("1s")
    stop = local.send("order/cancelled", {"order_id": "o-1"}, id=id)
    local.advance("1s")
    later = started(local)
    for _ in range(2):
        local.advance("1s")
        local.send("order/cancelled", {"order_id": "o-1"}, id=stop)
    local.advance("2d")
    assert run_of(local, earlier, "fn").status == RunStatus.CANCELLED
    assert run_of(local, later, "fn").status == RunStatus.COMPLETED


def test_an_event_again_cancels_nothing_though_it_starts_more_functions_by_now(app: Stepwell, deploy: Deploy) -> None:
    """When it came first one function held it, and nobody could be cancelled by it: so that function's run says since when."""
    app.function(on="stop", id="z-first")(lambda ctx: None)
    first = Stepwell(app.id)
    first.function(on="stop", id="z-first")(lambda ctx: None)
    app.function(on="stop", id="a-later")(lambda ctx: None)
    app.function(on="go", id="fn", cancel_on=CancelOn("stop"))(lambda ctx: ctx.step.sleep("wait", "1d"))
    local = deploy(app)
    declare_as(local, first)
    stop = local.send("stop")
    local.advance("1h")
    declare_as(local, app)
    later = started(local)
    for _ in range(3):
        local.advance("1m")
        local.send("stop", id=stop)
        local.run_until_idle()
    assert run_of(local, later).status == RunStatus.SUSPENDED
    assert {run.function for run in local.client.runs()} == {"z-first", "fn"}
    new = local.send("stop")
    local.run_until_idle()
    assert run_of(local, later).status == RunStatus.CANCELLED
    assert {run.function for run in local.client.runs_of_event(new)} == {"z-first", "a-later"}


def test_the_same_made_id_with_other_data_cancels_nothing_and_is_a_dead_letter(
    app: Stepwell, declare_plain: Declare, deploy: Deploy
) -> None:
    declare_plain(app, sleeper, cancel_on=BY_ORDER)
    local = deploy(app)
    run = started(local)
    stop = local.send("order/cancelled", {"order_id": "o-2"})
    local.advance("1s")
    local.send("order/cancelled", {"order_id": "o-1"}, id=stop)
    local.advance("1s")
    assert run_of(local, run).status == RunStatus.SUSPENDED
    assert only_dead_letter(local).code == "duplicate-event"


def test_a_sender_whose_clock_is_behind_cancels_what_was_accepted_when_its_event_came(
    app: Stepwell, declare_plain: Declare, deploy: Deploy
) -> None:
    """The time in an id that was made is not that of the receipt."""
    declare_plain(app, sleeper, cancel_on=BY_ORDER)
    local = deploy(app)
    run = started(local)
    local.advance("1s")
    yesterday = round((local.now() - timedelta(days=1)).timestamp() * 1000)
    local.send("order/cancelled", {"order_id": "o-1"}, id="evt_" + ulid_of(yesterday, b"0123456789"))
    local.run_until_idle()
    assert run_of(local, run).status == RunStatus.CANCELLED


@pytest.mark.parametrize("first", ["data.a", "data.z"])
@pytest.mark.parametrize(
    ("wanted", "came"), [(True, 1), (1, True), (1, 1.0), (1.0, 1), (1, "1"), (0, False), (None, 0)]
)
def test_values_are_compared_as_json_whichever_path_comes_first(
    app: Stepwell, declare_plain: Declare, deploy: Deploy, first: str, wanted: Any, came: Any
) -> None:
    declare_plain(app, sleeper, cancel_on=CancelOn("stop", match={first: "x", "data.m": wanted}))
    local = deploy(app)
    run = started(local)
    key = first.removeprefix("data.")
    local.send("stop", {key: "x", "m": came})
    local.run_until_idle()
    assert run_of(local, run).status == RunStatus.SUSPENDED
    local.send("stop", {key: "x", "m": wanted})
    local.run_until_idle()
    assert run_of(local, run).status == RunStatus.CANCELLED


def test_nothing_is_left_to_find_once_the_run_has_ended(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", cancel_on=BY_ORDER, id="fn", retries=0)
    def fn(ctx: Context[Any]) -> None:
        ctx.step.run("one", lambda: 1)
        if ctx.event.data["order_id"] == "bad":
            raise ValueError("no")

    local = deploy(app)
    for order in ("good", "bad"):
        started(local, order)
    guards = [image.plain() for (pk, _), image in local.world.table.items() if pk.startswith("WAIT#")]
    now = round(local.now().timestamp())
    assert [(guard["until"], guard["ttl"] <= now) for guard in guards] == [(0, True)] * 2
    local.send(Cancelled(order_id="good"))
    local.run_until_idle()
    assert sum(pk.startswith("WAIT#") for (pk, _), _ in local.world.table.items()) == 1, (
        "met by an event, it is removed at once"
    )


def test_nothing_is_left_of_runs_that_made_way_for_later_ones(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", cancel_on=CancelOn("halt"), debounce=Debounce("1m"))
    def fn(ctx: Context[Any]) -> None: ...

    local = deploy(app)
    for n in range(10):
        local.send("go", {"n": n})
        local.run_until_idle()
    guards = [image.plain() for (pk, _), image in local.world.table.items() if pk.startswith("WAIT#")]
    assert sorted(guard["until"] > 0 for guard in guards) == [False] * 9 + [True]
    local.advance("2d")
    local.send("halt")
    local.run_until_idle()
    assert not any(pk.startswith("WAIT#") for (pk, _), _ in local.world.table.items())


def test_it_costs_two_writes_and_a_read_for_each_run_and_nothing_without_it(
    app: Stepwell, declare_plain: Declare, deploy: Deploy
) -> None:
    def body(ctx: Any) -> Any:
        yield ctx.step.run("one", lambda: 1)

    declare_plain(app, body, on="plain", id="plain")
    declare_plain(app, body, on="guarded", id="guarded", cancel_on=BY_ORDER)
    local = deploy(app)
    spent = {}
    for name in ("plain", "guarded", "plain", "guarded"):
        before = local.requests
        local.send(name, {"order_id": "o-1"})
        local.run_until_idle()
        cost = local.requests - before
        spent[name] = (cost.write_units, cost.read_units, cost.sqs)
    writes, reads, sqs = spent["plain"]
    assert spent["guarded"] == (writes + 2, reads + 1, sqs)


@pytest.mark.parametrize(("starts", "id", "more"), [(0, None, 1), (1, None, 2), (2, None, 1), (1, "stop", 1)])
def test_an_event_that_may_cancel_costs_a_write_or_two_more(
    app: Stepwell, declare_plain: Declare, deploy: Deploy, starts: int, id: str | None, more: int
) -> None:
    """The note of it, and, if otherwise one run alone held it, when it was accepted."""
    declare_plain(app, sleeper, cancel_on=CancelOn("stop"))
    for number in range(starts):
        for name in ("stop", "other"):
            app.function(on=name, id=f"{name}-{number}")(lambda ctx: None)
    local = deploy(app)
    spent = {}
    for name in ("other", "stop", "other", "stop"):
        before = local.requests
        local.send(name, {"order_id": "o-1"}, id=id and f"{id}-{len(spent)}-{before.write_units}")
        local.run_until_idle()
        spent[name] = (local.requests - before).write_units
    assert spent["stop"] == spent["other"] + more


def test_a_cancelled_run_is_written_once(app: Stepwell, declare_plain: Declare, deploy: Deploy) -> None:
    declare_plain(app, sleeper, cancel_on=BY_ORDER)
    local = deploy(app)
    event_id = started(local)
    before = writes_to(local, run_of(local, event_id), "RUN")
    local.send(Cancelled(order_id="o-1"))
    local.send(Cancelled(order_id="o-1"))
    local.run_until_idle()
    assert writes_to(local, run_of(local, event_id), "RUN") == before + 2, "its end, and that its followers were told"
