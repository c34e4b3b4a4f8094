"""A client that starts things: it sends events, and invokes functions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, overload

from stepwell.client.connection import Connection
from stepwell.codec import dumps
from stepwell.engine.sending import event_message, large_field
from stepwell.errors import DuplicateEvent, InvalidOption
from stepwell.events import INVOKED, Envelope, check_id, check_made, check_sender, check_tenant, event_ts
from stepwell.ids import event_id_of
from stepwell.models import AnEvent, SomeEvents, call_body, event_body, event_fields, several
from stepwell.queue import Message
from stepwell.store.notes import Asked


class Sending(Connection):
    """The verbs that start something."""

    @overload
    def send(self, event: SomeEvents) -> list[str]: ...
    @overload
    def send(
        self,
        event: AnEvent,
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
        event_id = check_made(check_id(id), now) if id is not None else event_id_of(self._ports.ids.ulid(now))
        when = now if ts is None else event_ts(ts, now)
        return Envelope(event_id, name, body, when, check_tenant(tenant), dated=ts is not None)

    def invoke(self, function: Any, data: Any = None, *, id: str | None = None) -> str:
        """Start a run of one function directly, without an event for others to see; gives its id.

        function: a declared function, or "app/function-id". data: an object, a dict or a model; none is an empty one.
        id: of your own choosing, for this function and these data. The same id asks for the same run, and gives its id:
        asking again starts nothing for as long as the run is kept, if that is no longer than a year. It costs a write unit.

        Raises UnknownFunction if it is not registered, InvalidOption for other data, NotSerializable, PayloadTooLarge;
        InvalidEvent for an id that cannot be one, DuplicateEvent for one that was given with other data before.
        """
        app, target = self._finder.target(function)
        body = call_body(data, what=f"invoke {app}/{target}")
        now = self._ports.now()
        event_id = event_id_of(self._ports.ids.ulid(now))
        fields = self._values.send_call({"data": body, "event": INVOKED, "event_id": event_id, "ts": now})
        run, there = f"{app}.{self._ports.ids.ulid(now)}", False
        if id is not None:
            self._ports.payloads.check(
                dumps(fields["data"]), f"the data of {app}/{target}"
            )  # or it would be noted in vain
            run, there = self._asked_once(app, target, check_id(id), Asked(run, _digest(event_id, fields), now))
        if not there:
            message = {"stepwell": "invoke", "run": run, "app": app, "function": target, **fields}
            key = f"events/{run}/{event_id}"
            self._ports.queue.send(Message(large_field(self._ports, message, "data", key), group=app))
        return run

    def _asked_once(self, app: str, function: str, chosen: str, new: Asked) -> tuple[str, bool]:
        """The run that is asked for under an id, now or before, and whether it is there already."""
        notes, runs = self._ports.store.notes, self._ports.store.runs
        asked = notes.invoke(app, function, chosen, new)
        if asked.digest != new.digest:
            raise DuplicateEvent(
                f"{app}/{function} was invoked under the id {chosen!r} before, with other data: that is run {asked.run}. "
                "An id stands for one run: use another id, or send the same data."
            )
        if asked == new or runs.read(asked.run) is not None:
            return asked.run, asked != new
        if next(runs.steps(asked.run), None) is None:
            return asked.run, False  # it is on its way; or has come to nothing, or expired, and left nothing behind
        if runs.read(asked.run) is not None:
            return asked.run, True  # it came just now
        # Checkpoints outlive their run, and a run that began anew among those of its predecessor would take them for its own.
        return notes.invoke(app, function, chosen, new, instead_of=asked.run).run, False


def _digest(event_id: str, fields: Mapping[str, Any]) -> str:
    return Envelope(event_id, INVOKED, fields["data"], fields["ts"]).digest()
