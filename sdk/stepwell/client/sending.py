"""A client that starts things: it sends events, and invokes functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, overload

from stepwell.client.connection import Connection
from stepwell.engine.sending import event_message, large_field
from stepwell.errors import InvalidOption
from stepwell.events import INVOKED, Envelope, check_id, check_sender, check_tenant, parse_ts
from stepwell.ids import event_id_of
from stepwell.models import EventModel, call_body, event_body, event_fields, several
from stepwell.queue import Message


class Sending(Connection):
    """The verbs that start something."""

    @overload
    def send(self, event: list[Any] | tuple[Any, ...] | Iterator[Any]) -> list[str]: ...
    @overload
    def send(
        self,
        event: str | EventModel | Mapping[str, Any],
        data: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,
        ts: datetime | None = None,
        tenant: str | None = None,
    ) -> str: ...
    def send(
        self,
        event: Any,
        data: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,
        ts: datetime | None = None,
        tenant: str | None = None,
    ) -> str | list[str]:
        """Send an event, or a list of them; gives the id, or the ids in order.

        In a list (a tuple, a generator) each element is an EventModel, or a dict with name, data and, if wanted, id, ts
        and tenant; so may a single event be. When it returns, SQS has stored the events. Raises InvalidEvent,
        NotSerializable, PayloadTooLarge; and InvalidOption for options beside events that bring their own.
        """
        given = {"data": data, "id": id, "ts": ts, "tenant": tenant}
        extra = [f"{option}=" for option, value in given.items() if value is not None]
        if extra and (several(event) or isinstance(event, Mapping)):
            raise InvalidOption(
                f"send: {', '.join(extra)} beside {'a list of events' if several(event) else 'an event that is a dict'} "
                'would be lost; write it into each event: {"name": ..., "data": ..., "id": ..., "ts": ..., "tenant": ...}.'
            )
        if several(event):
            envelopes = [self._values.send(self._of_list(each)) for each in event]
            if envelopes:
                self._ports.queue.send(*(event_message(self._ports, each, group=self._group) for each in envelopes))
            return [envelope.id for envelope in envelopes]
        if isinstance(event, Mapping):
            envelope = self._values.send(self._of_list(event))
        else:
            envelope = self._values.send(self._envelope(event, data, id, ts, tenant))
        self._ports.queue.send(event_message(self._ports, envelope, group=self._group))
        return envelope.id

    def _of_list(self, each: Any) -> Envelope:
        if isinstance(each, Mapping):
            return self._envelope(*event_fields(each).values())
        return self._envelope(each, None, None, None, None)

    def _envelope(self, event: Any, data: Any, id: str | None, ts: Any, tenant: str | None) -> Envelope:
        name, body = event_body(event, data)
        check_sender(name, "A client")
        now = self._ports.now()
        event_id = check_id(id) if id is not None else event_id_of(self._ports.ids.ulid(now))
        return Envelope(event_id, name, body, now if ts is None else parse_ts(ts), check_tenant(tenant))

    def invoke(self, function: Any, data: Any = None) -> str:
        """Start a run of one function directly, without an event for others to see; gives its id.

        function: a declared function, or "app/function-id". data: an object, a dict or a model; none is an empty one.
        Raises UnknownFunction if it is not registered, InvalidOption for other data, NotSerializable, PayloadTooLarge.
        """
        app, target = self._finder.target(function)
        body = call_body(data, what=f"invoke {app}/{target}")
        now = self._ports.now()
        event_id = event_id_of(self._ports.ids.ulid(now))
        fields = self._values.send_call({"data": body, "event": INVOKED, "event_id": event_id, "ts": now})
        run = f"{app}.{self._ports.ids.ulid(now)}"
        message = {"stepwell": "invoke", "run": run, "app": app, "function": target, **fields}
        self._ports.queue.send(Message(large_field(self._ports, message, "data", f"events/{run}/input"), group=app))
        return run
