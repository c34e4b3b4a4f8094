"""Typed events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from stepwell.clock import iso
from stepwell.codec import JSON, dumps, loads
from stepwell.errors import InvalidEvent, InvalidOption
from stepwell.events import Envelope, Event, check_name
from stepwell.typed import Typed

FIELDS = ("name", "data", "id", "ts", "tenant")
"""Of an event that is written as an object."""


class EventModel(BaseModel):
    """An event with typed data: `class OrderCreated(EventModel, name="order/created")`.

    The fields are the event's data. A subclass without a name of its own has that of its base.
    """

    __event_name__: ClassVar[str] = ""

    def __init_subclass__(cls, *, name: str | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if name is not None:
            cls.__event_name__ = check_name(name)


AnEvent = str | EventModel | type[EventModel] | Mapping[str, Any]
"""An event to send: by name or by model, with its data beside it; or a model, or an object, that brings its own."""
SomeEvents = Iterable[EventModel | Mapping[str, Any]]
"""A list of events to send: a list, a tuple, a generator. Each brings its own data."""


class Failure(BaseModel):
    """What an `on_failure` handler gets as `ctx.event.data`."""

    class Error(BaseModel):
        """The error that ended the run."""

        type: str
        message: str
        traceback: str | None = None
        step: str | None = None

    class Cause(BaseModel):
        """The event that had started the run, its data as plain JSON. Its fields can also be had as `event["data"]`."""

        id: str
        name: str
        data: dict[str, Any] = Field(default_factory=dict)
        ts: datetime
        tenant: str | None = None

        def __getitem__(self, field: str) -> Any:
            return getattr(self, field)

    run_id: str
    function: str
    error: Error
    event: Cause
    events: list[Cause] = Field(default_factory=list)
    """All events of the run, in their order: those of a batch, otherwise the one."""

    @model_validator(mode="after")
    def _of_one(self) -> Failure:
        if not self.events:
            self.events = [self.event]
        return self


def name_of(event: Any) -> str:
    """The name of an event given by name or by model. Raises InvalidOption for anything else."""
    if isinstance(event, str):
        return event
    if isinstance(event, type) and issubclass(event, EventModel):
        if not event.__event_name__:
            raise InvalidOption(f'{event.__name__} has no event name: class {event.__name__}(EventModel, name="...").')
        return event.__event_name__
    raise InvalidOption(f"An event is given by its name or by an EventModel, got {event!r}.")


def several(event: Any) -> bool:
    """Whether what is to be sent is a list (or tuple, generator ...) of events rather than one."""
    return isinstance(event, Iterable) and not isinstance(event, str | bytes | Mapping | EventModel | type)


def event_fields(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event written as an object, `{"name": ..., "data": ...}`. Raises InvalidEvent for a field that events have not."""
    unknown = [field for field in event if field not in FIELDS]
    if unknown:
        raise InvalidEvent(
            f"Event {event.get('name')!r} has a field {unknown[0]!r}; there are {', '.join(FIELDS)}. What the function is "
            "to get stands in data."
        )
    return {field: event.get(field) for field in FIELDS}


def event_body(event: Any, data: Mapping[str, Any] | None) -> tuple[str, dict[str, JSON]]:
    """Name and data of an event to send: `(OrderCreated(...), None)` or `("order/created", {...})`.

    Raises InvalidEvent; data is turned into plain JSON, so dates, decimals and models may stand in it.
    """
    if isinstance(event, EventModel):
        if data is not None:
            raise InvalidEvent("An EventModel already carries its data; do not pass data= as well.")
        name = name_of(type(event))
        try:
            type(event).model_validate(dict(event))  # it may have been changed since it was made
            plain: dict[str, JSON] = loads(event.model_dump_json())
        except ValidationError as error:
            raise InvalidEvent(_misfit(name, type(event), error)) from error
        return name, plain
    name = check_name(name_of(event) if isinstance(event, str | type) else event)
    given: Any = {} if data is None else data
    if isinstance(given, BaseModel):
        given = given.model_dump(mode="json")
    if not isinstance(given, Mapping):
        raise InvalidEvent(f"Event {name!r}: data must be an object (a dict), not {type(given).__name__}.")
    if isinstance(event, type) and issubclass(event, EventModel):
        try:
            given = event_body(event.model_validate(dict(given)), None)[1]
        except ValidationError as error:
            raise InvalidEvent(_misfit(name, event, error)) from error
    return name, loads(Typed(Any, f"the data of event {name!r}").encode(dict(given)))


def call_body(data: Any, *, what: str) -> dict[str, JSON]:
    """The data a function is invoked with, as plain JSON; None is no data. Raises InvalidOption naming `what`."""
    if isinstance(data, EventModel):
        return event_body(data, None)[1]
    body = loads(Typed(Any, f"the data of {what}").encode({} if data is None else data))
    if not isinstance(body, dict):
        raise InvalidOption(f"{what}: data must be an object (a dict or a model), got {data!r}.")
    return body


def typed_event(envelope: Envelope, model: type[BaseModel] | None) -> Event[Any]:
    """The event as a function sees it. Raises InvalidEvent naming the fields that do not fit the model."""
    event = envelope.event()
    if model is None:
        return event
    try:
        return replace(event, data=model.model_validate_json(dumps(envelope.data)))
    except ValidationError as error:
        where = f" ({envelope.id}, {iso(envelope.ts)})"
        raise InvalidEvent(_misfit(envelope.name, model, error, where)) from error


def _misfit(name: str, model: type, error: ValidationError, where: str = "") -> str:
    """Which fields of an event's data do not fit its model, and why."""
    parts = error.errors(include_url=False)
    fields = "; ".join(f"{'.'.join(map(str, part['loc'])) or 'data'}: {part['msg']}" for part in parts)
    return f"Event {name!r}{where} does not fit {model.__name__}: {fields}."
