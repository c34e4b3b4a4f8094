"""The verbs of ctx.step, in both faces: each plans what is asked for and hands it to the driver of its face.

What a verb takes, what it means and what it comes to is written once, in its plan (see `planning`). A face only says how one
gets there: by blocking, or by an await. `run` and `submit` are written out in both, because a function of any parameters
that is passed on together with its arguments is more than type checkers can see through a wrapper.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from stepwell.durations import Duration
from stepwell.engine.async_driver import AsyncDriver
from stepwell.engine.operations import Operation
from stepwell.engine.sync_driver import SyncDriver
from stepwell.planning import bodies, calls, handing, polls, sending, waits
from stepwell.planning.ask import Ask, Later
from stepwell.planning.handing import Callback
from stepwell.planning.planner import Planner

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
R = TypeVar("R")


class StepFuture(Generic[T_co]):
    """A step that was submitted."""

    def __init__(self, driver: SyncDriver, operation: Operation) -> None:
        self._driver = driver
        self._operation = operation

    def result(self) -> T_co:
        """Wait for the step and give its result. Raises StepError if it failed."""
        value: T_co = self._driver.result(self._operation)
        return value

    def done(self) -> bool:
        """Whether it has ended, by now. Do not decide by it what the function does next: a replay may be faster."""
        return self._operation.outcome is not None


def blocking(plan: Callable[Concatenate[Planner, P], Ask[T]]) -> Callable[Concatenate[Steps, P], T]:
    """The verb that blocks until it has what it asks for."""

    @functools.wraps(plan)
    def verb(self: Steps, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return plan(self._plan, *args, **kwargs).result(self._driver)

    return verb


def awaited(plan: Callable[Concatenate[Planner, P], Ask[T]]) -> Callable[Concatenate[AsyncSteps, P], Later[T]]:
    """The verb that gives what it asks for to whoever awaits it."""

    @functools.wraps(plan)
    def verb(self: AsyncSteps, /, *args: P.args, **kwargs: P.kwargs) -> Later[T]:
        ask = plan(self._plan, *args, **kwargs)
        return self._driver.asked(ask.finish(self._driver), ask.name, f"ctx.step.{plan.__name__}(...)")

    return verb


class Steps:
    """The verbs of ctx.step. Each blocks until its result is there, or suspends the function."""

    def __init__(self, planner: Planner, driver: SyncDriver) -> None:
        self._plan = planner
        self._driver = driver

    @overload
    def run(self, fn: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def run(self, id: str, fn: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def run(self, id: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    def run(self, target: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run a function as a step: its result is recorded, and replayed from then on.

        `run(fn, ...)` is remembered by the function's name, `run("id", fn, ...)` by the id. Raises StepError when the
        retries are used up.
        """
        return self._driver.finish(bodies.run(self._plan, target, args, kwargs))

    @overload
    def submit(
        self, fn: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> StepFuture[R]: ...
    @overload
    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> StepFuture[R]: ...
    @overload
    def submit(
        self, id: str, fn: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> StepFuture[R]: ...
    @overload
    def submit(self, id: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> StepFuture[R]: ...
    def submit(self, target: Any, /, *args: Any, **kwargs: Any) -> StepFuture[Any]:
        """Begin a step beside the others; ask its future for the result.

        A step that is never asked for its result is part of the run all the same: the run does not end before it, and
        fails with it.
        """
        operation = bodies.run(self._plan, target, args, kwargs)
        self._driver.submit(operation)
        return StepFuture(self._driver, operation)

    def create_callback(self, id: str, *, timeout: Duration, heartbeat: Duration | None = None) -> Callback[Any]:
        """A token and URL for somebody outside to answer by; `.wait()` for the answer.

        The time-out counts from now. heartbeat: time out earlier if no heartbeat comes for that long.
        """
        return handing.begin(handing.create_callback(self._plan, id, timeout, heartbeat), self._driver)

    map = blocking(bodies.map)
    sleep = blocking(waits.sleep)
    sleep_until = blocking(waits.sleep_until)
    wait_for_event = blocking(waits.wait_for_event)
    wait_for_callback = blocking(handing.wait_for_callback)
    poll = blocking(polls.poll)
    invoke = blocking(calls.invoke)
    send_event = blocking(sending.send_event)


class AsyncSteps:
    """The verbs of ctx.step in an `async def` function. The identity of a step is fixed by the call, not the await."""

    def __init__(self, planner: Planner, driver: AsyncDriver) -> None:
        self._plan = planner
        self._driver = driver

    @overload
    def run(self, fn: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs) -> Later[R]: ...
    @overload
    def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Later[R]: ...
    @overload
    def run(
        self, id: str, fn: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Later[R]: ...
    @overload
    def run(self, id: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Later[R]: ...
    def run(self, target: Any, /, *args: Any, **kwargs: Any) -> Later[Any]:
        """Run a function, sync or async, as a step; see Steps.run. A sync one runs in a thread."""
        return self._driver.ask(bodies.run(self._plan, target, args, kwargs), "ctx.step.run(...)")

    @overload
    def submit(
        self, fn: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Task[R]: ...
    @overload
    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> asyncio.Task[R]: ...
    @overload
    def submit(
        self, id: str, fn: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Task[R]: ...
    @overload
    def submit(self, id: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> asyncio.Task[R]: ...
    def submit(self, target: Any, /, *args: Any, **kwargs: Any) -> asyncio.Task[Any]:
        """Begin a step beside the others and give its task, to be awaited later.

        A step that is never awaited is part of the run all the same, as it is in a plain function; see Steps.submit.
        `task.cancel()` leaves it out.
        """
        return self._driver.submit(bodies.run(self._plan, target, args, kwargs))

    def create_callback(
        self, id: str, *, timeout: Duration, heartbeat: Duration | None = None
    ) -> Later[Callback[Later[Any]]]:
        """A token and URL for somebody outside to answer by; await `.wait()` for the answer. See Steps.create_callback."""
        operation = handing.create_callback(self._plan, id, timeout, heartbeat)
        begun = handing.begin_async(operation, self._driver)
        return self._driver.asked(begun, operation.key, "ctx.step.create_callback(...)")

    map = awaited(bodies.map)
    sleep = awaited(waits.sleep)
    sleep_until = awaited(waits.sleep_until)
    wait_for_event = awaited(waits.wait_for_event)
    wait_for_callback = awaited(handing.wait_for_callback)
    poll = awaited(polls.poll)
    invoke = awaited(calls.invoke)
    send_event = awaited(sending.send_event)
