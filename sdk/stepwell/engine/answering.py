"""Callbacks, answered from outside: by a client, or over HTTP.

First the step (one conditional write; the first answer wins), then the run is woken. Whoever was cut off in between
gives the same answer again, finds it standing, and wakes the run once more.
"""

from __future__ import annotations

from typing import Any

from stepwell.callbacks import parse_token, proves
from stepwell.codec import dumps
from stepwell.engine.resolve import pack_result
from stepwell.errors import CallbackOver, ErrorInfo, UnknownCallback
from stepwell.ids import digest
from stepwell.ports import Ports
from stepwell.queue import wake
from stepwell.records import RunState, StepStatus
from stepwell.store.table import Lost


def complete(ports: Ports, token: str, text: str) -> None:
    """Answer a callback with this JSON text. The first answer stands; the same answer again changes nothing.

    Raises UnknownCallback for a token that belongs to no callback, CallbackOver for one that is over: answered
    otherwise, out of time, or its run has ended.
    """
    run, key = _opened(ports, token)
    stored = pack_result(ports, run.id, key, text, ports.ids.token_bytes(8).hex())
    _answer(ports, run, key, _by("answer", text), status=StepStatus.COMPLETED.value, result=stored)


def fail(ports: Ports, token: str, message: str) -> None:
    """Report that what the callback waits for has failed. Raises as `complete` does."""
    run, key = _opened(ports, token)
    error = ErrorInfo("CallbackFailed", message[:1000])
    by = _by("failure", message)
    _answer(ports, run, key, by, status=StepStatus.FAILED.value, error=dumps(error.as_json()))


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


def _by(kind: str, text: str) -> str:
    """Whose answer it is: that of everybody who says the same."""
    return f"{kind}:{digest(text).hex()[:32]}"


def _answer(ports: Ports, run: RunState, key: str, by: str, **fields: Any) -> None:
    if not run.is_live:  # a wait that its run has left behind stays open for ever; nobody would see the answer
        step = ports.store.runs.step(run.id, key)
        if step is None or step.by != by:
            raise CallbackOver(f"The callback {key!r} is over: its run has ended.")
        return
    now = ports.now()
    try:
        ports.store.runs.answer(run.id, key, now=now, ended=now, by=by, **fields)
    except Lost as lost:
        stands = lost.item or {}
        if stands.get("by") != by:  # otherwise it is our own answer, given before: wake the run once more
            over = "is not open yet" if lost.item is None else f"is over: {stands['status'].replace('_', ' ')}"
            if stands.get("status") == StepStatus.WAITING.value:
                over = "is out of time"
            raise CallbackOver(f"The callback {key!r} {over}.") from None
    ports.queue.send(wake(run.id))
