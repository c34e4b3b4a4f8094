"""What is declared beside a function or a step: triggers, back-off and flow control.

Policies are pydantic dataclasses: checked when they are written, positional where one value says it all, and plain JSON
in the manifest. Only the worker, which has pydantic anyway, imports this module.
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from stepwell.durations import Duration, seconds
from stepwell.errors import InvalidOption
from stepwell.expressions import check_expression

# A cold start is spared the validators of the policies that the app does not use.
_FROZEN = ConfigDict(extra="forbid", defer_build=True)


def _seconds(value: Any) -> float:
    return seconds(value, what="duration")


def _positive(value: Any) -> float:
    result = seconds(value, what="duration")
    if result <= 0:
        raise InvalidOption(f"{value!r} must be more than zero.")
    return result


def _cel(value: Any) -> str:
    return check_expression(value, what="expression")


Seconds = Annotated[Duration, BeforeValidator(_seconds)]
Period = Annotated[Duration, BeforeValidator(_positive)]
CEL = Annotated[str, BeforeValidator(_cel)]
Limit = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, config=_FROZEN)
class Backoff:
    """How long to wait before the next attempt: initial * factor ** (attempt - 1), at most maximum.

    With jitter the delay is drawn from the upper half of that, so that failures at the same instant spread out.
    """

    initial: Seconds = 1.0
    factor: Annotated[float, Field(ge=1.0)] = 2.0
    maximum: Seconds = 3600.0
    jitter: bool = True


@dataclass(frozen=True, config=_FROZEN)
class Trigger:
    """Start the function on events of this name, `order/*` for all below, only where the condition holds."""

    event: Any
    _: KW_ONLY
    where: CEL | None = None


@dataclass(frozen=True, config=_FROZEN)
class Cron:
    """Start the function on a schedule: five fields, in the wall-clock time of `tz` (an IANA name)."""

    expression: str
    _: KW_ONLY
    tz: str = "UTC"
    jitter: Seconds | None = None


@dataclass(frozen=True, config=_FROZEN)
class Concurrency:
    """At most `limit` runs executing at once, per value of `key` if given. A suspended run holds no slot."""

    limit: Limit
    _: KW_ONLY
    key: CEL | None = None
    scope: Literal["function", "app"] = "function"


@dataclass(frozen=True, config=_FROZEN)
class Throttle:
    """At most `limit` starts a `period`, evenly spaced; those above it wait."""

    limit: Limit
    period: Period
    _: KW_ONLY
    burst: Limit = 1
    key: CEL | None = None


@dataclass(frozen=True, config=_FROZEN)
class RateLimit:
    """At most `limit` starts a `period`; those above it are skipped."""

    limit: Limit
    period: Period
    _: KW_ONLY
    key: CEL | None = None


@dataclass(frozen=True, config=_FROZEN)
class Debounce:
    """Start only when no event came for `period`, with the last one; after `timeout` at the latest."""

    period: Period
    _: KW_ONLY
    timeout: Period | None = None
    key: CEL | None = None


@dataclass(frozen=True, config=_FROZEN)
class Batch:
    """Collect up to `max_size` events, for `timeout` at most, and start once for all of them."""

    max_size: Annotated[int, Field(ge=1, le=100)]
    timeout: Period
    _: KW_ONLY
    key: CEL | None = None
    where: CEL | None = None


@dataclass(frozen=True, config=_FROZEN)
class Singleton:
    """One live run at a time: a second event is skipped, or cancels the run that is there."""

    mode: Literal["skip", "cancel"]
    _: KW_ONLY
    key: CEL | None = None


@dataclass(frozen=True, config=_FROZEN)
class CancelOn:
    """Cancel a live run when this event comes, if the queue received it after what started the run.

    match: paths into the incoming event and the values they must have; text that begins with `event.` is CEL over the
    run's own event. where: a CEL condition over `event`, the run's own, and `async`, the incoming one. Neither: every
    such event. timeout: the rule holds only that long from the acceptance of the run.
    """

    event: Any
    _: KW_ONLY
    match: dict[str, Any] | None = None
    where: CEL | None = None
    timeout: Period | None = None


@dataclass(frozen=True, config=_FROZEN)
class Timeouts:
    """Cancel a run that has not started within `start` of its acceptance, or not finished within `finish` of its first
    start. The step it is in is not interrupted."""

    _: KW_ONLY
    start: Period | None = None
    finish: Period | None = None


_ADAPTERS: dict[type, TypeAdapter[Any]] = {}


def policy_json(policy: Any) -> dict[str, Any]:
    """A policy as the manifest keeps it: durations in seconds, absent options left out."""
    adapter = _ADAPTERS.get(type(policy))
    if adapter is None:
        adapter = _ADAPTERS[type(policy)] = TypeAdapter(type(policy))
    dumped: dict[str, Any] = adapter.dump_python(policy, mode="json", exclude_none=True, warnings=False)
    return dumped


def check_policy(option: str, value: Any, kind: type) -> Any:
    """The option if it is of its kind, else InvalidOption naming it."""
    if value is not None and not isinstance(value, kind):
        raise InvalidOption(f"{option}= takes {kind.__name__}(...), got {value!r}.")
    return value
