"""Middleware: what its hooks see, when they are called, what they may change, and what it means when they raise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from stepwell import Context, Event, Middleware, NonRetriableError, RunStatus, Stepwell, provided, step
from stepwell.errors import InvalidEvent, InvalidOption, MisplacedStep
from stepwell.middleware import Place, RunCall, StepCall
from stepwell.testing import LocalStepwell

from .support import Declare, Deploy, play, run_of


class Diary(Middleware):
    """Writes down what happens, under a name."""

    def __init__(self, name: str, lines: list[str]) -> None:
        self.name = name
        self.lines = lines

    @contextmanager
    def on_run(self, run: RunCall) -> Iterator[None]:
        self.lines.append(f"{self.name} run {run.invocation}{' again' if run.replay else ''}")
        try:
            yield
        except Exception as error:
            self.lines.append(f"{self.name} run raised {type(error).__name__}")
            raise
        self.lines.append(f"{self.name} run {'suspended' if run.suspended else 'ended'}")

    @contextmanager
    def on_step(self, step: StepCall) -> Iterator[None]:
        self.lines.append(f"{self.name} step {step.key} {step.attempt}")
        try:
            yield
        except Exception as error:
            self.lines.append(f"{self.name} step raised {type(error).__name__}")
            raise
        self.lines.append(f"{self.name} step ended")


def test_the_first_is_the_outermost_and_steps_are_seen_only_when_their_bodies_run(
    declare: Declare, deploy: Deploy
) -> None:
    lines: list[str] = []
    app = Stepwell("shop", middleware=[Diary("outer", lines), Diary("inner", lines)])

    def body(ctx: Any) -> Any:
        yield ctx.step.run("work", lambda: lines.append("body"))
        yield ctx.step.sleep("rest", "1h")
        lines.append("after")

    declare(app, body)
    local = deploy(app)
    assert play(local, wait="2h").status == RunStatus.COMPLETED
    assert lines == [
        "outer run 1",
        "inner run 1",
        "outer step work 1",
        "inner step work 1",
        "body",
        "inner step ended",
        "outer step ended",
        "inner run suspended",
        "outer run suspended",
        "outer run 2 again",
        "inner run 2 again",
        "after",
        "inner run ended",
        "outer run ended",
    ]


def test_errors_of_steps_and_functions_are_seen(declare: Declare, deploy: Deploy) -> None:
    lines: list[str] = []
    app = Stepwell("shop", middleware=[Diary("m", lines)])

    def body(ctx: Any) -> Any:
        def fails() -> None:
            raise OSError("no")

        yield ctx.step.run("work", fails)

    declare(app, body, retries=1)
    local = deploy(app)
    assert play(local, wait="1h").status == RunStatus.FAILED
    assert [line for line in lines if "raised" in line] == [
        "m step raised OSError",
        "m step raised OSError",
        "m run raised StepError",
    ]


def test_async_steps_side_by_side_each_have_their_own_context(deploy: Deploy) -> None:
    import asyncio
    from contextvars import ContextVar

    var: ContextVar[str] = ContextVar("var")

    class Naming(Middleware):
        @contextmanager
        def on_step(self, step: StepCall) -> Iterator[None]:
            token = var.set(step.key)
            try:
                yield
            finally:
                var.reset(token)

    app = Stepwell("shop", middleware=[Naming()])

    async def slow() -> str:
        await asyncio.sleep(0.01)
        return var.get()

    @app.function(on="go", id="fn")
    async def fn(ctx: Any) -> list[str]:
        both = await asyncio.gather(ctx.step.run("a", slow), ctx.step.run("b", slow), ctx.step.run("c", var.get))
        return list(both)

    assert play(deploy(app)).result == ["a", "b", "c"]


class Failing(Middleware):
    """Raises in one of its hooks, some times."""

    def __init__(self, where: str, times: int = 1) -> None:
        self.where = where
        self.times = times

    def _maybe(self, where: str) -> None:
        if where == self.where and self.times > 0:
            self.times -= 1
            raise OSError(f"in {where}")

    @contextmanager
    def on_run(self, run: RunCall) -> Iterator[None]:
        self._maybe("before run")
        yield
        self._maybe("after suspension" if run.suspended else "after run")

    @contextmanager
    def on_step(self, step: StepCall) -> Iterator[None]:
        self._maybe("before step")
        yield
        self._maybe("after step")


@pytest.mark.parametrize("where", ["before run", "after run"])
def test_raising_around_a_run_uses_up_an_attempt_of_the_function(declare: Declare, deploy: Deploy, where: str) -> None:
    app = Stepwell("shop", middleware=[Failing(where)])
    bodies: list[int] = []

    def body(ctx: Any) -> Any:
        yield ctx.step.run("work", lambda: bodies.append(1))
        return ctx.attempt

    declare(app, body, retries=1)
    run = play(deploy(app), wait="1m")
    assert (run.status, run.result) == (RunStatus.COMPLETED, 2)
    assert bodies == [1]


@pytest.mark.parametrize("where", ["before run", "after run"])
def test_raising_around_a_run_each_time_fails_it(declare_plain: Declare, deploy: Deploy, where: str) -> None:
    app = Stepwell("shop", middleware=[Failing(where, 99)])

    def body(ctx: Any) -> Any:
        yield ctx.step.run("work", lambda: None)

    declare_plain(app, body, retries=2)
    run = play(deploy(app), wait="1h")
    assert run.error is not None
    assert (run.status, run.attempt, run.error.type) == (RunStatus.FAILED, 3, "OSError")


def test_raising_after_a_suspension_changes_nothing(declare: Declare, deploy: Deploy) -> None:
    app = Stepwell("shop", middleware=[Failing("after suspension", 99)])

    def body(ctx: Any) -> Any:
        yield ctx.step.sleep("rest", "1m")
        return ctx.attempt

    declare(app, body)
    assert play(deploy(app), wait="1h").result == 1


@pytest.mark.parametrize("where", ["before step", "after step"])
def test_raising_around_a_step_is_a_failed_attempt(declare: Declare, deploy: Deploy, where: str) -> None:
    app = Stepwell("shop", middleware=[Failing(where)])

    def body(ctx: Any) -> Any:
        return (yield ctx.step.run("work", lambda: "done"))

    declare(app, body)
    run = play(deploy(app), wait="1m")
    assert (run.result, run.steps["work"].attempts) == ("done", 2)


def test_a_hook_may_change_an_error_but_not_swallow_it(declare: Declare, deploy: Deploy) -> None:
    class Final(Middleware):
        @contextmanager
        def on_step(self, step: StepCall) -> Iterator[None]:
            try:
                yield
            except PermissionError as error:
                raise NonRetriableError("will never be allowed") from error
            except OSError:
                pass

    app = Stepwell("shop", middleware=[Final()])

    def body(ctx: Any) -> Any:
        def fails() -> None:
            raise (PermissionError if ctx.event.data["forbidden"] else OSError)("no")

        yield ctx.step.run("work", fails)

    declare(app, body, retries=1)
    local = deploy(app)
    changed, kept = play(local, {"forbidden": True}, wait="1h"), play(local, {"forbidden": False}, wait="1h")
    assert changed.error is not None
    assert kept.error is not None
    assert (changed.error.type, changed.steps["work"].attempts) == ("NonRetriableError", 1)
    assert (kept.error.type, kept.steps["work"].attempts) == ("OSError", 2)


# ---- providing


class Database:
    """Something a function needs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.open = True


class Databases(Middleware):
    """One for each call of a function, another for each step that is named `own`."""

    def __init__(self) -> None:
        self.all: list[Database] = []

    @contextmanager
    def on_run(self, run: RunCall) -> Iterator[None]:
        database = Database(f"of {run.event.data.get('customer')}")
        self.all.append(database)
        run.provide(database)
        try:
            yield
        finally:
            database.open = False

    @contextmanager
    def on_step(self, step: StepCall) -> Iterator[None]:
        if step.id == "own":
            step.provide(Database("of the step"), Database)
        yield


def query() -> str:
    database = provided(Database)
    assert database.open
    return database.name


@step
def query_apart() -> str:
    return query()


def test_functions_and_steps_find_what_is_provided_by_its_type(declare: Declare, deploy: Deploy) -> None:
    databases = Databases()
    app = Stepwell("shop", middleware=[databases])

    def body(ctx: Any) -> Any:
        here = provided(Database).name
        one = yield ctx.step.run("one", query)
        own = yield ctx.step.run("own", query)
        two = yield ctx.step.map(query_with, [1, 2])
        return [here, one, own, *two]

    def query_with(_: int) -> str:
        return query()

    declare(app, body)
    run = play(deploy(app), {"customer": "ada"})
    assert run.result == ["of ada", "of ada", "of the step", "of ada", "of ada"]
    assert [database.open for database in databases.all] == [False]


def test_submitted_steps_still_find_it_when_the_function_has_returned(deploy: Deploy) -> None:
    app = Stepwell("shop", middleware=[Databases()])
    seen: list[str] = []

    @app.function(on="go", id="fn")
    def fn(ctx: Context[Any]) -> None:
        ctx.step.submit("late", lambda: seen.append(query()))

    assert play(deploy(app)).status == RunStatus.COMPLETED
    assert len(seen) == 1


def test_steps_in_workers_of_their_own_have_the_middleware_too(deploy: Deploy) -> None:
    lines: list[str] = []
    app = Stepwell("shop", middleware=[Diary("m", lines), Databases()])

    @app.function(on="go", id="fn")
    def fn(ctx: Context[Any]) -> list[str]:
        return list(ctx.step.map(fixed, [1], spread=True))

    assert play(deploy(app)).result == ["of None 1"]
    assert "m step fixed[0] 1" in lines


@step
def fixed(number: int) -> str:
    return f"{query()} {number}"


def test_what_nobody_provides_is_missed_by_name(declare: Declare, deploy: Deploy, app: Stepwell) -> None:
    def body(ctx: Any) -> Any:
        provided(Database)
        yield

    declare(app, body)
    run = play(deploy(app))
    assert run.error is not None
    assert (run.error.type, run.attempt) == ("InvalidOption", 1)
    assert "No middleware of app 'shop' provides Database" in run.error.message
    with pytest.raises(MisplacedStep, match="inside of a function"):
        provided(Database)


# ---- events


class Stamping(Middleware):
    """Adds a field on the way out and takes it away on the way in."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def on_send(self, event: Event[dict[str, Any]]) -> Event[dict[str, Any]]:
        marks = [*event.data.get("marks", []), self.mark]
        return replace(event, data={**event.data, "marks": marks}, tenant="stamped")

    def on_receive(self, event: Event[dict[str, Any]]) -> Event[dict[str, Any]]:
        *rest, last = event.data.get("marks") or [None]
        assert last in (None, self.mark)
        return replace(event, data={**event.data, "marks": rest})


def test_events_pass_through_on_the_way_out_and_back_in_reverse(declare: Declare, deploy: Deploy) -> None:
    app = Stepwell("shop", middleware=[Stamping("a"), Stamping("b")])
    seen: dict[str, Any] = {}

    def body(ctx: Any) -> Any:
        seen["start"] = (ctx.event.data, ctx.event.tenant)
        event = yield ctx.step.wait_for_event("answer", event="answer", timeout="1h")
        seen["waited"] = event.data
        yield ctx.step.send_event("tell", "told", {"n": 3})
        seen["child"] = yield ctx.step.invoke(child, {"n": 4})

    declare(app, body)

    @app.function(on="told", id="child")
    def child(ctx: Context[Any]) -> Any:
        return ctx.event.data

    local = deploy(app)
    event_id = local.send("go", {"n": 1})
    local.run_until_idle()
    app.client.send([{"name": "answer", "data": {"n": 2}}])
    local.run_until_idle()
    run = run_of(local, event_id)
    assert run.status == RunStatus.COMPLETED
    assert seen == {
        "start": ({"n": 1, "marks": []}, "stamped"),
        "waited": {"n": 2, "marks": []},
        "child": {"n": 4, "marks": []},
    }
    assert [other.result for other in local.client.runs(function="shop/child") if other.parent_id is None] == [
        {"n": 3, "marks": []}
    ]
    assert {event.name: event.data["n"] for event in local.client.events()} == {"go": 1, "answer": 2, "told": 3}
    plain = local.client.with_middleware()
    assert {event.name: event.data["marks"] for event in plain.events()}["told"] == ["a", "b"]


def test_a_hook_may_refuse_to_send(declare: Declare, deploy: Deploy) -> None:
    class Strict(Middleware):
        def on_send(self, event: Event[dict[str, Any]]) -> Event[dict[str, Any]]:
            if "forbidden" in event.data:
                raise InvalidEvent("not allowed")
            return event

    app = Stepwell("shop", middleware=[Strict()])

    def body(ctx: Any) -> Any:
        yield ctx.step.send_event("tell", "told", {"forbidden": 1})

    declare(app, body)
    local = deploy(app)
    with pytest.raises(InvalidEvent, match="not allowed"):
        app.send("go", {"forbidden": 1})
    run = play(local, wait="1h")
    assert run.error is not None
    assert (run.error.type, run.steps["tell"].attempts) == ("InvalidEvent", 1)


@pytest.mark.parametrize("change", [lambda event: replace(event, id="other"), lambda event: None])
def test_a_hook_must_leave_id_and_name(deploy: Deploy, change: Callable[[Any], Any]) -> None:
    class Odd(Middleware):
        def on_send(self, event: Event[dict[str, Any]]) -> Event[dict[str, Any]]:
            return change(event)

    app = Stepwell("shop", middleware=[Odd()])
    app.function(on="go", id="fn")(lambda ctx: None)
    deploy(app)
    with pytest.raises(InvalidOption, match="same id and name"):
        app.send("go")


# ---- stored values


class Reversing(Middleware):
    """A toy cipher: the text backwards, with its place beside it."""

    def __init__(self) -> None:
        self.broken = False
        self.places: set[str] = set()

    def encode(self, text: str, place: Place) -> str:
        if self.broken:
            raise OSError("out of order")
        self.places.add(place.kind)
        return f'{{"rev":"{place.kind} {text.encode()[::-1].hex()}"}}'

    def decode(self, text: str, place: Place) -> str:
        if self.broken:
            raise OSError("out of order")
        if not text.startswith('{"rev":"'):
            return text
        kind, _, content = text[8:-2].partition(" ")
        assert kind == place.kind
        return bytes.fromhex(content)[::-1].decode()


def stored(local: LocalStepwell, run_id: str) -> str:
    return str([image.plain() for (pk, _), image in local.world.table.items() if pk == f"RUN#{run_id}"])


def test_values_are_encoded_where_they_are_stored_and_decoded_where_they_are_seen(
    declare: Declare, deploy: Deploy
) -> None:
    app = Stepwell("shop", middleware=[cipher := Reversing()])

    def body(ctx: Any) -> Any:
        first = yield ctx.step.run("work", str.upper, "quite secret")
        yield ctx.step.sleep("rest", "1m")
        return first + "!"

    declare(app, body)
    local = deploy(app)
    run = play(local, wait="1h")
    assert (run.result, run.steps["work"].result) == ("QUITE SECRET!", "QUITE SECRET")
    assert local.client.result(run.id) == "QUITE SECRET!"
    assert "secret" not in stored(local, run.id).lower()
    assert "rev" in str(local.client.with_middleware().run(run.id).result)
    assert cipher.places == {"step", "result", "arguments"}


def test_a_run_waits_for_a_middleware_that_fails_and_charges_nothing(declare: Declare, deploy: Deploy) -> None:
    app = Stepwell("shop", middleware=[cipher := Reversing()])

    def body(ctx: Any) -> Any:
        yield ctx.step.run("before", lambda: "ok")
        yield ctx.step.sleep("rest", "1m")
        return [(yield ctx.step.run("after", lambda: "ok")), ctx.attempt]

    declare(app, body, retries=0)
    local = deploy(app)
    event_id = local.send("go")
    local.run_until_idle()
    cipher.broken = True
    local.advance("3h")
    run = run_of(local, event_id)
    assert run.status == RunStatus.SUSPENDED
    assert run.reason is not None
    assert "middleware-failed: A middleware could not read the arguments of" in run.reason
    assert "OSError: out of order" in run.reason
    cipher.broken = False
    local.advance("20m")
    assert run_of(local, event_id).result == ["ok", 1]


def test_after_a_day_of_that_the_run_has_failed(declare_plain: Declare, deploy: Deploy) -> None:
    app = Stepwell("shop", middleware=[cipher := Reversing()])

    def body(ctx: Any) -> Any:
        yield ctx.step.run("work", lambda: "ok")

    declare_plain(app, body)
    cipher.broken = True
    run = play(deploy(app), wait="26h")
    cipher.broken = False
    assert run.error is not None
    assert (run.status, run.error.type) == (RunStatus.FAILED, "Undeliverable")
    assert "OSError: out of order" in run.error.message


# ---- declaring


def test_only_middleware_is_taken(app: Stepwell) -> None:
    with pytest.raises(InvalidOption, match="takes instances of Middleware, got <class"):
        Stepwell("shop", middleware=[Databases])  # type: ignore[list-item]


def test_flushing_comes_after_all_else_and_its_errors_are_only_logged(declare: Declare, deploy: Deploy) -> None:
    lines: list[str] = []

    class Flushing(Diary):
        def flush(self) -> None:
            lines.append("flush")
            raise OSError("no")

    app = Stepwell("shop", middleware=[Flushing("m", lines)])

    def body(ctx: Any) -> Any:
        yield ctx.step.run("work", lambda: None)

    declare(app, body)
    local = deploy(app)
    lines.clear()
    run = play(local)
    assert run.status == RunStatus.COMPLETED
    assert lines[-2:] == ["m run ended", "flush"]
    assert local.dead_letters() == []
