"""Which events start which functions."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from stepwell import AsyncContext, Context, EventModel, RunStatus, Stepwell, Trigger

from .support import Deploy, run_of


class Shipped(EventModel, name="order/shipped"):
    order_id: str
    weight: float = 1.0


def test_a_function_gets_the_event_it_listens_to(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="order/created")
    def confirm(ctx: Context[dict[str, Any]]) -> list[Any]:
        assert ctx.events == [ctx.event]
        return [ctx.event.id, ctx.event.name, ctx.event.data, ctx.event.tenant, ctx.event.ts.isoformat()]

    local = deploy(app)
    event_id = local.send("order/created", {"n": 1}, tenant="acme")
    local.run_until_idle()
    run = run_of(local, event_id)
    assert run.status == RunStatus.COMPLETED
    assert run.result == [event_id, "order/created", {"n": 1}, "acme", local.now().isoformat()]
    assert (run.app, run.function, run.event.data) == ("shop", "confirm", {"n": 1})


@pytest.mark.parametrize("name", ["order/created/late", "order/create", "Order/created", "order"])
def test_an_event_with_another_name_starts_nothing(app: Stepwell, deploy: Deploy, name: str) -> None:
    app.function(on="order/created")(_nothing)
    local = deploy(app)
    event_id = local.send(name)
    local.run_until_idle()
    assert local.run(event_id) is None
    assert [event.name for event in local.client.events()] == [name]


def test_a_wildcard_takes_everything_below_its_prefix(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="order/*", id="audit")(_nothing)
    local = deploy(app)
    sent = {name: local.send(name) for name in ("order/created", "order/line/added", "order", "orders/created")}
    local.run_until_idle()
    assert [name for name, event_id in sent.items() if local.run(event_id)] == ["order/created", "order/line/added"]


def test_a_lone_wildcard_takes_every_event_but_not_the_engines_own(app: Stepwell, deploy: Deploy) -> None:
    failures: list[str] = []
    app.function(on="*", id="audit")(_nothing)

    @app.function(on="boom", retries=0, on_failure=lambda ctx: failures.append(ctx.event.data.error.message))
    def broken(ctx: Context[Any]) -> None:
        raise ValueError("as planned")

    local = deploy(app)
    event_id = local.send("boom")
    local.run_until_idle()
    assert failures == ["as planned"]
    assert run_of(local, event_id, "audit").status == RunStatus.COMPLETED
    assert [run.event.name for run in local.client.runs(function="shop/audit")] == ["boom"]


@pytest.mark.parametrize(
    ("where", "takes"),
    [
        ("event.data.amount > 100", [101, 1000.5]),
        ("event.data.amount > 100 || event.data.vip", [101, 1000.5]),
        ("event.tenant == 'acme'", []),
        ("event.name == 'order/created' && event.data.amount == 3", [3]),
        ("event.data.missing.deeper == 1", []),
        ("event.data.amount", []),
    ],
)
def test_a_condition_lets_only_matching_events_through(
    app: Stepwell, deploy: Deploy, where: str, takes: list[float]
) -> None:
    app.function(on=Trigger("order/created", where=where), id="big")(_nothing)
    local = deploy(app)
    sent = {amount: local.send("order/created", {"amount": amount}) for amount in (3, 100, 101, 1000.5)}
    local.run_until_idle()
    assert [amount for amount, event_id in sent.items() if local.run(event_id)] == takes
    assert local.dead_letters() == []


def test_one_event_starts_every_function_that_listens_once_each(deploy: Deploy) -> None:
    shop, mail = Stepwell("shop"), Stepwell("mail")
    ran: list[str] = []
    shop.function(on="order/created", id="pack")(lambda ctx: ran.append("pack"))
    shop.function(on="order/*", id="audit")(lambda ctx: ran.append("audit"))
    mail.function(on="order/created", id="confirm")(lambda ctx: ran.append("confirm"))
    shop.function(on="order/paid", id="other")(lambda ctx: ran.append("other"))
    local = deploy(shop, mail)
    event_id = local.send("order/created")
    local.run_until_idle()
    assert sorted(ran) == ["audit", "confirm", "pack"]
    found = {(run.app, run.function): run.status for run in local.client.runs_of_event(event_id)}
    assert found == dict.fromkeys([("shop", "pack"), ("shop", "audit"), ("mail", "confirm")], RunStatus.COMPLETED)
    with pytest.raises(LookupError, match="started 3 runs"):
        local.run(event_id)


def test_a_function_with_several_triggers_runs_once_for_an_event_that_matches_them_all(
    app: Stepwell, deploy: Deploy
) -> None:
    ran: list[str] = []
    triggers = ["order/created", "order/*", Trigger("order/created", where="true"), Shipped]
    app.function(on=triggers, id="fn")(lambda ctx: ran.append(ctx.event.name))
    local = deploy(app)
    for name in ("order/created", "order/paid", "order/shipped", "user/created"):
        local.send(name, {"order_id": "o-1"})
    local.run_until_idle()
    assert sorted(ran) == ["order/created", "order/paid", "order/shipped"]


def test_more_functions_than_one_message_may_start_all_run(
    app: Stepwell, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepwell.engine.accept.PER_MESSAGE", 4)
    for number in range(10):
        app.function(on="go", id=f"fn-{number}")(_nothing)
    local = deploy(app)
    event_id = local.send("go", {"pad": "x" * 300_000})
    local.run_until_idle()
    assert len(local.client.runs_of_event(event_id)) == 10
    assert {run.status for run in local.client.runs_of_event(event_id)} == {RunStatus.COMPLETED}


def test_sync_and_async_functions_stand_side_by_side(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go")
    def plain(ctx: Context[Any]) -> str:
        return ctx.step.run("hello", lambda: "sync")

    @app.function(on="go")
    async def waiting(ctx: AsyncContext[Any]) -> str:
        return await ctx.step.run("hello", lambda: "async")

    local = deploy(app)
    event_id = local.send("go")
    local.run_until_idle()
    assert run_of(local, event_id, "plain").result == "sync"
    assert run_of(local, event_id, "waiting").result == "async"


def test_an_event_dated_in_the_future_starts_its_run_then(app: Stepwell, deploy: Deploy) -> None:
    began: list[Any] = []

    @app.function(on="go")
    def fn(ctx: Context[Any]) -> None:
        began.append(local.now())

    local = deploy(app)
    start = local.now()
    event_id = local.send("go", ts=start + timedelta(hours=5))
    local.advance("4h59m")
    assert run_of(local, event_id).status == RunStatus.SCHEDULED
    assert began == []
    local.advance("1m")
    assert run_of(local, event_id).status == RunStatus.COMPLETED
    assert began == [start + timedelta(hours=5)]


def test_an_event_dated_in_the_past_runs_at_once(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go", id="fn")(_nothing)
    local = deploy(app)
    event_id = local.send("go", ts=local.now() - timedelta(days=3))
    local.run_until_idle()
    assert run_of(local, event_id).status == RunStatus.COMPLETED


def _nothing(ctx: Context[Any]) -> None:
    return None
