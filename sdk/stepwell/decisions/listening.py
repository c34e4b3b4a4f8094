"""Run events: which ends of a run are told to functions that listen to `stepwell/run.*`.

Decided when a run starts, from what is deployed then, and kept with the run: so a run nobody listens to costs nothing,
and its end needs nobody to look anything up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from stepwell.codec import JSON
from stepwell.decisions.routing import name_matches
from stepwell.errors import InvalidEvent, InvalidOption
from stepwell.events import RESERVED, RUN_EVENT, check_name
from stepwell.expressions import CannotEvaluate, expression
from stepwell.records import RunStatus

RUN_EVENTS: Mapping[RunStatus, str] = {
    RunStatus.COMPLETED: RUN_EVENT + "finished",
    RunStatus.FAILED: RUN_EVENT + "failed",
    RunStatus.CANCELLED: RUN_EVENT + "cancelled",
    RunStatus.SKIPPED: RUN_EVENT + "skipped",
}
"""The event that follows each end."""

_TEXT = re.compile(r"'[^'\\]*'|\"[^\"\\]*\"")
_PATH = re.compile(r"\bevent\b(?:\.\w+)*")
_KNOWN = re.compile(r"event\.(name|tenant|data\.(app|function|run_id|status|parent_id|event)(\..*)?)")


def check_heard(name: str, *, what: str, below: bool = False) -> str:
    """The name of an event to listen to, if there can be one; with `below` it may end in `*`. Raises InvalidOption."""
    head = name.removesuffix("*") if below else name
    try:
        check_name("all" if below and name == "*" else head)
    except InvalidEvent as error:
        raise InvalidOption(f"{what}: {error.message}") from error
    known = [each for each in RUN_EVENTS.values() if each == name or (name != head and each.startswith(head))]
    if head.startswith(RESERVED) and not known:
        raise InvalidOption(
            f"{what}: there is no event {name!r}; of the engine's own there are {', '.join(RUN_EVENTS.values())}."
        )
    return name


def is_run_event(name: str) -> bool:
    """Whether events of this name tell of the end of a run."""
    return name.startswith(RUN_EVENT)


def listened(
    functions: Iterable[Mapping[str, Any]], data: Mapping[str, JSON], tenant: str | None
) -> tuple[RunStatus, ...]:
    """The ends of a run that one of the functions of all apps may want to hear of.

    `data` is what is known of the run's events when it starts. A condition that asks for nothing else is decided now:
    a function that listens to the failures of one other function does not burden all the rest.
    """
    listeners: list[tuple[str, str | None]] = []
    for entry in functions:
        listeners += [(trigger.get("event") or "", trigger.get("where")) for trigger in entry["triggers"]]
        listeners += [(rule["event"], None) for rule in entry.get("cancel_on", ())]
    listeners = [(pattern, where) for pattern, where in listeners if pattern.startswith(RESERVED)]
    return tuple(
        status
        for status, name in RUN_EVENTS.items()
        if any(name_matches(pattern, name) and _may_hold(where, status, data, tenant) for pattern, where in listeners)
    )


def _may_hold(where: str | None, status: RunStatus, data: Mapping[str, JSON], tenant: str | None) -> bool:
    """Whether the condition may hold for the event of this end: it does now, or asks for what is not known yet."""
    if where is None or not decidable(where):
        return True
    scope: dict[str, JSON] = {"name": RUN_EVENTS[status], "tenant": tenant, "data": {**data, "status": status.value}}
    try:
        return expression(where).value(scope) is True
    except CannotEvaluate:  # whoever accepts the event has it told to somebody
        return True
    except ValueError:
        return False


def decidable(where: str) -> bool:
    """Whether a condition over a run event asks only for what is known when the run starts.

    Told from its text, so in doubt it is not: then the event is sent, and the condition decided as for all events.
    """
    bare = _TEXT.sub("''", where)
    paths = _PATH.findall(bare)
    known = all(_KNOWN.fullmatch(path) for path in paths)
    return bool(paths) and known and '"""' not in where and "\\" not in where and "async" not in bare
