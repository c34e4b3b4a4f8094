"""What a wait for an event waits for, as its record tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from json import JSONDecodeError, JSONDecoder

from stepwell.codec import JSON, loads
from stepwell.records import StepState


@dataclass(frozen=True, slots=True)
class Wanted:
    """As far as the record says."""

    event: str
    match: Mapping[str, JSON]
    where: str | None
    since_start: bool
    """Whether events count that came before the wait began."""
    whole: bool
    """False: the record holds only the beginning of it."""


def wanted(step: StepState) -> Wanted | None:
    """What the step waits for; None if its record says nothing, not even the event's name."""
    args = step.args or ""
    try:
        name, match, where, since = loads(f"[{args}]")
        return Wanted(name, match, where, since is not None, True)
    except ValueError:  # it was too long to be kept whole
        pass
    try:
        name, _ = JSONDecoder().raw_decode(args)
    except JSONDecodeError:
        return None
    return Wanted(str(name), {}, None, False, False)
