"""Expressions that look at what a middleware hides are refused where they are declared."""

from __future__ import annotations

from typing import Any

import pytest

from stepwell import Batch, CancelOn, Concurrency, Cron, Middleware, RateLimit, Stepwell, Trigger
from stepwell.errors import InvalidOption
from stepwell.middleware.base import Chain, Place
from stepwell.middleware.visibility import check_function, check_wait, fields_of


class Hiding(Middleware):
    """Hides all fields but one, and all results."""

    def hides(self, field: str) -> bool:
        return field != "id"

    def encode(self, text: str, place: Place) -> str:
        return text


HIDING = Chain([Hiding()])


@pytest.mark.parametrize(
    ("expression", "fields"),
    [
        ("event.data.amount > 100", [("event", ["amount"])]),
        ("event.data['e-mail'] == async.data.mail", [("event", ["e-mail"]), ("async", ["mail"])]),
        ('has(event.data.a.b) && event.data [ "c" ] == 1', [("event", ["a", "b"]), ("event", ["c"])]),
        ("event['data']['a'] == event.data.event.data.b", [("event", ["a"]), ("event", ["event", "data", "b"])]),
        ("data.order_id", [("event", ["order_id"])]),
        ("event.name == 'metadata.x'", []),
        ("event.name == 'of event.data' || event.data.data.data == 1", [("event", ["data", "data"])]),
        ("event.tenant", []),
        ("event.data.?a.orValue('') == event.data[?'b']", [("event", ["a"]), ("event", ["b"])]),
        ("event.data.a[event.data.b].c", [("event", ["a"]), ("event", ["b"])]),
        ("event.data.a ? event.data.b : async.data.c", [("event", ["a"]), ("event", ["b"]), ("async", ["c"])]),
        ("event.data.a ?.event.data.b : -.event.data.c", [("event", ["a"]), ("event", ["b"]), ("event", ["c"])]),
        ("event.data.a in .event.data.b", [("event", ["a"]), ("event", ["b"])]),
        ("event.data.a[event.data.b ? 'x' : 'y'].event.data.c", [("event", ["a"]), ("event", ["b"])]),
        ("event.data == {'secret': 1} || size(async.data) > 1", [("event", []), ("async", [])]),
        ("event.data[event.data.id] == 'x'", [("event", []), ("event", ["id"])]),
        ("event.data.exists(name, name == 'secret')", [("event", [])]),
        ("[event].exists(each, each.data.secret == 1)", [("event", [])]),
    ],
)
def test_the_fields_an_expression_looks_at(expression: str, fields: list[Any]) -> None:
    assert list(fields_of(expression)) == fields


@pytest.mark.parametrize(
    ("expression", "fields"),
    [
        ("event.data.a // don't look at event\n && event.data.b", ["a", "b"]),
        ("event.data.a // 'event.data.b", ["a"]),
        ("event.data.a == 'http://x' && event.data.b", ["a", "b"]),
        ("event.data.a == '''it's''' && event.data.b == '''event'''", ["a", "b"]),
        ('event.data.a == """the "event" of""" && event.data.b', ["a", "b"]),
        (r"event.data.a == '''\'''event''' && event.data.b", ["a", "b"]),
        ("event.data.a == '' && event.data.b == \"\"", ["a", "b"]),
        (r"event.data.a == 'it\'s event' && event.data.b", ["a", "b"]),
        (r"event.data.a == r'\' && event.data.b == 'x'", ["a", "b"]),
        (r'event.data.a == bR"""\""" && event.data.b == ""', ["a", "b"]),
        (r"event.data.a.matches(r'\d+ event') && event.data.b == b'event'", ["a", "b"]),
        ("event.data[r'a'] == event.data['''b''']", ["a", "b"]),
        ("event.data.a.`event // b` && event.data.b", ["a", "b"]),
    ],
)
def test_texts_and_comments_are_passed_over_from_where_they_begin_to_where_they_end(
    expression: str, fields: list[str]
) -> None:
    assert list(fields_of(expression)) == [("event", [field]) for field in fields]


@pytest.mark.parametrize(
    ("expression", "path"),
    [
        ("(event.data).a == 'at'", ["a"]),
        ("!((event).data).a.b", ["a", "b"]),
        ("'x' in (event.data).a", ["a"]),
        ("size(event.data).a", []),
        ("size((event.data).a)", ["a"]),
        ("'a' in event.data", ["a"]),
        ("event.name == 'x' && (r'a' in (event.data)) || true", ["a"]),
        ("event.name == 'x' ? !('a' in event['data']) : false", ["a"]),
        ("'a' in event.data.b", ["b"]),
        ("'a' in event", []),
        ("event.name in event.data", []),
        ("'a' + 'b' in event.data", []),
        ("'a' in event.data.keys()", []),
        ("'a' in event.data[event.name]", []),
        (r"'\u0061' in event.data", []),
        (r"event.data['\u0061'] == 1", []),
        ("event.data[b'a'] == 1", []),
        ("event.data.`a` == 1", []),
        ("event.`data`.a == 1", []),
        ("(.event).data.a == 1", []),
    ],
)
def test_a_field_is_known_in_parentheses_or_when_asked_for_but_by_its_plain_name_alone(
    expression: str, path: list[str]
) -> None:
    assert list(fields_of(expression)) == [("event", path)]


@pytest.mark.parametrize(
    "options",
    [
        {"on": Trigger("go", where="event.data.secret == 1")},
        {"on": Trigger("go", where="'secret' in event.data")},
        {"on": Trigger("go", where="event.data.id == '1' ? event.data.secret == 1 : true")},
        {"on": ["go", "stepwell/run.failed"], "tags": {"customer": "event.data.secret"}},
        {"concurrency": Concurrency(1, key="event.data.secret")},
        {"concurrency": [Concurrency(1), Concurrency(2, scope="app", key="event.data.secret")]},
        {"concurrency": 1, "priority": "event.data.secret"},
        {"rate_limit": RateLimit(1, "1m", key="event.data['secret']")},
        {"idempotency": "event.data.secret"},
        {"batch": Batch(5, "1m", where="event.data.secret == 1")},
        {"batch": Batch(5, "1m", key="event.data.secret")},
        {"tags": {"customer": "event.data.secret"}},
        {"cancel_on": CancelOn("stop", match={"data.secret": "event.data.id"})},
        {"cancel_on": CancelOn("stop", match={"data.id": "event.data.secret"})},
        {"cancel_on": CancelOn("stop", where="event.data.id == async.data.secret")},
        {"cancel_on": CancelOn("stop", where="event.data.secret == async.data.id")},
    ],
)
def test_a_hidden_field_is_found_wherever_an_option_looks_at_it(options: dict[str, Any]) -> None:
    options = {"on": "go", "id": "fn", **options}
    if options.get("concurrency") == 1:
        options["concurrency"] = Concurrency(1)
    with pytest.raises(InvalidOption, match=r"function 'fn': .* looks at data\.secret, which Hiding encrypts"):
        Stepwell("shop", middleware=[Hiding()]).function(**options)(lambda ctx: None)
    Stepwell("shop").function(**options)(lambda ctx: None)


def test_the_data_as_a_whole_is_hidden_if_any_of_it_is() -> None:
    whole = Trigger("go", where="size(event.data) > 1")
    with pytest.raises(InvalidOption, match="looks at data as a whole, of which Hiding encrypts some"):
        Stepwell("shop", middleware=[Hiding()]).function(on=whole, id="fn")(lambda ctx: None)
    Stepwell("shop").function(on=whole, id="fn")(lambda ctx: None)


@pytest.mark.parametrize(
    "options",
    [
        {"id": "data.secret", "triggers": [{"event": "data.secret", "where": "event.data.id == '1'"}]},
        {"triggers": [{"event": "go"}], "cancel_on": [{"event": "stop", "match": {"data.id": "data.secret"}}]},
        {"triggers": [{"event": "go", "where": "'id' in event.data // and not 'secret' in event.data"}]},
        {"triggers": [{"event": "go"}], "flow": {"concurrency": [{"limit": 2, "key": "event.tenant"}]}},
    ],
)
def test_fields_in_clear_and_other_texts_are_let_pass(options: dict[str, Any]) -> None:
    check_function(HIDING, options, what="function 'fn'")


@pytest.mark.parametrize(
    "where",
    [
        "event.data.function == 'pay' && event.data.error.type != 'ValueError'",
        "event.data.event.name == 'go' && event.data.event.data.id == 'o-1'",
        "event.data.tags.customer == 'c-1'",
    ],
)
def test_the_news_of_a_run_is_the_engines_own_and_can_be_looked_at(where: str) -> None:
    app = Stepwell("shop", middleware=[Hiding()])
    app.function(on=Trigger("stepwell/run.*", where=where), tags={"run": "event.data.run_id"}, id="fn")(
        lambda ctx: None
    )
    check_wait(HIDING, "go", "stepwell/run.finished", ["data.run_id"], None, what="wait")


@pytest.mark.parametrize(
    ("where", "field"),
    [
        ("event.data.result == 5", "data.result"),
        ("event.data.error.message == 'no'", "data.error.message"),
        ("event.data.event.data.secret == 1", "data.event.data.secret"),
    ],
)
def test_what_the_news_of_a_run_holds_of_that_run_cannot(where: str, field: str) -> None:
    app = Stepwell("shop", middleware=[Hiding()])
    with pytest.raises(InvalidOption, match=rf"looks at {field}, which Hiding encrypts"):
        app.function(on=Trigger("stepwell/run.finished", where=where), id="fn")(lambda ctx: None)
    with pytest.raises(InvalidOption, match=rf"looks at {field}, which Hiding encrypts"):
        check_wait(HIDING, "go", "stepwell/run.finished", [], where.replace("event.", "async.", 1), what="wait")


def test_the_ticks_of_a_schedule_hide_nothing() -> None:
    app = Stepwell("shop", middleware=[Hiding()])
    app.function(on=Cron("0 8 * * *"), tags={"tick": "event.data.scheduled_at"}, id="fn")(lambda ctx: None)


def test_a_wait_looks_at_the_event_that_comes_and_at_the_one_that_came() -> None:
    check_wait(HIDING, "go", "paid", ["data.id"], "async.data.id == event.data.id", what="wait")
    for match, where in ([["data.secret"], None], [[], "async.data.secret == 1"], [[], "event.data.secret == 1"]):
        with pytest.raises(InvalidOption, match=r"wait: .* looks at data\.secret"):
            check_wait(HIDING, "go", "paid", match, where, what="wait")


def test_functions_are_checked_when_they_are_declared() -> None:
    app = Stepwell("shop", middleware=[Hiding()])
    app.function(on=Trigger("go", where="event.data.id == '1'"), id="good")(lambda ctx: None)
    with pytest.raises(InvalidOption, match=r"function 'bad': where 'event.data.amount > 1' looks at data.amount"):
        app.function(on=Trigger("go", where="event.data.amount > 1"), id="bad")(lambda ctx: None)
