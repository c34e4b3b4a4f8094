"""Which functions an event starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stepwell.events import RESERVED, Envelope
from stepwell.expressions import expression


def matches(trigger: Mapping[str, Any], event: Envelope) -> bool:
    """Whether a trigger of a manifest takes the event. A condition that cannot be evaluated does not hold."""
    pattern = trigger.get("event")
    if pattern is None or not name_matches(pattern, event.name):
        return False
    where = trigger.get("where")
    return where is None or expression(where).holds(event.scope())


def name_matches(pattern: str, name: str) -> bool:
    """Exact, or everything below `order/*`. The engine's own events need their prefix spelled out."""
    if pattern.endswith("*"):
        head = pattern[:-1]
        return name.startswith(head) and (not name.startswith(RESERVED) or head.startswith(RESERVED))
    return pattern == name


def matching(functions: Iterable[Mapping[str, Any]], event: Envelope) -> list[Mapping[str, Any]]:
    """The functions the event starts, each once, however many of its triggers match."""
    return [entry for entry in functions if any(matches(trigger, event) for trigger in entry["triggers"])]
