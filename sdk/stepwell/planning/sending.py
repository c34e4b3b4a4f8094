"""send_event: events from inside a function, as a step."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, overload

from stepwell.codec import canonical
from stepwell.engine.operations import BodyStep, send_events
from stepwell.engine.resolve import shape_of
from stepwell.errors import InvalidOption
from stepwell.events import Envelope, check_id, check_sender, check_tenant, event_ts
from stepwell.ids import derived_ulid, event_id_of
from stepwell.models import AnEvent, SomeEvents, event_body, event_fields, several
from stepwell.planning.ask import Ask, One
from stepwell.planning.planner import Planner


@overload
def send_event(
    plan: Planner, /, step_id: str, event: SomeEvents, *, ts: datetime | None = None, tenant: str | None = None
) -> Ask[list[str]]: ...
@overload
def send_event(
    plan: Planner,
    /,
    step_id: str,
    event: AnEvent,
    data: Mapping[str, Any] | None = None,
    *,
    id: str | None = None,
    ts: datetime | None = None,
    tenant: str | None = None,
) -> Ask[str]: ...
def send_event(
    plan: Planner,
    /,
    step_id: str,
    event: Any,
    data: Mapping[str, Any] | None = None,
    *,
    id: str | None = None,
    ts: datetime | None = None,
    tenant: str | None = None,
) -> Ask[Any]:
    """Send an event, or a list of them, as a step; gives the event id, or the list of ids.

    The ids are the same at every attempt, so a repetition is a duplicate that starts nothing.
    """
    key = plan.key(step_id)
    many = several(event)
    if many and id is not None:
        raise InvalidOption("id= is for one event; in a list each event can have an id of its own.")
    if data is not None and (many or isinstance(event, Mapping)):
        raise InvalidOption(
            'data= is for an event given by name; here each event brings its own: {"name": ..., "data": ...}.'
        )
    events = event if many else [event]
    envelopes = [_envelope(plan, key, index, each, data, id, ts, tenant) for index, each in enumerate(events)]
    text = canonical([[envelope.name, envelope.data] for envelope in envelopes])

    def send() -> Any:
        send_events(plan.core, envelopes)
        ids = [envelope.id for envelope in envelopes]
        return ids if many else ids[0]

    operation = BodyStep(
        key=key,
        id=step_id,
        kind="send_event",
        shape=shape_of("send_event", text),
        args=text[:100],
        fn=send,
        policy=plan.policy(send),
    )
    return One(operation)


def _envelope(
    plan: Planner,
    key: str,
    index: int,
    event: Any,
    data: Mapping[str, Any] | None,
    event_id: str | None,
    ts: datetime | None,
    tenant: str | None,
) -> Envelope:
    if isinstance(event, Mapping):  # {"name": ..., "data": ..., "id"?, "ts"?, "tenant"?}
        ts, tenant = event.get("ts", ts), event.get("tenant", tenant)
        event, data, own, _, _ = event_fields(event).values()
        event_id = event_id if own is None else own
    name, body = event_body(event, data)
    check_sender(name, "A step")
    now = plan.core.now()
    made = event_id_of(derived_ulid(now, "sent", plan.core.run.id, key, str(index)))
    when = now if ts is None else event_ts(ts, plan.core.ports.now())
    chosen = check_id(event_id) if event_id is not None else made
    return Envelope(chosen, name, body, when, check_tenant(tenant), dated=ts is not None)
