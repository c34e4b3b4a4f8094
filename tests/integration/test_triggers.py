"""Which events start which functions."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from stepwell import AsyncContext, CancelOn, Context, EventModel, RunStatus, Stepwell, Trigger
from stepwell.engine import accept
from stepwell.queue import Message

from .support import Deploy, declare_as, only_dead_letter, run_of


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


@pytest.mark.parametrize("id", [None, "o-1"])
def test_a_deployment_between_two_messages_of_a_wide_fan_out_keeps_the_event_from_nobody(
    app: Stepwell, deploy: Deploy, monkeypatch: pytest.MonkeyPatch, id: str | None
) -> None:
    monkeypatch.setattr(accept, "PER_MESSAGE", 4)
    for number in range(10):
        app.function(on="go", id=f"fn-{number}")(_nothing)
    local = deploy(app)
    go_on, changed = accept.go_on, Stepwell("shop")
    for number in range(3, 10):  # some of those that have the event are gone
        changed.function(on="go", id=f"fn-{number}")(_nothing)

    def deploy_in_between(*args: Any, **cursor: Any) -> None:
        if cursor.get("function") == "shop/fn-3":
            declare_as(local, changed)
        go_on(*args, **cursor)

    monkeypatch.setattr(accept, "go_on", deploy_in_between)
    event_id = local.send("go", {}, id=id)
    local.run_until_idle()
    assert {run.function for run in local.client.runs_of_event(event_id)} == {f"fn-{number}" for number in range(10)}
    assert "shop/fn-0" not in local.client.functions()
    assert local.dead_letters() == []


def test_a_fan_out_that_an_earlier_release_has_begun_is_begun_anew(app: Stepwell, deploy: Deploy) -> None:
    for number in range(3):
        app.function(on="go", id=f"fn-{number}")(_nothing)
    local = deploy(app)
    event_id = local.send("go", {})
    local.run_until_idle()
    event = {"id": event_id, "name": "go", "ts": round(local.now().timestamp() * 1000), "data": {}}
    for cursor in ({"run": 1}, {"run": 1 << 30, "place": ["shop", "*"], "after": ""}):
        local.client._ports.queue.send(
            Message({"stepwell": "fanout", "event": event, "sent": event["ts"], "cursor": cursor})
        )
    local.run_until_idle()
    assert len(local.client.runs_of_event(event_id)) == 3
    assert local.dead_letters() == []
    assert local.world.failures == []


ENDLESS = "event.data.l.all(a, event.data.l.all(b, event.data.l.all(c, a + b + c >= 0)))"
"""More than CEL does at a time, for a list of a hundred."""


@pytest.mark.parametrize("id", [None, "o-1"])
def test_an_event_of_which_nobody_can_say_whom_it_starts_starts_all_others_and_is_a_dead_letter(
    app: Stepwell, deploy: Deploy, id: str | None
) -> None:
    app.function(on="go", id="other")(_nothing)
    app.function(on=Trigger("go", where=ENDLESS), id="fn")(_nothing)

    @app.function(on="wait", id="waiting")
    def waiting(ctx: Context[Any]) -> bool:
        return ctx.step.wait_for_event("it", event="go", timeout="1d") is not None

    local = deploy(app)
    waits = local.send("wait", {})
    local.run_until_idle()
    event_id = local.send("go", {"l": list(range(100))}, id=id)
    local.run_until_idle()
    assert [run.function for run in local.client.runs_of_event(event_id)] == ["other"]
    assert run_of(local, waits).result is True
    letter = only_dead_letter(local)
    assert letter.code == "undecided"
    assert "shop/fn" in letter.reason
    assert "budget" in letter.reason

    corrected = Stepwell("shop")
    corrected.function(on="go", id="other")(_nothing)
    corrected.function(on=Trigger("go", where="size(event.data.l) == 100"), id="fn")(_nothing)
    declare_as(local, corrected)
    assert local.client.redrive() == 1
    local.run_until_idle()
    assert sorted(run.function for run in local.client.runs_of_event(event_id)) == ["fn", "other"]
    assert local.dead_letters() == []


def test_integers_beyond_64_bits_keep_no_expression_from_being_evaluated(app: Stepwell, deploy: Deploy) -> None:
    wei = 10**20

    @app.function(on=Trigger("transfer", where="event.data.kind == 'eth'"), id="settle")
    def settle(ctx: Context[Any]) -> int:
        return int(ctx.event.data["wei"])

    app.function(on="transfer", id="once", idempotency="event.data.id", tags={"t": "event.data.id"})(_nothing)

    @app.function(on="order", id="order", cancel_on=CancelOn("called-off", where="async.data.id == event.data.id"))
    def order(ctx: Context[Any]) -> None:
        ctx.step.sleep("long", "1d")

    local = deploy(app)
    sent = [local.send("transfer", {"kind": "eth", "id": id, "wei": wei}) for id in (1, wei + 1, wei + 2, wei + 2)]
    live = local.send("order", {"id": wei + 1, "wei": wei})
    local.run_until_idle()
    local.send("called-off", {"id": wei + 1, "wei": wei})
    local.run_until_idle()
    assert [run_of(local, event_id, "settle").result for event_id in sent] == [wei] * 4
    once = [run_of(local, event_id, "once") for event_id in sent]
    assert [run.status.value for run in once] == ["completed", "completed", "completed", "skipped"]
    assert [run.tags for run in once] == [{"t": "1"}, {"t": str(wei + 1)}, {"t": str(wei + 2)}, {"t": str(wei + 2)}]
    assert run_of(local, live).status is RunStatus.CANCELLED


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
