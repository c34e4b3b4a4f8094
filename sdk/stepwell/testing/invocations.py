"""One invocation of a simulated Lambda: who it is, whether it still lives, and how it dies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from stepwell.clock import Clock


class Crash(BaseException):
    """A simulated Lambda dies here, as if its process had been killed.

    It is no `Exception`, so that user code which catches everything cannot survive its own death.
    """


@dataclass(eq=False)
class Invocation:
    """One invocation of a simulated Lambda."""

    number: int
    """Counts the world's invocations from 1."""
    function: str
    """The Lambda's name."""
    label: str
    """What kind of Lambda it is: consumer, orchestrator, worker, sweeper."""
    request_id: str
    run_id: str | None = None
    """The run a worker was asked to execute."""
    dead: bool = False
    """Set when it crashed: every thread of it dies at its next call to AWS or when it would wait."""
    wire: Any = field(default=None, repr=False)
    """The world's point of passage for calls to AWS."""

    def __str__(self) -> str:
        return f"{self.label} #{self.number}"


_current: ContextVar[Invocation | None] = ContextVar("stepwell_invocation", default=None)


def current_invocation() -> Invocation | None:
    """The invocation on whose behalf this code runs, or None outside of simulated Lambdas."""
    return _current.get()


@contextmanager
def acting_as(invocation: Invocation | None) -> Iterator[None]:
    """What runs inside is done by `invocation`."""
    token = _current.set(invocation)
    try:
        yield
    finally:
        _current.reset(token)


class LambdaContext:
    """The context object a handler gets, with what real ones have."""

    def __init__(self, invocation: Invocation, arn: str, *, seconds: float, clock: Clock) -> None:
        self.aws_request_id = invocation.request_id
        self.function_name = invocation.function
        self.function_version = "$LATEST"
        self.invoked_function_arn = arn
        self.memory_limit_in_mb = "512"
        self.log_group_name = f"/aws/lambda/{invocation.function}"
        self.log_stream_name = f"local/[$LATEST]{invocation.request_id.replace('-', '')}"
        self.identity = None
        self.client_context = None
        self._clock = clock
        self._deadline = clock.now() + seconds

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda would end the invocation, in virtual time: the same in every run of a test."""
        return max(0, round((self._deadline - self._clock.now()) * 1000))

    def __repr__(self) -> str:
        return f"LambdaContext({self.function_name!r}, {self.aws_request_id!r})"
