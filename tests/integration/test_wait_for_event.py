"""Waiting for an event."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from stepwell import CancelOn, Context, Event, EventModel, RunStatus, Stepwell, Trigger
from stepwell.engine import accept, looking_back, orchestrate
from stepwell.engine.resolve import resolve_waiter
from stepwell.events import Envelope
from stepwell.ids import ulid_of
from stepwell.testing import Fault, FaultKind, FaultPlan, LocalStepwell
from stepwell.testing.observations import Sent

from .support import Declare, Deploy, declare_as, play, run_of


class Paid(EventModel, name="order/paid"):
    order_id: str
    at: datetime | None = None


def waiting(declare: Declare, app: Stepwell, **options: Any) -> None:
    """A function that waits and returns what it got."""

    def body(ctx: Any) -> Any:
        given = {"event": "order/paid", "timeout": "3d", **options}
        match = given.pop("match", None)
        event = yield ctx.step.wait_for_event(
            "paid", **given, match=match(ctx.event.data) if callable(match) else match
        )
        yield ctx.step.sleep("then", "1s")
        return None if event is None else [event.id, event.name, event.data]

    declare(app, body)


def test_an_event_ends_the_wait_and_is_its_result(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    waiting(declare, app)
    local = deploy(app)
    event_id = local.send("go")
    local.advance("1h")
    assert run_of(local, event_id).status == RunStatus.SUSPENDED
    paid = local.send("order/paid", {"n": 1})
    local.advance("2s")
    run = run_of(local, event_id)
    assert run.result == [paid, "order/paid", {"n": 1}]
    assert run.steps["paid"].ended_at == run.steps["then"].started_at
    assert local.run(paid) is None, "it started nothing"


def test_out_of_time_the_wait_gives_none(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    waiting(declare, app)
    local = deploy(app)
    event_id = local.send("go")
    local.advance("3d")
    local.advance("2s")
    run = run_of(local, event_id)
    assert (run.status, run.result, run.steps["paid"].status) == (RunStatus.COMPLETED, None, "timed_out")
    local.send("order/paid")
    local.advance("1h")
    assert run_of(local, event_id).result is None


def test_only_an_event_that_matches_by_value_counts(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    waiting(declare, app, match=lambda data: {"data.order.id": data["id"], "tenant": "acme"})
    local = deploy(app)
    runs = {name: local.send("go", {"id": name}) for name in ("o-1", "o-2")}
    local.run_until_idle()
    local.send("order/paid", {"order": {"id": "o-1"}}, tenant="other")
    local.send("order/paid", {"order": "o-1"}, tenant="acme")
    local.send("order/other", {"order": {"id": "o-1"}}, tenant="acme")
    local.run_until_idle()
    right = local.send("order/paid", {"order": {"id": "o-1"}}, tenant="acme")
    local.advance("2s")
    assert run_of(local, runs["o-1"]).result[0] == right
    assert run_of(local, runs["o-2"]).status == RunStatus.SUSPENDED


@pytest.mark.parametrize("value", [7, 1.5, True, None, "ü#=*", ["a", 1], {"b": 1, "a": 2}, "x" * 3000])
def test_a_match_compares_values_of_any_kind(app: Stepwell, deploy: Deploy, value: Any) -> None:
    @app.function(on="go")
    def fn(ctx: Context[Any]) -> Any:
        event = ctx.step.wait_for_event("paid", event="order/paid", timeout="1d", match={"data.value": value})
        return event.data["right"] if event else None

    local = deploy(app)
    event_id = local.send("go")
    local.run_until_idle()
    local.send("order/paid", {"value": "something else", "right": False})
    local.run_until_idle()
    local.send("order/paid", {"value": value, "right": True})
    local.run_until_idle()
    assert run_of(local, event_id).result is True


def test_a_condition_sees_the_incoming_event_and_the_runs_own(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    waiting(declare, app, where="async.data.amount >= event.data.amount && async.name == 'order/paid'")
    local = deploy(app)
    event_id = local.send("go", {"amount": 10})
    local.run_until_idle()
    for amount in (9, None, "10"):
        local.send("order/paid", {"amount": amount})
    local.run_until_idle()
    assert run_of(local, event_id).status == RunStatus.SUSPENDED
    local.send("order/paid", {"amount": 10})
    local.advance("2s")
    assert run_of(local, event_id).result[2] == {"amount": 10}


def test_a_typed_wait_gives_a_typed_event(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    seen: list[Event[Any]] = []

    def body(ctx: Any) -> Any:
        seen.append((yield ctx.step.wait_for_event("paid", event=Paid, timeout="1d")))

    declare(app, body)
    local = deploy(app)
    local.send("go")
    local.run_until_idle()
    paid = Paid(order_id="o-1", at=local.now())
    local.send(paid)
    local.run_until_idle()
    assert seen[0].data == paid


def test_an_event_from_before_the_wait_does_not_count_unless_asked_for(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    def body(ctx: Any) -> Any:
        yield ctx.step.sleep("busy", "1h")
        found = {}
        for since in (None, "run_start"):
            event = yield ctx.step.wait_for_event(
                f"paid-{since}", event="order/paid", timeout="10m", match={"data.id": 1}, since=since
            )
            found[str(since)] = event and event.data["n"]
        return found

    declare(app, body)
    local = deploy(app)
    local.send("order/paid", {"id": 1, "n": "before the run"})
    local.advance("1m")
    event_id = local.send("go")
    local.advance("1m")
    local.send("order/paid", {"id": 2, "n": "another order"})
    local.send("order/paid", {"id": 1, "n": "while busy"})
    local.advance("2h")
    assert run_of(local, event_id).result == {"None": None, "run_start": "while busy"}


def test_since_run_start_finds_events_that_started_runs_of_their_own(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    app.function(on="order/paid", id="other")(lambda ctx: None)

    def body(ctx: Any) -> Any:
        yield ctx.step.sleep("busy", "1h")
        event = yield ctx.step.wait_for_event("paid", event="order/paid", timeout="1h", since="run_start")
        return event and event.id

    declare(app, body)
    local = deploy(app)
    event_id = local.send("go")
    local.advance("10m")
    paid = local.send("order/paid")
    chosen = local.send("order/paid", id="p-2")
    local.advance("3h")
    assert run_of(local, event_id).result in (paid, chosen)
    again = local.send("go")
    local.advance("10m")
    chosen = local.send("order/paid", id="p-3")
    local.advance("3h")
    assert run_of(local, again).result == chosen


def test_one_event_wakes_every_run_that_waits_for_it(
    app: Stepwell, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepwell.engine.accept.PER_MESSAGE", 4)  # wider than one message handles

    @app.function(on="go")
    def fn(ctx: Context[Any]) -> bool:
        return ctx.step.wait_for_event("opened", event="shop/opened", timeout="1d") is not None

    local = deploy(app)
    sent = local.client.send([{"name": "go", "data": {"n": n}} for n in range(10)])
    local.run_until_idle()
    local.send("shop/opened", {"pad": "x" * 100})
    local.run_until_idle()
    assert {run_of(local, event_id).result for event_id in sent} == {True}


def test_the_first_of_two_events_counts_and_a_duplicate_is_none(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    def body(ctx: Any) -> Any:
        found = []
        for _ in range(2):
            event = yield ctx.step.wait_for_event("paid", event="order/paid", timeout="1h")
            found.append(event and event.data["n"])
            yield ctx.step.sleep("pack", "1s")
        return found

    declare(app, body)
    local = deploy(app)
    event_id = local.send("go")
    local.run_until_idle()
    for n in (1, 1):
        local.send("order/paid", {"n": n}, id=f"p-{n}")
        local.advance("1m")
    assert run_of(local, event_id).status == RunStatus.SUSPENDED, "the same event again is no second payment"
    local.send("order/paid", {"n": 2}, id="p-2")
    local.advance("2s")
    assert run_of(local, event_id).result == [1, 2]


def test_an_event_that_starts_a_function_can_end_a_wait_as_well(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="tick")
    def fn(ctx: Context[Any]) -> Any:
        event = ctx.step.wait_for_event("next", event="tick", timeout="1h")
        return event and event.data["n"]

    local = deploy(app)
    first = local.send("tick", {"n": 1})
    local.advance("1m")
    assert run_of(local, first).status == RunStatus.SUSPENDED, "its own event is not the next one"
    local.send("tick", {"n": 2})
    local.run_until_idle()
    assert run_of(local, first).result == 2


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"where": "async.data.("}, "where"),
        ({"since": "yesterday"}, "run_start"),
        ({"match": ["data.id"]}, "match"),
        ({"match": {"order_id": 1}}, "Did you mean 'data.order_id'?"),
        ({"where": "async.order_id == 1"}, "Did you mean async.data.order_id?"),
        ({"event": "order/*"}, "there are no wildcards here"),
        ({"event": "order/paid "}, "no white space"),
        ({"event": "stepwell/run.complete"}, "there is no event 'stepwell/run.complete'"),
        ({"timeout": "2000d"}, "timeout"),
        ({"event": 7}, "event"),
    ],
)
def test_options_that_make_no_sense_fail_the_run_saying_so(
    app: Stepwell, deploy: Deploy, options: dict[str, Any], word: str
) -> None:
    @app.function(on="go")
    def fn(ctx: Context[Any]) -> None:
        ctx.step.wait_for_event("paid", **{"event": "order/paid", "timeout": timedelta(1), **options})

    run = play(deploy(app))
    assert run.error is not None
    assert run.error.type == "InvalidOption"
    assert word in run.error.message


def test_an_event_that_wakes_many_in_several_places_forgets_nobody(
    app: Stepwell, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accept, "PER_MESSAGE", 2)

    @app.function(on="go")
    def fn(ctx: Context[Any]) -> bool:
        match = {ctx.event.data["path"]: 1}
        return ctx.step.wait_for_event("it", event="order/paid", timeout="1d", match=match) is not None

    local = deploy(app)
    waiting = [local.send("go", {"path": f"data.{path}"}) for path in "cbaabc"]  # the oldest in the last place
    local.run_until_idle()
    local.send("order/paid", {"a": 1, "b": 1, "c": 1})
    local.run_until_idle()
    assert [run_of(local, event_id).result for event_id in waiting] == [True] * 6


# ---- looking back


def look_backs(local: LocalStepwell) -> int:
    return sum(1 for sent in local.world.observations.of(Sent) if '"stepwell":"lookback"' in sent.body)


@pytest.fixture
def looking(app: Stepwell, declare_plain: Declare) -> Stepwell:
    """Waits after an hour for what has come since it started."""

    def body(ctx: Any) -> Any:
        yield ctx.step.sleep("first", "1h")
        options = {"event": "order/paid", "timeout": "10m", "match": {"data.id": "o-1"}, "since": "run_start"}
        event = yield ctx.step.wait_for_event("paid", **options)
        return event and event.data["n"]

    declare_plain(app, body)
    return app


def test_looking_back_reads_no_event_of_another_name(looking: Stepwell, deploy: Deploy) -> None:
    local = deploy(looking)
    event_id = local.send("go")
    local.run_until_idle()
    local.client.send([{"name": "other", "data": {"id": "o-1", "pad": f"{n}" * 300_000}} for n in range(5)])
    local.advance("30m")
    local.send("order/paid", {"id": "o-1", "n": 1})
    local.run_until_idle()
    before = local.requests
    local.advance("31m")
    assert run_of(local, event_id).result == 1
    assert (local.requests - before).calls.get("s3.GetObject", 0) == 0


@pytest.mark.parametrize("piece", [1, 30, 500, 2000])
def test_however_much_there_is_to_look_through_the_earliest_event_is_the_one(
    looking: Stepwell, deploy: Deploy, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(looking_back, "PIECE", piece)
    local = deploy(looking)
    event_id = local.send("go")
    local.run_until_idle()
    for n in range(12):
        local.send("other", {"n": n})
        local.send("order/paid", {"id": "o-2" if n < 3 else "o-1", "n": n})
        local.advance("1m")
    local.advance("1h")
    assert run_of(local, event_id).result == 3
    assert (look_backs(local) > 10) == (piece <= 30), "the work is done in pieces"
    assert local.dead_letters() == []


@pytest.mark.parametrize("piece", [1, 60, 2000])
@pytest.mark.parametrize("ends", [True, False])
def test_looking_back_in_pieces_finds_an_event_that_only_stands_in_the_run_it_has_started(
    looking: Stepwell, deploy: Deploy, monkeypatch: pytest.MonkeyPatch, piece: int, ends: bool
) -> None:
    monkeypatch.setattr(looking_back, "PIECE", piece)

    @looking.function(on="order/paid", id="listens")
    def listens(ctx: Context[Any]) -> None:
        if not ends:
            ctx.step.sleep("long", "1d")

    local = deploy(looking)
    event_id = local.send("go")
    local.run_until_idle()
    for n in range(4):
        local.send("order/paid", {"id": f"o-{n % 2}", "n": n})
        local.advance("1m")
    assert not [key for key, _ in local.world.table.items() if key[0].startswith("EVENTS#")], "nothing is logged"
    local.advance("1h")
    assert run_of(local, event_id).result == 1
    assert (look_backs(local) > 20) == (piece == 1)


def test_a_wait_that_has_been_resolved_meanwhile_is_looked_back_for_no_further(
    looking: Stepwell, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking_back, "PIECE", 1)
    local = deploy(looking)
    event_id = local.send("go")
    local.run_until_idle()
    local.client.send([{"name": "other", "data": {"n": n}} for n in range(100)])
    look_back, looked = looking_back.look_back, list[int]()

    def resolving(*args: Any, **options: Any) -> None:
        looked.append(1)
        if len(looked) == 20:  # an event comes while the past is still being looked through
            ports, waiter = args
            event = Envelope("p-1", "order/paid", {"id": "o-1", "n": 7}, ports.now())
            resolve_waiter(ports, waiter, event, "key", ports.now(), again=False)
        look_back(*args, **options)

    monkeypatch.setattr(orchestrate, "look_back", resolving)
    local.advance("1h")
    assert run_of(local, event_id).result == 7
    assert 20 <= len(looked) < 30


@pytest.mark.parametrize("id", ["mine", None])
@pytest.mark.parametrize("starts", [0, 1, 2])
@pytest.mark.parametrize("known", [True, False])
def test_an_event_that_was_accepted_before_ends_no_wait_that_began_later(
    app: Stepwell, deploy: Deploy, id: str | None, starts: int, known: bool
) -> None:
    """Whoever made its id, whatever it starts, and whether or not anybody had ever waited for its name by then."""

    @app.function(on="order", id="waits")
    def waits(ctx: Context[Any]) -> Any:
        ctx.step.sleep("rest", "1m")
        return ctx.step.wait_for_event("paid", event="order/paid", timeout="1d") is not None

    for number in range(starts):
        app.function(on="order/paid", id=f"beside-{number}")(lambda ctx: None)
    local = deploy(app)
    if known:
        local.send("order")
        local.advance("2m")
    waits_later = local.send("order")
    local.run_until_idle()
    paid = local.send("order/paid", {"n": 1}, id=id)
    local.advance("5m")
    if id is None or known or starts:  # an id of one's own is remembered once somebody listens to the name
        for _ in range(2):
            local.send("order/paid", {"n": 1}, id=paid)
            local.advance("1m")
    local.advance("1h")
    assert run_of(local, waits_later, "waits").status == RunStatus.SUSPENDED
    local.send("order/paid", {"n": 2})
    local.advance("1m")
    assert run_of(local, waits_later, "waits").result is True


@pytest.mark.parametrize("name", ["a-new-one", "z-new-one"])
@pytest.mark.parametrize("waited", [True, False])
@pytest.mark.parametrize("cut_off", ["PutItem", "Query", "BatchGetItem", None])
@pytest.mark.parametrize("starts", [0, 1, 2])
def test_an_event_again_is_none_of_the_business_of_what_was_deployed_since(
    app: Stepwell, deploy: Deploy, name: str, waited: bool, cut_off: str | None, starts: int
) -> None:
    """Neither of a function that it would start now, nor of runs that wait for it or are cancelled by it now; also if the
    first one who handles it again does not come to the end."""

    def declare(to: Stepwell, *, new: bool) -> None:
        for number in range(starts):
            to.function(on="order/paid", id=f"book-{number}")(lambda ctx: None)
        if new:
            to.function(on="order/paid", id=name)(lambda ctx: None)
        if new or waited:
            to.function(on="order", id="waits")(waits)
            to.function(on="order", id="guarded", cancel_on=CancelOn("order/paid"))(guarded)

    def waits(ctx: Context[Any]) -> Any:
        return ctx.step.wait_for_event("paid", event="order/paid", timeout="9d") is not None

    def guarded(ctx: Context[Any]) -> None:
        ctx.step.sleep("long", "9d")

    declare(app, new=True)
    before = Stepwell(app.id)
    declare(before, new=False)
    plan = FaultPlan()
    local = deploy(app, plan=plan)
    declare_as(local, before)
    paid = local.send("order/paid", {"n": 1})
    local.advance("1h")
    declare_as(local, app)
    order = local.send("order")
    local.advance("1m")
    if cut_off is not None:
        plan.add(Fault(FaultKind.CRASH_AFTER, operation=f"dynamodb.{cut_off}", label="orchestrator"))
    local.send("order/paid", {"n": 1}, id=paid)
    local.advance("1h")
    assert {run.function for run in local.client.runs()} == {
        "waits",
        "guarded",
        *(f"book-{number}" for number in range(starts)),
    }
    assert run_of(local, order, "waits").status == run_of(local, order, "guarded").status == RunStatus.SUSPENDED


def test_a_condition_that_was_corrected_starts_its_function_beside_what_the_event_had_started(
    app: Stepwell, deploy: Deploy
) -> None:
    """An event that was accepted with a doubt is not taken for one that was accepted before the function was deployed."""
    app.function(on="order/paid", id="book")(lambda ctx: None)
    corrected = Stepwell(app.id)
    corrected.function(on="order/paid", id="book")(lambda ctx: None)
    endless = "event.data.l.all(a, event.data.l.all(b, event.data.l.all(c, a + b + c >= 0)))"
    app.function(on=Trigger("order/paid", where=endless), id="mail")(lambda ctx: None)
    corrected.function(on=Trigger("order/paid", where="size(event.data.l) == 100"), id="mail")(lambda ctx: None)
    local = deploy(app)
    local.send("order/paid", {"l": list(range(100))})
    local.run_until_idle()
    assert [run.function for run in local.client.runs()] == ["book"]
    declare_as(local, corrected)
    assert local.client.redrive() == 1
    local.run_until_idle()
    assert {run.function for run in local.client.runs()} == {"book", "mail"}


def test_a_wait_that_began_between_the_making_of_an_event_and_its_receipt_is_ended_by_it(
    app: Stepwell, deploy: Deploy
) -> None:
    @app.function(on="order", id="waits")
    def waits(ctx: Context[Any]) -> Any:
        return ctx.step.wait_for_event("paid", event="order/paid", timeout="1d") is not None

    local = deploy(app)
    made = "evt_" + ulid_of(round(local.now().timestamp() * 1000), b"0123456789")
    local.advance("1h")
    order = local.send("order")
    local.run_until_idle()
    local.send("order/paid", id=made)
    local.run_until_idle()
    assert run_of(local, order).result is True
