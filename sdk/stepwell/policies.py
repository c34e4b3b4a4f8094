"""What is declared beside a function or a step: triggers, back-off and flow control.

Policies are pydantic dataclasses: checked when they are written (InvalidOption says what an argument has to be),
positional where one value says it all, and plain JSON in the manifest. Nothing is taken for what it only resembles, such
as "5" for 5. Only the worker, which has pydantic anyway, imports this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, ValidationInfo
from pydantic.dataclasses import dataclass

from stepwell.durations import Duration, seconds
from stepwell.errors import InvalidOption
from stepwell.expressions import EVENTS, check_expression

# A cold start is spared the validators of the policies that the app does not use.
_FROZEN = ConfigDict(extra="forbid", strict=True, defer_build=True)

_TAKES = {
    "bool_type": "must be True or False",
    "dict_type": "must be a dict",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "greater_than_equal": "must be at least {ge:g}",
    "int_type": "must be a whole number",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be {expected}",
    "string_type": "must be text",
}
"""What a field takes, by the kind of error pydantic has found."""


class _Checked(type):
    """Of policies: what pydantic finds wrong with the arguments of one is told as InvalidOption."""

    if not TYPE_CHECKING:  # what a policy takes is told to type checkers by its fields

        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            try:
                return super().__call__(*args, **kwargs)
            except ValidationError as error:
                found = error.errors(include_url=False)
            raise InvalidOption(_told(cls, found))


class Policy(metaclass=_Checked):
    """What all policies are."""


def _told(policy: Any, errors: Sequence[Mapping[str, Any]]) -> str:
    """What is wrong with an argument: whose it is, what it takes, what it got."""
    name, known = policy.__name__, [field.name for field in fields(policy)]
    takes = f"{name} takes {', '.join(f'{each}=' for each in known)}."
    error = min(
        errors, key=lambda each: each["type"] != "unexpected_keyword_argument"
    )  # it says why another is missing
    place, kind, given = error["loc"][0], error["type"], error["input"]
    if kind == "unexpected_keyword_argument":
        return f"{name}({place}={given!r}): there is no {place}=; {takes}"
    if kind == "unexpected_positional_argument":
        return f"{name}(..., {given!r}): too many arguments without a name; {takes}"
    field = known[place] if isinstance(place, int) else place
    if kind in ("missing", "missing_argument"):
        choice = get_args(policy.__pydantic_fields__[field].annotation)
        words = f" ({' or '.join(map(repr, choice))})" if choice and isinstance(choice[0], str) else ""
        return f"{name}({field}=) is missing{words}; {takes}"
    if kind == "multiple_argument_values":
        return f"{name}({field}=) is given twice; {takes}"
    if kind == "value_error" and isinstance(error["ctx"]["error"], InvalidOption):
        return error["ctx"]["error"].message
    says = _TAKES[kind].format(**error.get("ctx", {})) if kind in _TAKES else error["msg"]
    return f"{name}({field}=) {says}, got {given!r}."


def _named(info: ValidationInfo) -> str:
    """The field that is checked, as its class is written."""
    return f"{(info.config or {}).get('title', 'policy')}({info.field_name}=)"


def _seconds(value: Any, info: ValidationInfo) -> float:
    return seconds(value, what=_named(info))


def _positive(value: Any, info: ValidationInfo) -> float:
    result = seconds(value, what=_named(info))
    if result <= 0:
        raise InvalidOption(f"{_named(info)} must be more than zero, got {value!r}.")
    return result


def _cel(value: Any, info: ValidationInfo) -> str:
    return check_expression(value, what=_named(info))


def _condition(value: Any, info: ValidationInfo) -> str:
    return check_expression(value, what=_named(info), variables=EVENTS)


Seconds = Annotated[Duration, BeforeValidator(_seconds)]
Period = Annotated[Duration, BeforeValidator(_positive)]
CEL = Annotated[str, BeforeValidator(_cel)]
Condition = Annotated[str, BeforeValidator(_condition)]
"""Over the run's own event and the one that comes in."""
Limit = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, config=_FROZEN)
class Backoff(Policy):
    """How long to wait before the next attempt: initial * factor ** (attempt - 1), at most maximum.

    With jitter the delay is drawn from the upper half of that, so that failures at the same instant spread out.
    """

    initial: Seconds = 1.0
    factor: Annotated[float, Field(ge=1.0, allow_inf_nan=False)] = 2.0
    maximum: Seconds = 3600.0
    jitter: bool = True


@dataclass(frozen=True, config=_FROZEN)
class Trigger(Policy):
    """Start the function on events of this name, `order/*` for all below, only where the condition holds."""

    event: Any
    _: KW_ONLY
    where: CEL | None = None


@dataclass(frozen=True, config=_FROZEN)
class Cron(Policy):
    """Start the function on a schedule: five fields, in the wall-clock time of `tz` (an IANA name)."""

    expression: str
    _: KW_ONLY
    tz: str = "UTC"
    jitter: Seconds | None = None


@dataclass(frozen=True, config=_FROZEN)
class Concurrency(Policy):
    """At most `limit` runs executing at once, per value of `key` if given. A suspended run holds no slot."""

    limit: Limit
    _: KW_ONLY
    key: CEL | None = None
    scope: Literal["function", "app"] = "function"


@dataclass(frozen=True, config=_FROZEN)
class Throttle(Policy):
    """At most `limit` starts a `period`, evenly spaced; those above it wait."""

    limit: Limit
    period: Period
    _: KW_ONLY
    burst: Limit = 1
    key: CEL | None = None


@dataclass(frozen=True, config=_FROZEN)
class RateLimit(Policy):
    """At most `limit` starts a `period`; those above it are skipped."""

    limit: Limit
    period: Period
    _: KW_ONLY
    key: CEL | None = None


@dataclass(frozen=True, config=_FROZEN)
class Debounce(Policy):
    """Start only when no event came for `period`, with the last one; after `timeout` at the latest."""

    period: Period
    _: KW_ONLY
    timeout: Period | None = None
    key: CEL | None = None


@dataclass(frozen=True, config=_FROZEN)
class Batch(Policy):
    """Collect up to `max_size` events, for `timeout` at most, and start once for all of them."""

    max_size: Annotated[int, Field(ge=1, le=100)]
    timeout: Period
    _: KW_ONLY
    key: CEL | None = None
    where: CEL | None = None


@dataclass(frozen=True, config=_FROZEN)
class Singleton(Policy):
    """One live run at a time: a second event is skipped, or cancels the run that is there."""

    mode: Literal["skip", "cancel"]
    _: KW_ONLY
    key: CEL | None = None


@dataclass(frozen=True, config=_FROZEN)
class CancelOn(Policy):
    """Cancel a live run when this event comes, if the queue received it after what started the run.

    match: paths into the incoming event and the values they must have; text that begins with `event.` is CEL over the
    run's own event. where: a CEL condition over `event`, the run's own, and `async`, the incoming one. Neither: every
    such event. timeout: the rule holds only that long from the acceptance of the run.
    """

    event: Any
    _: KW_ONLY
    match: dict[str, Any] | None = None
    where: Condition | None = None
    timeout: Period | None = None


@dataclass(frozen=True, config=_FROZEN)
class Timeouts(Policy):
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
