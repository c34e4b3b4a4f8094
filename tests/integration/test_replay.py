"""Replays: the same event and function once more, one by one and many at once."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from stepwell import Context, RunStatus, Stepwell, idempotency_key, step
from stepwell.errors import InvalidOption, NotReplayable, UnknownFunction
from stepwell.queue import Queue
from stepwell.testing import LocalStepwell

from .support import Deploy, expire, play, run_of


@step(compute="large")
def heavy(number: int) -> int:
    return number * 2


@pytest.fixture
def mended() -> dict[str, bool]:
    """What the shop's code can do; a bug is mended by setting it."""
    return {"works": False}


@pytest.fixture
def shop(app: Stepwell, mended: dict[str, bool]) -> Stepwell:
    """A function that fails until it is mended, and remembers the keys it has used."""

    @app.function(on="go", id="fn", retries=0)
    def fn(ctx: Context[Any]) -> list[str]:
        keys = [ctx.step.run("key", idempotency_key), ctx.step.run("event-key", idempotency_key, scope="event")]
        if not mended["works"]:
            raise ValueError("a bug")
        return keys

    app.function(on="other", id="other")(lambda ctx: "fine")
    return app


def failures(local: LocalStepwell, count: int) -> list[str]:
    """The events of so many runs that have failed, a minute apart."""
    events = []
    for n in range(count):
        events.append(local.send("go", {"n": n}))
        local.advance("1m")
    return events


# ---- one


def test_a_replay_does_everything_again_under_the_same_key_of_the_event(
    shop: Stepwell, deploy: Deploy, mended: dict[str, bool]
) -> None:
    mended["works"] = True
    local = deploy(shop)
    first = play(local)
    new = local.client.replay(first.id)
    local.run_until_idle()
    again = local.client.run(new)
    assert again.status == RunStatus.COMPLETED
    assert again.result[0] != first.result[0], "a run's own key"
    assert again.result[1] == first.result[1], "the event's key"
    assert (again.replay_of, again.fork_of, first.replay_of) == (first.id, None, None)
    assert run_of(local, first.event.id).id == first.id, "the original stays the run of the event"
    assert [event.id for event in local.client.events()] == [first.event.id]


def test_a_child_run_is_replayed_by_itself_and_a_step_in_a_worker_of_its_own_is_not(
    app: Stepwell, deploy: Deploy
) -> None:
    @app.function(on="never")
    def child(ctx: Context[Any]) -> int:
        return int(ctx.event.data["n"])

    @app.function(on="go")
    def parent(ctx: Context[Any]) -> list[int]:
        return [ctx.step.invoke(child, {"n": 7}), ctx.step.run(heavy, 4)]

    local = deploy(app)
    run = play(local)
    invoked, spread = (run.steps[key].child or "" for key in ("child", "heavy"))
    alone = local.client.replay(invoked)
    assert local.client.result(alone) == 7
    assert local.client.run(alone).parent_id is None
    with pytest.raises(NotReplayable, match=f"step 'heavy' of run {run.id}"):
        local.client.replay(spread)
    with pytest.raises(NotReplayable, match="heavy"):
        local.client.fork(spread, "heavy")


def test_a_run_of_a_function_that_is_gone_is_not_replayed(shop: Stepwell, deploy: Deploy) -> None:
    local = deploy(shop)
    run = play(local)
    manifest = shop.manifest()
    manifest["functions"] = manifest["functions"][1:]
    local._backstage._ports.store.apps.write(manifest, {"default": "arn"}, 1)
    for act in (lambda: local.client.replay(run.id), lambda: local.client.fork(run.id, "key")):
        with pytest.raises(UnknownFunction, match=r"no function shop/fn\. Registered: shop/other"):
            act()


# ---- many


def test_all_that_failed_is_replayed_at_once_and_counted(
    shop: Stepwell, deploy: Deploy, mended: dict[str, bool]
) -> None:
    local = deploy(shop)
    failures(local, 12)
    local.send("other")
    local.run_until_idle()
    mended["works"] = True
    assert local.client.count(status="failed") == 12
    assert local.client.replay_all(status="failed") == 12
    local.run_until_idle()
    assert local.client.count(status="completed", function="shop/fn") == 12
    assert local.client.count(function="shop/other") == 1


def test_repeating_a_bulk_replay_replays_nothing_twice(shop: Stepwell, deploy: Deploy, mended: dict[str, bool]) -> None:
    local = deploy(shop)
    failures(local, 3)
    assert local.client.replay_all(function="shop/fn") == 3
    assert local.client.replay_all(function="shop/fn") == 3, "asked for again: their messages are still on the way"
    local.run_until_idle()
    assert local.client.count(function="shop/fn") == 6
    assert local.client.replay_all(function="shop/fn") == 0, "neither the runs nor their replays"
    mended["works"] = True
    assert local.client.replay_all(function="shop/fn", operation="after the fix") == 3, "each event once"
    local.run_until_idle()
    assert local.client.count(function="shop/fn", status="completed") == 3


@pytest.mark.parametrize("cut", range(0, 26, 3))
def test_a_bulk_replay_that_is_cut_off_anywhere_is_completed_by_repeating_it(
    shop: Stepwell, deploy: Deploy, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    local = deploy(shop)
    events = failures(local, 12)
    calls = CutOff(local, cut)
    with monkeypatch.context() as patch:
        calls.install(patch)
        with suppress(ConnectionError):
            local.client.replay_all(status="failed")
    local.run_until_idle()
    local.client.replay_all(status="failed")
    local.run_until_idle()
    replayed = [run.event.id for run in local.client.runs(function="shop/fn") if run.replay_of]
    assert sorted(replayed) == sorted(events)


class CutOff:
    """Lets so many writes of the client through, and no more."""

    def __init__(self, local: LocalStepwell, allowed: int) -> None:
        self.allowed = allowed
        self.store = local.client._ports.store

    def install(self, patch: pytest.MonkeyPatch) -> None:
        put, send = self.store.table.put, Queue.send

        def counted(call: Any) -> Any:
            def made(*args: Any, **kwargs: Any) -> Any:
                if self.allowed == 0:
                    raise ConnectionError("cut off")
                self.allowed -= 1
                return call(*args, **kwargs)

            return made

        patch.setattr(self.store.table, "put", counted(put))
        patch.setattr(Queue, "send", counted(send))


def test_a_run_that_is_found_twice_is_asked_for_once(shop: Stepwell, deploy: Deploy) -> None:
    local = deploy(shop)
    failures(local, 1)
    [first] = local.client.runs()
    for _ in range(12):  # more than are asked for at once
        local.client.replay(first.id)
    local.advance("1m")
    assert local.client.count(status="failed") == 13
    assert local.client.replay_all(status="failed") == 1, "they all have one event"


@pytest.mark.parametrize("steps", [0, 1])
def test_an_event_is_not_replayed_again_once_its_replay_has_expired(app: Stepwell, deploy: Deploy, steps: int) -> None:
    began: list[str] = []

    @app.function(on="go", id="fn", retries=0)
    def fn(ctx: Context[Any]) -> None:
        for n in range(steps):
            ctx.step.run(f"step-{n}", lambda: None)
        began.append(ctx.run_id)
        raise ValueError("a bug")

    local = deploy(app)
    first = play(local)
    assert local.client.replay_all() == 1
    local.advance("20d")
    local.client.replay(first.id)
    local.advance("15d")
    assert len(began) == 3
    assert [run.id for run in local.client.runs()] == began[2:], (
        "the run and its replay have expired, that of day 20 has not"
    )
    assert local.client.replay_all() == 0, "its event was replayed for this operation"
    local.advance("1d")
    assert len(began) == 3
    assert local.client.replay_all(operation="another") == 1


def test_a_replay_that_is_not_there_is_told_by_what_it_has_left_even_if_the_clock_is_wrong(
    shop: Stepwell, deploy: Deploy
) -> None:
    local = deploy(shop)
    failures(local, 1)
    assert local.client.replay_all() == 1
    local.advance("1m")
    [replayed] = (run for run in local.client.runs() if run.replay_of)
    expire(local, replayed.id, "RUN")
    assert local.client.replay_all() == 0, "it would begin among its old checkpoints"


def test_an_operation_that_was_cut_off_is_completed_for_as_long_as_runs_are_kept(
    app: Stepwell, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.function(on="go", id="fn")(lambda ctx: ctx.step.sleep("rest", ctx.event.data["rest"]))
    local = deploy(app)
    event_id = local.send("go", {"rest": "80d"})
    local.run_until_idle()

    def broken(*_: Any) -> None:
        raise ConnectionError("cut off")

    def operation(name: str) -> int:
        return local.client.replay_all(event=event_id, status="suspended", operation=name)

    for name in ("a", "b"):
        with monkeypatch.context() as patch:
            patch.setattr(Queue, "send", broken)
            with suppress(ConnectionError):
                operation(name)
    local.advance("29d")
    assert operation("a") == 1
    local.advance("2d")
    assert operation("a") == 0
    assert operation("b") == 0, "noted, and perhaps expired: it counts as replayed"
    assert local.client.count() == 2
    local.advance("28d")
    assert operation("b") == 0, "remembered for two months"
    local.advance("2d")
    assert operation("b") == 1


@pytest.fixture
def family(app: Stepwell) -> tuple[Stepwell, list[str]]:
    """A function whose run starts others in every way there is, and fails; and the bodies that began, in order."""
    began: list[str] = []

    @app.function(on="never")
    def child(ctx: Context[Any]) -> None:
        ctx.step.run("note", lambda: began.append(f"child {ctx.event.data['n']}"))

    @app.function(on="go", id="parent", retries=0, on_failure=lambda ctx: began.append("handler"))
    def parent(ctx: Context[Any]) -> None:
        ctx.step.run("begin", lambda: began.append("parent"))
        ctx.step.invoke(child, {"n": 1})
        ctx.step.invoke(child, {"n": 2}, id="apart", detached=True)
        ctx.step.run(heavy, 4)
        raise ValueError("no")

    return app, began


def test_what_runs_have_started_is_left_to_them(family: tuple[Stepwell, list[str]], deploy: Deploy) -> None:
    app, began = family
    local = deploy(app)
    play(local)
    assert sorted(began) == ["child 1", "child 2", "handler", "parent"]
    assert local.client.count() == 4, "the step in a worker of its own is told by its parent"
    began.clear()
    assert local.client.replay_all() == 1
    local.run_until_idle()
    assert sorted(began) == ["child 1", "child 2", "handler", "parent"], "each once"
    assert local.client.replay_all(function="shop/child", operation="again") == 0
    assert local.client.replay_all(function="shop/parent.on-failure", operation="again") == 0


def test_what_a_run_has_started_is_replayed_and_forked_by_itself_and_that_is_left_to_it_as_well(
    family: tuple[Stepwell, list[str]], deploy: Deploy
) -> None:
    app, began = family
    local = deploy(app)
    play(local)
    started = [run for run in local.client.runs() if run.function != "parent"]
    began.clear()
    for run in started:
        again = local.client.replay(run.id)
        local.run_until_idle()
        local.client.replay(again)
        if run.function == "child":
            local.client.fork(run.id, "note")
        local.run_until_idle()
    assert sorted(began) == sorted(2 * ["child 1", "child 2", "handler"] + ["child 1", "child 2"])
    began.clear()
    assert local.client.replay_all() == 1
    local.run_until_idle()
    assert sorted(began) == ["child 1", "child 2", "handler", "parent"]


def test_that_a_run_started_it_costs_the_run_of_an_event_no_byte(
    family: tuple[Stepwell, list[str]], deploy: Deploy
) -> None:
    local = deploy(family[0])
    play(local)
    runs = [image.plain() for (pk, sk), image in local.world.table.items() if pk.startswith("RUN#") and sk == "RUN"]
    marked = sorted(item["function"] for item in runs if "child" in item)
    assert marked == ["child", "parent.on-failure"], "the detached one; whom a parent waits for has that in its item"
    assert len(runs) == 5


def test_runs_that_live_are_replayed_only_when_asked_for(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go", id="fn")(lambda ctx: ctx.step.sleep("rest", "1h"))
    local = deploy(app)
    play(local)
    assert local.client.replay_all() == 0
    assert local.client.replay_all(status="suspended") == 1


def test_an_operation_needs_a_name(shop: Stepwell, deploy: Deploy) -> None:
    with pytest.raises(InvalidOption, match="operation"):
        deploy(shop).client.replay_all(operation="")


def test_a_misspelt_filter_is_no_filter_for_everything(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go", id="fn")(lambda ctx: ctx.step.sleep("rest", "1d"))
    local = deploy(app)
    play(local)
    for act in (local.client.cancel_all, local.client.replay_all, local.client.count, local.client.runs):
        with pytest.raises(TypeError, match="no filter functoin; there are function, status"):
            act(functoin="shop/other")
    assert local.client.count(status="suspended") == 1


def test_all_live_runs_of_a_filter_are_cancelled_and_counted(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go", id="fn")(lambda ctx: ctx.step.sleep("rest", "1d"))
    app.function(on="go", id="quick")(lambda ctx: None)
    local = deploy(app)
    for _ in range(3):
        local.send("go")
        local.advance("1h")
    hour_ago = local.now() - timedelta(minutes=90)
    assert local.client.cancel_all(function="shop/quick") == 0
    assert local.client.cancel_all(since=hour_ago) == 1
    assert local.client.cancel_all() == 2
    assert local.client.cancel_all() == 0
    local.run_until_idle()
    assert local.client.count(status="cancelled") == 3
    assert local.client.count(status="completed") == 3
