"""One invocation of one run, as its operations see it. Sync and async functions share all of this."""

from __future__ import annotations

import logging
import os
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from stepwell.callbacks import without_secrets
from stepwell.codec import dumps
from stepwell.decisions.retries import backoff_delay
from stepwell.durations import YEAR, seconds
from stepwell.engine.journal import Journal
from stepwell.engine.values import PLAIN, Values
from stepwell.errors import (
    ErrorInfo,
    InvalidOption,
    MiddlewareFailed,
    MisplacedStep,
    NotSerializable,
    RetryAfterError,
    StepError,
    StepTimeout,
    StepwellError,
    TamperedValue,
)
from stepwell.events import Envelope
from stepwell.ids import digest, event_key
from stepwell.middleware.base import Around, RunCall, StepCall
from stepwell.ports import Ports
from stepwell.queue import SendFailed
from stepwell.records import RunState, StepState

logger = logging.getLogger("stepwell")

CAREFUL = 24
"""Checkpoints and marks of an invocation that follows a crash, until it trusts its steps again."""
MARGIN = 10.0
"""Seconds kept at the end of an invocation for handing the run over; Lambda ends it without warning."""
_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_TRACE = 2000
"""Characters of a traceback that are kept: the end says most, and every kilobyte is a write unit."""


class Suspended(BaseException):
    """Stepwell is suspending this function; it will be called again and go on after the steps it has recorded.

    Do not catch this: it is a BaseException so that `except Exception` lets it pass. A `finally` is fine; a bare
    `except:` around a ctx.step call is not.
    """


class Unavailable(BaseException):
    """AWS refused or did not answer a call of the engine's own. The invocation ends, and the run is tried again later.

    Not an Exception, and never an error of the function: its retries are for its own failures, not for an outage.
    """


class Withheld(BaseException):
    """A value cannot be read or written now, or a callback's token not made, for want of a key, mostly. The run is let go
    and tried again later.

    Like Unavailable it is never an error of the function.
    """


@contextmanager
def withholding() -> Iterator[None]:
    """Around whatever needs keys: the middleware's reading and writing of values, anywhere below the user's code."""
    try:
        yield
    except MiddlewareFailed as error:
        raise Withheld(f"{error.code}: {error.message}") from error


@contextmanager
def engine_calls() -> Iterator[None]:
    """Around what the engine itself asks of AWS, anywhere below the user's code."""
    try:
        yield
    except (ClientError, BotoCoreError, SendFailed) as error:
        raise Unavailable(f"{type(error).__name__}: {error}") from error


class Seen(Protocol):
    """An operation, as far as the core has to know it."""

    key: str
    outcome: StepState | None

    def advance(self, core: Core) -> None:
        """See how far it has come."""
        ...

    def value(self, core: Core) -> Any:
        """The outcome as the function gets it."""
        ...


class StepHooks(Protocol):
    """What a test may do around the body of a step."""

    def before(self, name: str, key: str, run_id: str) -> None:
        """The body is about to begin."""
        ...

    def after(self, name: str, key: str, run_id: str) -> None:
        """The body is done; its result is not recorded yet."""
        ...

    def replace(self, name: str) -> Callable[..., Any] | None:
        """What to call instead of the body."""
        ...


def _users_part(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame on that is not the engine's."""
    rest = trace
    while rest is not None and rest.tb_frame.f_code.co_filename.startswith(_HERE):
        rest = rest.tb_next
    return rest or trace


class NoHooks:
    """In Lambda nothing happens around a step."""

    def before(self, name: str, key: str, run_id: str) -> None:
        return None

    def after(self, name: str, key: str, run_id: str) -> None:
        return None

    def replace(self, name: str) -> Callable[..., Any] | None:
        return None


@dataclass
class Scope:
    """Where in a function a line of code runs: its branch, or the step whose body it is."""

    core: Core
    branch: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    branches: dict[str, int] = field(default_factory=dict)
    draws: int = 0
    step: str | None = None
    call: StepCall | None = None
    """The attempt at that step, if a middleware is to know of it."""

    def inside(self, key: str, call: StepCall | None = None) -> Scope:
        """The scope of the body of a step."""
        return Scope(self.core, self.branch, step=key, call=call)

    def fork(self, name: str) -> Scope:
        """The scope of a child task. Named after its coroutine, numbered in the order of creation."""
        number = self.branches.get(name, 0)
        self.branches[name] = number + 1
        return Scope(self.core, f"{self.branch}{name}{f':{number}' if number else ''}/")


current: ContextVar[Scope | None] = ContextVar("stepwell_scope", default=None)
"""The scope of the code that is running, None outside of functions."""


class Core:
    """The run, its journal, its time, and the rules for calling ctx.step."""

    def __init__(
        self,
        ports: Ports,
        run: RunState,
        journal: Journal,
        event: Envelope,
        *,
        remaining: Callable[[], float],
        hooks: StepHooks,
        identity: str | None = None,
        others: Sequence[Envelope] = (),
        values: Values = PLAIN,
    ) -> None:
        self.ports = ports
        self.run = run
        self.journal = journal
        self.event = event
        self.events = [event, *others]
        """All events of a batch, in the order in which they were accepted."""
        self.hooks = hooks
        self.values = values
        self.call: RunCall | None = None
        """This call of the function, if there is middleware."""
        self.identity = identity or digest("origin", event_key(event.name, event.id), run.app, run.function).hex()
        """What stays the same when the run is replayed or forked."""
        self.suspending = False
        self.live = False
        """Something new has been begun; until then the function only goes over what it did before."""
        self.closing = False
        """Time runs short: nothing new is begun."""
        self.overrun = False
        """A sync step ran past its time-out: its thread cannot be ended, so the process must be."""
        self.progress: dict[str, Any] | None = None
        self._remaining = remaining
        self._allowance = remaining()
        self._thread = threading.get_ident()
        self._used: dict[str, tuple[str, str, int]] = {}
        self._seen_at = run.fork.started if run.fork else run.started or ports.now()
        self._seed = run.fork.chance if run.fork else run.seed
        self._progress_at = 0

    # ---- identities

    def key_for(self, id: str) -> str:
        """The identity of the next step with this id: branch, id, and the how-manieth.

        Raises MisplacedStep outside the function's own code, Suspended once the function is being suspended.
        """
        scope = self.scope()
        number = scope.counts.get(id, 0)
        scope.counts[id] = number + 1
        key = f"{scope.branch}{id}{f':{number}' if number else ''}"
        return self.claim_key(key, (scope.branch, id, number))

    def claim_key(self, key: str, parts: tuple[str, str, int]) -> str:
        """Make sure that two different steps never share a record."""
        other = self._used.setdefault(key, parts)
        if other != parts:
            raise MisplacedStep(
                f"Two different steps would share the record {key!r}: id {other[1]!r} and id {parts[1]!r}. Rename one."
            )
        return key

    def scope(self) -> Scope:
        """The scope of the caller, if a step may be called from there."""
        scope = current.get()
        if scope is not None and scope.step is not None:
            raise MisplacedStep(
                f"ctx.step was called inside the body of step {scope.step!r}. A step is remembered as a whole; call "
                "steps from the function, and plain functions from steps."
            )
        if scope is None or scope.core is not self or threading.get_ident() != self._thread:
            raise MisplacedStep(
                "ctx.step was called from a thread that Stepwell does not know, so the step would not be found again "
                "when the function is replayed. Use ctx.step.submit or ctx.step.map for parallel steps."
            )
        if self.suspending:
            raise Suspended
        return scope

    @property
    def replaying(self) -> bool:
        """Whether the function is still going over what it did in an earlier invocation."""
        return not self.live and self.journal.replaying

    def advance(self, operation: Seen) -> None:
        """See how far an operation has come, writing what has to be written before it may rest."""
        try:
            with engine_calls():
                operation.advance(self)
        except TamperedValue as error:
            self.journal.fatal = error
            raise

    # ---- middleware

    def around_run(self) -> Around:
        """The middleware around the function. Suspending is no error to it."""
        run, event = self.run, self.event.event()
        # The checkpoints that a fork keeps have no epoch: nothing was called in this run when they were made.
        replay = run.epoch > 1 or any(step.epoch for step in self.journal.steps.values())
        self.call = RunCall(run.id, run.app, run.function, event, run.attempt, run.epoch, replay)
        return Around([each.on_run for each in self.values.chain.runs], self.call, Suspended)

    def around_step(self, call: StepCall) -> Around:
        """The middleware around a step's body."""
        return Around([each.on_step for each in self.values.chain.steps], call)

    # ---- time and chance, the same on every replay

    def seen(self, operation: Seen) -> Any:
        """Hand the outcome of an operation to the function: its value, or its error raised."""
        self.journal.hand_out(operation.key)
        if operation.outcome is not None and operation.outcome.ended is not None:
            self._seen_at = max(self._seen_at, operation.outcome.ended)
        try:
            with engine_calls():
                return operation.value(self)
        except TamperedValue as error:  # also if the function catches it: what comes next would rest on a lie
            self.journal.fatal = error
            raise

    def now(self) -> int:
        """The time of the latest checkpoint the function has seen, or of its first start; milliseconds."""
        return self._seen_at

    def draw(self, what: str) -> bytes:
        """The next 32 pseudo-random bytes of the calling branch; unpredictable from outside, equal on every replay."""
        scope = current.get()
        if scope is None:
            return digest(self._seed, what)
        scope.draws += 1
        return digest(self._seed, what, scope.branch, scope.step or "", str(scope.draws))

    def chance(self, *parts: object) -> float:
        """A number from 0 to 1 that is always the same for the same parts."""
        return int.from_bytes(digest(self._seed, "chance", *map(str, parts))[:7], "big") / (1 << 56)

    # ---- the rules of trying

    @property
    def careful(self) -> bool:
        """Whether a body is preceded by a start mark.

        It is after an invocation has died, so that a step that kills is found out, and so that a result a dying holder
        may still have recorded is met before the body begins. The steps that were in flight then come first now; once
        they are through, nothing is suspected any more, and the marks, a write each, end.
        """
        return self.run.crashes > 0 and self.journal.written < CAREFUL

    def must_hand_over(self, timeout: float | None) -> bool:
        """Whether too little time is left to begin a body that may take `timeout` seconds."""
        need = min(max(MARGIN, (timeout or 0) + MARGIN / 2), 0.9 * self._allowance)
        if self._remaining() < need:
            self.closing = True
        return self.closing

    def is_final(self, error: BaseException) -> bool:
        """Whether trying again cannot help. An attempt that took too long may be faster the next time, a key be back."""
        again = RetryAfterError | StepTimeout | MiddlewareFailed
        return isinstance(error, StepwellError) and not isinstance(error, again)

    def retry_delay(self, error: BaseException, backoff: Mapping[str, Any] | None, failures: int, key: str) -> int:
        """Milliseconds until the next attempt."""
        if isinstance(error, RetryAfterError):
            try:
                return round(min(seconds(error.after, what="after"), YEAR) * 1000)
            except InvalidOption:  # it is what another system said, such as a date: a reason to pause, none to fail
                logger.warning("run %s: a RetryAfterError says no duration; the back-off decides", self.run.id)
        return round(backoff_delay(backoff, failures, self.chance(key, failures)) * 1000)

    def describe(self, error: BaseException) -> ErrorInfo:
        """What is kept of an exception: without the secrets of callback tokens in it, as in the URL of a failed request."""
        if isinstance(error, StepError):
            return error.info
        trace = traceback.format_exception(type(error), error, _users_part(error.__traceback__))
        message, text = without_secrets(str(error)), without_secrets("".join(trace))
        return ErrorInfo(type(error).__name__, message[:1000], text if len(text) <= _TRACE else "..." + text[-_TRACE:])

    # ---- progress

    def report(self, done: float, total: float | None, message: str) -> None:
        """Keep the progress, writing at most once a second; the rest goes with the next write of the run.

        While replaying nothing is written: it would show the run further back than it is.
        """
        self.progress = {"done": done, "total": total, "message": message, "at": self.ports.now()}
        try:
            text = dumps(self.progress)
        except NotSerializable as error:
            raise NotSerializable(f"ctx.progress takes numbers and text: {error}") from error
        if not self.replaying and self.ports.now() - self._progress_at >= 1000:
            self._progress_at = self.ports.now()
            with engine_calls():
                self.journal.note_progress(text)
