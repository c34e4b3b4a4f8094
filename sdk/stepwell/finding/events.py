"""Accepted events, newest first.

An event stands in the log, or in the item of the run it started, or in both. The two lists are merged by the time at which
the events were received, and neither is read further than is asked for. The log is a list of days, most of which may be
empty, so it says how far back it has been read; it goes no further than events are kept.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, NamedTuple

from stepwell.engine.inputs import own_event
from stepwell.engine.listing import list_runs, millis_of
from stepwell.engine.values import Values
from stepwell.events import INVOKED, Envelope
from stepwell.finding.content import Content
from stepwell.finding.filters import LATEST, checked_limit, condition, moment
from stepwell.finding.runs import Apps
from stepwell.ports import Ports
from stepwell.records import RunState, RunStatus

SKEW = 300_000
"""Milliseconds by which the clock of whoever sent an event may be ahead: nothing may be missing from a list for that."""
DAY = 86_400_000


class Entry(NamedTuple):
    """Something in one of the lists."""

    received: int
    """Milliseconds."""
    found: Envelope | RunState | None
    """None: there is nothing newer than that in this list that has not come yet."""


def find_events(
    ports: Ports, apps: Apps, values: Values, *, name: str | None, since: Any, until: Any, where: Any, limit: Any
) -> Iterator[Envelope]:
    """The events of that name received from `since` to `until` for which the condition holds, as they are stored.

    Raises InvalidOption, before it looks for any.
    """
    begin, end = moment(since, "since", ports.now(), 0), moment(until, "until", ports.now(), LATEST)
    compiled, most = condition(where), checked_limit(limit)
    content = None if compiled is None else Content(ports, values, compiled)
    return islice(_events(ports, apps, name, content, begin, end), most)


def _events(
    ports: Ports, apps: Apps, name: str | None, content: Content | None, since: int, until: int
) -> Iterator[Envelope]:
    lists = (_logged(ports, since, until, name), _folded(ports, apps, since, until, name))
    seen: set[tuple[str, str]] = set()
    for entry in heapq.merge(*lists, key=lambda entry: entry.received, reverse=True):
        if entry.found is None:
            continue
        try:
            event = own_event(ports, entry.found) if isinstance(entry.found, RunState) else entry.found
        except LookupError:  # it has expired before its run
            continue
        if (event.id, event.name) in seen:
            continue
        seen.add((event.id, event.name))
        if content is None or content.of_event(event):
            yield event


def _logged(ports: Ports, since: int, until: int, name: str | None) -> Iterator[Entry]:
    """From the log, day by day."""
    now = ports.now()
    first, last = max(since, now - round(ports.config.retention * 1000) - DAY), min(until, now + SKEW)
    for day in range(last - last % DAY, first - first % DAY - 1, -DAY):
        begin = max(first, day)
        events = ports.store.events.newest(begin, min(last, day + DAY - 1), name, threads=ports.threads)
        yield from chain((Entry(*event) for event in events), [Entry(begin - 1, None)])


def _folded(ports: Ports, apps: Apps, since: int, until: int, name: str | None) -> Iterator[Entry]:
    """From the runs that events started. What was invoked by a run has no event of its own, nor has a replay or a fork."""
    known = [(app.id, entry["id"]) for app in apps.values() for entry in app.known_functions]
    for run in list_runs(
        ports.store, known, statuses=tuple(RunStatus), since=since, until=until, all_live=True, taken=True,
        now=ports.now(), threads=ports.threads,
    ):  # fmt: skip
        invoked = run.parent is not None or (run.child and run.event_name == INVOKED)
        first = run.replay_of is None and run.fork is None and not invoked
        if first and name in (None, run.event_name):
            yield Entry(millis_of(run.id), run)
