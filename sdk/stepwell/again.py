"""Runs, once more: replayed from the beginning, or forked at a step; one, or many at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from enum import Enum, auto
from itertools import islice
from typing import Any, Literal

from stepwell.codec import JSON
from stepwell.decisions.forking import LAST, as_kept, kept_before, places_of
from stepwell.decisions.wanted import wanted
from stepwell.engine.ending import cancel
from stepwell.engine.forking import keep, moved
from stepwell.engine.inputs import own_event
from stepwell.engine.resolve import pack_result
from stepwell.engine.sending import large_field
from stepwell.engine.values import PLAIN, Values
from stepwell.errors import InvalidOption, KeyUnavailable, NotReplayable, UnknownStep
from stepwell.events import SEALED, Envelope, check_id, check_tenant, parse_ts
from stepwell.ids import event_id_of
from stepwell.middleware.base import Place
from stepwell.models import EventModel, event_body
from stepwell.ports import Ports
from stepwell.queue import Message
from stepwell.records import LIVE, RunState, RunStatus, StepState, StepStatus
from stepwell.typed import Typed

REPLAYED = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED})
"""What a bulk replay takes unless it is told: what has begun and ended."""
_PAGE = 10
"""Replays asked for with one request to the queue."""
_NAMED = 40
"""Steps that are named when there is none of the name that was asked for."""


class Unset(Enum):
    """The type of UNSET."""

    UNSET = auto()


UNSET: Literal[Unset.UNSET] = Unset.UNSET
"""Not given; None is a value."""


# ---- one run


def replay(ports: Ports, run: RunState) -> str:
    """Ask for a new run with the event of this one; its id. Raises NotReplayable."""
    new = _new_id(ports, run)
    ports.queue.send(_request(ports, run, new, own_event(ports, run), replay_of=run.id))
    return new


def fork(
    ports: Ports, run: RunState, key: str, *, data: Any = UNSET, result: Any = UNSET, values: Values = PLAIN
) -> str:
    """Ask for a new run that has the checkpoints of this one from before the step `key`; its id.

    The checkpoints come first and the message that makes the run of them last: cut off in between, nothing starts.
    Raises NotReplayable, UnknownStep, InvalidOption, NotSerializable, PayloadTooLarge, and MiddlewareFailed (mostly
    KeyUnavailable) if values are encrypted and cannot be encrypted anew.
    """
    new, now = _new_id(ports, run), ports.now()
    steps = list(ports.store.runs.steps(run.id))
    chosen = next((step for step in steps if step.key == key), None)
    if chosen is None:
        raise UnknownStep(_which_steps(run, key, steps))
    event, trace = own_event(ports, run), dict[str, JSON]()
    if data is not UNSET:
        event, trace = _edited(values, event, _data(event, data))
    kept = kept_before(steps, key, now, decided=result is not UNSET)
    recorded = {step.key: step for step in steps}
    kept = [_moved(ports, values, run.id, new, recorded[step.key], step) for step in kept]
    if result is not UNSET:
        bare = moved(ports, values, run.id, new, replace(chosen, result=None, error=None))
        kept.append(_decided(ports, values, new, bare, result, places_of(steps).get(key), now))
    keep(ports, new, kept)
    ports.queue.send(_request(ports, run, new, event, fork={"run": run.id, "step": key}, **trace))
    return new


def _moved(ports: Ports, values: Values, old: str, new: str, recorded: StepState, kept: StepState) -> StepState:
    """A kept checkpoint with what it holds as the new run reads it. Only the record tells how that was encoded."""
    here = moved(ports, values, old, new, recorded)
    return replace(kept, args=here.args, result=here.result, error=here.error)


def _edited(values: Values, event: Envelope, data: dict[str, JSON]) -> tuple[Envelope, dict[str, JSON]]:
    """The event with other data, as they are to be sent, and the trace of that."""
    if SEALED in event.data and not values.seals:
        raise KeyUnavailable(
            f"The data of event {event.id} are encrypted, and input= would stand in clear in their place: fork by a "
            "client that has the app's middleware, app.client or client.with_middleware(...)."
        )
    sent = values.send_call({"event_id": event.id, "event": event.name, "data": data, "ts": event.ts})
    return event.with_data(sent["data"]), {"trace": sent["trace"]} if "trace" in sent else {}


def _new_id(ports: Ports, run: RunState) -> str:
    if run.call is not None and run.parent is not None:
        raise NotReplayable(
            f"Run {run.id} is step {run.parent.step!r} of run {run.parent.run}, in a worker of its own; by itself its "
            f"result would reach nobody. Replay that run, or fork it at {run.parent.step!r}."
        )
    return f"{run.app}.{ports.ids.ulid(ports.now())}"


def _request(ports: Ports, run: RunState, new: str, event: Envelope, **more: JSON) -> Message:
    """The message that makes the orchestrator create the run. Handled twice it creates one."""
    body = {
        "stepwell": "invoke",
        "run": new,
        "app": run.app,
        "function": run.function,
        "data": event.data,
        "event": event.name,
        "event_id": event.id,
        "ts": event.ts,
        **({} if event.tenant is None else {"tenant": event.tenant}),
        **({"child": True} if run.started_by_run else {}),
        **({"quiet": True} if run.quiet else {}),
        **more,
    }
    return Message(large_field(ports, body, "data", f"events/{new}/input"), group=run.app)


def _data(event: Envelope, data: Any) -> dict[str, JSON]:
    """The event's data instead of which others were given. Raises InvalidOption if they are for another event."""
    name, body = event_body(data, None) if isinstance(data, EventModel) else event_body(event.name, data)
    if name != event.name:
        raise InvalidOption(f"input= is the data of {event.name!r}, the run's event; got a {type(data).__name__}.")
    return body


def _decided(
    ports: Ports, values: Values, new: str, step: StepState, result: Any, place: int | None, now: int
) -> StepState:
    """The chosen step with the result it is given."""
    changes: dict[str, Any] = {
        "seq": place,
        "status": StepStatus.COMPLETED,
        "started": step.started or now,
        "ended": step.ended or now,
        "error": None,
        "result": None,
        "by": "fork",
        "failures": 0,
    }
    if step.kind == "sleep":
        if result is not None:
            raise InvalidOption(f"Step {step.key!r} is a sleep: result=None ends it, and there is no other result.")
        until = min(step.until or now, now)
        changes |= {"until": until, "ended": until}
    elif step.kind == "wait_for_event" and result is None:
        changes["status"] = StepStatus.TIMED_OUT
    else:
        if step.kind == "wait_for_event":
            event = values.send(_event_result(ports, step, result, now))
            text = Typed(Any, f"the result of step {step.key!r}").encode(event.as_json())
        else:
            text = Typed(Any, f"the result of step {step.key!r}").encode(result)
            text = values.encode(text, Place("result", step.child) if step.child else Place("step", new, step.key))
        changes["result"] = pack_result(ports, new, step.key, text, "fork")
    return as_kept(step, **changes)


def _event_result(ports: Ports, step: StepState, result: Any, now: int) -> Envelope:
    """What a wait for an event gives is an event: a model, or an object with name and data."""
    if isinstance(result, EventModel):
        name, data = event_body(result, None)
        given: Mapping[str, Any] = {}
    elif isinstance(result, Mapping) and "name" in result:
        name, data = event_body(result["name"], result.get("data"))
        given = result
    else:
        raise InvalidOption(
            f"Step {step.key!r} waits for an event: its result is an EventModel, an object such as "
            f'{{"name": "order/paid", "data": {{}}}}, or None for out of time; got {result!r}.'
        )
    waits_for = wanted(step)
    if waits_for is not None and name != waits_for.event:
        raise InvalidOption(
            f"Step {step.key!r} waits for {waits_for.event!r}, so an event {name!r} cannot be its result."
        )
    id, ts = given.get("id"), given.get("ts")
    return Envelope(
        event_id_of(ports.ids.ulid(now)) if id is None else check_id(id),
        name,
        data,
        now if ts is None else parse_ts(ts),
        check_tenant(given.get("tenant")),
    )


def _which_steps(run: RunState, key: str, steps: list[StepState]) -> str:
    places = places_of(steps)
    names = [step.key for step in sorted(steps, key=lambda step: (step.started or 0, places.get(step.key, LAST)))]
    if not names:
        return f"Run {run.id} has no step {key!r}: it has recorded none yet. Replay it instead."
    shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    return f"Run {run.id} has no step {key!r}. Its steps: {shown}."


# ---- many


def replay_all(ports: Ports, runs: Iterable[RunState], functions: set[tuple[str, str]], operation: str) -> int:
    """Replay the events of these runs, each once for this operation; how many were asked for now.

    Which run is to be the replay is noted first. So whoever repeats an operation that was cut off asks for the same runs
    again, and only for those that do not exist yet and cannot have existed (`_done`). Runs that other runs started, those
    that a batch stands for, and those of functions that are no longer registered, are left out.
    """
    if not operation or len(operation) > 100 or not operation.isprintable():
        raise InvalidOption(f"An operation is named by 1 to 100 printable characters, got {operation!r}.")
    mine = (
        run for run in runs if not run.started_by_run and run.taken_by is None and (run.app, run.function) in functions
    )
    asked: set[str] = set()
    while page := list(islice(mine, _PAGE)):
        meant = _noted(ports, page, operation, asked)
        if meant:
            ports.queue.send(
                *(_request(ports, run, new, own_event(ports, run), replay_of=run.id) for new, run in meant.items())
            )
        asked |= meant.keys()
    return len(asked)


def _noted(ports: Ports, runs: list[RunState], operation: str, asked: set[str]) -> dict[str, RunState]:
    """Which of these runs are to be asked for now, by the ids that are noted for their replays."""
    noted: dict[str, tuple[RunState, bool]] = {}
    for run in runs:
        new = _new_id(ports, run)
        stands = ports.store.notes.replay(run, operation, new)
        if stands not in asked:
            noted.setdefault(stands, (run, stands == new))
    there = ports.store.runs.read_many(noted)
    return {new: run for new, (run, first) in noted.items() if new not in there and (first or not _done(ports, new))}


def _done(ports: Ports, new: str) -> bool:
    """Whether a replay that was noted before, and is not there, was there once, or may have been.

    For as long as no run that began since the note can have expired it was not, and afterwards that is taken for granted. A
    clock that is off, or a retention that was another, is found out by the checkpoints it has left, which outlive it: a run
    that began among them would take them for its own.
    """
    return ports.store.notes.lapsed(new, ports.now()) or next(ports.store.runs.steps(new), None) is not None


def cancel_all(ports: Ports, runs: Iterable[RunState]) -> int:
    """Cancel the runs that are live; how many were."""
    return sum(cancel(ports, run.id, "cancelled by the client") for run in runs if run.status in LIVE)
