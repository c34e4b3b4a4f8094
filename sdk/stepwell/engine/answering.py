"""Callbacks, answered from outside: by a client, or over HTTP. A token is held against the proof in the step's record.

First the step (one conditional write; the first answer wins), then the run is woken. Whoever was cut off in between
gives the same answer again, finds it standing, and wakes the run once more.

`values` encodes the answer as the app's middleware does. Who has none (the door, other clients) answers in clear.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stepwell.callbacks import parse_token, proves
from stepwell.codec import dumps
from stepwell.engine.resolve import pack_result
from stepwell.engine.values import PLAIN, Values
from stepwell.errors import CallbackOver, ErrorInfo, UnknownCallback
from stepwell.ids import digest
from stepwell.middleware.base import Place
from stepwell.ports import Ports
from stepwell.queue import wake
from stepwell.records import RunState, StepState, StepStatus
from stepwell.store.items import step_from
from stepwell.store.table import Lost


def complete(ports: Ports, token: str, text: str, values: Values = PLAIN) -> None:
    """Answer a callback with this JSON text. The first answer stands; the same answer again changes nothing.

    Raises UnknownCallback for a token that belongs to no callback, CallbackOver for one that is over: answered
    otherwise, out of time, or its run has ended.
    """
    run, step = _opened(ports, token)
    sealed = values.encode(text, Place("step", run.id, step.key))
    stored = pack_result(ports, run.id, step.key, sealed, ports.ids.token_bytes(8).hex())
    answer = _Answer(values, "answer", text, _by(ports, values, "answer", text))
    _answer(ports, run, step.key, answer, status=StepStatus.COMPLETED.value, result=stored)


def fail(ports: Ports, token: str, message: str, values: Values = PLAIN) -> None:
    """Report that what the callback waits for has failed. Raises as `complete` does."""
    run, step = _opened(ports, token)
    error = ErrorInfo("CallbackFailed", message[:1000])
    sealed = values.close_error(error, Place("error", run.id, step.key))
    answer = _Answer(values, "failure", error.message, _by(ports, values, "failure", message))
    _answer(ports, run, step.key, answer, status=StepStatus.FAILED.value, error=dumps(sealed.as_json()))


def heartbeat(ports: Ports, token: str) -> None:
    """Say that somebody is still working on it. Raises as `complete` does, also for a callback without a heartbeat."""
    run, step = _opened(ports, token)
    now = ports.now()
    if not run.is_live or not step.status.is_open:
        raise CallbackOver(f"The callback {step.key!r} is over.")
    if step.beat is None:
        raise UnknownCallback(f"The callback {step.key!r} has no heartbeat; declare one with heartbeat=.")
    try:
        ports.store.runs.answer(run.id, step.key, now=now, beat_by=now + step.beat)
    except Lost:
        raise CallbackOver(f"The callback {step.key!r} is over.") from None


def check(ports: Ports, token: str) -> bool:
    """Whether the callback still waits for an answer. Raises UnknownCallback for a token that belongs to none."""
    run, step = _opened(ports, token)
    if not run.is_live or step.status is not StepStatus.WAITING:
        return False
    return ports.now() < min(step.until or 0, step.beat_by or step.until or 0)


def _opened(ports: Ports, token: str) -> tuple[RunState, StepState]:
    """The callback of a token and its run. Raises UnknownCallback.

    A token is handed out after its proof is recorded, so there is none without a record. What is not proven costs one
    read and has no other effect.
    """
    run_id, key = parse_token(token)
    step = ports.store.runs.step(run_id, key)
    proven = step is not None and step.proof is not None and proves(token, step.proof)
    run = ports.store.runs.read(run_id) if proven else None
    if step is None or run is None:
        raise UnknownCallback("The token belongs to no callback, or its run has expired.")
    return run, step


@dataclass(frozen=True, slots=True)
class _Answer:
    """What somebody says."""

    values: Values
    kind: str
    text: str
    by: str

    def stands(self, ports: Ports, run: str, step: StepState | None) -> bool:
        """Whether a recorded answer is this one, or says the same."""
        if step is None or step.by is None:
            return False
        if step.by == self.by or not self.values.seals:
            return step.by == self.by
        if step.by.partition(":")[0] != self.kind:
            return False
        if self.kind == "failure":
            error = self.values.open_step(run, step).error
            return error is not None and error.message == self.text
        stored = "null" if step.result is None else ports.payloads.unpack(step.result)
        return self.values.step_result(run, step, stored) == self.text


def _by(ports: Ports, values: Values, kind: str, text: str) -> str:
    """Whose answer it is: that of everybody who says the same. An answer that is secret is known by a random text:
    a digest would let it be guessed."""
    return f"{kind}:{ports.ids.token_bytes(16).hex() if values.seals else digest(text).hex()[:32]}"


def _answer(ports: Ports, run: RunState, key: str, answer: _Answer, **fields: Any) -> None:
    if not run.is_live:  # a wait that its run has left behind stays open for ever; nobody would see the answer
        step = ports.store.runs.step(run.id, key)
        if not answer.stands(ports, run.id, step):
            raise CallbackOver(f"The callback {key!r} is over: its run has ended.")
        return
    now = ports.now()
    try:
        ports.store.runs.answer(run.id, key, now=now, ended=now, by=answer.by, **fields)
    except Lost as lost:
        standing = step_from(lost.item) if lost.item else None
        if not answer.stands(ports, run.id, standing):  # else it was given before: wake the run once more
            if standing is None:
                over = "is over: its run has expired"
            elif standing.status is StepStatus.WAITING:
                over = "is out of time"
            else:
                over = f"is over: {standing.status.value.replace('_', ' ')}"
            raise CallbackOver(f"The callback {key!r} {over}.") from None
    ports.queue.send(wake(run.id))
