"""Forks: a new run that begins with checkpoints of another.

    copy the kept checkpoints to the new id -> ask the orchestrator for the run -> it writes the run item, last

Until the run item is there nothing can start: what was copied belongs to no run, and expires.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from stepwell.codec import JSON
from stepwell.engine.ending import kept_until
from stepwell.errors import UnknownRun
from stepwell.ids import app_of, digest
from stepwell.ports import Ports
from stepwell.records import Fork, StepState


def keep(ports: Ports, new: str, steps: Sequence[StepState]) -> None:
    """Write the kept checkpoints under the id of a run that is to be.

    Results in S3 are copied, too: the objects of the old run expire with the age they have, those of the fork begin a
    new life with it.
    """
    ttl = kept_until(ports, ports.now())
    ports.store.runs.keep(new, [replace(_with_result(ports, new, step), ttl=ttl) for step in steps])


def _with_result(ports: Ports, new: str, step: StepState) -> StepState:
    if not isinstance(step.result, Mapping) or step.result["s3"].startswith(f"{app_of(new)}/{new}/"):
        return step
    key = f"{app_of(new)}/{new}/{digest(step.key, 'kept').hex()[:24]}"
    ports.payloads.copy(step.result["s3"], key)
    return replace(step, result={**step.result, "s3": key})


def branch_off(ports: Ports, asked: Mapping[str, JSON] | None) -> Fork | None:
    """What a fork has to know of the run it branches off from. Raises UnknownRun if that has expired meanwhile.

    The orchestrator reads it: a run's seed, which proves its callback tokens, does not travel in messages.
    """
    if asked is None:
        return None
    run = ports.store.runs.read(asked["run"])
    if run is None:
        raise UnknownRun(f"Run {asked['run']}, which was to be forked, has expired.")
    first, seed = (run.fork.started, run.fork.chance) if run.fork else (run.started or run.created, run.seed)
    return Fork(run.id, asked["step"], first, seed)
