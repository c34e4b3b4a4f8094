"""The client's lists: runs by function, state and time; events; the runs of an event."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest

from stepwell import Context, RunStatus, Stepwell
from stepwell.errors import InvalidOption, UnknownFunction
from stepwell.testing import LocalStepwell

from .support import Deploy, run_of


@pytest.fixture
def local(app: Stepwell, deploy: Deploy) -> LocalStepwell:
    """A world with runs of two functions in all states, over four days."""

    @app.function(on="go", id="one", retries=0)
    def one(ctx: Context[Any]) -> None:
        if ctx.event.data["do"] == "fail":
            raise ValueError("no")
        if ctx.event.data["do"] == "sleep":
            ctx.step.sleep("rest", "30d")

    app.function(on=["go", "other"], id="two")(lambda ctx: None)
    local = deploy(app)
    for day, do in enumerate(("complete", "fail", "sleep", "cancel")):
        event_id = local.send("go", {"do": "sleep" if do == "cancel" else do, "day": day})
        local.run_until_idle()
        if do == "cancel":
            local.client.cancel(run_of(local, event_id, "one").id)
        local.advance("1d")
    return local


def days(runs: Any) -> list[int]:
    return [run.event.data["day"] for run in runs]


def test_runs_are_listed_newest_first(local: LocalStepwell) -> None:
    runs = list(local.client.runs())
    assert days(runs) == [3, 3, 2, 2, 1, 1, 0, 0]
    assert days(local.client.runs(limit=3)) == [3, 3, 2]
    assert {run.function for run in runs} == {"one", "two"}


def test_runs_of_one_function(local: LocalStepwell) -> None:
    assert days(local.client.runs(function="shop/one")) == [3, 2, 1, 0]
    with pytest.raises(UnknownFunction, match="shop/one, shop/two"):
        list(local.client.runs(function="shop/gone"))


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("completed", [0]),
        (RunStatus.FAILED, [1]),
        ("suspended", [2]),
        ("cancelled", [3]),
        (["failed", RunStatus.SUSPENDED], [2, 1]),
        ("skipped", []),
    ],
)
def test_runs_in_some_states(local: LocalStepwell, status: Any, expected: list[int]) -> None:
    assert days(local.client.runs(function="shop/one", status=status)) == expected


def test_a_state_that_does_not_exist_is_refused_naming_those_that_do(local: LocalStepwell) -> None:
    with pytest.raises(InvalidOption, match="no status 'done'; there are scheduled, queued"):
        list(local.client.runs(status="done"))


def test_runs_of_some_time(local: LocalStepwell) -> None:
    begin = local.now() - timedelta(days=4)
    assert days(local.client.runs(function="shop/one", since=begin + timedelta(hours=1))) == [3, 2, 1]
    assert days(local.client.runs(function="shop/one", until=begin + timedelta(days=1, hours=1))) == [1, 0]
    span = {"since": begin + timedelta(hours=23), "until": begin + timedelta(days=2, hours=1)}
    assert days(local.client.runs(function="shop/one", **span)) == [2, 1]


def test_a_naive_time_is_utc_and_a_timedelta_is_that_long_ago(
    local: LocalStepwell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        begin = local.now() - timedelta(days=3, hours=1)
        for since in (begin, begin.replace(tzinfo=None), timedelta(days=3, hours=1)):
            assert days(local.client.runs(function="shop/one", since=since)) == [3, 2, 1]
            assert days(local.client.runs(function="shop/one", until=since)) == [0]
            assert len(list(local.client.events(since=since))) == 3
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("filters", "says"),
    [
        ({"since": "1h"}, "`since` is a datetime .* got '1h'"),
        ({"until": 5}, "`until` is a datetime .* got 5"),
        ({"limit": -1}, "`limit` is a number from 0, .* got -1"),
        ({"limit": "5"}, "`limit` is a number from 0, .* got '5'"),
        ({"status": 5}, "no status 5; there are scheduled"),
        ({"tag": 5}, '"name=value", .* got 5'),
        ({"tag": "order"}, "got 'order'"),
        ({"before": 5}, "the id of a run, .* got 5"),
        ({"function": 42}, "declared with @app.function, .* got 42"),
        ({"function": days}, "declared with @app.function, .* got <function days"),
    ],
)
def test_a_filter_of_the_wrong_type_is_refused_at_once(
    local: LocalStepwell, filters: dict[str, Any], says: str
) -> None:
    for read in (local.client.runs, local.client.count, local.client.cancel_all, local.client.replay_all):
        with pytest.raises(InvalidOption, match=says):
            read(**filters)


@pytest.mark.parametrize("filters", [{"since": "x"}, {"until": 5}, {"limit": -1}])
def test_a_filter_of_the_wrong_type_for_events_is_refused_at_once(
    local: LocalStepwell, filters: dict[str, Any]
) -> None:
    with pytest.raises(InvalidOption, match=next(iter(filters))):
        local.client.events(**filters)


def test_a_function_without_its_app_is_refused_saying_how_it_is_written(local: LocalStepwell) -> None:
    with pytest.raises(
        UnknownFunction, match=r"""no function 'one'; it is written as "app/function-id"\. Reg.*shop/one"""
    ):
        local.client.runs(function="one")


def test_a_declared_function_can_be_paused_and_resumed(app: Stepwell, local: LocalStepwell) -> None:
    one = app.functions["one"]
    local.client.pause(one)
    event_id = local.send("go", {"do": "complete", "day": 9})
    local.run_until_idle()
    assert not run_of(local, event_id, "one").status.is_terminal
    local.client.resume(one)
    local.run_until_idle()
    assert run_of(local, event_id, "one").status is RunStatus.COMPLETED
    with pytest.raises(InvalidOption, match=r"declared with @app\.function"):
        local.client.pause(days)


@pytest.mark.parametrize("status", [None, ["completed", "failed"]])
def test_pages_of_runs_meet_without_a_gap_or_a_double(local: LocalStepwell, status: Any) -> None:
    whole = [run.id for run in local.client.runs(status=status)]
    pages, last = [], None
    while page := [run.id for run in local.client.runs(status=status, before=last, limit=1)]:
        pages += page
        last = page[-1]
    assert pages == whole
    assert len(whole) > 3


def test_runs_of_one_age_in_two_apps_are_on_one_page_each(deploy: Deploy) -> None:
    apps = [Stepwell("aa"), Stepwell("bb")]
    for app in apps:
        app.function(on="go", id="fn")(lambda ctx: None)
    local = deploy(*apps)
    for _ in range(2):
        local.send("go")
        local.run_until_idle()
    pages: list[str] = []
    while page := [run.id for run in local.client.runs(before=pages[-1] if pages else None, limit=1)]:
        pages += page
    assert pages == [run.id for run in local.client.runs()]
    assert len(pages) == 4


def test_a_page_before_something_that_is_no_run_is_refused(local: LocalStepwell) -> None:
    with pytest.raises(InvalidOption, match="id of a run, the last of a page; got 'page 2'"):
        list(local.client.runs(before="page 2"))


def test_the_runs_of_an_event_in_any_state(local: LocalStepwell) -> None:
    event_id = local.send("go", {"do": "complete", "day": 9})
    assert local.client.runs_of_event(event_id) == []
    local.run_until_idle()
    assert {run.function: run.status.value for run in local.client.runs_of_event(event_id)} == {
        "one": "completed",
        "two": "completed",
    }
    assert local.client.runs_of_event("evt_01KDVDNA007C8AARAGDHXZEC8K") == []
    assert local.client.runs_of_event("never sent") == []


def test_events_are_listed_once_each_newest_first_whatever_they_started(local: LocalStepwell) -> None:
    local.send("nobody/listens", {"n": 1})
    local.advance("1m")
    local.send("other", {"n": 2})
    local.advance("1m")
    local.send("other", {"n": 3}, id="mine")
    local.run_until_idle()
    assert [event.name for event in local.client.events()] == [
        "other", "other", "nobody/listens", "go", "go", "go", "go",
    ]  # fmt: skip
    assert [event.data["n"] for event in local.client.events(name="other")] == [3, 2]
    assert [event.id for event in local.client.events(limit=1)] == ["mine"]
    since = local.now() - timedelta(minutes=2)
    assert [event.data["n"] for event in local.client.events(since=since)] == [3, 2, 1]


def test_children_are_found_by_their_parents_and_functions(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="never")
    def child(ctx: Context[Any]) -> None: ...

    @app.function(on="go")
    def parent(ctx: Context[Any]) -> None:
        ctx.step.invoke(child)

    local = deploy(app)
    event_id = local.send("go")
    local.run_until_idle()
    (run,) = local.client.runs(function="shop/child")
    assert run.parent_id == run_of(local, event_id).id
    assert [event.name for event in local.client.events()] == ["go"]
