"""ctx.step.send_event: events from inside a function, sent once each."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from stepwell import EventModel, RunStatus, Stepwell

from .support import Declare, Deploy, play, run_of


class Shipped(EventModel, name="order/shipped"):
    order_id: str


def test_one_event_and_a_list_of_events_are_sent_as_steps(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    got: list[Any] = []
    app.function(on=["order/*"], id="listener")(lambda ctx: got.append((ctx.event.id, ctx.event.name, ctx.event.data)))

    def body(ctx: Any) -> Any:
        one = yield ctx.step.send_event("one", Shipped(order_id="o-1"))
        many = yield ctx.step.send_event(
            "many", [Shipped(order_id="o-2"), {"name": "order/paid", "data": {"n": 3}, "id": "p-3"}]
        )
        named = yield ctx.step.send_event("named", "order/packed", {"n": 4}, id="mine", tenant="acme")
        yield ctx.step.sleep("rest", "1h")
        return [one, *many, named]

    declare(app, body)
    local = deploy(app)
    run = play(local, wait="2h")
    assert run.status == RunStatus.COMPLETED
    assert sorted(got, key=lambda event: run.result.index(event[0])) == [
        (run.result[0], "order/shipped", {"order_id": "o-1"}),
        (run.result[1], "order/shipped", {"order_id": "o-2"}),
        ("p-3", "order/paid", {"n": 3}),
        ("mine", "order/packed", {"n": 4}),
    ]
    assert run_of(local, "mine").event.tenant == "acme"


def test_an_event_sent_again_after_a_crash_is_the_same_event(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    got: list[str] = []
    app.function(on="order/packed", id="listener")(lambda ctx: got.append(ctx.event.id))

    def body(ctx: Any) -> Any:
        return (yield ctx.step.send_event("packed", "order/packed", {"n": 1}))

    declare(app, body)
    local = deploy(app)
    local.crash_after("packed")
    run = play(local, wait="1h")
    assert got == [run.result]
    assert local.requests.invocations["worker"] == 3


def test_an_event_can_be_dated(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    app.function(on="reminder", id="listener")(lambda ctx: None)

    def body(ctx: Any) -> Any:
        return (yield ctx.step.send_event("remind", "reminder", ts=ctx.now() + timedelta(days=1)))

    declare(app, body)
    local = deploy(app)
    reminder = play(local).result
    assert run_of(local, reminder).status == RunStatus.SCHEDULED
    local.advance("1d")
    assert run_of(local, reminder).status == RunStatus.COMPLETED


@pytest.mark.parametrize(
    ("event", "data", "word"),
    [
        ("", {}, "name"),
        ("stepwell/run.failed", {}, "A step cannot send 'stepwell/run.failed'"),
        ("a b", {}, "white space"),
        ("ok", [1], "object"),
        ({"data": {}}, None, "name"),
    ],
)
def test_an_event_that_is_none_fails_the_run_saying_so(
    app: Stepwell, declare: Declare, deploy: Deploy, event: Any, data: Any, word: str
) -> None:
    def body(ctx: Any) -> Any:
        yield ctx.step.send_event("bad", event if isinstance(event, str) else [event], data)

    declare(app, body)
    run = play(deploy(app))
    assert run.error is not None
    assert run.error.type == "InvalidEvent"
    assert word in run.error.message


@pytest.mark.parametrize(
    ("event", "data", "type", "word"),
    [
        ([{"name": "ok"}], {"n": 1}, "InvalidOption", "data= is for an event given by name"),
        ({"name": "ok"}, {"n": 1}, "InvalidOption", "data= is for an event given by name"),
        ([{"name": "ok", "idd": "x"}], None, "InvalidEvent", "'idd'; there are name, data, id, ts, tenant"),
    ],
)
def test_what_would_be_left_out_of_an_event_fails_the_run_saying_so(
    app: Stepwell, declare: Declare, deploy: Deploy, event: Any, data: Any, type: str, word: str
) -> None:
    def body(ctx: Any) -> Any:
        yield ctx.step.send_event("bad", event, data)

    declare(app, body)
    run = play(deploy(app))
    assert run.error is not None
    assert run.error.type == type
    assert word in run.error.message
