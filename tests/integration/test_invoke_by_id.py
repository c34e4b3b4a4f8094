"""Functions invoked under an id of the caller's own: the same id is the same run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from stepwell import Context, PayloadTooLarge, Stepwell
from stepwell.errors import DuplicateEvent, InvalidEvent
from stepwell.queue import Queue

from .sealing import encrypted
from .support import Deploy, expire


@pytest.fixture
def ran() -> list[Any]:
    """The data of each run of the shop's function, as it began."""
    return []


@pytest.fixture
def shop(app: Stepwell, ran: list[Any]) -> Stepwell:
    """A function that does what its data say, and another beside it."""

    @app.function(on="go", id="fn", tags={"order": "event.data.order"})
    def fn(ctx: Context[Any]) -> Any:
        ctx.step.run("note", lambda: ran.append(ctx.event.data))
        if "rest" in ctx.event.data:
            ctx.step.sleep("rest", ctx.event.data["rest"])
        return ctx.event.data

    @app.function(on="never", id="other")
    def other(ctx: Context[Any]) -> None: ...

    return app


def test_the_same_id_asks_for_the_same_run_however_often_it_is_given(
    shop: Stepwell, deploy: Deploy, ran: list[Any]
) -> None:
    local = deploy(shop)
    first = local.client.invoke("shop/fn", {"order": "o-1"}, id="o-1")
    assert local.client.invoke("shop/fn", {"order": "o-1"}, id="o-1") == first, "before it has even begun"
    assert local.client.result(first) == {"order": "o-1"}
    local.advance("3d")
    assert local.client.invoke(shop.functions["fn"], {"order": "o-1"}, id="o-1") == first, "and after it has ended"
    local.run_until_idle()
    assert ran == [{"order": "o-1"}]
    assert local.dead_letters() == []


def test_another_id_another_function_and_none_are_other_runs(shop: Stepwell, deploy: Deploy, ran: list[Any]) -> None:
    local = deploy(shop)
    runs = {
        local.client.invoke("shop/fn", {}, id="a"),
        local.client.invoke("shop/fn", {}, id="b"),
        local.client.invoke("shop/other", {}, id="a"),
        local.client.invoke("shop/fn", {}),
        local.client.invoke("shop/fn", {}),
    }
    assert len(runs) == 5
    local.run_until_idle()
    assert {run.id for run in local.client.runs()} == runs
    assert len(ran) == 4


def test_the_same_id_with_other_data_is_refused_at_once_naming_the_run(
    shop: Stepwell, deploy: Deploy, ran: list[Any]
) -> None:
    local = deploy(shop)
    first = local.client.invoke("shop/fn", {"order": "o-1"}, id="o-1")
    for _ in range(2):  # before the run is there, and when it is
        with pytest.raises(DuplicateEvent, match=f"shop/fn was invoked under the id 'o-1' before, .* run {first}"):
            local.client.invoke("shop/fn", {"order": "o-2"}, id="o-1")
        local.run_until_idle()
    assert ran == [{"order": "o-1"}]


def test_a_call_that_was_cut_off_before_its_message_is_completed_by_the_next(
    shop: Stepwell, deploy: Deploy, ran: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    local = deploy(shop)

    def broken(*_: Any) -> None:
        raise ConnectionError("cut off")

    with monkeypatch.context() as patch:
        patch.setattr(Queue, "send", broken)
        with pytest.raises(ConnectionError):
            local.client.invoke("shop/fn", {"order": "o-1"}, id="o-1")
    local.advance("5d")
    run = local.client.invoke("shop/fn", {"order": "o-1"}, id="o-1")
    assert local.client.result(run) == {"order": "o-1"}
    assert len(ran) == 1


def test_asking_again_for_a_run_that_is_there_sends_nothing(shop: Stepwell, deploy: Deploy) -> None:
    local = deploy(shop)
    local.client.invoke("shop/fn", {"order": "o-1", "rest": "300d"}, id="o-1")
    local.advance("200d")
    before = local.requests
    local.client.invoke("shop/fn", {"order": "o-1", "rest": "300d"}, id="o-1")
    spent = local.requests - before
    assert (spent.sqs, spent.write_units) == (0, 1)
    assert local.client.count() == 1


def test_data_that_are_too_large_take_no_id(shop: Stepwell, deploy: Deploy) -> None:
    local = deploy(shop)
    with pytest.raises(PayloadTooLarge):
        local.client.invoke("shop/fn", {"text": "x" * 200_000_000}, id="o-1")
    run = local.client.invoke("shop/fn", {"text": "x" * 400_000}, id="o-1")
    assert len(local.client.result(run)["text"]) == 400_000


def test_an_encrypting_client_asks_for_one_run_too(deploy: Deploy) -> None:
    app = encrypted()
    app.function(on="go", id="fn")(lambda ctx: ctx.event.data["word"])
    local = deploy(app)
    runs = {local.client.invoke("shop/fn", {"order": "o-1", "word": word * 300_000}, id="a") for word in ("ab", "ab")}
    assert len(runs) == 1, "though the ciphertexts differ, and lie in S3"
    assert local.client.result(runs.pop()) == "ab" * 300_000


# ---- once the run has expired


def test_a_run_that_has_expired_before_its_checkpoints_is_followed_by_another(
    shop: Stepwell, deploy: Deploy, ran: list[Any]
) -> None:
    local = deploy(shop)
    first = local.client.invoke("shop/fn", {"order": "o-1"}, id="o-1")
    local.run_until_idle()
    expire(local, first, "RUN")
    second = local.client.invoke("shop/fn", {"order": "o-1"}, id="o-1")
    assert second != first
    assert local.client.invoke("shop/fn", {"order": "o-1"}, id="o-1") == second
    assert local.client.result(second) == {"order": "o-1"}
    assert len(ran) == 2


@pytest.mark.parametrize("id", ["", "x" * 300, 7])
def test_an_id_that_cannot_be_one_is_refused(shop: Stepwell, deploy: Deploy, id: Any) -> None:
    local = deploy(shop)
    with pytest.raises(InvalidEvent, match="id"):
        local.client.invoke("shop/fn", {}, id=id)
    assert local.requests.sqs == 0


# ---- among others


def test_it_stands_in_lists_and_pages_where_it_was_created(shop: Stepwell, deploy: Deploy) -> None:
    local, runs = deploy(shop), list[str]()
    for n in range(6):
        if n % 2:
            runs.append(local.client.invoke("shop/fn", {"order": "o-1"}, id=f"n-{n}"))
        else:
            event_id = local.send("go", {"order": "o-1"})
            local.run_until_idle()
            runs += [run.id for run in local.client.runs_of_event(event_id)]
        local.advance("1h")
    filters: list[dict[str, Any]] = [{}, {"tag": "order=o-1"}, {"where": "event.data.order == 'o-1'"}]
    for each in filters:
        assert [run.id for run in local.client.runs(**each)] == runs[::-1]
        assert [run.id for run in local.client.runs(since=timedelta(hours=2, minutes=30), **each)] == runs[:3:-1]
        pages, last = list[str](), None
        while page := [run.id for run in local.client.runs(before=last, limit=2, **each)]:
            pages += page
            last = page[-1]
        assert pages == runs[::-1]


def test_it_is_replayed_and_forked_like_any_other(shop: Stepwell, deploy: Deploy, ran: list[Any]) -> None:
    local = deploy(shop)
    run = local.client.invoke("shop/fn", {"order": "o-1"}, id="a")
    local.run_until_idle()
    again, fork = local.client.replay(run), local.client.fork(run, "note")
    assert local.client.result(again) == local.client.result(fork) == {"order": "o-1"}
    assert local.client.replay_all() == 1, "one event, however many runs it has had"
    local.run_until_idle()
    assert len(ran) == 4
