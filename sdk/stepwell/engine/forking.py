"""Forks: a new run that begins with checkpoints of another.

    copy the kept checkpoints to the new id -> ask the orchestrator for the run -> it writes the run item, last

Until the run item is there nothing can start: what was copied belongs to no run, and expires. What a middleware has
encoded for the old run is encoded anew for the new one (`moved`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from stepwell.codec import JSON
from stepwell.engine.keeping import kept_until
from stepwell.engine.resolve import pack_result
from stepwell.engine.values import Values, error_place, is_veiled
from stepwell.errors import KeyUnavailable, UnknownRun
from stepwell.events import SEALED
from stepwell.ids import app_of, digest
from stepwell.middleware.base import Place
from stepwell.ports import Ports
from stepwell.records import Fork, StepState


def keep(ports: Ports, new: str, steps: Sequence[StepState]) -> None:
    """Write the kept checkpoints under the id of a run that is to be.

    Results in S3 are copied, too: the objects of the old run expire with the age they have, those of the fork begin a
    new life with it.
    """
    ttl = kept_until(ports, ports.now())
    ports.store.runs.keep(new, [replace(_with_result(ports, new, step), ttl=ttl) for step in steps])


def moved(ports: Ports, values: Values, old: str, new: str, step: StepState) -> StepState:
    """A checkpoint of `old` as it is to be copied to `new`: what was encoded for its place there, for its place here.

    What came from a child run, and events, keep the place they were encoded for. Raises KeyUnavailable if there is
    something encoded and no middleware to decode it: at its new place nobody could read it.
    """
    if not values.chain.decoders:
        if _is_encoded(ports, step):
            raise KeyUnavailable(
                f"Step {step.key!r} of run {old} is encrypted for that run, and has to be encrypted anew for the fork: "
                "fork by a client that has the app's middleware, app.client or client.with_middleware(...)."
            )
        return step
    step = replace(step, args=values.moved_arguments(old, step, new))
    if step.child is not None:
        return step
    if step.result is not None and step.kind != "wait_for_event":
        text = values.step_result(old, step, ports.payloads.unpack(step.result))
        sealed = values.encode(text, Place("step", new, step.key))
        step = replace(step, result=pack_result(ports, new, step.key, sealed, "kept"))
    if step.error is not None:
        error = values.open_error(step.error, error_place(old, step))
        step = replace(step, error=values.close_error(error, error_place(new, step)))
    return step


def _is_encoded(ports: Ports, step: StepState) -> bool:
    """Whether the record is the work of a middleware, as far as it shows: an answer of a callback by its looks alone."""
    if is_veiled(step) or (step.error is not None and step.error.sealed is not None):
        return True
    bare = step.kind == "callback" or not step.shape
    return bare and step.result is not None and is_sealed(ports.payloads.unpack(step.result))


def is_sealed(text: str) -> bool:
    """Whether a value looks encrypted."""
    return text.startswith(f'{{"{SEALED}":')


def _with_result(ports: Ports, new: str, step: StepState) -> StepState:
    if not isinstance(step.result, Mapping) or step.result["s3"].startswith(f"{app_of(new)}/{new}/"):
        return step
    key = f"{app_of(new)}/{new}/{digest(step.key, 'kept').hex()[:24]}"
    ports.payloads.copy(step.result["s3"], key)
    return replace(step, result={**step.result, "s3": key})


def branch_off(ports: Ports, asked: Mapping[str, JSON] | None) -> Fork | None:
    """What a fork has to know of the run it branches off from. Raises UnknownRun if that has expired meanwhile.

    The orchestrator reads it: a run's seed, from which its chance can be told, does not travel in messages.
    """
    if asked is None:
        return None
    run = ports.store.runs.read(asked["run"])
    if run is None:
        raise UnknownRun(f"Run {asked['run']}, which was to be forked, has expired.")
    first, seed = (run.fork.started, run.fork.chance) if run.fork else (run.started or run.created, run.seed)
    return Fork(run.id, asked["step"], first, seed)
