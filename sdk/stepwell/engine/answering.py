"""Callbacks, answered from outside: by a client, or over HTTP.

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
from stepwell.store.runs import step_from
from stepwell.store.table import Lost


def complete(ports: Ports, token: str, text: str, values: Values = PLAIN) -> None:
    """Answer a callback with this JSON text. The first answer stands; the same answer again changes nothing.

    Raises UnknownCallback for a token that belongs to no callback, CallbackOver for one that is over: answered
    otherwise, out of time, or its run has ended.
    """
    run, key = _opened(ports, token)
    sealed = values.encode(text, Place("step", run.id, key))
    stored = pack_result(ports, run.id, key, sealed, ports.ids.token_bytes(8).hex())
    answer = _Answer(values, "answer", text, _by(ports, values, "answer", text))
    _answer(ports, run, key, answer, status=StepStatus.COMPLETED.value, result=stored)


def fail(ports: Ports, token: str, message: str, values: Values = PLAIN) -> None:
    """Report that what the callback waits for has failed. Raises as `complete` does."""
    run, key = _opened(ports, token)
    error = ErrorInfo("CallbackFailed", message[:1000])
    sealed = values.close_error(error, Place("error", run.id, key))
    answer = _Answer(values, "failure", error.message, _by(ports, values, "failure", message))
    _answer(ports, run, key, answer, status=StepStatus.FAILED.value, error=dumps(sealed.as_json()))


def heartbeat(ports: Ports, token: str) -> None:
    """Say that somebody is still working on it. Raises as `complete` does, also for a callback without a heartbeat."""
    run, key = _opened(ports, token)
    now = ports.now()
    step = ports.store.runs.step(run.id, key)
    if not run.is_live or (step is not None and not step.status.is_open):
        raise CallbackOver(f"The callback {key!r} is over.")
    if step is None or step.beat is None:
        raise UnknownCallback(f"The callback {key!r} has no heartbeat; declare one with heartbeat=.")
    try:
        ports.store.runs.answer(run.id, key, now=now, beat_by=now + step.beat)
    except Lost:
        raise CallbackOver(f"The callback {key!r} is over.") from None


def check(ports: Ports, token: str) -> bool:
    """Whether the callback still waits for an answer. Raises UnknownCallback for a token that belongs to none."""
    run, key = _opened(ports, token)
    step = ports.store.runs.step(run.id, key)
    if not run.is_live or step is None or step.status is not StepStatus.WAITING:
        return False
    return ports.now() < min(step.until or 0, step.beat_by or step.until or 0)


def _opened(ports: Ports, token: str) -> tuple[RunState, str]:
    run_id, key = parse_token(token)
    run = ports.store.runs.read(run_id)
    if run is None or not proves(token, run, key):
        raise UnknownCallback("The token belongs to no callback, or its run has expired.")
    return run, key


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
        stands = lost.item or {}
        standing = step_from(lost.item) if lost.item else None
        if not answer.stands(ports, run.id, standing):  # else it was given before: wake the run once more
            over = "is not open yet" if lost.item is None else f"is over: {stands['status'].replace('_', ' ')}"
            if stands.get("status") == StepStatus.WAITING.value:
                over = "is out of time"
            raise CallbackOver(f"The callback {key!r} {over}.") from None
    ports.queue.send(wake(run.id))
