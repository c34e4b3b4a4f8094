"""What a middleware is, and several of them as one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, TypeVar

from stepwell.errors import InvalidOption
from stepwell.events import Event

T = TypeVar("T")

logger = logging.getLogger("stepwell")


@dataclass(frozen=True, slots=True)
class Place:
    """What a stored value is, and whose: no two values of a Stepwell have the same place."""

    kind: Literal["event", "step", "result", "error", "arguments"]
    """The data of an event, the result of a step, the result of a run, the error of a run or step, the arguments that
    a step was recorded with."""
    owner: str
    """The id of the run, or of the event."""
    name: str = ""
    """The key of the step, empty for a run's own; the name of the event."""


@dataclass(eq=False)
class RunCall:
    """One call of a function: an invocation of its run."""

    run_id: str
    app: str
    function: str
    """Its id. Of a step that runs in a worker of its own: the function's, a dot, the step's."""
    event: Event[dict[str, Any]]
    """The event that started the run, its data as plain JSON; of a batch, the first."""
    attempt: int
    """Of the function's body, from 1."""
    invocation: int
    """How often the run was taken up by a worker, this time included."""
    replay: bool
    """Whether the function was called before in this run and goes over what it did then."""
    suspended: bool = False
    """Known afterwards: it did not end, it will be called again."""
    provisions: dict[type[Any], Any] = field(default_factory=dict)

    def provide(self, value: T, kind: type[T] | None = None) -> None:
        """Give the function and its steps `value`: `provided(kind)` finds it. Without `kind` under its own class."""
        self.provisions[kind or type(value)] = value


@dataclass(eq=False)
class StepCall:
    """One attempt at the body of a step."""

    run: RunCall
    key: str
    """The step's identity in its run."""
    id: str
    kind: str
    """run, poll or send_event."""
    attempt: int
    """From 1. Attempts that were cut off unrecorded are not counted."""
    provisions: dict[type[Any], Any] = field(default_factory=dict)

    def provide(self, value: T, kind: type[T] | None = None) -> None:
        """Give this attempt `value`, as RunCall.provide does; it comes before the run's."""
        self.provisions[kind or type(value)] = value


class Middleware:
    """Code around sending, runs and steps: `Stepwell("shop", middleware=[Outer(), Inner()])`.

    Override what you need; a hook that is not overridden costs nothing. The first middleware is the outermost: it sees
    what is sent or stored first on the way out and last on the way in, and its `on_run` and `on_step` are entered first
    and left last. One instance serves all threads of a process.

    `on_run` and `on_step` give a context manager, mostly by being a generator with `@contextmanager`: what stands before
    the `yield` happens before the function or step, what stands after it afterwards. Plain and `async def` code have
    the same hooks: they are entered and left in the very thread, or task, that calls the code, so context variables set in
    them are seen by it. They may not await.
    """

    def on_send(self, event: Event[dict[str, Any]]) -> Event[dict[str, Any]]:
        """An event is about to be sent, by a client, a step, or to another function that is invoked.

        Gives the event to send instead. Data (plain JSON), tenant, ts and trace may differ; id and name must not. Data
        has been validated before. Names that begin with `stepwell/` are those of invocations, where only data and trace
        count. Raising refuses: `send` raises it, and in a step that is a failed attempt.
        """
        return event

    def on_receive(self, event: Event[dict[str, Any]]) -> Event[dict[str, Any]]:
        """The reverse of on_send: an event is about to be handed to a function, or shown by a client.

        It may come from a sender without this middleware. Called at every invocation of a run.
        """
        return event

    def hides(self, field: str) -> bool:
        """Whether on_send takes this top-level field of the data out of the engine's sight.

        The engine evaluates `where`, keys, tags and `match` without your code; what looks at a hidden field is refused.
        """
        return False

    def on_run(self, run: RunCall) -> AbstractContextManager[None]:
        """Around each call of a function: at every invocation of its run, `run.replay` says which.

        Raising, before or after, is an error of the function and uses up an attempt. It sees what the function raises and
        may raise something else, but not swallow it. Suspending is no error: the context is left as if the function had
        returned, and `run.suspended` is true.
        """
        return nullcontext()

    def on_step(self, step: StepCall) -> AbstractContextManager[None]:
        """Around each attempt at the body of a step; not when a recorded result is replayed, and not around waits.

        Raising is a failure of this attempt. It sees what the body raises and may raise something else, but not swallow
        it.
        """
        return nullcontext()

    def encode(self, text: str, place: Place) -> str:
        """A value is about to be stored: a result, an error's message and traceback, a step's arguments. JSON to JSON.

        Who has no middleware recognizes an object with the one field `$sealed` as encoded, and does not copy it into a
        fork. If it raises, nothing is recorded; the run is let go and tried again for 24 hours, unless it is another
        StepwellError, which is the function's.
        """
        return text

    def decode(self, text: str, place: Place) -> str:
        """The reverse of encode. Give back what encode has not made: it is from before, or from outside."""
        return text

    def flush(self) -> None:
        """A worker's invocation is over and Lambda may freeze the process. Errors are logged."""


class Chain:
    """The middleware of an app, in order. Only hooks that somebody has overridden are in it."""

    def __init__(self, middleware: Sequence[Middleware] = ()) -> None:
        if isinstance(middleware, Middleware) or not isinstance(middleware, Sequence):
            raise InvalidOption(f"middleware= takes a list, the outermost first: middleware=[...]; got {middleware!r}.")
        for each in middleware:
            if not isinstance(each, Middleware):
                raise InvalidOption(f"middleware= takes instances of Middleware, got {each!r}.")
        self.all = tuple(middleware)
        self.senders = self._with("on_send")
        self.receivers = self._with("on_receive")[::-1]
        self.hiders = self._with("hides")
        self.runs = self._with("on_run")
        self.steps = self._with("on_step")
        self.encoders = self._with("encode")
        self.decoders = self._with("decode")[::-1]

    def _with(self, hook: str) -> tuple[Middleware, ...]:
        return tuple(each for each in self.all if getattr(type(each), hook) is not getattr(Middleware, hook))

    def flush(self) -> None:
        """Before the process may be frozen. Never raises: what was done is recorded, and stays done."""
        for each in self.all:
            try:
                each.flush()
            except Exception:
                logger.exception("%s could not be flushed", type(each).__name__)


NO_CHAIN = Chain()


class Around:
    """The contexts of several hooks as one that swallows nothing. `lets_go` are signals no hook is to take for an error."""

    def __init__(
        self,
        hooks: Sequence[Callable[[Any], AbstractContextManager[None]]],
        call: RunCall | StepCall,
        lets_go: type[BaseException] | None = None,
    ) -> None:
        self._hooks = hooks
        self._call = call
        self._lets_go = lets_go
        self._stack = ExitStack()

    def __enter__(self) -> None:
        with ExitStack() as entered:
            for hook in self._hooks:
                entered.enter_context(hook(self._call))
            self._stack = entered.pop_all()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lets_go is None or not isinstance(error, self._lets_go):
            self._stack.__exit__(kind, error, trace)
            return
        run = self._call if isinstance(self._call, RunCall) else self._call.run
        run.suspended = True
        try:
            self._stack.__exit__(None, None, None)
        except Exception:  # the function has not failed, and there is nothing to try again
            logger.exception("a middleware failed while run %s was being suspended", run.run_id)
