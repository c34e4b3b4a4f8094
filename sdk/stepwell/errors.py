"""Every error Stepwell raises, in one tree. Each class has a stable ``code``; docs/errors.md has a section for each.

    StepwellError                     base of all; catch it to catch everything of ours
    ├── InvalidOption                 a function, step or policy was declared with options that make no sense
    ├── InvalidEvent                  an event that can never be accepted (not JSON, no name, wrong data ...)
    ├── DuplicateEvent                the id of an earlier event, with other data
    ├── Undecided                     a condition could not be evaluated for an event
    ├── PayloadTooLarge               an event or a result above the configured cap
    ├── NotSerializable               a value that cannot be written as JSON or read back as its annotation says
    ├── MisplacedStep                 a step inside a step, from a thread Stepwell does not know, or never awaited
    ├── NonDeterminism                a recorded step came back as something else
    ├── SuspensionSwallowed           the function caught the signal that suspends it
    ├── NoProgress                    a run was invoked again and again without a new checkpoint
    ├── Undeliverable                 no worker could take the run for a whole day
    ├── UnknownFunction               no such function in the app (or no such app)
    ├── UnknownRun                    no such run (or it has expired)
    ├── UnknownStep                   the run has no such step
    ├── UnknownLetter                 the dead-letter queue has no such message
    ├── NotRedriven                   a dead letter could not be sent back to the main queue
    ├── NotReplayable                 a run that is a step of another run cannot be started again by itself
    ├── UnknownCallback               the token belongs to no callback
    │   └── CallbackOver              ... or to one that is answered, out of time, or whose run has ended
    ├── SecretUnavailable             the secret of a webhook cannot be read (logged by the door)
    ├── MiddlewareFailed              a middleware could not read or write a stored value; the run is tried again
    │   └── KeyUnavailable            ... because the key is not there, or may not be used
    ├── TamperedValue                 an encrypted value is not what was stored there
    ├── NonRetriableError             raise it in a step or a function: do not try again
    ├── RetryAfterError               raise it in a step or a function: try again, but not before
    ├── StepError                     in the function: a step has used up its retries (catch it, or the run fails)
    │   ├── StepTimeout               ... it, its callback, child or poll ran out of time
    │   └── StepInterrupted           ... an at-most-once step was cut off, so nobody knows whether it took effect
    ├── RunFailed                     from Client.result and ctx.step.invoke
    └── RunCancelled                  from Client.result

What the user raises on purpose (NonRetriableError, RetryAfterError) and what the engine raises share the base, so one
``except StepwellError`` never hides a bug of the user's own code.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

HIDDEN = "encrypted; to be read with the app's middleware"
"""The message of an error whose real one was encoded by a middleware."""


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """What is kept of an exception: enough to understand it without the process that raised it."""

    type: str
    """The name of the exception's class, without its module."""
    message: str
    traceback: str | None = None
    """The formatted traceback, user frames first to go, at most 4 KB."""
    step: str | None = None
    """The key of the step it came from, if it came from one."""
    sealed: str | None = None
    """Message and traceback as a middleware has encoded them; `message` then says so."""

    def as_json(self) -> dict[str, Any]:
        """Only the fields that say something: every byte of an item is paid for."""
        fields = {"type": self.type, "message": self.message, "traceback": self.traceback, "step": self.step}
        if self.sealed is not None:
            fields |= {"message": None, "sealed": self.sealed}
        return {name: value for name, value in fields.items() if value is not None}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ErrorInfo:
        """The other way round; unknown fields, from a newer version, are ignored."""
        message = data.get("message", HIDDEN)
        return cls(data["type"], message, data.get("traceback"), data.get("step"), data.get("sealed"))


class StepwellError(Exception):
    """The base of every error of Stepwell."""

    code: ClassVar[str] = "stepwell"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip().splitlines()[0])

    @property
    def message(self) -> str:
        """What happened, why, and what to do."""
        return str(self.args[0])


class InvalidOption(StepwellError, ValueError):
    """An option that makes no sense, or two that exclude each other."""

    code = "invalid-option"


class InvalidEvent(StepwellError, ValueError):
    """An event that can never be accepted."""

    code = "invalid-event"


class DuplicateEvent(InvalidEvent):
    """An event with the id of an earlier one but other data: one of the two would be lost silently."""

    code = "duplicate-event"


class Undecided(StepwellError):
    """The condition of a trigger could not be evaluated for an event, so nobody knows whether its function was meant."""

    code = "undecided"


class PayloadTooLarge(StepwellError):
    """A value larger than the configured cap (16 MB unless configured). Pass a reference, such as an S3 key, instead."""

    code = "payload-too-large"


class NotSerializable(StepwellError, TypeError):
    """A value that cannot be written as JSON, or read back as its annotation says."""

    code = "not-serializable"


class MisplacedStep(StepwellError, RuntimeError):
    """A ctx.step call from a place where it cannot be remembered."""

    code = "misplaced-step"


class NonDeterminism(StepwellError):
    """A step came back under a recorded identity as something else."""

    code = "non-determinism"


class SuspensionSwallowed(StepwellError):
    """The function caught the signal that suspends it (a bare `except:` or `except BaseException`)."""

    code = "suspension-swallowed"


class NoProgress(StepwellError):
    """The run was invoked again and again without a new checkpoint, so it was ended instead of looping."""

    code = "no-progress"


class Undeliverable(StepwellError):
    """No worker could take the run for 24 hours."""

    code = "undeliverable"


class UnknownFunction(StepwellError, LookupError):
    """There is no such function."""

    code = "unknown-function"


class UnknownRun(StepwellError, LookupError):
    """There is no such run, or it has expired."""

    code = "unknown-run"


class UnknownStep(StepwellError, LookupError):
    """The run has no such step."""

    code = "unknown-step"


class UnknownLetter(StepwellError, LookupError):
    """The dead-letter queue has no such message."""

    code = "unknown-letter"


class NotRedriven(StepwellError):
    """Dead letters could not be sent back to the main queue, and are where they were. All others were sent."""

    code = "not-redriven"


class NotReplayable(StepwellError):
    """A run that is a step of another run cannot be started again by itself."""

    code = "not-replayable"


class UnknownCallback(StepwellError, LookupError):
    """The token belongs to no callback."""

    code = "unknown-callback"


class CallbackOver(UnknownCallback):
    """The callback is over: answered otherwise, out of time, or its run has ended."""

    code = "callback-over"


class SecretUnavailable(StepwellError):
    """The secret that a webhook is signed with cannot be read."""

    code = "secret-unavailable"


class MiddlewareFailed(StepwellError):
    """A middleware could not read or write a stored value. That is no error of the function: its run is let go, and
    tried again for 24 hours."""

    code = "middleware-failed"


class KeyUnavailable(MiddlewareFailed):
    """The key a value is encrypted with is not among those given, or may not or cannot be used now; or that from which an
    app's callback tokens are made."""

    code = "key-unavailable"


class TamperedValue(StepwellError):
    """An encrypted value is not what was stored at this place: changed, or moved here from another run or step."""

    code = "tampered-value"


class NonRetriableError(StepwellError):
    """Raise it in a step or a function when trying again cannot help."""

    code = "non-retriable"


class RetryAfterError(StepwellError):
    """Raise it when trying again helps only after a while, for example on a 429 with Retry-After.

    ``after`` is a duration: timedelta, seconds, or text such as "30s", at most a year. It replaces the back-off of that
    one retry and still uses one up. What is no duration, such as the date that a Retry-After header may hold, leaves the
    pause to the back-off.
    """

    code = "retry-after"

    def __init__(self, after: timedelta | float | str, message: str | None = None) -> None:
        super().__init__(message or f"Try again after {after}.")
        self.after = after


class StepError(StepwellError):
    """A step has failed for good: its retries are used up, or trying again was ruled out."""

    code = "step-failed"

    def __init__(self, name: str, info: ErrorInfo, *, cause: BaseException | None = None) -> None:
        super().__init__(f"Step {name!r} failed: {info.type}: {info.message}")
        self.name = name
        self.info = info
        self.cause = cause
        """For a child run that failed: the RunFailed."""

    @property
    def type(self) -> str:
        """The class name of the original exception."""
        return self.info.type

    @property
    def message(self) -> str:
        """The message of the original exception."""
        return self.info.message

    @property
    def traceback(self) -> str | None:
        """The formatted traceback of the original exception, if it is still known."""
        return self.info.traceback


class StepTimeout(StepError):
    """A step, callback, child run or poll was out of time."""

    code = "step-timeout"


class StepInterrupted(StepError):
    """An at-most-once step was cut off before its result was recorded; it was not begun again."""

    code = "step-interrupted"


class RunFailed(StepwellError):
    """The run ended as failed."""

    code = "run-failed"

    def __init__(self, run_id: str, info: ErrorInfo) -> None:
        super().__init__(f"Run {run_id} failed: {info.type}: {info.message}")
        self.run_id = run_id
        self.error = info


class RunCancelled(StepwellError):
    """The run was cancelled, or refused by flow control before it began."""

    code = "run-cancelled"

    def __init__(self, run_id: str, reason: str | None = None) -> None:
        super().__init__(f"Run {run_id} was cancelled" + (f": {reason}" if reason else "."))
        self.run_id = run_id
        self.reason = reason
