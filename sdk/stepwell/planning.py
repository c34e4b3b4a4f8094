"""From a ctx.step call to an operation. The sync and the async face both plan here, so a step is the same in both."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from stepwell.clock import millis
from stepwell.codec import JSON, canonical, loads
from stepwell.decisions.listening import check_heard
from stepwell.durations import Duration, seconds
from stepwell.engine.core import Core
from stepwell.engine.operations import BodyStep, Operation, Poll, send_events
from stepwell.engine.resolve import shape_of
from stepwell.engine.waits import CallbackWait, ChildRun, DetachedRun, EventWait, Sleep
from stepwell.errors import InvalidOption, NotSerializable
from stepwell.events import SCOPE, Envelope, Event, check_id, check_sender, check_tenant, event_ts
from stepwell.expressions import EVENTS, check_expression
from stepwell.ids import child_run_id, derived_ulid, digest, event_id_of
from stepwell.middleware.visibility import check_wait
from stepwell.models import EventModel, call_body, event_body, event_fields, name_of, several, typed_event
from stepwell.policies import Backoff, policy_json
from stepwell.remote import importable, pack_call
from stepwell.steps import check_step_id, options_of, plain, step_id
from stepwell.typed import Typed, fingerprint, returns

YEAR = 366 * 86_400.0
"""Seconds; the longest a step may wait."""


ARGS_OF_A_WAIT = 400
"""Characters that are kept of what an event wait waits for: whoever asks why a run waits is told by them."""

SHORTEST = 0.001
"""Seconds between two checks of a poll, at least: times are kept in milliseconds."""

Target = tuple[str, str, Typed]
"""App and id of a function to invoke, and how its results are read."""


class Planner:
    """Makes the operations of one invocation."""

    def __init__(
        self, core: Core, retries: int, backoff: dict[str, Any] | None, target: Callable[[Any], Target]
    ) -> None:
        self.core = core
        self._retries = retries
        self._backoff = backoff
        self._target = target

    # ---- steps with a body

    def run(self, target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Operation:
        """ctx.step.run and submit: `run(fn, ...)` or `run("id", fn, ...)`."""
        id, fn, args = named(target, args)
        return self._body(self.core.key_for(id), id, fn, args, kwargs)

    def map(self, fn: Any, items: Iterable[Any], id: str | None, spread: bool) -> list[Operation]:
        """One operation for each item, `id[i]`; an item is the function's only argument."""
        name = check_step_id(id) if id is not None else step_id(fn)
        base = self.core.key_for(name)
        make = self._spread if spread else self._body
        operations = []
        for index, item in enumerate(items):
            key = self.core.claim_key(f"{base}[{index}]", (base, f"[{index}]", 0))
            operations.append(make(key, f"{name}[{index}]", fn, (item,), {}))
        return operations

    def poll(
        self,
        id: str,
        check: Any,
        args: tuple[Any, ...],
        until: Callable[[Any], bool],
        every: Duration | Backoff,
        timeout: Duration | None,
        max_attempts: int | None,
    ) -> Operation:
        """ctx.step.poll."""
        key = self.core.key_for(check_step_id(id))
        fn, what = plain(check), f"the result of step {key!r}"
        typed = returns(fn, what)
        text, shown = fingerprint((args, {}))
        return Poll(
            key=key,
            id=id,
            kind="poll",
            shape=shape_of("poll", text),
            args=shown,
            decode=typed.decode,
            fn=fn,
            positional=args,
            policy=options_of(check).policy(self._retries, self._backoff),
            encode=typed.round_trip,
            is_async=inspect.iscoroutinefunction(fn),
            until=until,
            every=pauses(every),
            timeout=None if timeout is None else _wait_seconds(timeout, "timeout"),
            max_attempts=max_attempts,
        )

    def send_event(
        self,
        id: str,
        event: Any,
        data: Mapping[str, Any] | None,
        event_id: str | None,
        ts: datetime | None,
        tenant: str | None,
    ) -> Operation:
        """ctx.step.send_event: one event, or a list of them. The ids are the same at every attempt."""
        key = self.core.key_for(check_step_id(id))
        many = several(event)
        if many and event_id is not None:
            raise InvalidOption("id= is for one event; in a list each event can have an id of its own.")
        if data is not None and (many or isinstance(event, Mapping)):
            raise InvalidOption(
                'data= is for an event given by name; here each event brings its own: {"name": ..., "data": ...}.'
            )
        envelopes = [
            self._envelope(key, index, each, data, event_id, ts, tenant)
            for index, each in enumerate(event if many else [event])
        ]
        text = canonical([[envelope.name, envelope.data] for envelope in envelopes])

        def send() -> Any:
            send_events(self.core, envelopes)
            ids = [envelope.id for envelope in envelopes]
            return ids if many else ids[0]

        return BodyStep(
            key=key,
            id=id,
            kind="send_event",
            shape=shape_of("send_event", text),
            args=text[:100],
            fn=send,
            policy=options_of(send).policy(self._retries, self._backoff),
        )

    def _envelope(
        self,
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
        now = self.core.now()
        made = event_id_of(derived_ulid(now, "sent", self.core.run.id, key, str(index)))
        when = now if ts is None else event_ts(ts, self.core.ports.now())
        return Envelope(check_id(event_id) if event_id is not None else made, name, body, when, check_tenant(tenant))

    def _body(self, key: str, id: str, fn: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Operation:
        options = options_of(fn)
        if options.compute is not None and options.compute != self.core.run.compute:
            return self._spread(key, id, fn, args, kwargs)
        call, what = plain(fn), f"the result of step {key!r}"
        typed = returns(call, what)
        text, shown = fingerprint((args, kwargs))
        return BodyStep(
            key=key,
            id=id,
            kind="run",
            shape=shape_of("run", text),
            args=shown,
            decode=typed.decode,
            fn=call,
            positional=args,
            keywords=kwargs,
            policy=options.policy(self._retries, self._backoff),
            encode=typed.round_trip,
            is_async=inspect.iscoroutinefunction(call),
        )

    def _spread(self, key: str, id: str, fn: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Operation:
        """A step as a child run in a worker invocation of its own."""
        where = importable(fn)
        options = options_of(fn)
        typed = returns(plain(fn), f"the result of step {key!r}")
        packed = pack_call(plain(fn), args, kwargs, id)
        text, shown = fingerprint((args, kwargs))
        run, function = self.core.run, f"{self.core.run.function}.{_slug(id)}"
        child = child_run_id(run.app, function, run.id, key)
        identity = digest("child", self.core.identity, key).hex()
        shape = shape_of("run", text)
        message = {
            "stepwell": "invoke",
            "run": child,
            "app": run.app,
            "function": function,
            "compute": options.compute or run.compute,
            "call": where,
            "data": {
                **packed,
                "id": id,
                "identity": identity,
                "policy": asdict(options.policy(self._retries, self._backoff)),
            },
            "event": "stepwell/step.called",
            "event_id": event_id_of(derived_ulid(self.core.now(), "call", child)),
            "ts": self.core.now(),
            "parent": {
                "run": run.id,
                "step": key,
                "id": id,
                "kind": "run",
                "shape": self.core.values.veil("run", shape),
            },
        }
        return ChildRun(
            key=key,
            id=id,
            kind="run",
            shape=shape,
            args=shown,
            decode=typed.decode,
            child=child,
            message=lambda _: message,
        )

    # ---- waits

    def sleep(self, id: str, duration: Duration) -> Operation:
        """ctx.step.sleep."""
        length = round(_wait_seconds(duration, "duration") * 1000)
        return self._sleep(id, [length], lambda now: now + length, str(duration))

    def sleep_until(self, id: str, moment: datetime) -> Operation:
        """ctx.step.sleep_until."""
        if not isinstance(moment, datetime):
            raise InvalidOption(f"sleep_until takes a datetime, got {moment!r}.")
        until = millis((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
        return self._sleep(id, [moment.isoformat()], lambda _: until, moment.isoformat())

    def _sleep(self, id: str, shape: list[JSON], until: Callable[[int], int], shown: str) -> Operation:
        key = self.core.key_for(check_step_id(id))
        return Sleep(key=key, id=id, kind="sleep", shape=shape_of("sleep", shape), args=shown, until=until)

    def wait_for_event(
        self,
        id: str,
        event: Any,
        timeout: Duration,
        match: Mapping[str, JSON] | None,
        where: str | None,
        since: str | None,
    ) -> Operation:
        """ctx.step.wait_for_event. The result is an Event, or None when time is out."""
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
        chain, own = self.core.values.chain, self.core.event.name
        check_wait(chain, own, name, wanted, where, what=f"wait_for_event {id!r}")
        length = _wait_seconds(timeout, "timeout")
        key = self.core.key_for(check_step_id(id))
        shape = [name, wanted, where, since]
        return EventWait(
            key=key,
            id=id,
            kind="wait_for_event",
            shape=shape_of("wait_for_event", shape),
            args=canonical(shape)[1:-1][:ARGS_OF_A_WAIT],
            decode=lambda text: self._event(text, model),
            event=name,
            timeout=length,
            match=wanted,
            where=where,
            since_start=since is not None,
        )

    def _event(self, text: str, model: type[EventModel] | None) -> Event[Any]:
        event = self.core.ports.store.events.open(Envelope.from_json(loads(text)))
        return typed_event(self.core.values.receive(event), model)

    def callback(self, id: str, timeout: Duration, heartbeat: Duration | None) -> CallbackWait:
        """ctx.step.create_callback."""
        length = _wait_seconds(timeout, "timeout")
        beat = None if heartbeat is None else _wait_seconds(heartbeat, "heartbeat")
        key = self.core.key_for(check_step_id(id))
        return CallbackWait(
            key=key,
            id=id,
            kind="callback",
            shape=shape_of("callback", []),
            args="",
            timeout=length,
            heartbeat=beat,
        )

    # ---- other functions

    def invoke(
        self, function: Any, data: Any, id: str | None, timeout: Duration | None, detached: bool = False
    ) -> Operation:
        """ctx.step.invoke. Detached, the result is the child's run id."""
        if detached and timeout is not None:
            raise InvalidOption("timeout= is how long to wait for a child; a detached one is not waited for.")
        app, target, typed = self._target(function)
        name = check_step_id(id) if id is not None else target
        key = self.core.key_for(name)
        body = call_body(data, what=f"invoke {target!r}")
        run = self.core.run
        child = child_run_id(app, target, run.id, key)
        shape = shape_of("invoke", [app, target, body, "detached"] if detached else [app, target, body])
        message = {
            "stepwell": "invoke",
            "run": child,
            "app": app,
            "function": target,
            "data": body,
            "event_id": event_id_of(derived_ulid(self.core.now(), "invoked", child)),
            "ts": self.core.now(),
        }
        if run.quiet:
            message["quiet"] = True
        if not detached:
            veiled = self.core.values.veil("invoke", shape)
            message["parent"] = {"run": run.id, "step": key, "id": name, "kind": "invoke", "shape": veiled}
        return (DetachedRun if detached else ChildRun)(
            key=key,
            id=name,
            kind="invoke",
            shape=shape,
            args=f"{app}/{target}, {canonical(body)}"[:100],
            decode=loads if detached else typed.decode,
            child=child,
            message=lambda _: message,
            timeout=None if timeout is None else _wait_seconds(timeout, "timeout"),
        )


def named(target: Any, args: tuple[Any, ...]) -> tuple[str, Any, tuple[Any, ...]]:
    """Id, function and arguments of `run(fn, ...)` or `run("id", fn, ...)`."""
    if isinstance(target, str):
        if not args or not callable(args[0]):
            raise InvalidOption(f"ctx.step.run({target!r}, ...) needs the function to run after the id.")
        return check_step_id(target), args[0], args[1:]
    if not callable(target):
        raise InvalidOption(f"ctx.step.run takes a function, or an id and a function; got {target!r}.")
    return step_id(target), target, args


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


def _wait_seconds(duration: Duration, what: str) -> float:
    length = seconds(duration, what=what)
    if length > YEAR:
        raise InvalidOption(f"{what}: {duration!r} is longer than a year, the longest a step may wait.")
    return length


def _slug(id: str) -> str:
    return "".join(char if char.isalnum() or char in "._-" else "-" for char in id.lower())[:60].strip("-") or "step"


def pauses(every: Duration | Backoff) -> Mapping[str, Any]:
    """The pauses of a poll: a fixed interval is a back-off without growth.

    Raises InvalidOption for one without length: the checks would follow each other without end, each of them paid for.
    """
    backoff = policy_json(every) if isinstance(every, Backoff) else _fixed(every)
    if min(backoff["initial"], backoff["maximum"]) < SHORTEST:
        raise InvalidOption(
            f"every: {every!r} leaves no time between two checks, so they would follow each other without end. Write a "
            "duration of a millisecond or more, such as '5s', or a Backoff whose initial and maximum are."
        )
    return backoff


def _fixed(every: Duration) -> Mapping[str, Any]:
    return {"initial": seconds(every, what="every"), "factor": 1.0, "maximum": 365 * 86400.0, "jitter": False}
