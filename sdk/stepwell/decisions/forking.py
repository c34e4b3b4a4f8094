"""Which checkpoints stand before a step, and how they stand in a fork."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from stepwell.records import StepState, StepStatus

CALLBACK = "callback"
LAST = 1 << 62
"""The place of what the function has not seen yet: after all that it has seen."""


def places_of(steps: Iterable[StepState]) -> dict[str, int]:
    """The place of each resolution in the order in which the function saw them; those it has not seen have none."""
    places: dict[str, int] = {}
    for step in steps:
        if step.seq is not None:
            places[step.key] = step.seq
        places.update(step.saw)
    return places


def kept_before(steps: Sequence[StepState], key: str, now: int, *, decided: bool = False) -> list[StepState]:
    """The checkpoints a fork at the step `key` keeps, in order, as they stand there.

    They are the resolutions the function saw before that of `key`. Whatever was resolved from outside and not seen yet
    comes after all of those, by the time it happened. What was still open is not kept: it begins anew in the fork.

    A callback begins anew with another token, which has to be handed out: its `submit` runs again, too, and a fork at a
    callback keeps nothing that began after it was created. Not so if its answer is `decided`. What there was by then has a
    place in the order, or was waited for before; of the same millisecond only the order tells.
    """
    places = places_of(steps)
    chosen = next(step for step in steps if step.key == key)
    bound = _order(chosen, places, now) or (LAST, LAST)
    before = {}
    for step in steps:
        order = _order(step, places, now)
        if order is not None and order < bound and step.key != key:
            before[step.key] = (order, step)
    if chosen.kind == CALLBACK and not decided:
        created, latest = chosen.started or 0, chosen.begun or 0
        before = {
            each: (order, step)
            for each, (order, step) in before.items()
            if order[0] <= latest or (step.started or 0) < created
        }
    for step in steps:
        if step.submit is not None and step.key not in before and not (decided and step.key == key):
            before.pop(step.submit, None)
    return [as_kept(step, seq=places.get(step.key)) for _, step in sorted(before.values(), key=lambda entry: entry[0])]


def as_kept(step: StepState, **changes: Any) -> StepState:
    """A checkpoint as it stands in a fork: written by nobody there, and good whatever the arguments are now."""
    gone = dict.fromkeys(("retry_at", "beat", "beat_by", "proof"))
    return replace(step, **{"epoch": 0, "shape": "", "saw": {}, **gone, **changes})


def resolved(step: StepState, places: Mapping[str, int], now: int) -> bool:
    """Whether a step has an outcome. The end of a sleep is never written, but seen, or known from the clock."""
    if step.kind == "sleep" and step.status is StepStatus.WAITING:
        return step.key in places or (step.until or 0) <= now
    return not step.status.is_open


def _order(step: StepState, places: Mapping[str, int], now: int) -> tuple[int, int] | None:
    if not resolved(step, places, now):
        return None
    happened = step.until if step.kind == "sleep" else step.ended
    return (places.get(step.key, LAST), happened or 0)
