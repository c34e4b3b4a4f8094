"""Declaring apps, functions and steps: what is accepted, what it comes to, and what is refused where it is written."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import pytest

from stepwell import Backoff, CancelOn, Cron, EventModel, Middleware, Stepwell, Trigger, step
from stepwell.errors import InvalidOption
from stepwell.steps import StepOptions, options_of, plain, step_id


class Order(EventModel, name="order/created"):
    order_id: str


def fn(ctx: Any) -> None: ...


def yields(ctx: Any) -> Any:
    yield ctx


async def yields_later(ctx: Any) -> Any:
    yield ctx


# ---- apps and functions


@pytest.mark.parametrize("id", ["shop", "a", "shop-2", "a" * 48])
def test_an_app_has_an_id(id: str) -> None:
    assert Stepwell(id).manifest() == {"version": 1, "app": id, "functions": [], "computes": []}


@pytest.mark.parametrize("id", ["", "Shop", "2shop", "shop_1", "shop.x", "-a", "a" * 49, None, "sh op"])
def test_an_app_id_that_cannot_stand_in_keys_is_refused(id: Any) -> None:
    with pytest.raises(InvalidOption, match="app id"):
        Stepwell(id)


def test_a_function_id_is_its_name_in_kebab_case_unless_given() -> None:
    app = Stepwell("shop")

    @app.function(on="go")
    def process_new_order(ctx: Any) -> None: ...

    assert process_new_order.id == "process-new-order"
    assert app.function(on="go", id="other_id.v2")(fn).id == "other_id.v2"
    assert process_new_order(None) is None, "it stays callable as it is"
    assert process_new_order.__name__ == "process_new_order"


def test_the_manifest_says_all_that_is_needed_to_start_functions() -> None:
    app = Stepwell("shop")
    triggers = [Order, Trigger("order/*", where="event.data.x > 1")]
    app.function(on=triggers, id="a", name="A", retries=5, compute="large")(fn)
    app.function(on="go", id="b", backoff=Backoff("10s", jitter=False), on_failure=fn)(fn)
    a, handler, b = (app.functions[id].entry for id in ("a", "b.on-failure", "b"))
    assert a == {
        "id": "a",
        "name": "A",
        "triggers": [{"event": "order/created"}, {"event": "order/*", "where": "event.data.x > 1"}],
        "retries": 5,
        "compute": "large",
    }
    assert (b["triggers"], b["on_failure"], b["backoff"]["initial"]) == ([{"event": "go"}], True, 10)
    assert (handler["triggers"], handler["on_failure"], handler["retries"]) == ([], False, 3)
    assert len(app.manifest()["functions"]) == 3


@step(compute="large")
def transcode() -> None: ...


@step(compute="gpu")
def render() -> None: ...


@step(compute="never")
def for_another_app() -> None: ...


@pytest.mark.parametrize("how", ["directly", "inside", "closure", "module", "method"])
def test_the_manifest_names_the_compute_classes_of_the_steps_that_functions_name(how: str) -> None:
    local = step(compute="gpu")(lambda: None)
    this = sys.modules[__name__]

    def directly(ctx: Any) -> Any:
        return ctx.step.run(transcode), ctx.step.run("r", render)

    def inside(ctx: Any) -> Any:
        return [ctx.step.run(each) for each in (transcode,)], (lambda: ctx.step.run(render))

    def closure(ctx: Any) -> Any:
        return ctx.step.run("local", local), transcode

    def module(ctx: Any) -> Any:
        return ctx.step.run(this.transcode), this.render

    @functools.wraps(directly)
    def method(*args: Any) -> Any:
        return directly(*args)

    app = Stepwell("shop")
    app.function(on="go", id="fn")(
        {each.__name__: each for each in (directly, inside, closure, module)}.get(how, method)
    )
    assert app.manifest()["computes"] == ["gpu", "large"]


class Lazy:
    """As Django's settings: whoever asks for its class sets it up."""

    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise RuntimeError("not configured")


settings = Lazy()


def test_what_a_function_names_besides_steps_is_left_alone() -> None:
    def body(ctx: Any) -> Any:
        return settings, ctx.transcode, ctx.event.data["x"].render(), len

    app = Stepwell("shop")
    app.function(on="go", id="fn")(body)
    assert app.manifest()["computes"] == []


def test_schedules_stand_among_the_triggers() -> None:
    app = Stepwell("shop")
    triggers = [Order, Cron("0  8 * * *"), Cron("0 8 * * *", tz="Europe/Paris", jitter="5m"), Cron("0 9 * * *")]
    assert app.function(on=triggers, id="a")(fn).entry["triggers"] == [
        {"event": "order/created"},
        {"cron": "0 8 * * *", "tz": "UTC"},
        {"cron": "0 8 * * *", "tz": "Europe/Paris", "jitter": 300.0},
        {"cron": "0 9 * * *", "tz": "UTC"},
    ]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"on": []}, "at least one trigger"),
        ({"on": 5}, "got 5"),
        ({"on": ""}, "''"),
        ({"on": "a/*/b"}, "wildcard stands at the end"),
        ({"on": dict}, "EventModel"),
        (
            {"on": "order/created "},
            "on='order/created ': Event name 'order/created ': at most 256 characters, no white",
        ),
        ({"on": ["go", "a b"]}, "no white space, '#' or '*'"),
        ({"on": Trigger("a#b")}, "no white space, '#' or '*'"),
        ({"on": "a b/*"}, "no white space, '#' or '*'"),
        ({"on": "x" * 300}, "at most 256 characters"),
        (
            {"on": "stepwell/run.complete"},
            "no event 'stepwell/run.complete'; of the engine's own there are stepwell/run.",
        ),
        (
            {"on": "stepwell/cron.*"},
            "there are stepwell/run.finished, stepwell/run.failed, stepwell/run.cancelled, step",
        ),
        ({"on": "go", "tags": {"a": "async.data.x"}}, "tag a: 'async.data.x' names async"),
        ({"on": "go", "idempotency": "event.order_id"}, "idempotency=: 'event.order_id' asks for event.order_id"),
        ({"on": Cron("0 0 31 2 *")}, "Cron('0 0 31 2 *') never fires"),
        ({"on": Cron("0 8 * *")}, "has 4 fields, not five"),
        ({"on": ["go", Cron("0 0 8 * * *")]}, "has 6 fields, not five"),
        ({"on": Cron("0 25 * * *")}, "bad hour"),
        ({"on": Cron("0 8 * * *", tz="Europe/Pariss")}, "tz='Europe/Pariss' is no time zone"),
        ({"on": [Cron("0 8 * * *"), Cron("0 8  * * *", jitter=60)]}, "Cron('0 8 * * *', tz='UTC') twice"),
        ({"on": "go", "retries": -1}, "retries"),
        ({"on": "go", "retries": 1.5}, "retries"),
        ({"on": "go", "retries": True}, "retries"),
        ({"on": "go", "backoff": "5s"}, "Backoff"),
        ({"on": "go", "id": "Bad Id"}, "function id"),
        ({"on": "go", "id": ""}, "function id"),
        ({"on": "go", "id": "x" * 81}, "80"),
        ({"on": "go", "id": 5}, "function id is lower-case letters, digits, '-', '_' and '.', at most 80; got 5"),
        ({"on": "go", "name": 5}, "name= is text for people, got 5"),
        ({"on": "go", "on_failure": "notify"}, "on_failure= must be a function that takes the context, got 'notify'"),
        ({"on": "go", "on_failure": yields}, "on_failure= is a generator"),
        ({"on": "go", "compute": 5}, "compute is the name of a compute class such as 'large'"),
        ({"on": "go", "compute": ""}, "got ''"),
        ({"on": "go", "compute": "very large"}, "got 'very large'"),
        ({"on": "go", "cancel_on": CancelOn("x", match={"data.id": object})}, "match['data.id'] is compared with what"),
    ],
)
def test_options_that_make_no_sense_are_refused_where_they_are_written(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        Stepwell("shop").function(**options)(fn)
    assert says in caught.value.message


@pytest.mark.parametrize(
    "name", ["*", "order*", "order/*", "stepwell/*", "stepwell/run.*", "stepwell/run.fa*", "stepwell/run.failed"]
)
def test_a_name_that_events_can_have_is_taken(name: str) -> None:
    assert Stepwell("shop").function(on=name, id="a")(fn).entry["triggers"] == [{"event": name}]


@pytest.mark.parametrize("body", [yields, yields_later, functools.partial(yields, None)])
def test_a_generator_is_no_body_of_a_function(body: Any) -> None:
    with pytest.raises(InvalidOption, match="is a generator: it has a yield"):
        Stepwell("shop").function(on="go", id="a")(body)


def test_what_cannot_be_called_is_no_body_of_a_function() -> None:
    with pytest.raises(InvalidOption, match="must be a function that takes the context, got 5"):
        Stepwell("shop").function(on="go", id="a")(5)  # type: ignore[arg-type]


@pytest.mark.parametrize("middleware", [Middleware(), "otel", {Middleware()}])
def test_middleware_is_given_as_a_list(middleware: Any) -> None:
    with pytest.raises(InvalidOption, match="middleware="):
        Stepwell("shop", middleware=middleware)


def test_two_functions_with_one_id_are_refused() -> None:
    app = Stepwell("shop")
    app.function(on="go", id="a")(fn)
    with pytest.raises(InvalidOption, match="two functions with the id 'a'"):
        app.function(on="stop", id="a")(fn)


def test_a_lambda_needs_an_id() -> None:
    with pytest.raises(InvalidOption, match="function id"):
        Stepwell("shop").function(on="go")(lambda ctx: None)


# ---- steps


def work(n: int) -> int:
    return n + 1


def test_a_step_stays_callable_and_keeps_its_name_and_documentation() -> None:
    marked = step(retries=5)(work)
    assert marked(1) == 2
    assert (marked.__name__, step_id(marked), plain(marked)) == ("work", "work", work)
    assert options_of(marked) == StepOptions(retries=5)
    assert step(work)(1) == 2
    assert options_of(work) == StepOptions()


def test_using_makes_a_variant_and_leaves_the_step_alone() -> None:
    base = step(retries=5, timeout="30s", id="base")(work)
    variant = base.using(retries=0, id="variant", at_most_once=True)
    assert options_of(variant) == StepOptions("variant", 0, None, 30.0, None, True)
    assert options_of(base) == StepOptions("base", 5, None, 30.0, None, False)
    assert variant(1) == 2
    assert options_of(variant.using(at_most_once=False)).at_most_once is False
    assert options_of(base.using(backoff=Backoff("1s"), compute="large")).compute == "large"


def test_a_step_that_is_a_method_binds_like_one() -> None:
    class Service:
        factor = 3

        @step(retries=1)
        def scale(self, n: int) -> int:
            return n * self.factor

    assert Service().scale(2) == 6
    assert options_of(Service().scale).retries == 1
    assert step_id(Service().scale) == "scale"


def test_partials_are_named_by_what_they_call_and_lambdas_need_an_id() -> None:
    assert step_id(functools.partial(functools.partial(work), 1)) == "work"
    for nameless in (lambda: 1, functools.partial(lambda n: n, 1), object()):
        with pytest.raises(InvalidOption, match="an-id"):
            step_id(nameless)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make",
    [
        lambda: step(id=""),
        lambda: step(id="x" * 201),
        lambda: step(id="new\nline"),
        lambda: step(retries=-1),
        lambda: step(retries=1001),
        lambda: step(retries="3"),  # type: ignore[call-overload]
        lambda: step(timeout=0),
        lambda: step(timeout="soon"),
        lambda: step(backoff=5),  # type: ignore[call-overload]
        lambda: step(compute=5),  # type: ignore[call-overload]
        lambda: step(compute="a/b"),
        lambda: step(at_most_once="yes"),  # type: ignore[call-overload]
        lambda: step(at_most_once=0),  # type: ignore[call-overload]
        lambda: step(5),  # type: ignore[call-overload]
        lambda: step(work).using(retries=-1),
        lambda: step(work).using(compute=""),
        lambda: step(work).using(at_most_once="no"),  # type: ignore[arg-type]
        lambda: step(work).using(timeout="0s"),
    ],
)
def test_step_options_that_make_no_sense_are_refused_where_they_are_written(make: Callable[[], Any]) -> None:
    with pytest.raises(InvalidOption):
        make()


def test_a_step_that_is_given_its_id_without_a_name_is_told_how_to_write_it() -> None:
    with pytest.raises(InvalidOption, match=r"got 'charge'; write @step\(id='charge'\)"):
        step("charge")  # type: ignore[call-overload]
