"""Tags: runs found by business keys."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest

from stepwell import Context, RunStatus, Stepwell
from stepwell.errors import InvalidOption
from stepwell.testing import LocalStepwell
from stepwell.testing.observations import Wrote

from .support import Deploy, play, run_of

TAGS = {"order": "event.data.order", "large": "event.data.amount > 100", "amount": "event.data.amount"}


@pytest.fixture
def shop(app: Stepwell) -> Stepwell:
    """An app that tags its runs by what they are about."""

    @app.function(on="go", id="fn", tags=TAGS)
    def fn(ctx: Context[Any]) -> None:
        if "sleep" in ctx.event.data:
            ctx.step.sleep("rest", ctx.event.data["sleep"])

    app.function(on="go", id="other", tags={"order": "event.data.order"})(lambda ctx: None)
    app.function(on="go", id="untagged")(lambda ctx: None)
    return app


def order(local: LocalStepwell, name: str, amount: int = 5, **more: Any) -> str:
    event_id = local.send("go", {"order": name, "amount": amount, **more})
    local.advance("1m")
    return run_of(local, event_id, "fn").id


def test_runs_are_found_by_the_values_of_their_tags(shop: Stepwell, deploy: Deploy) -> None:
    local = deploy(shop)
    first, second = order(local, "o-1"), order(local, "o-2", amount=500)
    assert dict(local.client.run(second).tags) == {"order": "o-2", "large": "true", "amount": "500"}
    found = list(local.client.runs(tag="order=o-1"))
    assert {run.function for run in found} == {"fn", "other"}
    assert [run.id for run in local.client.runs(tag="order=o-1", function="shop/fn")] == [first]
    assert [run.id for run in local.client.runs(tag="large=true")] == [second]
    assert [run.id for run in local.client.runs(tag="amount=5")] == [first]
    assert list(local.client.runs(tag="order=o-3")) == []
    assert local.client.count(tag="order=o-2") == 2


def test_a_tag_goes_together_with_the_other_filters_and_newest_come_first(shop: Stepwell, deploy: Deploy) -> None:
    local = deploy(shop)
    done, asleep, newest = order(local, "o-1"), order(local, "o-1", sleep="1d"), order(local, "o-1")

    def found(**filters: Any) -> list[str]:
        return [run.id for run in local.client.runs(tag="order=o-1", function="shop/fn", **filters)]

    assert found() == [newest, asleep, done]
    assert found(limit=2) == [newest, asleep]
    assert found(before=newest, limit=1) == [asleep]
    assert found(status="suspended") == [asleep]
    assert found(since=local.now() - timedelta(seconds=90)) == [newest]
    assert found(until=local.now() - timedelta(seconds=90)) == [asleep, done]
    assert local.client.cancel_all(tag="order=o-1") == 1
    assert local.client.replay_all(tag="order=o-1", function="shop/fn") == 3


def test_finding_by_tag_is_one_query_and_one_read_of_the_runs(shop: Stepwell, deploy: Deploy) -> None:
    local = deploy(shop)
    order(local, "o-1")
    list(local.client.runs(tag="order=o-1"))  # the registered apps are known from here on
    before = local.requests
    assert len(list(local.client.runs(tag="order=o-1"))) == 2
    calls = (local.requests - before).calls
    assert (calls["dynamodb.Query"], calls["dynamodb.BatchGetItem"]) == (1, 2), "one looks whether apps have changed"


def test_a_tag_costs_one_write_unit_and_none_costs_nothing(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go", id="fn", tags={"a": "event.data.a", "b": "event.data.b"})(lambda ctx: None)
    app.function(on="plain", id="plain")(lambda ctx: None)
    local = deploy(app)
    spent = []
    for name in ("go", "plain") * 2:
        before = local.requests
        play(local, {"a": 1, "b": 2}, event=name)
        spent.append((local.requests - before).write_units)
    assert spent[2] - spent[3] == 2


@pytest.mark.parametrize(
    ("data", "missing"),
    [({"amount": 5}, "order"), ({"order": ["o-1"], "amount": 5}, "order"), ({"order": None, "amount": 5}, "order"),
     ({"order": "x" * 300, "amount": 5}, "order"), ({"order": "", "amount": 5}, "order")],
)  # fmt: skip
def test_a_tag_that_cannot_be_had_is_left_out_with_its_reason(
    app: Stepwell, deploy: Deploy, caplog: pytest.LogCaptureFixture, data: dict[str, Any], missing: str
) -> None:
    app.function(on="go", id="fn", tags={"order": "event.data.order", "amount": "event.data.amount"})(lambda ctx: 1)
    local = deploy(app)
    with caplog.at_level(logging.WARNING, "stepwell"):
        run = play(local, data)
    assert run.status == RunStatus.COMPLETED
    assert dict(run.tags) == {"amount": "5"}
    assert f"run {run.id} has no tag {missing}: event.data.{missing}: " in caplog.text


def test_forks_and_replays_have_the_tags_of_their_own_event(shop: Stepwell, deploy: Deploy) -> None:
    local = deploy(shop)
    first = order(local, "o-1", sleep="1s")
    local.client.replay(first)
    local.client.fork(first, "rest", input={"order": "o-9", "amount": 1})
    local.advance("1m")
    assert local.client.count(tag="order=o-1", function="shop/fn") == 2
    assert local.client.count(tag="order=o-9", function="shop/fn") == 1


def test_children_are_tagged_and_failure_handlers_are_not(app: Stepwell, deploy: Deploy) -> None:
    child = app.function(on="never", id="child", tags={"n": "event.data.n"})(lambda ctx: 1)

    @app.function(on="go", id="parent", retries=0, tags={"n": "event.data.n"}, on_failure=lambda ctx: None)
    def parent(ctx: Context[Any]) -> None:
        ctx.step.invoke(child, {"n": 8})
        raise ValueError("no")

    local = deploy(app)
    play(local, {"n": 7})
    assert [run.function for run in local.client.runs(tag="n=8")] == ["child"]
    assert [run.function for run in local.client.runs(tag="n=7")] == ["parent"]
    assert local.client.count(function="shop/parent.on-failure") == 1


@pytest.mark.parametrize("rests", [["200d"], ["10d"] * 20, ["1d", "65d", "2d", "300d"], ["45d", "45d"]])
def test_the_tags_of_a_run_outlive_it_however_long_it_takes(app: Stepwell, deploy: Deploy, rests: list[str]) -> None:
    @app.function(on="go", id="fn", tags={"order": "event.data.order"})
    def fn(ctx: Context[Any]) -> None:
        for n, rest in enumerate(rests):
            ctx.step.sleep(f"rest-{n}", rest)

    local = deploy(app)
    event_id = local.send("go", {"order": "o-1"})
    local.run_until_idle()
    while run_of(local, event_id).status.is_terminal is False:
        assert lasts(local) > local.now().timestamp(), "found for as long as it lives"
        local.advance("5d")
    ended = run_of(local, event_id).ended_at
    assert ended is not None
    assert lasts(local) >= ended.timestamp() + 30 * 86_400, "and for as long as it is kept"
    months = (ended - run_of(local, event_id).created_at).days // 30
    assert len(writes_of_tags(local)) <= 1 + months, "at most once a month"


def writes_of_tags(local: LocalStepwell) -> list[Wrote]:
    return [write for write in local.world.observations.of(Wrote) if write.pk.startswith("TAG#")]


def lasts(local: LocalStepwell) -> int:
    """When the newest filing of the tag may be removed, epoch seconds."""
    last = writes_of_tags(local)[-1].after
    assert last is not None
    return int(last.plain()["ttl"])


def test_a_duplicate_of_its_event_does_not_shorten_the_tag_of_a_run_that_rests_for_long(
    app: Stepwell, deploy: Deploy
) -> None:
    app.function(on="go", id="fn", tags={"order": "event.data.order"})(lambda ctx: ctx.step.sleep("rest", "300d"))
    local = deploy(app)
    for _ in range(2):
        local.send("go", {"order": "o-1"}, id="mine")
        local.advance("10d")
    assert local.client.count(tag="order=o-1") == 1
    assert lasts(local) > local.now().timestamp() + 300 * 86_400


def test_a_run_that_is_to_begin_much_later_is_found_until_then(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go", id="fn", tags={"order": "event.data.order"})(lambda ctx: 1)
    local = deploy(app)
    when = local.now() + timedelta(days=300)
    local.send("go", {"order": "o-1"}, ts=when)
    local.run_until_idle()
    assert [run.status for run in local.client.runs(tag="order=o-1")] == [RunStatus.SCHEDULED]
    assert lasts(local) > when.timestamp() + 30 * 86_400


def test_a_tag_without_its_run_is_passed_over(shop: Stepwell, deploy: Deploy) -> None:
    local = deploy(shop)
    run = order(local, "o-1")
    tags = local.client._ports.store.tags
    tags.file("shop", "shop." + "0" * 26, {"order": "o-1"}, ttl=1)
    tags.file("shop", run, {"order": "o-2"}, ttl=1)
    assert local.client.count(tag="order=o-1") == 2
    assert local.client.count(tag="order=o-2") == 0, "a run is what it says itself"


@pytest.mark.parametrize("tag", ["order", "=o-1", ""])
def test_a_tag_is_asked_for_by_name_and_value(shop: Stepwell, deploy: Deploy, tag: str) -> None:
    with pytest.raises(InvalidOption, match="name=value"):
        list(deploy(shop).client.runs(tag=tag))


@pytest.mark.parametrize(
    ("tags", "says"),
    [
        ("order", "names and expressions"),
        ({"": "event.id"}, "tag's name"),
        ({"a=b": "event.id"}, "tag's name"),
        ({"order": "event.data."}, "tag order"),
        ({"order": 5}, "tag order"),
        ({f"t{n}": "event.id" for n in range(11)}, "at most 10"),
    ],
)
def test_tags_that_make_no_sense_are_refused_where_they_are_written(tags: Any, says: str) -> None:
    with pytest.raises(InvalidOption, match=says):
        Stepwell("shop").function(on="go", id="fn", tags=tags)(lambda ctx: None)
