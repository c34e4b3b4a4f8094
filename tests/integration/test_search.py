"""Search by content: runs and events for whose event a condition holds."""

from __future__ import annotations

from typing import Any

import pytest

from stepwell import Batch, Context, RunStatus, Stepwell
from stepwell.errors import InvalidOption
from stepwell.testing import LocalStepwell

from .sealing import encrypted, secret
from .support import Deploy, expire, run_of


@pytest.fixture
def local(app: Stepwell, deploy: Deploy) -> LocalStepwell:
    """A world with runs over amounts of 0 to 5, an hour apart; the even ones live."""

    @app.function(on="go", id="fn")
    def fn(ctx: Context[Any]) -> None:
        if ctx.event.data["amount"] % 2 == 0:
            ctx.step.sleep("rest", "30d")

    local = deploy(app)
    for amount in range(6):
        local.send("go", {"amount": amount}, tenant="acme" if amount > 3 else None)
        local.advance("1h")
    return local


def amounts(found: Any) -> list[int]:
    return [each.event.data["amount"] for each in found]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("event.data.amount > 2", [5, 4, 3]),
        ("event.data.amount in [1, 4] && event.name == 'go'", [4, 1]),
        ("event.tenant == 'acme'", [5, 4]),
        ("event.data.amount > 100", []),
        ("event.data.missing == 1", []),
        ("event.data.amount > 'x'", []),
        ("event.data.amount", []),
    ],
)
def test_runs_are_found_by_what_their_events_hold(local: LocalStepwell, where: str, expected: list[int]) -> None:
    assert amounts(local.client.runs(where=where)) == expected
    assert local.client.count(where=where) == len(expected)
    assert [event.data["amount"] for event in local.client.events(where=where)] == expected


def test_a_condition_goes_together_with_the_other_filters(local: LocalStepwell) -> None:
    where = "event.data.amount > 1"
    assert amounts(local.client.runs(where=where, status="completed")) == [5, 3]
    assert amounts(local.client.runs(where=where, limit=2)) == [5, 4], "the newest two for which it holds"
    newest = local.send("go", {"amount": 9})
    local.run_until_idle()
    assert amounts(local.client.runs(where=where, event=newest)) == [9]
    assert amounts(local.client.runs(where="event.data.amount < 5", event=newest)) == []
    assert [event.data["amount"] for event in local.client.events(where=where, limit=2)] == [9, 5]


def test_pages_of_what_is_found_meet_without_a_gap_or_a_double(local: LocalStepwell) -> None:
    where, pages, last = "event.data.amount != 3", list[int](), None
    while page := list(local.client.runs(where=where, before=last, limit=2)):
        pages += amounts(page)
        last = page[-1].id
    assert pages == [5, 4, 2, 1, 0]


def test_what_is_found_is_cancelled_and_replayed_and_nothing_else(local: LocalStepwell) -> None:
    assert local.client.cancel_all(where="event.data.amount >= 2") == 2
    assert amounts(local.client.runs(status="suspended")) == [0]
    assert local.client.replay_all(where="event.data.amount == 3") == 1
    local.run_until_idle()
    assert amounts(run for run in local.client.runs() if run.replay_of) == [3]


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("event.data.amount >", "`where`: .* is not a CEL expression"),
        ("event.amount > 1", "asks for event.amount, which no event has"),
        ("async.data.amount > 1", "here there is only event"),
        ("", "`where` must be a CEL expression"),
        (5, "`where` must be a CEL expression .* got 5"),
    ],
)
def test_a_condition_that_is_none_is_refused_at_once(local: LocalStepwell, where: Any, says: str) -> None:
    client = local.client
    for read in (client.runs, client.count, client.cancel_all, client.replay_all, client.events):
        with pytest.raises(InvalidOption, match=says):
            read(where=where)
    assert client.count(status="suspended") == 3


def test_events_beside_their_runs_and_in_the_log_are_looked_at_too(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go", id="fn")(lambda ctx: None)
    local = deploy(app)
    for size in (10, 5_000, 400_000):
        local.send("go", {"size": size, "text": "x" * size})
        local.send("nobody/listens", {"size": size, "text": "x" * size})
    local.run_until_idle()
    found = local.client.runs(where="event.data.size > 1000 && event.data.text.startsWith('x')")
    assert sorted(run.event.data["size"] for run in found) == [5_000, 400_000]
    events = local.client.events(name="nobody/listens", where="event.data.size > 1000")
    assert sorted(event.data["size"] for event in events) == [5_000, 400_000]


def test_an_event_that_a_batch_took_along_is_found_as_the_run_of_the_batch(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go", id="fn", batch=Batch(3, "1m"))(lambda ctx: [event.data["n"] for event in ctx.events])
    local = deploy(app)
    for n in range(3):
        local.send("go", {"n": n})
        local.run_until_idle()
    local.advance("2m")
    for n in range(3):
        [run] = local.client.runs(where=f"event.data.n == {n}")
        assert (run.status, run.result) == (RunStatus.COMPLETED, [0, 1, 2])
        assert [event.data for event in local.client.events(where=f"event.data.n == {n}")] == [{"n": n}]
    assert local.client.count(where="event.data.n == 3") == 0


class TestEncrypted:
    @pytest.fixture
    def sealed(self, deploy: Deploy) -> LocalStepwell:
        app = encrypted()
        app.function(on="go", id="fn")(lambda ctx: ctx.step.sleep("rest", "1d"))
        local = deploy(app)
        local.send("go", {"order": "o-1", "word": "sesame"})
        local.run_until_idle()
        return local

    def test_a_client_with_the_middleware_searches_what_was_sent(self, sealed: LocalStepwell) -> None:
        where = "event.data.word == 'sesame' && event.data.order == 'o-1'"
        assert sealed.client.count(where=where) == 1
        assert [event.data["word"] for event in sealed.client.events(where=where)] == ["sesame"]

    @pytest.mark.parametrize(
        "where", ["event.data.word == 'sesame'", "!has(event.data.word)", "event.data.order == 'o-1'"]
    )
    def test_without_it_nothing_holds_for_what_is_encrypted(self, sealed: LocalStepwell, where: str) -> None:
        other = encrypted(secret(2), id="other").middleware.all
        for client in (sealed.client.with_middleware(), sealed.client.with_middleware(*other)):
            assert client.count(where=where) == 0
            assert list(client.events(where=where)) == []
            assert client.cancel_all(where=where) == 0
        assert sealed.client.count(status="suspended") == 1


def test_a_run_whose_event_has_expired_is_passed_over(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go", id="fn")(lambda ctx: None)
    local = deploy(app)
    event_id = local.send("go", {"n": 1, "text": "x" * 5_000})
    local.run_until_idle()
    run = run_of(local, event_id)
    expire(local, run.id, "EVENT")
    assert local.client.count(where="event.data.n == 1") == 0
    assert [event.id for event in local.client.events()] == []
    assert local.client.count() == 1
