"""One call of a ctx.step verb, in one invocation: what it is, and how far it has come.

An operation is advanced by a driver, sync or async; both ask the same three things of it:

    advance(core)    look at the record, register a wait, notice a time-out. Afterwards the operation has an outcome, or
                     rests until `wake_at`, or (only those with a body) wants its body run
    begin / end      around one run of the body: the checks before it, the checkpoint after it
    value()          the outcome as the function gets it: the round-tripped value, or the error raised
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stepwell.callbacks import without_secrets
from stepwell.codec import dumps, loads
from stepwell.decisions.retries import backoff_delay
from stepwell.engine.core import Core
from stepwell.engine.resolve import STEP_OVERHEAD, pack_result
from stepwell.engine.sending import event_message
from stepwell.engine.values import ENCODED_ARGUMENTS
from stepwell.errors import (
    ErrorInfo,
    RunFailed,
    StepError,
    StepInterrupted,
    StepTimeout,
    StepwellError,
)
from stepwell.events import Envelope
from stepwell.middleware.base import Place
from stepwell.records import StepState, StepStatus


@dataclass(eq=False)
class Operation:
    """What all verbs share."""

    key: str
    id: str
    kind: str
    shape: str
    args: str
    """The beginning of the arguments, for the message when they change."""
    decode: Callable[[str], Any] = loads
    outcome: StepState | None = None
    wake_at: int | None = None
    """Milliseconds; while there is no outcome: rest until then. None: may go on now."""
    running: bool = False
    """Its body is being run."""
    recorded: bool = False
    """The outcome was there before this invocation asked."""
    _made: str | None = field(default=None, init=False)
    """The result as it has just been stored: the first look at it need not read an object back from S3."""

    has_body = False

    def __post_init__(self) -> None:
        # They are stored, and shown: a token among them would open its callback for whoever can read the table.
        self.args = without_secrets(self.args)

    def advance(self, core: Core) -> None:
        """See how far it has come; write what has to be written before it may rest."""
        raise NotImplementedError

    def _take(self, core: Core, step: StepState) -> None:
        self.outcome, self.wake_at = step, None
        core.journal.steps[self.key] = step

    def _new(self, core: Core, status: StepStatus, **fields: Any) -> StepState:
        """A record of this step as it is now."""
        before = core.journal.steps.get(self.key)
        now = core.ports.now()
        known: dict[str, Any] = {
            "attempts": before.attempts if before else 0,
            "started": before.started if before and before.started else now,
            "ended": None if status.is_open else now,
        }
        step = StepState(
            key=self.key,
            id=self.id,
            kind=self.kind,
            status=status,
            shape=self.shape,
            epoch=core.journal.run.epoch,
            args=self.args or None,
            **known | fields,
        )
        return core.values.close_step(core.run.id, step)

    def value(self, core: Core) -> Any:
        """The outcome as the function gets it. Raises the step's error; decodes a fresh value at each call."""
        step = self.outcome
        assert step is not None
        if step.status is StepStatus.COMPLETED:
            if step.result is None:
                return self.decode("null")
            text, self._made = self._made, None
            if text is None:
                text = core.ports.payloads.unpack(step.result)
            return self.decode(core.values.step_result(core.run.id, step, text))
        raise step_error(core.values.open_step(core.run.id, step))


def step_error(step: StepState) -> StepError:
    """The error of a step that did not complete."""
    info = replace(step.error or ErrorInfo("StepTimeout", "out of time"), step=step.key)
    if step.status is StepStatus.TIMED_OUT or info.type == "StepTimeout":
        return StepTimeout(step.id, info)
    if info.type == "StepInterrupted":
        return StepInterrupted(step.id, info)
    if step.kind == "invoke" and step.child:
        return StepError(step.id, info, cause=RunFailed(step.child, info))
    return StepError(step.id, info)


# ---- steps with a body


@dataclass(frozen=True, slots=True)
class Policy:
    """How a body is run."""

    retries: int
    backoff: Mapping[str, Any] | None = None
    timeout: float | None = None
    """Seconds for one attempt."""
    at_most_once: bool = False


@dataclass(eq=False)
class BodyStep(Operation):
    """ctx.step.run and whatever else runs code of the user."""

    fn: Callable[..., Any] = lambda: None
    positional: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)
    policy: Policy = field(default_factory=lambda: Policy(retries=3))
    encode: Callable[[Any], str] = dumps
    is_async: bool = False
    attempt: int = 0
    """The one under way, or the last one of this invocation."""

    has_body = True

    def advance(self, core: Core) -> None:
        step = core.journal.find(self.key, self.kind, self.shape, self.args)
        if step is None:
            self.wake_at = None
        elif not step.status.is_open:
            self.recorded = self.recorded or self.outcome is None
            self._take(core, step)
        elif step.status is StepStatus.STARTED:
            self._interrupted(core, step)
        else:
            self.wake_at = step.retry_at

    def _interrupted(self, core: Core, step: StepState) -> None:
        """A start mark without an end: the attempt was cut off, and is charged."""
        if self.policy.at_most_once:
            error = ErrorInfo(
                "StepInterrupted",
                "It was cut off before its result was recorded. It may have taken effect, and it is declared "
                "at_most_once, so it was not begun again.",
            )
        elif step.attempts > self.policy.retries:
            error = ErrorInfo("WorkerDied", f"The worker died in each of its last {step.attempts} marked attempts.")
        else:
            self.wake_at = None
            return
        self._take(core, core.journal.record(self._new(core, StepStatus.FAILED, error=error)))

    def begin(self, core: Core) -> int | None:
        """Just before the body. The number of this attempt, or None if the body must not be run now."""
        if core.must_hand_over(self.policy.timeout):
            self.wake_at = core.ports.now()
            return None
        core.journal.check()
        before = core.journal.steps.get(self.key)
        self.attempt = attempt = (before.attempts if before else 0) + 1
        if self.policy.at_most_once or core.careful:
            mark = core.journal.record(self._new(core, StepStatus.STARTED, attempts=attempt))
            if not mark.status.is_open:
                self._take(core, mark)
                return None
        return attempt

    def end(self, core: Core, attempt: int, value: Any, error: BaseException | None) -> None:
        """Just after the body: record what came of it."""
        if error is None:
            try:
                error = self._completed(core, attempt, value)
            except StepwellError as refused:  # not serializable, too large: the same at every attempt
                error = refused
        if error is not None:
            self._failed(core, attempt, error)

    def _completed(self, core: Core, attempt: int, value: Any) -> BaseException | None:
        text = core.values.encode(self.encode(value), Place("step", core.run.id, self.key))
        beside = STEP_OVERHEAD + (ENCODED_ARGUMENTS if core.values.seals else 0)
        by = f"{core.run.epoch}.{attempt}"
        result = pack_result(core.ports, core.run.id, self.key, text, by, beside=beside)
        stands = core.journal.record(self._new(core, StepStatus.COMPLETED, attempts=attempt, result=result))
        self._made = text if isinstance(result, dict) and stands.result == result else None
        self._take(core, stands)
        return None

    def _failed(self, core: Core, attempt: int, error: BaseException) -> None:
        info = core.describe(error)
        if core.is_final(error) or attempt > self.policy.retries:
            self._take(core, core.journal.record(self._new(core, StepStatus.FAILED, attempts=attempt, error=info)))
            return
        retry_at = core.ports.now() + core.retry_delay(error, self.policy.backoff, attempt, self.key)
        step = core.journal.record(
            self._new(core, StepStatus.RETRYING, attempts=attempt, error=info, retry_at=retry_at)
        )
        if step.status.is_open:
            self.wake_at = retry_at
        else:
            self._take(core, step)


@dataclass(eq=False)
class Poll(BodyStep):
    """ctx.step.poll: the body again and again until a condition holds."""

    until: Callable[[Any], bool] = bool
    every: Mapping[str, Any] = field(default_factory=dict)
    timeout: float | None = None
    max_attempts: int | None = None

    def _completed(self, core: Core, attempt: int, value: Any) -> BaseException | None:
        try:
            done = self.until(self.decode(self.encode(value)))
        except Exception as error:  # the user's condition is a part of the check
            return error
        if done:
            return super()._completed(core, attempt, value)
        now = core.ports.now()
        delay = max(1, round(backoff_delay(self.every, attempt, core.chance(self.key, attempt)) * 1000))
        if self._is_over(core, attempt, now + delay):
            return None
        self._again(core, attempt, now + delay, failures=0)
        return None

    def _failed(self, core: Core, attempt: int, error: BaseException) -> None:
        before = core.journal.steps.get(self.key)
        failures = (before.failures if before else 0) + 1
        if core.is_final(error) or failures > self.policy.retries:
            info = core.describe(error)
            self._take(core, core.journal.record(self._new(core, StepStatus.FAILED, attempts=attempt, error=info)))
            return
        retry_at = core.ports.now() + core.retry_delay(error, self.policy.backoff, failures, self.key)
        if not self._is_over(core, attempt, retry_at):
            self._again(core, attempt, retry_at, failures=failures, error=core.describe(error))

    def _is_over(self, core: Core, attempt: int, next_at: int) -> bool:
        """Record the time-out if there is no next check. A check is not begun after the time is over."""
        why = None
        if self.max_attempts is not None and attempt >= self.max_attempts:
            why = f"The condition did not hold in {attempt} checks."
        elif self.timeout is not None and next_at > self._started(core) + self.timeout * 1000:
            why = f"The condition did not hold within {self.timeout:g} s ({attempt} checks)."
        if why is None:
            return False
        error = ErrorInfo("StepTimeout", why)
        self._take(core, core.journal.record(self._new(core, StepStatus.TIMED_OUT, attempts=attempt, error=error)))
        return True

    def _started(self, core: Core) -> int:
        before = core.journal.steps.get(self.key)
        return before.started if before and before.started else core.ports.now()

    def _again(self, core: Core, attempt: int, at: int, **fields: Any) -> None:
        step = core.journal.record(self._new(core, StepStatus.RETRYING, attempts=attempt, retry_at=at, **fields))
        if step.status.is_open:
            self.wake_at = at
        else:
            self._take(core, step)


def send_events(core: Core, events: Sequence[Envelope]) -> None:
    """Send events from inside a step."""
    sent = [core.values.send(event) for event in events]
    core.ports.queue.send(*(event_message(core.ports, event, group=core.run.app) for event in sent))
