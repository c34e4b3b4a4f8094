"""Driving an `async def` function: every step is awaited, plain asyncio runs them side by side.

The loop is asyncio's own; only its selector is watched. When the loop has nothing left to do it asks the selector to
wait, and that is the moment to hand out the next recorded resolution, to begin what may begin, or, if everybody waits
for Stepwell, to suspend. So `gather`, `TaskGroup` and `wait` need no support of their own.

Resolutions are handed out one at a time, in the order in which they were seen the first time, each only when the code
has come to rest after the one before. That makes a race between steps end the same way on every replay.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
import selectors
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from stepwell.engine.core import Core, Suspended, current, engine_calls
from stepwell.engine.operations import BodyStep, Operation
from stepwell.engine.sync_driver import gather_values, prepare, timed_out
from stepwell.engine.unawaited import Unawaited
from stepwell.errors import StepError

SHORT = 5.0
"""Seconds. The user's own timers outside of steps are waited for if they are shorter; longer ones are cut by suspending."""
_LAST = 1 << 62


class AsyncDriver:
    """Runs operations for a function that awaits."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.wake_at: int | None = None
        self._turns: list[tuple[int, int, str, int, asyncio.Future[None]]] = []
        """A heap: the next resolution to be handed out first."""
        self._numbers = itertools.count()
        self._parked: dict[str, tuple[Operation, asyncio.Future[None]]] = {}
        self._gates: list[asyncio.Future[None]] = []
        self._threads: list[tuple[BodyStep, int, asyncio.Future[Any], Any, BaseException | None]] = []
        self._in_threads = 0
        self._in_coroutines = 0
        self._broken: BaseException | None = None
        self._leaving = False
        self._abandoned: list[BodyStep] = []
        self._loop: asyncio.SelectorEventLoop | None = None
        self._unawaited = Unawaited()

    # ---- running the function

    def run(self, main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Run the function to its end, its error, or its suspension (raised as Suspended)."""
        selector = _Watched(self)
        self._loop = loop = asyncio.SelectorEventLoop(selector)
        task = loop.create_task(main())  # the function itself is the root; only the tasks it makes are branches
        loop.set_task_factory(_branching)
        try:
            value = loop.run_until_complete(task)
            if not (self.core.suspending or self._broken or self.core.journal.fatal):
                self._unawaited.check(asyncio.all_tasks(loop))
                loop.run_until_complete(self._unawaited.drain())
            return value
        except asyncio.CancelledError:
            if self._broken is not None:
                raise self._broken from None
            if self.core.suspending:
                raise Suspended from None
            raise RuntimeError("the function cancelled itself") from None
        except BaseException:
            if self._broken is not None:
                raise self._broken from None
            raise
        finally:
            self._leave(loop)

    def _leave(self, loop: asyncio.SelectorEventLoop) -> None:
        """Take down what the function left behind: tasks first, then threads, whose results still count."""
        self._leaving = True
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.set_exception_handler(lambda *_: None)
        try:
            for _ in range(100):
                if all(task.done() for task in tasks):
                    break
                loop.run_until_complete(asyncio.sleep(0))
            self.core.ports.threads.wait_until(lambda: self._in_threads <= len(self._abandoned))
            for operation, attempt, _, value, error in self._threads:
                self._record_late(operation, attempt, value, error)
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            self._unawaited.close()
            loop.close()  # even if the invocation is killed while it waits for its threads

    # ---- what ctx.step does

    def ask(self, operation: Operation, call: str) -> Coroutine[Any, Any, Any]:
        """`finish`, to be awaited by the function as `await {call}`; forgetting that fails the run."""
        return self._unawaited.hold(self.finish(operation), operation.key, call)

    def asked(self, awaitable: Coroutine[Any, Any, Any], name: str, call: str) -> Coroutine[Any, Any, Any]:
        """The same for what is more than one operation."""
        return self._unawaited.hold(awaitable, name, call)

    def begin(self, operation: Operation) -> None:
        """See how far an operation has come that nobody waits for yet."""
        with self._as_one():
            self.core.advance(operation)

    def submit(self, operation: Operation) -> asyncio.Task[Any]:
        """Begin a step in a task of its own."""
        return self._unawaited.begin(self.finish(operation))

    async def finish(self, operation: Operation) -> Any:
        """Bring an operation to its end; its value, or its error raised."""
        with self._as_one():
            self.core.advance(operation)
            rested = False
            while operation.outcome is None:
                if isinstance(operation, BodyStep) and not self.core.closing and self._ready(operation):
                    if self.core.journal.behind():
                        await self._gate()
                    await self._attempt(operation)
                else:
                    await self._rest(operation)
                    self.core.advance(operation)
                    rested = True
            if operation.recorded and not rested and not self.core.journal.is_next(operation.key):
                await self._turn(operation)
            return self.core.seen(operation)

    @contextmanager
    def _as_one(self) -> Iterator[None]:
        """What ends the invocation (superseded, a crash, a key that is not there) ends it in all tasks."""
        try:
            yield
        except (Exception, asyncio.CancelledError, Suspended):
            raise
        except BaseException as error:
            self._break(error)
            raise asyncio.CancelledError from None

    async def map(self, operations: Sequence[Operation], limit: int, tolerated: int) -> list[Any]:
        """Run operations side by side; their values, with up to `tolerated` errors in place of values."""
        rest = iter(operations)
        failed = 0

        async def worker() -> None:
            nonlocal failed
            for operation in rest:
                try:
                    await self.finish(operation)
                except StepError:
                    failed += 1
                if failed > tolerated:
                    return

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(limit, len(operations))):
                    group.create_task(worker())
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None
        return gather_values(self.core, operations, failed > tolerated)

    def _ready(self, operation: Operation) -> bool:
        return operation.wake_at is None or operation.wake_at <= self.core.ports.now()

    async def _rest(self, operation: Operation) -> None:
        future = asyncio.get_running_loop().create_future()
        self._parked[operation.key] = (operation, future)
        try:
            await future
        finally:
            self._parked.pop(operation.key, None)

    async def _turn(self, operation: Operation) -> None:
        """Wait for the turn of a resolution: in the order of the first time, then of their ends."""
        place = self.core.journal.place(operation.key)
        ended = operation.outcome.ended if operation.outcome and operation.outcome.ended else 0
        future = asyncio.get_running_loop().create_future()
        # The number decides where a turn that was cancelled is asked for again: futures have no order.
        turn = (_LAST if place is None else place, ended, operation.key, next(self._numbers), future)
        heapq.heappush(self._turns, turn)
        await future

    async def _gate(self) -> None:
        """New bodies begin only when all that was seen before has been handed out, or they would overtake it."""
        future = asyncio.get_running_loop().create_future()
        self._gates.append(future)
        await future

    async def _attempt(self, operation: BodyStep) -> None:
        self.core.live = True
        with engine_calls():
            attempt = operation.begin(self.core)
        if attempt is None:
            return
        value, error = None, None
        try:
            if operation.is_async and self.core.hooks.replace(operation.id) is None:
                value = await self._in_coroutine(operation)
            else:
                value = await self._in_thread(operation, attempt)
        except (Exception, SystemExit) as raised:
            error = raised
        with engine_calls():
            operation.end(self.core, attempt, value, error)

    async def _in_coroutine(self, operation: BodyStep) -> Any:
        self._in_coroutines += 1
        limit = asyncio.timeout(operation.policy.timeout)
        try:
            async with limit:
                return await prepare(self.core, operation)()
        except TimeoutError:
            if limit.expired():
                raise timed_out(operation) from None
            raise
        finally:
            self._in_coroutines -= 1

    async def _in_thread(self, operation: BodyStep, attempt: int) -> Any:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        body, context = prepare(self.core, operation), contextvars.copy_context()

        def run() -> None:
            value, error = None, None
            try:
                value = context.run(body)
            except BaseException as raised:
                error = raised
                if not isinstance(raised, Exception | SystemExit):
                    self._broken = raised
            self._threads.append((operation, attempt, future, value, error))
            self._in_threads -= 1
            self.core.ports.threads.notify()
            try:
                loop.call_soon_threadsafe(lambda: None)
            except RuntimeError:  # the loop is closed: _leave takes the result
                return

        self._in_threads += 1
        self.core.ports.threads.spawn(run, name=f"step {operation.key}")
        limit = asyncio.timeout(operation.policy.timeout)
        try:
            async with limit:
                return await future
        except TimeoutError:
            if limit.expired():
                self.core.overrun = True  # the thread goes on; the process must not
                self._abandoned.append(operation)
                raise timed_out(operation) from None
            raise

    # ---- the loop has nothing to do

    def idle(self, timeout: float | None) -> bool:
        """Give the loop something to do; False if it has to wait for the operating system."""
        if self._leaving:
            return False
        if self._broken is not None:
            self._cancel_all()
            return True
        return self._collect() or self._hand_out() or self._let_begin() or self._settle(timeout)

    def _collect(self) -> bool:
        """Bodies that ended in their threads."""
        ended, self._threads = self._threads, []
        for operation, attempt, future, value, error in ended:
            if future.done():
                self._record_late(operation, attempt, value, error)
            elif error is not None:
                future.set_exception(error)
            else:
                future.set_result(value)
        return bool(ended)

    def _record_late(self, operation: BodyStep, attempt: int, value: Any, error: BaseException | None) -> None:
        """Nobody waits for this body any more, but it did happen. One past its time-out is recorded as that already."""
        if operation in self._abandoned or self._broken is not None:
            return
        try:
            with engine_calls():
                operation.end(self.core, attempt, value, error)
        except BaseException as failed:
            self._break(failed)

    def _hand_out(self) -> bool:
        while self._turns:
            future = heapq.heappop(self._turns)[-1]
            if not future.done():  # nobody waits for a cancelled one
                future.set_result(None)
                return True
        return False

    def _let_begin(self) -> bool:
        if self._gates:
            gates, self._gates = self._gates, []
            for gate in gates:
                if not gate.done():
                    gate.set_result(None)
            return True
        due = [entry for entry in self._resting() if self._may_go_on(entry[0])]
        if not due:
            return False
        min(due, key=lambda entry: (entry[0].wake_at or 0, entry[0].key))[1].set_result(None)
        return True

    def _settle(self, timeout: float | None) -> bool:
        """Nothing can go on by itself: wait for the bodies that run, or suspend."""
        if self._in_coroutines or (self._in_threads and timeout is not None):
            return False
        if self._in_threads:
            self.core.ports.threads.wait_until(lambda: bool(self._threads) or self._broken is not None, self.next_due())
            return True
        resting = self._resting()
        if not resting or (timeout is not None and timeout <= SHORT):
            return False
        self.wake_at = min(operation.wake_at or 0 for operation, _ in resting)
        self.core.suspending = True
        self._cancel_all()
        return True

    def _resting(self) -> list[tuple[Operation, asyncio.Future[None]]]:
        return [entry for entry in self._parked.values() if not entry[1].done()]

    def _may_go_on(self, operation: Operation) -> bool:
        return self._ready(operation) and not (self.core.closing and operation.has_body)

    def next_due(self) -> float | None:
        """Seconds until the next parked operation may go on."""
        times = [operation.wake_at or 0 for operation, _ in self._resting() if not self.core.closing]
        return max(0.05, (min(times) - self.core.ports.now()) / 1000) if times else None

    def _break(self, error: BaseException) -> None:
        self._broken = self._broken or error
        self._cancel_all()

    def _cancel_all(self) -> None:
        if self._loop is not None:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()


class _Watched(selectors.DefaultSelector):
    """The selector of the loop, asking the driver before it waits."""

    def __init__(self, driver: AsyncDriver) -> None:
        super().__init__()
        self._driver = driver

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return super().select(timeout)
        ready = super().select(0)
        if ready or self._driver.idle(timeout):
            return ready
        due = self._driver.next_due()
        waits = [seconds for seconds in (timeout, due) if seconds is not None]
        with self._driver.core.ports.threads.blocking():
            return super().select(min(waits) if waits else None)


def _branching(
    loop: asyncio.AbstractEventLoop, coro: Any, *, context: contextvars.Context | None = None, **more: Any
) -> asyncio.Task[Any]:
    """Make a task whose steps have a branch of their own, numbered by the task that creates it."""
    scope = current.get()
    if scope is not None and scope.step is None:
        context = (context or contextvars.copy_context()).copy()
        context.run(current.set, scope.fork(getattr(coro, "__name__", "task")))
    return asyncio.Task(coro, loop=loop, context=context, **more)
