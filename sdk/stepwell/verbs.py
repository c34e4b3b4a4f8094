"""The verbs of ctx.step, in both faces: each plans an operation and hands it to the driver."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar, overload

from stepwell.callbacks import callback_url
from stepwell.codec import JSON
from stepwell.durations import Duration
from stepwell.engine.async_driver import AsyncDriver
from stepwell.engine.core import Core
from stepwell.engine.operations import Operation
from stepwell.engine.sync_driver import PARALLEL, SyncDriver
from stepwell.engine.waits import CallbackWait
from stepwell.errors import InvalidOption, StepError
from stepwell.events import Event
from stepwell.planning import Planner
from stepwell.policies import Backoff
from stepwell.steps import Step, options_of, plain

T = TypeVar("T")
R = TypeVar("R")


class StepFuture(Generic[T]):
    """A step that was submitted."""

    def __init__(self, driver: SyncDriver, operation: Operation) -> None:
        self._driver = driver
        self._operation = operation

    def result(self) -> T:
        """Wait for the step and give its result. Raises StepError if it failed."""
        value: T = self._driver.result(self._operation)
        return value

    def done(self) -> bool:
        """Whether it has ended, by now. Do not decide by it what the function does next: a replay may be faster."""
        return self._operation.outcome is not None


@dataclass(frozen=True)
class Callback:
    """A place where somebody outside can leave an answer."""

    token: str
    """Who holds it can answer. At least 128 random bits; the same on every replay."""
    url: str
    """Where to POST the answer, if the webhook door is deployed; empty otherwise."""
    _wait: Callable[[], Any]

    def wait(self) -> Any:
        """The answer: its JSON value. Raises StepError if a failure was reported, StepTimeout if time ran out.

        In an async function, await it.
        """
        return self._wait()


class Steps:
    """The verbs of ctx.step. Each blocks until its result is there, or suspends the function."""

    def __init__(self, planner: Planner, driver: SyncDriver) -> None:
        self._plan = planner
        self._driver = driver

    @overload
    def run(self, fn: Callable[..., Coroutine[Any, Any, R]], /, *args: Any, **kwargs: Any) -> R: ...
    @overload
    def run(self, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> R: ...
    @overload
    def run(self, id: str, fn: Callable[..., Coroutine[Any, Any, R]], /, *args: Any, **kwargs: Any) -> R: ...
    @overload
    def run(self, id: str, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> R: ...
    def run(self, target: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run a function as a step: its result is recorded, and replayed from then on.

        `run(fn, ...)` is remembered by the function's name, `run("id", fn, ...)` by the id. Raises StepError when the
        retries are used up.
        """
        return self._driver.finish(self._plan.run(target, args, kwargs))

    @overload
    def submit(self, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> StepFuture[R]: ...
    @overload
    def submit(self, id: str, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> StepFuture[R]: ...
    def submit(self, target: Any, /, *args: Any, **kwargs: Any) -> StepFuture[Any]:
        """Begin a step beside the others; ask its future for the result."""
        operation = self._plan.run(target, args, kwargs)
        self._driver.submit(operation)
        return StepFuture(self._driver, operation)

    def map(
        self,
        fn: Callable[[Any], R],
        items: Iterable[Any],
        *,
        id: str | None = None,
        max_concurrency: int | None = None,
        tolerated_failures: int | float = 0,
        spread: bool = False,
    ) -> list[R | StepError]:
        """Run one step for each item, side by side; the results in the order of the items.

        tolerated_failures: how many may fail (a count, or a share from 0.0 to 1.0); a tolerated failure stands in its
        place as the StepError, one more raises it. max_concurrency: 10 unless given. spread: each item in a worker
        invocation of its own, which needs an importable @step.
        """
        operations = self._plan.map(fn, items, id, spread)
        return self._driver.map(operations, *limits(len(operations), max_concurrency, tolerated_failures, spread))

    def sleep(self, id: str, duration: Duration) -> None:
        """Sleep, without a worker being there. Up to a year."""
        self._driver.finish(self._plan.sleep(id, duration))

    def sleep_until(self, id: str, moment: datetime) -> None:
        """Sleep until a moment; a naive one is UTC."""
        self._driver.finish(self._plan.sleep_until(id, moment))

    def wait_for_event(
        self,
        id: str,
        *,
        event: Any,
        timeout: Duration,
        match: Mapping[str, JSON] | None = None,
        where: str | None = None,
        since: str | None = None,
    ) -> Event[Any] | None:
        """Wait for an event, None when time is out.

        match: paths into the event and the values they must have. where: a CEL expression over `async`, the incoming
        event, and `event`, the run's own. since="run_start": an event that came after the run began counts, too.
        """
        found: Event[Any] | None = self._driver.finish(
            self._plan.wait_for_event(id, event, timeout, match, where, since)
        )
        return found

    def create_callback(self, id: str, *, timeout: Duration, heartbeat: Duration | None = None) -> Callback:
        """A token and URL for somebody outside to answer by; `.wait()` for the answer.

        The time-out counts from now. heartbeat: time out earlier if no heartbeat comes for that long.
        """
        operation = self._plan.callback(id, timeout, heartbeat)
        self._plan.core.advance(operation)
        return callback_of(self._plan.core, operation, lambda: self._driver.finish(operation))

    def wait_for_callback(
        self,
        id: str,
        *,
        timeout: Duration,
        heartbeat: Duration | None = None,
        submit: Callable[[Callback], Any] | None = None,
    ) -> Any:
        """Create a callback, hand it out by running `submit` as a step, and wait for the answer."""
        callback = self.create_callback(id, timeout=timeout, heartbeat=heartbeat)
        if submit is not None:
            self.run(f"{id}.submit", _with_options(submit, callback))
        return callback.wait()

    def poll(
        self,
        id: str,
        check: Callable[..., R],
        *args: Any,
        until: Callable[[R], bool],
        every: Duration | Backoff = "5s",
        timeout: Duration | None = None,
        max_attempts: int | None = None,
    ) -> R:
        """Call `check` again and again until the condition holds for its result, resting in between.

        A check that raises is retried like a step. Raises StepTimeout when out of time or attempts.
        """
        result: R = self._driver.finish(self._plan.poll(id, check, args, until, every, timeout, max_attempts))
        return result

    def invoke(
        self,
        function: Any,
        data: Any = None,
        *,
        id: str | None = None,
        timeout: Duration | None = None,
        detached: bool = False,
    ) -> Any:
        """Run another function as a child run and wait for its result. `function`: the function, or "app/function-id".

        Raises StepError if it failed (its cause is a RunFailed), StepTimeout if it took too long; it goes on then.
        detached: do not wait, and give its run id; it goes on whatever becomes of this run, and has no parent.
        """
        return self._driver.finish(self._plan.invoke(function, data, id, timeout, detached))

    def send_event(
        self,
        step_id: str,
        event: Any,
        data: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,
        ts: datetime | None = None,
        tenant: str | None = None,
    ) -> Any:
        """Send an event, or a list of them, as a step; gives the event id, or the list of ids."""
        return self._driver.finish(self._plan.send_event(step_id, event, data, id, ts, tenant))


class AsyncSteps:
    """The verbs of ctx.step in an `async def` function. The identity of a step is fixed by the call, not the await."""

    def __init__(self, planner: Planner, driver: AsyncDriver) -> None:
        self._plan = planner
        self._driver = driver

    @overload
    def run(
        self, fn: Callable[..., Coroutine[Any, Any, R]], /, *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def run(self, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, R]: ...
    @overload
    def run(
        self, id: str, fn: Callable[..., Coroutine[Any, Any, R]], /, *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def run(self, id: str, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, R]: ...
    def run(self, target: Any, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Run a function, sync or async, as a step; see Steps.run. A sync one runs in a thread."""
        return self._driver.ask(self._plan.run(target, args, kwargs), "ctx.step.run(...)")

    def submit(self, target: Any, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Begin a step at once and give its task, to be awaited later."""
        return asyncio.ensure_future(self._driver.finish(self._plan.run(target, args, kwargs)))  # type: ignore[return-value]

    def map(
        self,
        fn: Callable[[Any], Any],
        items: Iterable[Any],
        *,
        id: str | None = None,
        max_concurrency: int | None = None,
        tolerated_failures: int | float = 0,
        spread: bool = False,
    ) -> Coroutine[Any, Any, list[Any]]:
        """Run one step for each item, side by side; see Steps.map."""
        operations = self._plan.map(fn, items, id, spread)
        bounds = limits(len(operations), max_concurrency, tolerated_failures, spread)
        name = operations[0].key.rpartition("[")[0] if operations else "map"
        return self._driver.asked(self._driver.map(operations, *bounds), name, "ctx.step.map(...)")

    def sleep(self, id: str, duration: Duration) -> Coroutine[Any, Any, None]:
        """Sleep, without a worker being there. Up to a year."""
        return self._driver.ask(self._plan.sleep(id, duration), "ctx.step.sleep(...)")

    def sleep_until(self, id: str, moment: datetime) -> Coroutine[Any, Any, None]:
        """Sleep until a moment; a naive one is UTC."""
        return self._driver.ask(self._plan.sleep_until(id, moment), "ctx.step.sleep_until(...)")

    def wait_for_event(
        self,
        id: str,
        *,
        event: Any,
        timeout: Duration,
        match: Mapping[str, JSON] | None = None,
        where: str | None = None,
        since: str | None = None,
    ) -> Coroutine[Any, Any, Event[Any] | None]:
        """Wait for an event, None when time is out; see Steps.wait_for_event."""
        return self._driver.ask(
            self._plan.wait_for_event(id, event, timeout, match, where, since), "ctx.step.wait_for_event(...)"
        )

    def create_callback(
        self, id: str, *, timeout: Duration, heartbeat: Duration | None = None
    ) -> Coroutine[Any, Any, Callback]:
        """A token and URL for somebody outside to answer by; await `.wait()` for the answer."""
        return self._driver.asked(self._create_callback(id, timeout, heartbeat), id, "ctx.step.create_callback(...)")

    async def _create_callback(self, id: str, timeout: Duration, heartbeat: Duration | None) -> Callback:
        operation = self._plan.callback(id, timeout, heartbeat)
        self._driver.begin(operation)
        return callback_of(self._plan.core, operation, lambda: self._driver.ask(operation, "callback.wait()"))

    def wait_for_callback(
        self,
        id: str,
        *,
        timeout: Duration,
        heartbeat: Duration | None = None,
        submit: Callable[[Callback], Any] | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Create a callback, hand it out by running `submit` as a step, and wait for the answer."""
        waiting = self._wait_for_callback(id, timeout, heartbeat, submit)
        return self._driver.asked(waiting, id, "ctx.step.wait_for_callback(...)")

    async def _wait_for_callback(
        self, id: str, timeout: Duration, heartbeat: Duration | None, submit: Callable[[Callback], Any] | None
    ) -> Any:
        callback = await self._create_callback(id, timeout, heartbeat)
        if submit is not None:
            await self.run(f"{id}.submit", _with_options(submit, callback))
        return await callback.wait()

    def poll(
        self,
        id: str,
        check: Callable[..., Any],
        *args: Any,
        until: Callable[[Any], bool],
        every: Duration | Backoff = "5s",
        timeout: Duration | None = None,
        max_attempts: int | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Call `check` again and again until the condition holds for its result; see Steps.poll."""
        return self._driver.ask(
            self._plan.poll(id, check, args, until, every, timeout, max_attempts), "ctx.step.poll(...)"
        )

    def invoke(
        self,
        function: Any,
        data: Any = None,
        *,
        id: str | None = None,
        timeout: Duration | None = None,
        detached: bool = False,
    ) -> Coroutine[Any, Any, Any]:
        """Run another function as a child run and wait for its result; see Steps.invoke."""
        return self._driver.ask(self._plan.invoke(function, data, id, timeout, detached), "ctx.step.invoke(...)")

    def send_event(
        self,
        step_id: str,
        event: Any,
        data: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,
        ts: datetime | None = None,
        tenant: str | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Send an event, or a list of them, as a step; see Steps.send_event."""
        return self._driver.ask(self._plan.send_event(step_id, event, data, id, ts, tenant), "ctx.step.send_event(...)")


def limits(count: int, max_concurrency: Any, tolerated: int | float, spread: bool) -> tuple[int, int]:
    """How many items at once, and how many may fail. Raises InvalidOption."""
    if max_concurrency is not None and (not isinstance(max_concurrency, int) or max_concurrency < 1):
        raise InvalidOption(f"max_concurrency is a number from 1, got {max_concurrency!r}.")
    if isinstance(tolerated, bool) or tolerated < 0 or (isinstance(tolerated, float) and tolerated > 1):
        raise InvalidOption(
            f"tolerated_failures is a count (an int from 0) or a share (a float from 0.0 to 1.0), got {tolerated!r}."
        )
    parallel = max_concurrency or (count if spread else PARALLEL)
    return max(1, parallel), int(tolerated * count) if isinstance(tolerated, float) else tolerated


def _with_options(submit: Callable[[Callback], Any], callback: Callback) -> Callable[[], Any]:
    """`submit` bound to its callback, with the options of a @step. The callback is no argument of the step's record."""
    fn = plain(submit)
    if inspect.iscoroutinefunction(fn):

        async def call_async() -> None:
            await fn(callback)

        return Step(call_async, options_of(submit))

    def call() -> None:
        fn(callback)

    return Step(call, options_of(submit))


def callback_of(core: Core, operation: CallbackWait, wait: Callable[[], Any]) -> Callback:
    """The callback of an operation, with its token and URL."""
    return Callback(operation.token, callback_url(core.ports.config.api_url, operation.token), wait)
