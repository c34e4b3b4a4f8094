"""The client's lists: runs by function, state and time; events; the runs of an event."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest

from stepwell import Batch, Context, Debounce, RunStatus, Stepwell, step
from stepwell.errors import InvalidOption, UnknownFunction
from stepwell.store import runs as store_runs
from stepwell.store.table import Table
from stepwell.testing import LocalStepwell

from .support import Deploy, expire, play, redeploy, run_of


@step(compute="large")
def heavy(number: int) -> int:
    return number


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
        ({"event": 5}, "the id of an event, .* got 5"),
        ({"event": ""}, "the id of an event, .* got ''"),
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


@pytest.mark.parametrize("filters", [{"since": "x"}, {"until": 5}, {"limit": -1}, {"where": "event."}])
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
        ctx.step.invoke(child, id="apart", detached=True)

    local = deploy(app)
    event_id = local.send("go")
    local.run_until_idle()
    runs = list(local.client.runs(function="shop/child"))
    assert {run.parent_id for run in runs} == {run_of(local, event_id).id, None}
    assert [event.name for event in local.client.events()] == ["go"], "neither of them has an event of its own"


# ---- what has to be found


def test_a_live_run_is_found_however_old_it_is(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", id="fn")
    def fn(ctx: Context[Any]) -> None:
        for n in range(3):
            ctx.step.sleep(f"rest-{n}", "300d")

    local = deploy(app)
    event_id = local.send("go")
    local.advance("700d")
    for filters in ({}, {"status": "suspended"}, {"function": "shop/fn"}, {"since": timedelta(days=701)}):
        assert [run.event.id for run in local.client.runs(**filters)] == [event_id]  # type: ignore[arg-type]
    assert local.client.count(since=timedelta(days=699)) == 0
    assert [event.id for event in local.client.events()] == [event_id]
    assert local.client.cancel_all() == 1


def test_the_runs_of_a_function_that_is_gone_are_found_by_its_name(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go", id="old")(lambda ctx: ctx.step.sleep("rest", ctx.event.data["rest"]))
    app.function(on="other", id="new")(lambda ctx: None)
    local = deploy(app)
    for rest in ("1s", "30d", "30d"):
        local.send("go", {"rest": rest})
    local.advance("1m")
    app.functions.pop("old")
    redeploy(local, app)
    assert local.client.count(function="shop/old") == 3
    assert local.client.count(function="shop/old", status="completed") == 1
    assert local.client.count(function="shop/old", where="event.data.rest == '30d'") == 2
    assert local.client.cancel_all(function="shop/old") == 2
    assert local.client.replay_all(function="shop/old") == 0, "nothing would run it"
    local.run_until_idle()
    assert local.client.count(function="shop/old", status="cancelled") == 2


def test_the_live_runs_of_an_app_that_is_gone_are_found_too(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go", id="fn", tags={"n": "event.data.n"})(
        lambda ctx: ctx.step.sleep("rest", ctx.event.data["rest"])
    )
    local = deploy(app)
    for n, rest in enumerate(("1s", "30d")):
        local.send("go", {"n": n, "rest": rest})
    local.advance("1m")
    redeploy(local, app, "Delete")
    assert [run.status for run in local.client.runs()] == [RunStatus.SUSPENDED]
    assert local.client.count(function="shop/fn") == 2
    assert local.client.count(function="shop/fn", tag="n=1") == 1
    assert local.client.cancel_all() == 1


@pytest.mark.parametrize("name", ["shop/gone", "gone/one", "shop/", "one"])
def test_a_name_that_neither_is_registered_nor_has_runs_is_refused_at_once(local: LocalStepwell, name: str) -> None:
    for read in (local.client.runs, local.client.count, local.client.cancel_all, local.client.replay_all):
        with pytest.raises(UnknownFunction, match=r"There is no function .*Registered: shop/one, shop/two\."):
            read(function=name)


def test_a_step_in_a_worker_of_its_own_is_no_function(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go", id="fn")(lambda ctx: ctx.step.run(heavy, 1))
    local = deploy(app)
    run = play(local)
    child = run.steps["heavy"].child
    assert local.client.run(str(child)).function == "fn.heavy"
    assert [each.id for each in local.client.runs()] == [run.id]
    with pytest.raises(UnknownFunction, match=r"no function shop/fn\.heavy"):
        local.client.runs(function="shop/fn.heavy")


# ---- by event


def test_the_runs_of_an_event_are_found_together_with_the_other_filters(local: LocalStepwell) -> None:
    event_id = local.send("go", {"do": "fail", "day": 9})
    local.run_until_idle()
    local.send("go", {"do": "fail", "day": 10})
    local.run_until_idle()

    def found(**filters: Any) -> list[str]:
        return [run.function for run in local.client.runs(event=event_id, **filters)]

    assert sorted(found()) == ["one", "two"]
    assert found(status="failed") == ["one"]
    assert found(function="shop/two") == ["two"]
    assert found(since=timedelta(0), until=timedelta(days=1)) == []
    assert found(tag="order=o-1") == []
    first, second = (run.id for run in local.client.runs(event=event_id))
    assert [run.id for run in local.client.runs(event=event_id, before=first)] == [second]
    assert len(found(limit=1)) == 1
    assert local.client.count(event="never sent") == 0
    assert local.client.replay_all(event=event_id, status="failed") == 1


# ---- runs that have just ended


def test_a_run_that_has_ended_is_listed_so_before_it_has_told_anybody(local: LocalStepwell) -> None:
    [asleep] = local.client.runs(status="suspended")
    assert local.client.cancel(asleep.id)
    lists: list[dict[str, Any]] = [{"status": "cancelled"}, {"status": ["cancelled", "failed"]}, {}]
    for of in (lists, [{**filters, "function": "shop/one"} for filters in lists]):
        assert all(asleep.id in {run.id for run in local.client.runs(**filters)} for filters in of)
    assert local.client.count(status="suspended") == 0
    assert local.client.count(status="cancelled") == 2
    local.run_until_idle()
    assert local.client.count(status="cancelled") == 2


def test_a_list_of_runs_that_have_ended_reads_nothing_of_those_that_live(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go", id="fn")(lambda ctx: ctx.step.sleep("rest", "30d"))
    local = deploy(app)
    local.client.send([{"name": "go", "data": {"n": n}} for n in range(600)])
    local.run_until_idle()
    spent = {}
    for status in ("cancelled", "suspended"):
        assert local.client.count(status=status, limit=1) == (status == "suspended")
        before = local.requests
        list(local.client.runs(status=status, limit=1))
        spent[status] = (local.requests - before).read_units
    assert spent["cancelled"] < spent["suspended"] / 2
    assert spent["cancelled"] <= (4 + 8) * 0.5 + 1, "twelve empty queries; one looks whether apps have changed"


def test_a_run_that_moves_to_the_front_while_a_long_index_is_read_is_not_missed(
    app: Stepwell, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.function(on="go", id="fn")(lambda ctx: ctx.step.invoke("resting", {}))
    app.function(on="never", id="resting")(lambda ctx: ctx.step.sleep("rest", "30d"))
    local = deploy(app)
    for _ in range(30):
        local.send("go")
    local.run_until_idle()
    runs = [run.id for run in local.client.runs(function="shop/fn")]
    moved, query = list[str](), Table.query_index

    def paged(table: Table, pk: str, **options: Any) -> Any:
        """Pages of two keys each. After the first of a shard, the last run in it ends, and stands before it then."""
        if not pk.startswith("DUE#"):
            return (yield from query(table, pk, **options))
        standing = [key["pk"].removeprefix("RUN#") for key in query(table, pk)]
        for n, key in enumerate(query(table, pk, **options, first_page=2)):
            if n == 1 and len(standing) > 2 and not moved and standing[-1] in runs:
                moved.append(standing[-1])
                local.client.cancel(standing[-1])
            yield key

    monkeypatch.setattr(Table, "query_index", paged)
    monkeypatch.setattr(store_runs, "LONG", 2)
    assert [run.id for run in local.client.runs(function="shop/fn")] == runs
    assert len(moved) == 1


# ---- batches and what else never ran by itself


@pytest.fixture
def batches(app: Stepwell, deploy: Deploy) -> LocalStepwell:
    """A world with batches of three orders, tagged by order and by whether it is odd, each ten minutes after the other."""
    tags = {"order": "event.data.o", "odd": "event.data.o % 2 == 1"}
    app.function(on="go", id="fn", batch=Batch(3, "1h"), tags=tags)(lambda ctx: [e.data["o"] for e in ctx.events])
    local = deploy(app)
    for o in range(9):
        local.send("go", {"o": o}, id=f"e-{o}")
        local.advance("10m")
    return local


def orders(runs: Any) -> list[list[int]]:
    return [run.result for run in runs]


BATCHES = [[6, 7, 8], [3, 4, 5], [0, 1, 2]]


def test_the_run_of_a_batch_stands_for_each_of_its_events(batches: LocalStepwell) -> None:
    client = batches.client
    assert orders(client.runs()) == BATCHES
    assert orders(client.runs(function="shop/fn", status=list(RunStatus))) == BATCHES
    for o in range(9):
        [run] = client.runs(tag=f"order={o}")
        assert run.result == BATCHES[2 - o // 3]
        assert [each.id for each in client.runs(event=f"e-{o}")] == [run.id]
        assert [each.id for each in client.runs_of_event(f"e-{o}")] == [run.id]
    assert orders(client.runs(tag="odd=true")) == orders(client.runs(tag="odd=false")) == BATCHES, "once each"
    assert client.count(tag="order=1", event="e-2") == 0, "another event of the same batch has that tag"
    assert client.count(tag="order=2", event="e-2", status="completed") == 1
    assert (client.count(), client.count(status="skipped")) == (3, 0)
    assert [event.data["o"] for event in client.events()] == list(range(8, -1, -1)), "the events are there, one by one"


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("filters", [{}, {"tag": "odd=true"}, {"tag": "odd=false"}, {"where": "event.data.o % 3 == 2"}])
def test_pages_of_batches_meet_without_a_gap_or_a_double(
    batches: LocalStepwell, filters: dict[str, Any], size: int
) -> None:
    pages, last = list[Any](), None
    while page := list(batches.client.runs(before=last, limit=size, **filters)):
        pages += orders(page)
        last = page[-1].id
    assert pages == BATCHES


def test_a_batch_is_found_under_the_time_of_its_own_run(batches: LocalStepwell) -> None:
    of_5 = timedelta(minutes=35)  # event 5 came 40 minutes ago, the first of its batch an hour ago
    assert orders(batches.client.runs(tag="order=5", since=of_5)) == []
    assert orders(batches.client.runs(tag="order=5", until=of_5)) == [[3, 4, 5]]
    assert orders(batches.client.runs(tag="order=5", until=timedelta(minutes=55))) == [[3, 4, 5]]


def test_an_event_of_a_batch_is_replayed_with_its_batch_or_by_itself(batches: LocalStepwell) -> None:
    client = batches.client
    assert client.replay_all(status="skipped") == 0
    assert client.replay_all(tag="odd=true") == 3
    batches.run_until_idle()
    assert sorted(orders(run for run in client.runs() if run.replay_of)) == BATCHES[::-1]
    [member] = [
        pk[4:] for (pk, sk), item in batches.world.table.items() if sk == "RUN" and item.plain()["event_id"] == "e-4"
    ]
    shown = client.run(member)
    assert (shown.status, str(shown.reason)[:26]) == (RunStatus.SKIPPED, "batch: taken along by run ")
    assert client.result(client.replay(member)) == [4]


def test_a_batch_that_has_expired_leaves_none_of_its_events_behind(batches: LocalStepwell) -> None:
    [run] = batches.client.runs(tag="order=5")
    expire(batches, run.id, "RUN")
    assert list(batches.client.runs(tag="order=5")) == []
    assert list(batches.client.runs(event="e-5")) == []


def test_a_debounced_event_and_a_refused_one_are_listed_as_skipped(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go", id="late", debounce=Debounce("10s"))(lambda ctx: None)
    app.function(on="go", id="once", idempotency="event.name")(lambda ctx: None)
    local = deploy(app)
    for n in range(2):
        local.send("go", {"n": n})
        local.run_until_idle()
    local.advance("1m")
    found = {(run.function, run.event.data["n"]) for run in local.client.runs(status="skipped")}
    assert found == {("late", 0), ("once", 1)}


# ---- what a list costs


@pytest.mark.parametrize("months", [0, 11])
def test_a_list_asks_for_no_more_the_older_the_deployment_is(app: Stepwell, deploy: Deploy, months: int) -> None:
    for n in range(20):
        app.function(on="go" if n == 0 else "never", id=f"f{n}", retries=0)(lambda ctx: 1 / 0)
    local = deploy(app)
    local.advance(f"{30 * months}d")
    for filters, found, queries in (
        ({"status": "failed", "limit": 10}, 0, 20 * 4 + 8),
        ({"status": ["failed", "cancelled"]}, 0, 20 * 4 * 2 + 8),
        ({"status": "failed", "function": "shop/f0"}, 0, 4 + 8),
        ({"limit": 10}, 0, 20 * 4 * 4 + 8),
    ):
        list(local.client.runs(**filters))  # type: ignore[arg-type]  # the registered apps are known from here on
        before = local.requests
        assert len(list(local.client.runs(**filters))) == found  # type: ignore[arg-type]
        assert (local.requests - before).calls["dynamodb.Query"] <= queries


def test_the_newest_few_of_many_cost_few_requests(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go", id="fn")(lambda ctx: None)
    local = deploy(app)
    local.client.send([{"name": "go", "data": {"n": n}} for n in range(300)])
    local.run_until_idle()
    list(local.client.runs(limit=1))
    before = local.requests
    assert len(list(local.client.runs(limit=10))) == 10
    spent = local.requests - before
    assert spent.calls["dynamodb.Query"] <= 4 * 4 + 8
    assert spent.calls["dynamodb.BatchGetItem"] == 2, "one looks whether apps have changed"
    assert spent.read_units <= 60
    assert local.client.count() == 300


def test_the_newest_events_are_read_without_those_before(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go", id="fn")(lambda ctx: None)
    local = deploy(app)
    for name in ("go", "nobody/listens"):
        local.client.send([{"name": name, "data": {"n": n}} for n in range(100)])
    local.advance("20d")
    local.client.send([{"name": name, "data": {"n": n}} for name in ("go", "nobody/listens") for n in range(10)])
    local.run_until_idle()
    list(local.client.events(limit=1))
    before = local.requests
    assert {event.name for event in local.client.events(limit=20)} == {"go", "nobody/listens"}
    spent = local.requests - before
    assert spent.calls["dynamodb.Query"] <= 8 + 4 * 5 + 8, "today's log, the ends of one function, the live ones"
    assert spent.calls["dynamodb.BatchGetItem"] <= 2
    before = local.requests
    assert len(list(local.client.events())) == 220
    assert (local.requests - before).calls["dynamodb.Query"] <= 8 * 33 + 50, "no day of the log beyond what is kept"
