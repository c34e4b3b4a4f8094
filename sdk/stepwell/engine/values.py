"""What passes between user code and storage, by way of the app's middleware; as it is, if there is none.

The worker and the clients read and write by the same rules. The other Lambdas have no middleware: what they copy (the
result of a child run into its parent's step, an event into a waiter's) keeps the place it was written for.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from stepwell.clock import iso
from stepwell.codec import JSON, canonical, dumps, loads
from stepwell.decisions.listening import is_run_event
from stepwell.errors import HIDDEN, ErrorInfo, InvalidOption, MiddlewareFailed, StepwellError
from stepwell.events import INVOKED, SEALED, Envelope, parse_ts
from stepwell.ids import digest
from stepwell.middleware.base import NO_CHAIN, Chain, Place
from stepwell.records import RunState, StepState

OPEN_KINDS = frozenset({"sleep", "wait_for_event", "callback"})
"""Steps whose arguments the engine works with, so they are stored as they are."""
ENCODED_ARGUMENTS = 220
"""Bytes by which encoded arguments make a step item larger, roughly: what compression has to look at."""
_SHOWN = 40
"""Characters of encoded arguments that are kept for the message when they change."""


class Values:
    """The way in and out of storage. `guard` is entered around every call of a hook of the middleware."""

    def __init__(self, chain: Chain = NO_CHAIN, guard: Callable[[], AbstractContextManager[Any]] = nullcontext) -> None:
        self.chain = chain
        self.seals = bool(chain.encoders)
        """Whether anything is encoded."""
        self._guard = guard

    # ---- values

    def encode(self, text: str, place: Place) -> str:
        """As it is to be stored. That a value is null is not worth an encoding."""
        if not self.seals or text == "null":
            return text
        with self._guard(), _failing("write", place):
            for each in self.chain.encoders:
                text = each.encode(text, place)
        return text

    def decode(self, text: str, place: Place) -> str:
        """As it was before it was stored."""
        if not self.chain.decoders or text == "null":
            return text
        with self._guard(), _failing("read", place):
            for each in self.chain.decoders:
                text = each.decode(text, place)
        return text

    def result(self, run: RunState, text: str) -> str:
        """The stored result of a run, decoded."""
        return self.decode(text, Place("result", run.id))

    def step_result(self, run: str, step: StepState, text: str) -> str:
        """The stored result of a step, decoded. An event that was waited for is received instead, by whoever opens it."""
        if step.kind == "wait_for_event":
            return text
        return self.decode(text, Place("result", step.child) if step.child else Place("step", run, step.key))

    # ---- errors

    def close_error(self, error: ErrorInfo, place: Place) -> ErrorInfo:
        """The error with message and traceback encoded. Its type stays readable: lists and alarms go by it."""
        if not self.seals:
            return error
        text = dumps({"message": error.message, "traceback": error.traceback})
        return ErrorInfo(error.type, HIDDEN, None, error.step, self.encode(text, place))

    def open_error(self, error: ErrorInfo, place: Place) -> ErrorInfo:
        """The other way round."""
        if error.sealed is None or not self.chain.decoders:
            return error
        told = loads(self.decode(error.sealed, place))
        if "message" not in told:  # by a middleware that is not here (any more)
            return error
        return ErrorInfo(error.type, told["message"], told.get("traceback"), error.step)

    def run_error(self, run: RunState) -> ErrorInfo | None:
        """The error of a run, decoded."""
        return None if run.error is None else self.open_error(run.error, Place("error", run.id))

    def open_step(self, run: str, step: StepState) -> StepState:
        """The step with its error decoded."""
        if step.error is None or step.error.sealed is None:
            return step
        return replace(step, error=self.open_error(step.error, error_place(run, step)))

    # ---- records of steps

    def close_step(self, run: str, step: StepState) -> StepState:
        """The record of a step as it is to be stored: arguments and error encoded, and no fingerprint to guess by."""
        if not self.seals:
            return step
        error = step.error and self.close_error(step.error, error_place(run, step))
        if step.kind in OPEN_KINDS:
            return replace(step, error=error)
        arguments = dumps([step.shape, (step.args or "")[:_SHOWN]])
        args = self.encode(arguments, Place("arguments", run, step.key))
        return replace(step, error=error, shape=self.veil(step.kind, step.shape), args=args)

    def veil(self, kind: str, shape: str) -> str:
        """The fingerprint that is stored: one of secret arguments would let them be guessed, so it leaves them out."""
        return shape if not self.seals or kind in OPEN_KINDS else _veiled(kind)

    def same_arguments(self, run: str, step: StepState, shape: str) -> bool:
        """Whether a recorded step with an encoded fingerprint had the same arguments. Unknown counts as yes."""
        if not self.seals or not is_veiled(step):
            return False
        recorded = self._arguments(run, step)
        return recorded is None or recorded[0] == shape

    def shown_arguments(self, run: str, step: StepState) -> str:
        """The beginning of a recorded step's arguments. In a fork's kept steps no fingerprint says how they are kept."""
        recorded = self._arguments(run, step)
        return (step.args or "") if recorded is None else str(recorded[1])

    def moved_arguments(self, run: str, step: StepState, new: str) -> str | None:
        """What a step has of its arguments, for the same step of another run."""
        recorded = self._arguments(run, step)
        if recorded is None:
            return step.args
        return self.encode(dumps(["", recorded[1]]), Place("arguments", new, step.key))

    def _arguments(self, run: str, step: StepState) -> JSON | None:
        """Fingerprint and beginning of a step's arguments, if they are encoded."""
        if not step.args or not self.chain.decoders or not (is_veiled(step) or step.shape == ""):
            return None
        try:
            told = loads(self.decode(step.args, Place("arguments", run, step.key)))
        except ValueError:  # the beginning of arguments in clear
            return None
        return told if isinstance(told, list) and len(told) == 2 else None

    # ---- events

    def send(self, event: Envelope) -> Envelope:
        """The event as it is to be sent."""
        if not self.chain.senders:
            return event
        given = sent = event.event()
        with self._guard():
            for each in self.chain.senders:
                sent = each.on_send(sent)
        if (getattr(sent, "id", None), getattr(sent, "name", None)) != (event.id, event.name):
            raise InvalidOption(
                f"on_send must give an event with the same id and name; it made {sent!r} of {event.id}."
            )
        dated, ts = event.dated or sent.ts != given.ts, parse_ts(sent.ts)
        return Envelope(sent.id, sent.name, sent.data, ts, sent.tenant, trace=sent.trace, dated=dated)

    def send_call(self, body: dict[str, JSON]) -> dict[str, JSON]:
        """The message that starts a run of a function, its data and trace as they are to be sent."""
        if not self.chain.senders:
            return body
        call = self.send(Envelope(body["event_id"], body.get("event", INVOKED), body["data"], body["ts"]))
        return {**body, "data": call.data} | ({"trace": call.trace} if call.trace else {})

    def receive(self, event: Envelope) -> Envelope:
        """The event as it was before it was sent. The news of a run's end, made by the engine, holds what is that run's."""
        if not self.chain.receivers and not self.chain.decoders:
            return event
        with self._guard():
            if is_run_event(event.name) and SEALED not in event.data:
                return event.with_data(self._news(event.data))
            received = event.event()
            for each in self.chain.receivers:
                received = each.on_receive(received)
        return replace(event, data=received.data, ref=None)

    def _news(self, data: dict[str, JSON]) -> dict[str, JSON]:
        known = dict(data)
        if known.get("error") is not None:
            error = self.open_error(ErrorInfo.from_json(known["error"]), Place("error", known["run_id"]))
            known["error"] = {**replace(error, sealed=None).as_json(), "message": error.message}
        if known.get("result") is not None:
            known["result"] = loads(self.decode(dumps(known["result"]), Place("result", known["run_id"])))
        if known.get("event") is not None:
            first = self.receive(Envelope.from_json({**known["event"], "ts": parse_ts(known["event"]["ts"])}))
            known["event"] = {**first.as_json(), "ts": iso(first.ts)}
        return known


PLAIN = Values()
"""Without middleware."""


def _veiled(kind: str) -> str:
    return digest("veiled", canonical(kind)).hex()[:16]


def is_veiled(step: StepState) -> bool:
    """Whether a step's record was encoded by a middleware: its fingerprint tells, also without one."""
    return step.shape == _veiled(step.kind)


def error_place(run: str, step: StepState) -> Place:
    """Where the error of a step belongs: a child's is the child's."""
    return Place("error", step.child) if step.child else Place("error", run, step.key)


class _failing:  # noqa: N801 (reads as a statement)
    """What a middleware raises that is no error of Stepwell's becomes one: its run waits until it is mended."""

    def __init__(self, verb: str, place: Place) -> None:
        self._verb = verb
        self._place = place

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, StepwellError):
            at = f"{self._place.kind} of {self._place.owner} {self._place.name}".strip()
            raise MiddlewareFailed(
                f"A middleware could not {self._verb} the {at}: {type(error).__name__}: {error}. The run is tried again "
                "for 24 hours; mend the middleware and deploy."
            ) from error
