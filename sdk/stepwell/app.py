"""An app: a set of functions that are deployed together."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from stepwell.context import AsyncContext, Context
from stepwell.decisions.listening import check_heard
from stepwell.endings import endings
from stepwell.engine.async_driver import AsyncDriver
from stepwell.engine.core import Core, withholding
from stepwell.engine.execution import Driver, Program
from stepwell.engine.registration import MANIFEST_VERSION
from stepwell.engine.values import Values
from stepwell.errors import InvalidOption, UnknownFunction
from stepwell.events import CRON_TICK, RESERVED
from stepwell.expressions import check_expression
from stepwell.flow import check_ends, flow_options
from stepwell.ids import APP_ID, FUNCTION_ID
from stepwell.middleware.base import Chain, Middleware
from stepwell.middleware.visibility import check_function
from stepwell.models import AnEvent, EventModel, Failure, SomeEvents, name_of, typed_event
from stepwell.planning.planner import Planner, Target
from stepwell.policies import (
    Backoff,
    Batch,
    CancelOn,
    Concurrency,
    Cron,
    Debounce,
    RateLimit,
    Singleton,
    Throttle,
    Timeouts,
    Trigger,
    check_policy,
    policy_json,
)
from stepwell.remote import remote_program
from stepwell.schedules import Schedule
from stepwell.steps import check_compute, check_retries, named_steps
from stepwell.typed import Typed, returns

if TYPE_CHECKING:
    from stepwell.client import Client
    from stepwell.records import RunState

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

On = str | type[EventModel] | Trigger | Cron
"""What starts a function."""
FailureHandler = Callable[[Context[Failure]], Any] | Callable[[AsyncContext[Failure]], Any]

DEFAULT_RETRIES = 3
MAX_TAGS = 10
TAG_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}")


class Function(Generic[P, R_co]):
    """A declared function. Called directly it is the plain function."""

    def __init__(self, app: Stepwell, fn: Callable[P, R_co], entry: dict[str, Any], models: Mapping[str, Any]) -> None:
        functools.update_wrapper(self, fn)
        self.app = app
        self.fn = fn
        self.entry = entry
        self.id: str = entry["id"]
        self.retries: int = entry["retries"]
        self.backoff: dict[str, Any] | None = entry.get("backoff")
        self._models = models
        kinds = {models.get(trigger["event"]) for trigger in entry["triggers"] if "event" in trigger}
        self._only_model = kinds.pop() if len(kinds) == 1 else None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        return self.fn(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<function {self.app.id}/{self.id}>"

    @functools.cached_property
    def result(self) -> Typed:
        """How results are written and read back; resolved late, when all names of the module exist."""
        return returns(self.fn, f"the result of function {self.id!r}")

    def start(self, core: Core, driver: Driver) -> Any:
        """Call the user's function with its context."""
        body: Callable[[Any], Any] = self.fn
        events = [typed_event(event, self._model(event.name)) for event in core.events]
        planner = Planner(core, self.retries, self.backoff, self.app.target)
        if isinstance(driver, AsyncDriver):
            return body(AsyncContext(core, events, self.retries + 1, planner, driver))
        return body(Context(core, events, self.retries + 1, planner, driver))

    def _model(self, name: str) -> Any:
        if name not in self._models and name.startswith(RESERVED) and name != CRON_TICK:
            return self._only_model  # invoked directly, with data of the only kind it takes
        return self._models.get(name)

    def program(self) -> Program:
        """For the engine."""
        is_async = inspect.iscoroutinefunction(self.fn)
        return Program(self.start, lambda value: self.result.round_trip(value), self.retries, self.backoff, is_async)


class Stepwell:
    """An app.

    id: lower-case letters, digits and hyphens, at most 48 characters; it stands in every key of the app's items and
    cannot be changed later. middleware: code around sending, runs and steps, the outermost first.
    """

    def __init__(self, id: str, *, middleware: Sequence[Middleware] = ()) -> None:
        if not APP_ID.fullmatch(str(id)):
            raise InvalidOption(f"An app id is lower-case letters, digits and hyphens, at most 48; got {id!r}.")
        self.id = id
        self.middleware = Chain(middleware)
        self._values = Values(self.middleware, withholding)
        self.functions: dict[str, Function[..., Any]] = {}
        self._client: Client | None = None
        self._open_client: Callable[[], Client] = self._client_from_env

    # ---- declaring functions

    def function(
        self,
        *,
        on: On | Sequence[On],
        id: str | None = None,
        name: str | None = None,
        retries: int = DEFAULT_RETRIES,
        backoff: Backoff | None = None,
        concurrency: Concurrency | Sequence[Concurrency] | None = None,
        throttle: Throttle | None = None,
        rate_limit: RateLimit | None = None,
        debounce: Debounce | None = None,
        batch: Batch | None = None,
        priority: str | None = None,
        singleton: Singleton | None = None,
        idempotency: str | None = None,
        cancel_on: CancelOn | Sequence[CancelOn] = (),
        timeouts: Timeouts | None = None,
        on_failure: FailureHandler | None = None,
        compute: str = "default",
        tags: Mapping[str, str] | None = None,
    ) -> Callable[[Callable[P, R]], Function[P, R]]:
        """Declare a function and what starts it.

        on: an event name, an EventModel, a Trigger, a Cron, or a list of these. id: the function's name in kebab-case
        unless given. name: for people. retries: attempts after the first, of the body and by default of each of its
        steps. on_failure: called with a Context[Failure] after a run has failed. compute: the class of worker it runs in.
        cancel_on: events that cancel a live run, received after it was. timeouts: how long it may take to start, and to
        finish from then on, before it is cancelled.
        tags: names and CEL expressions over `event`, by whose values runs are found (`client.runs(tag="order=o-1")`).

        Raises InvalidOption if an option makes no sense.
        """
        flow = flow_options(
            concurrency=concurrency,
            throttle=throttle,
            rate_limit=rate_limit,
            debounce=debounce,
            batch=batch,
            priority=priority,
            singleton=singleton,
            idempotency=idempotency,
        )
        labels = check_tags(tags)
        check_retries(retries)
        check_policy("backoff", backoff, Backoff)
        check_compute(compute)
        if name is not None and not isinstance(name, str):
            raise InvalidOption(f"name= is text for people, got {name!r}.")
        if on_failure is not None:
            _check_body(on_failure, "on_failure=")
        ends = endings(cancel_on, timeouts)
        triggers, models = _triggers(on)
        check_ends(flow, ends, triggers)

        def declare(fn: Callable[P, R]) -> Function[P, R]:
            _check_body(fn, getattr(fn, "__name__", "@app.function"))
            function_id = id if id is not None else getattr(fn, "__name__", "").strip("_").replace("_", "-").lower()
            if not isinstance(function_id, str) or not FUNCTION_ID.fullmatch(function_id):
                raise InvalidOption(
                    f"A function id is lower-case letters, digits, '-', '_' and '.', at most 80; got {function_id!r}."
                )
            entry: dict[str, Any] = {
                "id": function_id,
                "name": name or function_id,
                "triggers": triggers,
                "retries": retries,
                "compute": compute,
            }
            if backoff is not None:
                entry["backoff"] = policy_json(backoff)
            handling = dict(entry)
            if flow:
                entry["flow"] = flow
            if on_failure is not None:
                entry["on_failure"] = True
                handler = {**handling, "id": f"{function_id}.on-failure", "name": f"{name or function_id} (on failure)"}
                handler |= {"triggers": [], "on_failure": False}
                self._add(Function(self, on_failure, handler, {"stepwell/run.failed": Failure}))
            if labels:
                entry["tags"] = labels
            entry |= ends
            check_function(self.middleware, entry, what=f"function {function_id!r}")
            return self._add(Function(self, fn, entry, models))

        return declare

    def _add(self, function: Function[P, R]) -> Function[P, R]:
        if function.id in self.functions:
            raise InvalidOption(f"App {self.id!r} has two functions with the id {function.id!r}; give one another id=.")
        self.functions[function.id] = function
        return function

    def manifest(self) -> dict[str, Any]:
        """What is registered at deploy, as plain JSON: the functions with their triggers and policies, and the compute
        classes of the steps that they name."""
        steps = {each for function in self.functions.values() for each in named_steps(function.fn)}
        return {
            "version": MANIFEST_VERSION,
            "app": self.id,
            "functions": [function.entry for function in self.functions.values()],
            "computes": sorted({each.options.compute for each in steps if each.options.compute}),
        }

    def function_of(self, target: Any) -> Function[..., Any]:
        """The declared function for a Function or the plain callable it was made from. Raises UnknownFunction."""
        if isinstance(target, Function):
            return target
        for function in self.functions.values():
            if function.fn is target:
                return function
        raise UnknownFunction(
            f"{target!r} is not a function of app {self.id!r}; for another app write 'app/function-id'."
        )

    def target(self, function: Any) -> Target:
        """The function to invoke for a declared function, or for "app/function-id" (the app may be left out if own)."""
        if not isinstance(function, str):
            found = self.function_of(function)
            return found.app.id, found.id, found.result
        app, slash, target = function.partition("/")
        if not slash:
            app, target = self.id, function
        known = self.functions.get(target) if app == self.id else None
        return app, target, known.result if known else Typed(Any, f"the result of {function!r}")

    # ---- running them

    def program(self, run: RunState) -> Program:
        """The code of a run. Raises UnknownFunction."""
        if run.call is not None:
            return replace(remote_program(run.call), values=self._values)
        function = self.functions.get(run.function)
        if function is None:
            raise UnknownFunction(
                f"App {self.id!r} has no function {run.function!r} (any more). Its run waits for 24 hours for a "
                f"deployment that has it; the app's functions are {', '.join(sorted(self.functions)) or 'none'}."
            )
        return replace(function.program(), values=self._values)

    # ---- sending

    @property
    def client(self) -> Client:
        """The client: of the local world inside `with LocalStepwell(app)`, otherwise from the environment."""
        if self._client is None:
            self._client = self._open_client().with_middleware(*self.middleware.all)
        return self._client

    def bind(self, open_client: Callable[[], Client]) -> Callable[[], Client]:
        """Use the client that this gives from now on, with the app's middleware; gives what was used before.

        It is called when a client is first needed: a worker whose functions need none never imports one.
        """
        before, self._open_client, self._client = self._open_client, open_client, None
        return before

    def _client_from_env(self) -> Client:
        from stepwell.client import Client

        return Client.from_env(default_group=self.id)

    @overload
    def send(self, event: SomeEvents) -> list[str]: ...
    @overload
    def send(
        self,
        event: AnEvent,
        data: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,
        ts: datetime | None = None,
        tenant: str | None = None,
    ) -> str: ...
    def send(
        self,
        event: Any,
        data: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,
        ts: datetime | None = None,
        tenant: str | None = None,
    ) -> str | list[str]:
        """Send an event; gives its id. `send(OrderCreated(...))` or `send("order/created", {...})`. Or a list of events, for
        a list of ids: see Client.send.

        id: of your own, for deduplication: a second event with the same name and id starts nothing. ts: when it takes
        effect, now unless given. tenant: whose it is, for fair queueing; the app unless given. Raises InvalidEvent, also for
        data that does not fit the model that is given as the event, NotSerializable, PayloadTooLarge.
        """
        return self.client.send(event, data, id=id, ts=ts, tenant=tenant)


def _check_body(fn: Any, what: str) -> None:
    """Raise InvalidOption for what cannot be the body of a function."""
    if not callable(fn):
        raise InvalidOption(f"{what} must be a function that takes the context, got {fn!r}.")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise InvalidOption(
            f"{what} is a generator: it has a yield, so calling it would run nothing of it. Write return, or await in an "
            "`async def` function."
        )


def _triggers(on: Any) -> tuple[list[dict[str, Any]], dict[str, type[EventModel]]]:
    """The triggers as the manifest keeps them, and the model of each event that has one."""
    given = list(on) if isinstance(on, list | tuple) else [on]
    if not given:
        raise InvalidOption("on= needs at least one trigger.")
    triggers: list[dict[str, Any]] = []
    models = {}
    for each in given:
        if isinstance(each, Cron):
            schedule = Schedule.checked(each.expression, each.tz, each.jitter)
            if any(other.get("cron") == schedule.expression and other["tz"] == schedule.tz for other in triggers):
                raise InvalidOption(f"on= has Cron({schedule.expression!r}, tz={schedule.tz!r}) twice.")
            triggers.append(schedule.as_json())
            continue
        trigger = each if isinstance(each, Trigger) else Trigger(each)
        name = name_of(trigger.event)
        if "*" in name[:-1]:
            raise InvalidOption(f"on={name!r}: a wildcard stands at the end, such as 'order/*'.")
        check_heard(name, what=f"on={name[:80]!r}", below=True)
        if isinstance(trigger.event, type):
            models[name] = trigger.event
        triggers.append({"event": name} | ({"where": trigger.where} if trigger.where is not None else {}))
    return triggers, models


def check_tags(tags: Any) -> dict[str, str]:
    """The tags of a function. Raises InvalidOption naming the one that is none."""
    if tags is not None and not isinstance(tags, Mapping):
        raise InvalidOption(
            f'tags= takes names and expressions, such as {{"order": "event.data.order_id"}}; got {tags!r}.'
        )
    given = dict(tags or {})
    if len(given) > MAX_TAGS:
        raise InvalidOption(f"A function has at most {MAX_TAGS} tags: each is a write for every run; got {len(given)}.")
    for name, source in given.items():
        if not isinstance(name, str) or not TAG_NAME.fullmatch(name):
            raise InvalidOption(f"A tag's name is letters, digits, '-', '_' and '.', at most 48; got {name!r}.")
        check_expression(source, what=f"tag {name}")
    return given
