"""What may be asked for in a list, and what of it makes sense."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict

from stepwell.clock import millis
from stepwell.errors import InvalidOption
from stepwell.expressions import Expression, check_expression, expression
from stepwell.ids import run_millis
from stepwell.records import RunStatus

LATEST = (1 << 48) - 1
"""Milliseconds: the end of all time that ids know. A list without an end has what clocks ahead of ours have made, too."""


class Filters(TypedDict, total=False):
    """Which runs are meant. All that is given has to hold."""

    function: Any
    """A declared function, or "app/function-id"."""
    status: RunStatus | str | Sequence[RunStatus | str] | None
    since: datetime | timedelta | None
    """Created then or later. A naive time is UTC; a timedelta is that long ago."""
    until: datetime | timedelta | None
    """Created by then."""
    before: str | None
    """Older than the run of this id: the last one of a page, to read the next page."""
    tag: str | None
    """`name=value`."""
    event: str | None
    """The id of an event: the runs it started."""
    where: str | None
    """A CEL condition over `event`, the event that started the run."""
    limit: int | None
    """The newest so many."""


@dataclass(frozen=True, slots=True)
class Which:
    """The same, checked."""

    function: tuple[str, str] | None
    """App and id."""
    statuses: frozenset[RunStatus]
    since: int
    """Milliseconds, as `until` is."""
    until: int
    before: str | None
    tag: tuple[str, str] | None
    event: str | None
    where: Expression | None
    limit: int | None


def checked(filters: Filters, now: int) -> Which:
    """What the filters mean. Raises InvalidOption for what makes no sense, TypeError for a filter there is not."""
    unknown = sorted(set(filters) - set(Filters.__annotations__))
    if unknown:  # taken for no filter at all, a slip of the pen would cancel everything
        raise TypeError(f"There is no filter {', '.join(unknown)}; there are {', '.join(Filters.__annotations__)}.")
    function, tag = filters.get("function"), filters.get("tag")
    return Which(
        function=None if function is None else named(function),
        statuses=_statuses(filters.get("status")),
        since=moment(filters.get("since"), "since", now, 0),
        until=moment(filters.get("until"), "until", now, LATEST),
        before=_run(filters.get("before")),
        tag=None if tag is None else _pair(tag),
        event=_event(filters.get("event")),
        where=condition(filters.get("where")),
        limit=checked_limit(filters.get("limit")),
    )


def named(function: Any) -> tuple[str, str]:
    """App and id of a declared function, or of "app/function-id"; the id is empty if there is no slash.

    Raises InvalidOption for anything else.
    """
    if isinstance(function, str):
        app, _, target = function.partition("/")
        return app, target
    parts = (getattr(getattr(function, "app", None), "id", None), getattr(function, "id", None))
    if not isinstance(parts[0], str) or not isinstance(parts[1], str):
        raise InvalidOption(
            f'`function` is a function declared with @app.function, or its name as "app/function-id"; got {function!r}.'
        )
    return parts[0], parts[1]


def checked_limit(limit: Any) -> int | None:
    """How many at most. Raises InvalidOption."""
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 0):
        raise InvalidOption(f"`limit` is a number from 0, how many to give at most; got {limit!r}.")
    return limit


def condition(where: Any) -> Expression | None:
    """The condition over `event`, compiled. Raises InvalidOption with the fault."""
    return None if where is None else expression(check_expression(where, what="`where`"))


def moment(given: Any, what: str, now: int, default: int) -> int:
    """A time in milliseconds: a datetime, or how long ago. Raises InvalidOption."""
    if given is None:
        return default
    if isinstance(given, timedelta):
        return min(max(0, now - round(given.total_seconds() * 1000)), LATEST)
    if not isinstance(given, datetime):
        raise InvalidOption(
            f"`{what}` is a datetime (a naive one is UTC), or a timedelta for that long ago; got {given!r}."
        )
    return max(0, millis((given if given.tzinfo else given.replace(tzinfo=UTC)).timestamp()))


def _statuses(given: Any) -> frozenset[RunStatus]:
    several = [given] if isinstance(given, str) or not isinstance(given, Collection | None) else given
    return frozenset(RunStatus if several is None else map(_status, several))


def _status(status: Any) -> RunStatus:
    try:
        return RunStatus(status)
    except ValueError:
        known = ", ".join(each.value for each in RunStatus)
        raise InvalidOption(f"There is no status {status!r}; there are {known}.") from None


def _pair(tag: Any) -> tuple[str, str]:
    name, given, value = tag.partition("=") if isinstance(tag, str) else ("", "", "")
    if not name or not given:
        raise InvalidOption(f'A tag is given as "name=value", such as "order=o-1"; got {tag!r}.')
    return name, value


def _event(event: Any) -> str | None:
    if event is not None and (not isinstance(event, str) or not event):
        raise InvalidOption(f"`event` is the id of an event, as `send` gives it; got {event!r}.")
    return event


def _run(run: Any) -> str | None:
    if run is not None and (not isinstance(run, str) or run_millis(run) is None):
        raise InvalidOption(f"`before` is the id of a run, the last of a page; got {run!r}.")
    return run
