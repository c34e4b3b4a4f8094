"""What an `async def` function has asked for and never awaited: steps that would be skipped without a word.

A coroutine that is dropped before it began does nothing, so a forgotten `await` is a step that never happens. What was
asked for is held here until the function has returned; by then each has begun, was given to a task, or was forgotten.

A step that was submitted has begun. Its loop would cut it off at the function's end, as it does any task, with its effect
perhaps done and not recorded; so the run waits for it, as it does in a plain function, and fails with it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine, Generator, Iterable, Iterator
from typing import Any

from stepwell.errors import MisplacedStep

Asked = Coroutine[Any, Any, Any]


class Submitted(asyncio.Task[Any]):
    """The task of a submitted step. It knows whether anybody has looked at what came of it.

    asyncio's futures know that themselves, to warn of errors that nobody has seen, but they do not tell.
    """

    seen = False

    def result(self) -> Any:
        self.seen = True
        return super().result()

    def exception(self) -> BaseException | None:
        self.seen = True
        return super().exception()

    def __await__(self) -> Generator[Any, None, Any]:
        self.seen = True
        return super().__await__()


class Unawaited:
    """The awaitables that ctx.step has given to a function."""

    def __init__(self) -> None:
        self._asked: list[tuple[Asked, str, str, asyncio.Task[Any] | None]] = []
        self._submitted: list[Submitted] = []

    def hold(self, awaitable: Asked, name: str, call: str) -> Asked:
        """Remember an awaitable: of the step `name`, to be awaited as `await {call}`."""
        self._asked.append((awaitable, name, call, asyncio.current_task()))
        return awaitable

    def check(self, pending: Iterable[asyncio.Task[Any]]) -> None:
        """Raise MisplacedStep for what was forgotten. The function has returned; `pending` are the tasks it leaves.

        Not forgotten is what a task was given that did not come to it any more, and what was asked for by code that was
        cancelled or raised on the way to the `await`.
        """
        open_ = [entry for entry in self._asked if _unbegun(entry[0])]
        given = {id(each) for task in pending for each in _within(task)} if open_ else set()
        for awaitable, name, call, asker in open_:
            if id(awaitable) not in given and _came_through(asker):
                raise MisplacedStep(
                    f"Step {name!r} was never awaited, so it has not happened: in an `async def` function a step begins "
                    f"when it is awaited. Write `await {call}`, or give it to asyncio.gather or a task."
                )

    def begin(self, awaitable: Asked) -> asyncio.Task[Any]:
        """Begin a submitted step."""
        task = Submitted(awaitable, loop=asyncio.get_running_loop())
        self._submitted.append(task)
        return task

    async def drain(self) -> None:
        """The function has returned: wait for what it submitted, and raise the first error that it has not looked at."""
        for task in self._submitted:
            await asyncio.wait([task])
            if not task.seen and not task.cancelled():
                task.result()

    def close(self) -> None:
        """Give up what has not begun: Python would warn of it, naming a coroutine that is nobody's but ours."""
        asked, self._asked = self._asked, []
        for awaitable, *_ in asked:
            if _unbegun(awaitable):
                awaitable.close()


def _unbegun(awaitable: Asked) -> bool:
    return inspect.getcoroutinestate(awaitable) == inspect.CORO_CREATED


def _came_through(asker: asyncio.Task[Any] | None) -> bool:
    return asker is None or (asker.done() and not asker.cancelled() and asker.exception() is None)


def _within(task: asyncio.Task[Any]) -> Iterator[Any]:
    """The coroutines of a task, and what their variables hold: `wait_for(step)` has the step as an argument."""
    inner: Any = task.get_coro()
    while inspect.iscoroutine(inner):
        yield inner
        for value in list(inner.cr_frame.f_locals.values()) if inner.cr_frame is not None else ():
            yield value
            if isinstance(value, list | tuple | set):
                yield from value
            elif isinstance(value, dict):
                yield from value.values()
        inner = inner.cr_await
