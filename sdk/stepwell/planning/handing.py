"""create_callback and wait_for_callback: a place where somebody outside can leave an answer."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic

from typing_extensions import TypeVar

from stepwell.callbacks import callback_url
from stepwell.durations import Duration
from stepwell.engine.async_driver import AsyncDriver
from stepwell.engine.core import Core
from stepwell.engine.operations import Operation
from stepwell.engine.resolve import shape_of
from stepwell.engine.sync_driver import SyncDriver
from stepwell.engine.waits import CallbackWait
from stepwell.planning.ask import Ask, Later
from stepwell.planning.bodies import body
from stepwell.planning.planner import Planner, wait_seconds
from stepwell.steps import Step, options_of, plain

W_co = TypeVar("W_co", covariant=True, default=Any)


@dataclass(frozen=True)
class Callback(Generic[W_co]):
    """A place where somebody outside can leave an answer."""

    token: str
    """Who holds it can answer. At least 128 random bits; the same on every replay."""
    url: str
    """Where to POST the answer, if the webhook door is deployed; empty otherwise."""
    _wait: Callable[[], W_co]

    def wait(self) -> W_co:
        """The answer: its JSON value. Raises StepError if a failure was reported, StepTimeout if time ran out.

        In an async function, await it.
        """
        return self._wait()


def create_callback(plan: Planner, id: str, timeout: Duration, heartbeat: Duration | None) -> CallbackWait:
    """A callback that is not begun yet."""
    length = wait_seconds(timeout, "timeout")
    beat = None if heartbeat is None else wait_seconds(heartbeat, "heartbeat")
    return CallbackWait(
        key=plan.key(id),
        id=id,
        kind="callback",
        shape=shape_of("callback", []),
        args="",
        timeout=length,
        heartbeat=beat,
    )


def begin(operation: CallbackWait, driver: SyncDriver) -> Callback[Any]:
    """Begin a callback; its answer is waited for by blocking."""
    driver.core.advance(operation)
    return _callback(driver.core, operation, lambda: driver.finish(operation))


async def begin_async(operation: CallbackWait, driver: AsyncDriver) -> Callback[Later[Any]]:
    """Begin a callback; its answer is to be awaited."""
    driver.begin(operation)
    return _callback(driver.core, operation, lambda: driver.ask(operation, "callback.wait()"))


def _callback(core: Core, operation: CallbackWait, wait: Callable[[], W_co]) -> Callback[W_co]:
    return Callback(operation.token, callback_url(core.ports.config.api_url, operation.token), wait)


def wait_for_callback(
    plan: Planner,
    /,
    id: str,
    *,
    timeout: Duration,
    heartbeat: Duration | None = None,
    submit: Callable[[Callback], Any] | None = None,
) -> Ask[Any]:
    """Create a callback, hand it out by running `submit` as a step, and wait for the answer."""
    operation = create_callback(plan, id, timeout, heartbeat)
    if submit is None:
        return _Handed(operation, None)
    name = f"{id}.submit"
    operation.submit = key = plan.key(name)
    return _Handed(operation, lambda callback: body(plan, key, name, _bound(submit, callback), (), {}))


@dataclass(frozen=True)
class _Handed(Ask[Any]):
    """The answer to a callback that is begun, and handed out by a step."""

    operation: CallbackWait
    submit: Callable[[Callback], Operation] | None

    @property
    def name(self) -> str:
        return self.operation.key

    def result(self, driver: SyncDriver) -> Any:
        callback = begin(self.operation, driver)
        if self.submit is not None:
            driver.finish(self.submit(callback))
        return driver.finish(self.operation)

    async def finish(self, driver: AsyncDriver) -> Any:
        callback = await begin_async(self.operation, driver)
        if self.submit is not None:
            await driver.finish(self.submit(callback))
        return await driver.finish(self.operation)


def _bound(submit: Callable[[Callback], Any], callback: Callback) -> Step[[], Any]:
    """`submit` bound to its callback, with the options of a @step. The callback is no argument of the step's record."""
    fn = plain(submit)
    if inspect.iscoroutinefunction(fn):

        async def call_async() -> None:
            await fn(callback)

        return Step(call_async, options_of(submit))

    def call() -> None:
        fn(callback)

    return Step(call, options_of(submit))
