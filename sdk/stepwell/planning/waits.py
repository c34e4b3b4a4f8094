"""sleep, sleep_until and wait_for_event: waits for the time, and for what somebody else sends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar, overload

from stepwell.clock import millis
from stepwell.codec import JSON, canonical, loads
from stepwell.decisions.listening import check_heard
from stepwell.durations import Duration
from stepwell.engine.core import Core
from stepwell.engine.resolve import shape_of
from stepwell.engine.waits import EventWait, Sleep
from stepwell.errors import InvalidOption, NotSerializable
from stepwell.events import SCOPE, Envelope, Event
from stepwell.expressions import EVENTS, check_expression
from stepwell.middleware.visibility import check_wait
from stepwell.models import EventModel, name_of, typed_event
from stepwell.planning.ask import Ask, One
from stepwell.planning.planner import Planner, wait_seconds
from stepwell.typed import Typed

M = TypeVar("M", bound=EventModel)

ARGS_OF_A_WAIT = 400
"""Characters that are kept of what an event wait waits for: whoever asks why a run waits is told by them."""


def sleep(plan: Planner, /, id: str, duration: Duration) -> Ask[None]:
    """Sleep, without a worker being there. Up to a year."""
    length = round(wait_seconds(duration, "duration") * 1000)
    return _sleep(plan, id, [length], lambda now: now + length, str(duration))


def sleep_until(plan: Planner, /, id: str, moment: datetime) -> Ask[None]:
    """Sleep until a moment; a naive one is UTC."""
    if not isinstance(moment, datetime):
        raise InvalidOption(f"sleep_until takes a datetime, got {moment!r}.")
    until = millis((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    return _sleep(plan, id, [moment.isoformat()], lambda _: until, moment.isoformat())


def _sleep(plan: Planner, id: str, shape: list[JSON], until: Callable[[int], int], shown: str) -> Ask[None]:
    key = plan.key(id)
    return One(Sleep(key=key, id=id, kind="sleep", shape=shape_of("sleep", shape), args=shown, until=until))


@overload
def wait_for_event(
    plan: Planner,
    /,
    id: str,
    *,
    event: type[M],
    timeout: Duration,
    match: Mapping[str, JSON] | None = None,
    where: str | None = None,
    since: Literal["run_start"] | None = None,
) -> Ask[Event[M] | None]: ...
@overload
def wait_for_event(
    plan: Planner,
    /,
    id: str,
    *,
    event: str,
    timeout: Duration,
    match: Mapping[str, JSON] | None = None,
    where: str | None = None,
    since: Literal["run_start"] | None = None,
) -> Ask[Event[dict[str, Any]] | None]: ...
def wait_for_event(
    plan: Planner,
    /,
    id: str,
    *,
    event: str | type[EventModel],
    timeout: Duration,
    match: Mapping[str, JSON] | None = None,
    where: str | None = None,
    since: str | None = None,
) -> Ask[Event[Any] | None]:
    """Wait for an event, None when time is out.

    match: paths into the event and the values they must have. where: a CEL expression over `async`, the incoming
    event, and `event`, the run's own. since="run_start": an event that came after the run began counts, too.
    """
    if since not in (None, "run_start"):
        raise InvalidOption(f'since is None or "run_start", got {since!r}.')
    model = event if isinstance(event, type) and issubclass(event, EventModel) else None
    name = name_of(event)
    if "*" in name:
        raise InvalidOption(f"wait_for_event({id!r}, event={name!r}): name one event; there are no wildcards here.")
    check_heard(name, what=f"wait_for_event({id!r}, event={name!r})")
    wanted = plain_match(match)
    if where is not None:
        check_expression(where, what="where", variables=EVENTS)
    core = plan.core
    check_wait(core.values.chain, core.event.name, name, wanted, where, what=f"wait_for_event {id!r}")
    length = wait_seconds(timeout, "timeout")
    key = plan.key(id)
    shape = [name, wanted, where, since]
    operation = EventWait(
        key=key,
        id=id,
        kind="wait_for_event",
        shape=shape_of("wait_for_event", shape),
        args=canonical(shape)[1:-1][:ARGS_OF_A_WAIT],
        decode=lambda text: _event(core, text, model),
        event=name,
        timeout=length,
        match=wanted,
        where=where,
        since_start=since is not None,
    )
    return One(operation)


def _event(core: Core, text: str, model: type[EventModel] | None) -> Event[Any]:
    event = core.ports.store.events.open(Envelope.from_json(loads(text)))
    return typed_event(core.values.receive(event), model)


def plain_match(match: Any) -> dict[str, JSON]:
    """Paths into an event and the values they must have, as plain JSON. Raises InvalidOption."""
    if match is None:
        return {}
    if not isinstance(match, Mapping) or not all(isinstance(path, str) and path for path in match):
        raise InvalidOption(f'match takes paths and values, such as {{"data.order_id": "o-1"}}; got {match!r}.')
    for path in match:
        root, _, rest = path.partition(".")
        if root not in SCOPE or (rest and root != "data"):
            meant = path.removeprefix("event.").removeprefix("async.").removeprefix("data.")
            raise InvalidOption(
                f"match[{path!r}] is no path into an event: it is name, id, ts, tenant, or begins with 'data.'. Did you "
                f"mean 'data.{meant}'?"
            )
    wanted: dict[str, JSON] = {}
    for path, value in match.items():
        try:
            wanted[path] = loads(Typed(Any, "match").encode(value))
        except NotSerializable as error:
            raise InvalidOption(
                f"match[{path!r}] is compared with what stands in the event, as JSON; {value!r} cannot be written so."
            ) from error
    return wanted
