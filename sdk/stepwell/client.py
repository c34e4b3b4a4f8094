"""Talking to a deployed (or local) Stepwell from outside: send events, look at runs, answer callbacks."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Unpack, overload

from stepwell import again
from stepwell.again import UNSET
from stepwell.clock import from_millis
from stepwell.codec import loads
from stepwell.dead_letters import DeadLetter, DeadLetters
from stepwell.decisions.flow import pause_gate
from stepwell.durations import spoken
from stepwell.engine import answering
from stepwell.engine.ending import cancel, result_text
from stepwell.engine.inputs import own_event
from stepwell.engine.sending import event_message, large_field
from stepwell.engine.values import PLAIN, Values
from stepwell.errors import (
    ErrorInfo,
    InvalidOption,
    KeyUnavailable,
    RunCancelled,
    RunFailed,
    TamperedValue,
    UnknownFunction,
    UnknownRun,
)
from stepwell.events import INVOKED, Envelope, Event, check_id, check_made, check_sender, check_tenant, event_ts
from stepwell.finding import Filters, Finder, checked_limit, named
from stepwell.ids import event_id_of, event_key, event_millis, run_id
from stepwell.middleware.base import Chain, Middleware
from stepwell.models import EventModel, call_body, event_body, event_fields, several
from stepwell.ports import Config, Ports
from stepwell.queue import Message, drain
from stepwell.records import LIVE, RunState, RunStatus
from stepwell.typed import Typed
from stepwell.views import Run, view
from stepwell.waiting import why

OUTPUTS = {"QueueUrl": "queue_url", "DeadLetterQueueUrl": "dlq_url", "TableName": "table", "BucketName": "bucket"}
"""The stack outputs a client needs, and what they are."""


class Client:
    """A client of one Stepwell.

    `Client.from_stack("name")` finds everything in the outputs of a deployed stack, `Client.from_env()` in
    STEPWELL_QUEUE_URL, STEPWELL_TABLE and STEPWELL_BUCKET. It is safe to share between threads.
    """

    def __init__(self, ports: Ports, *, default_group: str = "stepwell") -> None:
        self._ports = ports
        self._finder = Finder(ports)
        self._group = default_group
        self._sleep: Callable[[float], None] = time.sleep
        self._values = PLAIN

    @classmethod
    def from_env(cls, *, default_group: str = "stepwell") -> Client:
        """From the environment. Raises InvalidOption naming the variable that is missing."""
        import botocore.session

        return cls(Ports.build(botocore.session.get_session(), Config.from_env()), default_group=default_group)

    @classmethod
    def from_stack(cls, name: str, *, session: Any = None) -> Client:
        """From a deployed CloudFormation stack. `session`: a boto3 session for another region, account or profile.

        Raises InvalidOption if the stack does not exist or is not a Stepwell.
        """
        import boto3
        from botocore.exceptions import ClientError

        session = session or boto3.Session()
        try:
            stack = session.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
        except ClientError as error:
            raise InvalidOption(f"Stack {name!r} cannot be read: {error.response['Error']['Message']}.") from error
        outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
        missing = sorted(set(OUTPUTS) - set(outputs))
        if missing:
            raise InvalidOption(f"Stack {name!r} has no output {', '.join(missing)}, so it is not a Stepwell stack.")
        found = {field: outputs[output] for output, field in OUTPUTS.items()} | {"api_url": outputs.get("ApiUrl")}
        return cls(Ports.build(session._session, Config(**found, region=session.region_name)))

    def with_middleware(self, *middleware: Middleware) -> Client:
        """The same client, sending and reading by way of this middleware, the outermost first.

        `app.client` has the app's. A client without it sends events as they are, and shows what is encrypted as the
        ciphertext it is.
        """
        client = copy.copy(self)
        client._values = Values(Chain(middleware))
        return client

    # ---- events

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
        event_id = check_made(check_id(id), now) if id is not None else event_id_of(self._ports.ids.ulid(now))
        return Envelope(event_id, name, body, now if ts is None else event_ts(ts, now), check_tenant(tenant))

    def events(
        self,
        *,
        name: str | None = None,
        since: datetime | timedelta | None = None,
        until: datetime | timedelta | None = None,
        limit: int | None = None,
    ) -> Iterator[Event[Any]]:
        """Accepted events, newest first: those that started runs and those that matched nothing.

        since, until: when they were accepted; a naive time is UTC, a timedelta is that long ago. Raises InvalidOption.
        One that the middleware of this client cannot decrypt is shown as it is stored.
        """
        most, apps = checked_limit(limit), self._finder.apps()
        begin, end = self._finder.span(apps, since, until)
        found = {event.id + event.name: event for event in self._ports.store.events.between(begin, end)}
        for run in self._finder.listed(apps, None, list(RunStatus), begin, end):
            if run.parent is None and run.replay_of is None and run.fork is None:
                event = own_event(self._ports, run)
                found.setdefault(event.id + event.name, event)
        newest = sorted(found.values(), key=lambda event: event_millis(event.id) or event.ts, reverse=True)
        chosen = (self._shown(event) for event in newest if name is None or event.name == name)
        return islice(chosen, most)

    def _shown(self, event: Envelope) -> Event[Any]:
        try:
            return self._values.receive(event).event()
        except (KeyUnavailable, TamperedValue):  # of another app, perhaps: its event must not hide all the others
            return event.event()

    # ---- runs

    def invoke(self, function: Any, data: Any = None) -> str:
        """Start a run of one function directly, without an event for others to see; gives its id.

        function: a declared function, or "app/function-id". data: an object, a dict or a model; none is an empty one.
        Raises UnknownFunction if it is not registered, InvalidOption for other data, NotSerializable, PayloadTooLarge.
        """
        app, target = self._finder.target(function)
        body = call_body(data, what=f"invoke {app}/{target}")
        now = self._ports.now()
        run = f"{app}.{self._ports.ids.ulid(now)}"
        event_id = event_id_of(self._ports.ids.ulid(now))
        fields = {"data": body, "event": INVOKED, "event_id": event_id, "ts": now}
        self._start(run, app, target, self._values.send_call(fields))
        return run

    def _start(self, run: str, app: str, function: str, fields: dict[str, Any]) -> None:
        body = {"stepwell": "invoke", "run": run, "app": app, "function": function, **fields}
        self._ports.queue.send(Message(large_field(self._ports, body, "data", f"events/{run}/input"), group=app))

    def run(self, run: str) -> Run:
        """A run as it is now. Raises UnknownRun."""
        return view(self._ports, self._state(run), self._values)

    def runs(self, **filters: Unpack[Filters]) -> Iterator[Run]:
        """Runs, newest first: of one `function` ("app/function-id"), in some `status` or several, created from `since` to
        `until` (a naive time is UTC, a timedelta that long ago), under a `tag` ("name=value"), older than the run
        `before`; at most `limit`. Read page by page as they are taken. Who cannot hold on to the iterator gives the id of the
        last run of a page as `before` of the next.

        Steps that run in workers of their own are not among them. Raises InvalidOption, UnknownFunction.
        """
        return (view(self._ports, run, self._values) for run in self._finder.runs(filters))

    def count(self, **filters: Unpack[Filters]) -> int:
        """How many runs there are, by the same filters as `runs`. Each is read, since lists may lag behind."""
        return sum(1 for _ in self._finder.runs(filters))

    def functions(self) -> dict[str, dict[str, Any]]:
        """The registered functions by "app/function-id", each as it was declared: triggers, retries, options."""
        apps = self._finder.apps()
        return {f"{app}/{entry['id']}": dict(entry) for app in sorted(apps) for entry in apps[app].functions}

    def why_waiting(self, run: str) -> str:
        """In one sentence, what a run waits for, until when, and what it has missed so far. Raises UnknownRun.

        It reads the run's steps, the state of child runs it waits for, and of each event it waits for the latest of
        that name: of at most 800 logged events, of at most 7 days.
        """
        return why(self._ports, self._state(run), self._values)

    def runs_of_event(self, event_id: str) -> list[Run]:
        """The runs an event started, oldest first; for an event that a batch took along, the run of the batch."""
        apps = self._ports.store.apps.current()[0]
        received = event_millis(event_id)
        if received is not None:
            key = event_key("", event_id)
            ids = [run_id(app.id, entry["id"], received, key) for app in apps.values() for entry in app.known_functions]
        else:
            ids = []
            for name, kept in self._ports.store.events.named(event_id):
                key = event_key(name, event_id)
                pairs = [function.split("/", 1) for function in kept.functions]
                ids += [run_id(app, target, kept.received, key) for app, target in pairs]
        found = self._ports.store.runs.read_many(ids)
        taken = {state.taken_by for state in found.values() if state.taken_by is not None}
        if taken:  # by batches: their runs stand for the event's own
            alone = {run: state for run, state in found.items() if state.taken_by is None}
            found = alone | self._ports.store.runs.read_many(taken)
        states = sorted(found.values(), key=lambda state: (state.created, state.id))
        return [view(self._ports, state, self._values) for state in states]

    def result(self, run: str, *, timeout: float | timedelta | None = None) -> Any:
        """Wait for a run to end; what its function returned, as plain JSON.

        Raises RunFailed, RunCancelled (also for a skipped run), TimeoutError, UnknownRun.
        """
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        deadline = None if seconds is None else self._ports.clock.now() + seconds
        pause, missing = 0.1, 0
        while True:
            state = self._ports.store.runs.read(run)
            if state is None:
                missing += 1  # an invoked run exists only once its message has been handled
                if missing > 20:
                    raise UnknownRun(f"There is no run {run!r}, or it has expired.")
            elif not state.is_live:
                return self._result(state)
            if deadline is not None and self._ports.clock.now() >= deadline:
                raise TimeoutError(f"Run {run} has not ended within {spoken(seconds or 0)}.")
            self._sleep(pause if deadline is None else min(pause, max(0.0, deadline - self._ports.clock.now())))
            pause = min(2.0, pause * 1.5)

    def _result(self, state: RunState) -> Any:
        if state.status is RunStatus.COMPLETED:
            return loads(self._values.result(state, result_text(self._ports, state)))
        if state.status is RunStatus.FAILED:
            raise RunFailed(state.id, self._values.run_error(state) or ErrorInfo("Unknown", "no error was recorded"))
        raise RunCancelled(state.id, state.reason)

    def cancel(self, run: str) -> bool:
        """Cancel a run: it stops before its next step. False if it had already ended. Raises UnknownRun."""
        self._state(run)
        return cancel(self._ports, run, "cancelled by the client")

    def cancel_all(self, **filters: Unpack[Filters]) -> int:
        """Cancel the live runs among those that `runs` would give for these filters; how many were cancelled."""
        if filters.get("status") is None:
            filters["status"] = sorted(LIVE)
        return again.cancel_all(self._ports, list(self._finder.runs(filters)))

    # ---- again

    def replay(self, run: str) -> str:
        """Start a new run with the same event, on today's code; gives its id. Nothing of the old one is reused, but
        `idempotency_key(scope="event")` gives the same keys.

        A run that another run invoked is replayed by itself: its result goes to nobody. Raises UnknownRun,
        UnknownFunction, and NotReplayable for a step that runs in a worker of its own.
        """
        state = self._again(run)
        return again.replay(self._ports, state)

    def fork(self, run: str, step: str, *, input: Any = UNSET, result: Any = UNSET) -> str:
        """Start a new run that keeps the checkpoints made before a step, on today's code; gives its id.

        step: a key of `run.steps`: its id, `id:1` for a repetition, `name[i]` for an item of a map. input: other data for
        the event. result: what the step has come to; otherwise it runs again. For a wait for an event that is an event
        (a model, or an object with name and data) or None for out of time; for a sleep it is None.

        Kept are the outcomes that the function saw before that of the step, with their results, errors and times, those
        of parallel branches, children and waits included. What was open begins anew. The old run goes on if it is live.
        Encrypted values are encrypted anew for the new run, so that takes a client with the app's middleware.
        Raises UnknownRun, UnknownStep (naming the steps there are), UnknownFunction, InvalidOption, NotReplayable,
        KeyUnavailable.
        """
        state = self._again(run)
        return again.fork(self._ports, state, step, data=input, result=result, values=self._values)

    def replay_all(self, *, operation: str = "replay", **filters: Unpack[Filters]) -> int:
        """Replay the runs that `runs` would give for these filters; how many were started.

        A function's run of an event is replayed once for each `operation`, however often that is repeated: after an
        interruption simply call it again. To replay the same events once more, name another operation. Without a `status`
        it takes runs that have completed, failed or been cancelled. Runs that other runs started are left out (their
        parents start them anew), and so are those of functions that are no longer registered.
        """
        if filters.get("status") is None:
            filters["status"] = sorted(again.REPLAYED)
        if filters.get("until") is None:
            filters["until"] = from_millis(self._ports.now())
        functions = {(app, entry["id"]) for app, record in self._finder.apps().items() for entry in record.functions}
        return again.replay_all(self._ports, self._finder.runs(filters), functions, operation)

    def _again(self, run: str) -> RunState:
        state = self._state(run)
        if state.call is None:
            self._finder.target(f"{state.app}/{state.function}")
        return state

    # ---- functions

    def pause(self, function: Any) -> None:
        """Let new runs of a function (a declared one, or "app/function-id") wait, whatever starts them, until `resume`.
        Runs that have begun go on. Nothing is lost: they start in the order of their events; of a schedule only the last
        tick does.

        Raises UnknownFunction.
        """
        self._ports.store.apps.pause(*self._known(function), self._ports.now())

    def resume(self, function: Any) -> None:
        """Start what waited for a paused function, and what comes. Raises UnknownFunction."""
        app, target = self._known(function)
        self._ports.store.apps.resume(app, target)
        self._ports.queue.send(drain(pause_gate(app, target)))

    def _known(self, function: Any) -> tuple[str, str]:
        app, target = named(function)
        record = self._ports.store.apps.current()[0].get(app)
        if record is None or target not in {entry["id"] for entry in record.known_functions}:
            raise UnknownFunction(
                f"There is no function {function!r}. Write 'app/function-id'; `stepwell functions` lists them."
            )
        return app, target

    # ---- dead letters

    def dead_letters(self) -> Iterator[DeadLetter]:
        """Messages that could not be handled, each with its reason. Looking at them takes nothing away."""
        return iter(self._letters())

    def redrive(self, id: str | None = None) -> int:
        """Send a dead letter, or all of them, back to the main queue; says how many. Mend the cause first.

        Raises UnknownLetter for an id that none of them has.
        """
        return self._letters().redrive(id)

    def _letters(self) -> DeadLetters:
        queue = self._ports.queue
        if queue.dlq_url is None:
            raise InvalidOption("STEPWELL_DLQ_URL is not set, so the dead-letter queue is not known.")
        return DeadLetters(queue.client, queue.dlq_url, queue.url)

    # ---- callbacks

    def complete_callback(self, token: str, result: Any = None) -> None:
        """Answer a callback. The first answer stands; the same answer again changes nothing.

        Raises UnknownCallback for a token that belongs to no callback, CallbackOver for one that is over: answered
        otherwise, out of time, or its run has ended.
        """
        answering.complete(self._ports, token, Typed(Any, "the answer").encode(result), self._values)

    def fail_callback(self, token: str, message: str) -> None:
        """Report that what the callback waits for has failed: the function gets a StepError with this message."""
        answering.fail(self._ports, token, str(message), self._values)

    def heartbeat_callback(self, token: str) -> None:
        """Say that somebody is still working on it. Raises UnknownCallback, CallbackOver if it is over."""
        answering.heartbeat(self._ports, token)

    # ---- helpers

    def _state(self, run: str) -> RunState:
        state = self._ports.store.runs.read(run)
        if state is None:
            raise UnknownRun(f"There is no run {run!r}, or it has expired.")
        return state
