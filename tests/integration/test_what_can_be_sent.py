"""What senders hear at once: values that no message can carry, times and ids that no event can have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stepwell import Event, RunStatus, Stepwell
from stepwell.errors import InvalidEvent, NotSerializable, StepwellError
from stepwell.middleware import Middleware
from stepwell.testing import LocalStepwell

from .support import Declare, Deploy, run_of

NAN, INFINITE = float("nan"), float("inf")


def nested(depth: int) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for _ in range(depth - 1):
        data = {"x": data}
    return data


def calls(local: LocalStepwell) -> dict[str, Callable[[Any], Any]]:
    return {
        "app.send": lambda data: local.apps[0].send("go", data),
        "client.send": lambda data: local.client.send([{"name": "go", "data": data}]),
        "client.invoke": lambda data: local.client.invoke("shop/fn", data),
    }


@pytest.mark.parametrize("call", ["app.send", "client.send", "client.invoke"])
@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"mean": NAN}, "mean is nan"),
        ({"lines": [{"price": INFINITE}]}, "lines[0].price is inf"),
        ({"x": "\ud800"}, "cannot be written as JSON"),
    ],
)
def test_what_no_message_can_carry_is_refused_at_once(
    app: Stepwell, deploy: Deploy, call: str, data: Any, says: str
) -> None:
    app.function(on="go", id="fn")(lambda ctx: None)
    local = deploy(app)
    with pytest.raises(NotSerializable) as caught:
        calls(local)[call](data)
    assert says in caught.value.message
    local.run_until_idle()
    assert local.requests.invocations["consumer"] == 0


@pytest.mark.parametrize("verb", ["send_event", "invoke"])
def test_in_a_function_it_is_an_error_that_is_not_retried_and_harms_no_other_event(
    app: Stepwell, deploy: Deploy, declare: Declare, verb: str
) -> None:
    app.function(on="go", id="fn")(lambda ctx: ctx.event.data["n"])

    def bad(ctx: Any) -> Any:
        if verb == "send_event":
            yield ctx.step.send_event("send", "go", {"mean": NAN})
        else:
            yield ctx.step.invoke("shop/fn", {"mean": NAN}, id="call")

    declare(app, bad, on="bad", id="bad", retries=3)
    local = deploy(app)
    good = local.client.send([{"name": "go", "data": {"n": n}} for n in range(9)])
    event_id = local.send("bad", {})
    local.run_until_idle()
    run = run_of(local, event_id)
    assert (run.status, run.attempt) == (RunStatus.FAILED, 1)
    assert run.error is not None
    assert run.error.type == "NotSerializable"
    assert "mean is nan, and JSON has no such number" in run.error.message
    assert [run_of(local, event_id).result for event_id in good] == list(range(9))
    assert local.dead_letters() == []


def test_a_step_and_a_function_may_return_what_no_event_can_hold(
    app: Stepwell, deploy: Deploy, declare: Declare
) -> None:
    """The news of the run's end go without the result then."""
    news: list[Any] = []
    app.function(on="stepwell/run.finished", id="listen")(lambda ctx: news.append(ctx.event.data))

    def fn(ctx: Any) -> Any:
        mean = yield ctx.step.run("mean", lambda: NAN)
        return [mean, INFINITE]

    declare(app, fn)
    local = deploy(app)
    event_id = local.send("go", {})
    local.run_until_idle()
    run = run_of(local, event_id)
    assert (run.status, str(run.result)) == (RunStatus.COMPLETED, "[nan, inf]")
    assert [(told["result"], told["omitted"]) for told in news] == [(None, ["result"])]
    assert local.dead_letters() == []


def test_characters_that_sqs_does_not_take_go_all_the_way(app: Stepwell, deploy: Deploy, declare: Declare) -> None:
    text = "\ufffe and \uffff, \\uffff, \x00, \x1b, \x7f"
    app.function(on="child", id="child")(lambda ctx: ctx.event.data["text"])

    def fn(ctx: Any) -> Any:
        yield ctx.step.send_event("told", "child", {"text": ctx.event.data["text"]}, id="told")
        answer = yield ctx.step.invoke("shop/child", {"text": ctx.event.data["text"]})
        return answer

    declare(app, fn)
    local = deploy(app)
    sent = local.client.send([{"name": "go", "data": {"text": text}}, {"name": "go", "data": {"text": text + "!"}}])
    local.run_until_idle()
    assert [run_of(local, event_id).result for event_id in sent] == [text, text + "!"]
    by_http = local.http("POST", f"/e/{local.event_key()}", body={"name": "child", "data": {"text": text}})
    assert by_http.status == 202
    local.run_until_idle()
    assert run_of(local, by_http.json()["ids"][0]).result == text


@pytest.mark.parametrize("sender", ["client", "step", "door"])
@pytest.mark.parametrize(
    ("ts", "says"),
    [
        (datetime(1969, 12, 31, tzinfo=UTC), "before 1970"),
        (datetime(2028, 1, 1, tzinfo=UTC), "more than 366 days ahead"),
        (datetime(9999, 12, 31, tzinfo=UTC), "more than 366 days ahead"),
    ],
)
def test_a_time_that_no_event_can_have_is_refused_whoever_sends_it(
    app: Stepwell, deploy: Deploy, declare_plain: Declare, sender: str, ts: datetime, says: str
) -> None:
    def fn(ctx: Any) -> Any:
        yield ctx.step.send_event("send", "later", {}, ts=ts)

    declare_plain(app, fn, retries=3)
    local = deploy(app)
    if sender == "client":
        with pytest.raises(InvalidEvent, match=says):
            local.send("later", {}, ts=ts)
    elif sender == "door":
        body = {"name": "later", "data": {}, "ts": ts.isoformat()}
        reply = local.http("POST", f"/e/{local.event_key()}", body=body)
        assert (reply.status, reply.json()["error"]["code"]) == (400, "invalid-event")
        assert says in reply.body
    else:
        event_id = local.send("go", {})
        local.run_until_idle()
        run = run_of(local, event_id)
        assert (run.status, run.attempt) == (RunStatus.FAILED, 1)
        assert run.error is not None
        assert says in run.error.message
    local.run_until_idle()
    assert local.dead_letters() == []
    assert "later" not in {event.name for event in local.client.events()}


def test_an_event_may_be_dated_a_year_ahead(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go", id="fn")(lambda ctx: ctx.event.ts)
    local = deploy(app)
    event_id = local.send("go", {}, ts=local.now() + timedelta(days=366))
    local.advance("365d")
    assert run_of(local, event_id).status is RunStatus.SCHEDULED
    local.advance("1d")
    assert run_of(local, event_id).status is RunStatus.COMPLETED


def test_an_event_that_is_nested_too_deeply_is_refused_at_once(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go", id="fn")(lambda ctx: ctx.event.data)
    local = deploy(app)
    with pytest.raises(InvalidEvent, match="more than 100 deep"):
        local.send("go", nested(101))
    event_id = local.send("go", nested(100))
    local.run_until_idle()
    assert run_of(local, event_id).result == nested(100)


@pytest.mark.parametrize("event_id", ["evt_7" + "Z" * 25, "evt_0" + "0" * 25, "evt_01KDWSHD00" + "0" * 16])
def test_an_id_that_says_a_time_that_cannot_be_is_refused_at_once(app: Stepwell, deploy: Deploy, event_id: str) -> None:
    local = deploy(app)  # its clock says the first of January 2026, the last of these ids some hours later
    with pytest.raises(InvalidEvent, match="looks made by Stepwell"):
        local.send("go", {}, id=event_id)


def test_the_longest_ids_and_names_go_all_the_way(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go*", id="fn")(lambda ctx: len(ctx.event.data.get("text", "")))
    local = deploy(app)
    name, event_id = "go" + "\U0001f600" * 224, "\U0001f600" * 256
    local.send(name, {}, id=event_id)
    local.send("go", {"text": "ab" * 300_000}, id=event_id)
    local.send("nobody" + "\U0001f600" * 220, {})
    local.run_until_idle()
    assert sorted(run.result for run in local.client.runs_of_event(event_id)) == [0, 600_000]
    assert local.dead_letters() == []
    with pytest.raises(StepwellError, match="900 bytes"):
        local.send(name + "\U0001f600", {})


def test_a_middleware_cannot_make_of_an_event_what_none_can_be(deploy: Deploy) -> None:
    class Later(Middleware):
        def on_send(self, event: Event[Any]) -> Event[Any]:
            return replace(event, ts=datetime(2400, 1, 1, tzinfo=UTC))

    local = deploy(Stepwell("shop", middleware=[Later()]))
    with pytest.raises(InvalidEvent, match="366 days ahead"):
        local.send("go", {})
