"""Which functions an event starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stepwell.events import RESERVED, Envelope
from stepwell.expressions import CannotEvaluate, expression


def matches(trigger: Mapping[str, Any], event: Envelope) -> bool:
    """Whether a trigger of a manifest takes the event. A condition without a value (a missing field) does not hold.

    Raises CannotEvaluate.
    """
    pattern = trigger.get("event")
    if pattern is None or not name_matches(pattern, event.name):
        return False
    where = trigger.get("where")
    if where is None:
        return True
    try:
        return expression(where).value(event.scope()) is True
    except CannotEvaluate:
        raise
    except ValueError:
        return False


def name_matches(pattern: str, name: str) -> bool:
    """Exact, or everything below `order/*`. The engine's own events need their prefix spelled out."""
    if pattern.endswith("*"):
        head = pattern[:-1]
        return name.startswith(head) and (not name.startswith(RESERVED) or head.startswith(RESERVED))
    return pattern == name


def matching(
    functions: Iterable[Mapping[str, Any]], event: Envelope
) -> tuple[list[Mapping[str, Any]], list[tuple[Mapping[str, Any], str]]]:
    """The functions the event starts, each once, however many of its triggers match; and those of which that cannot be
    said, with the reason: a condition could not be evaluated, and no other trigger matches."""
    matched, undecided = [], []
    for entry in functions:
        why = None
        for trigger in entry["triggers"]:
            try:
                if matches(trigger, event):
                    matched.append(entry)
                    break
            except CannotEvaluate as error:
                why = str(error)
        else:
            if why is not None:
                undecided.append((entry, why))
    return matched, undecided
