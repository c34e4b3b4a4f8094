"""Driving a plain function: steps run in its own thread, submitted ones in threads of their own."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from stepwell.engine.core import Core, Suspended, current, engine_calls
from stepwell.engine.operations import BodyStep, Operation
from stepwell.errors import ErrorInfo, StepError, StepTimeout
from stepwell.middleware.base import StepCall

PARALLEL = 10
"""Bodies that run at once unless the caller says otherwise."""


class SyncDriver:
    """Runs operations for a function that blocks."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.wake_at: int | None = None
        self._open: list[Operation] = []
        self._unasked: list[Operation] = []
        """Submitted, and nobody has asked for what came of them yet."""
        self._ended = 0
        self._broken: BaseException | None = None

    # ---- what ctx.step does

    def finish(self, operation: Operation) -> Any:
        """Bring an operation to its end, or suspend the function; its value, or its error raised."""
        self.core.advance(operation)
        if operation.outcome is None:
            due = operation.wake_at is None or operation.wake_at <= self.core.ports.now()
            if isinstance(operation, BodyStep) and due:
                self.core.live = True
                run_attempt(self.core, operation)
            if operation.outcome is None:
                self._open.append(operation)
                self._wait(lambda: operation.outcome is not None)
        return self.core.seen(operation)

    def submit(self, operation: Operation) -> None:
        """Begin a step in a thread of its own."""
        self.core.advance(operation)
        self._unasked.append(operation)
        if operation.outcome is None:
            self._open.append(operation)
            self._launch_ready(self._open, 4 * PARALLEL)

    def result(self, operation: Operation) -> Any:
        """Wait for a submitted step."""
        self.core.scope()
        if operation in self._unasked:
            self._unasked.remove(operation)
        self._wait(lambda: operation.outcome is not None)
        return self.core.seen(operation)

    def map(self, operations: Sequence[Operation], limit: int, tolerated: int) -> list[Any]:
        """Run operations side by side; their values, with up to `tolerated` errors in place of values."""
        waiting = deque(operations)
        active: list[Operation] = []
        failed = 0
        while waiting or active:
            while waiting and len(active) < limit and failed <= tolerated:
                operation = waiting.popleft()
                self.core.advance(operation)
                active.append(operation)
                self._open.append(operation)
            ended = [operation for operation in active if operation.outcome is not None]
            failed += sum(1 for operation in ended if operation.outcome and operation.outcome.error is not None)
            if ended:
                active = [operation for operation in active if operation.outcome is None]
                self._open = [operation for operation in self._open if operation.outcome is None]
            elif failed > tolerated and not any(operation.running for operation in active):
                break
            elif failed > tolerated or not self._launch_ready(active, limit):
                self._pause()
        self._open = [operation for operation in self._open if operation not in active]
        return gather_values(self.core, operations, failed > tolerated)

    def drain(self) -> None:
        """The function has returned: steps it submitted and never asked for are part of the run all the same.

        Those that ended long ago, too: whether their failure counts must not depend on how fast they were.
        """
        for operation in list(self._unasked):
            self.result(operation)

    def join(self) -> None:
        """Wait for every thread: none may go on once the handler has returned and Lambda freezes the process."""
        self.core.ports.threads.wait_until(lambda: not any(operation.running for operation in self._open))

    # ---- waiting

    def _wait(self, enough: Callable[[], bool]) -> None:
        while not enough():
            if not self._launch_ready(self._open, 4 * PARALLEL):
                if enough():
                    return
                self._pause()
        self._open = [operation for operation in self._open if operation.outcome is None]

    def _launch_ready(self, operations: Sequence[Operation], limit: int) -> bool:
        """Let go on what may; says whether anything did."""
        if self._broken is not None:
            raise self._broken  # whether its checkpoint took effect is unknown: nothing may be begun again
        now, moved = self.core.ports.now(), False
        for operation in operations:
            if operation.running or operation.outcome is not None:
                continue
            if operation.wake_at is not None and operation.wake_at > now:
                continue
            if isinstance(operation, BodyStep) and operation.has_body:
                if self.core.closing or sum(1 for other in operations if other.running) >= limit:
                    continue
                self._launch(operation)
            else:
                self.core.advance(operation)
            moved = True
        return moved

    def _launch(self, operation: BodyStep) -> None:
        operation.running = self.core.live = True
        context = contextvars.copy_context()

        def body() -> None:
            try:
                context.run(run_attempt, self.core, operation)
            except BaseException as error:  # superseded, or a crash: the whole invocation ends
                self._broken = error
            finally:
                operation.running = False
                self._ended += 1
                self.core.ports.threads.notify()

        self.core.ports.threads.spawn(body, name=f"step {operation.key}")

    def _pause(self) -> None:
        """Block until something changes; suspend the function if nothing can before some time has passed."""
        seen = self._ended
        if self._broken is not None:
            raise self._broken
        resting = [op.wake_at for op in self._open if op.outcome is None and not op.running and op.wake_at is not None]
        if any(operation.running for operation in self._open):
            soonest = None if not resting else max(0.05, (min(resting) - self.core.ports.now()) / 1000)
            self.core.ports.threads.wait_until(lambda: self._ended != seen or self._broken is not None, soonest)
            if self._broken is not None:
                raise self._broken
            return
        self.wake_at = min(resting, default=self.core.ports.now())
        self.core.suspending = True
        raise Suspended


def run_attempt(core: Core, operation: BodyStep) -> None:
    """One run of a body, with everything before and after it."""
    with engine_calls():
        attempt = operation.begin(core)
    if attempt is None:
        return
    try:
        value, error = call_body(core, operation), None
    except (Exception, SystemExit) as raised:
        value, error = None, raised
    with engine_calls():
        operation.end(core, attempt, value, error)


def call_body(core: Core, operation: BodyStep) -> Any:
    """Call the body in its scope. With a time-out it gets a thread, because nothing else can be left behind."""
    body = prepare(core, operation)
    timeout = operation.policy.timeout
    if operation.is_async and core.hooks.replace(operation.id) is None:
        return asyncio.run(_timed(body, timeout, operation))
    if timeout is None:
        return body()
    outcome: list[tuple[Any, BaseException | None]] = []
    context = contextvars.copy_context()

    def run() -> None:
        try:
            outcome.append((context.run(body), None))
        except BaseException as error:
            outcome.append((None, error))
        core.ports.threads.notify()

    core.ports.threads.spawn(run, name=f"step {operation.key} with a time-out")
    if not core.ports.threads.wait_until(lambda: bool(outcome), timeout):
        core.overrun = True  # the thread goes on; the process must not
        raise timed_out(operation)
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


def prepare(core: Core, operation: BodyStep) -> Callable[[], Any]:
    """The body in the scope of its step, with what a test wants around it."""
    hooks, name = core.hooks, operation.id
    replacement = hooks.replace(name)
    call = operation.fn if replacement is None else replacement
    scope = current.get()
    attempt = None
    if core.values.chain.steps and core.call is not None:
        attempt = StepCall(core.call, operation.key, name, operation.kind, operation.attempt)
    inside = scope.inside(operation.key, attempt) if scope else None

    if operation.is_async and replacement is None:

        async def run_async() -> Any:
            token = current.set(inside)
            try:
                hooks.before(name, operation.key, core.run.id)
                if attempt is None:
                    value = await call(*operation.positional, **operation.keywords)
                else:
                    with core.around_step(attempt):
                        value = await call(*operation.positional, **operation.keywords)
                hooks.after(name, operation.key, core.run.id)
                return value
            finally:
                current.reset(token)

        return run_async

    def called() -> Any:
        value = call(*operation.positional, **operation.keywords)
        return asyncio.run(_awaited(value)) if inspect.isawaitable(value) else value

    def run() -> Any:
        token = current.set(inside)
        try:
            hooks.before(name, operation.key, core.run.id)
            if attempt is None:
                value = called()
            else:
                with core.around_step(attempt):
                    value = called()
            hooks.after(name, operation.key, core.run.id)
            return value
        finally:
            current.reset(token)

    return run


def timed_out(operation: BodyStep) -> StepTimeout:
    """The error of an attempt that took too long."""
    return StepTimeout(
        operation.id,
        ErrorInfo("StepTimeout", f"It took longer than {operation.policy.timeout:g} s.", step=operation.key),
    )


def gather_values(core: Core, operations: Sequence[Operation], too_many: bool) -> list[Any]:
    """The values in the order of the items, tolerated errors in their places; the first error if there are too many."""
    values: list[Any] = []
    for operation in operations:
        if operation.outcome is None:
            continue
        try:
            values.append(core.seen(operation))
        except StepError as error:
            if too_many:
                raise
            values.append(error)
    return values


async def _awaited(value: Any) -> Any:
    return await value


async def _timed(body: Callable[[], Any], timeout: float | None, operation: BodyStep) -> Any:
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            return await body()
    except TimeoutError:
        if limit.expired():
            raise timed_out(operation) from None
        raise
