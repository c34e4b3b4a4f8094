"""Looking back: a wait that also takes what came before it began (`since="run_start"`).

Events lie in the log. The first time ever that somebody waits on a path they may also stand only in the items of the runs
they have started, for an event that nobody waits for is not logged. The earliest of those that fit is the one.

There may be very much to look through: all that came, of whatever name, since the run began. So it is done in pieces, each
continued by a message that says up to where it has come and which event is the best so far. What there is of one day and
shard (of the log, of the live runs, of the ended runs of a function) is a place; places have an order, and within a place
everything has a key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from itertools import islice
from typing import Any

from stepwell.codec import JSON
from stepwell.decisions.routing import name_matches
from stepwell.engine.announcing import with_all_data
from stepwell.engine.inputs import own_event
from stepwell.engine.resolve import resolve_waiter, waiter_takes
from stepwell.events import Envelope
from stepwell.ids import app_of, event_key, ulid_of
from stepwell.ports import Ports
from stepwell.queue import Message
from stepwell.records import TERMINAL, RunState, Stored
from stepwell.store.events import AT_ONCE, DAY_MS
from stepwell.store.layout import DONE_SHARDS, DUE_SHARDS, TAKEN
from stepwell.store.waiters import Waiter

PIECE = 2000
"""Looked at for one message, in units of one item that is read and passed over: a second or two."""
PER_PLACE = 25
"""A place costs a request, however little there is."""
PER_CANDIDATE = 10
"""An event of the right name is unpacked, from S3 perhaps, and its condition evaluated."""
PAGE = 100

LOG, LIVE, ENDED = 0, 1, 2
Place = tuple[int, int, int, str]
"""Kind, day (milliseconds), shard, and of ended runs their `app/function#end`."""


@dataclass(frozen=True, slots=True)
class Found:
    """Something that was looked at. `load` gives its event, if that may be the one."""

    key: str
    load: Callable[[], Envelope | None] | None


def look_back_messages(waiter: Waiter, *, first_time: bool) -> list[Message]:
    """Ask the orchestrator to look for events that came before the wait began.

    The first time ever that somebody waits on this path, events that were being handled at that very moment may not
    have seen the announcement of the wait; so the past is looked at once more a little later.
    """
    return [_message(waiter, first_time, None, delay) for delay in ((0, 5) if first_time else (0,))]


def look_back(
    ports: Ports, waiter: Waiter, *, thorough: bool, again: bool, cursor: Mapping[str, Any] | None = None
) -> None:
    """Give the waiter the earliest event since its run was created that it takes, if there is one.

    `thorough`: nobody waited on this path before, so the event may be kept only in the item of the run it started.
    `cursor`: where an earlier message has come to.
    """
    run = ports.store.runs.read(waiter.run)
    if run is None or not run.is_live:
        return
    if cursor is not None:
        step = ports.store.runs.step(waiter.run, waiter.step)
        if step is not None and not step.status.is_open:
            return  # something else has resolved it meanwhile
    since = min(run.created, run.fork.started) if run.fork else run.created
    # An event meets those who wait when it takes effect: by their time, and up to AT_ONCE before its own.
    until = max(ports.now(), waiter.registered) + AT_ONCE
    past = _Past(ports, waiter.event, since, until, cursor)
    best: tuple[int, Place, str] | None = past.best
    event: Envelope | None = None
    for place, found in past.look(thorough):
        candidate = found.load() if found.load is not None else None
        if candidate is None or candidate.id == run.event_id:
            continue
        if (best is None or candidate.ts < best[0]) and waiter_takes(ports, waiter, candidate, run):
            best, event = (candidate.ts, place, found.key), candidate
    if past.stopped_at is not None:
        ports.queue.send(_message(waiter, thorough, {**past.stopped_at, "best": best}, 0))
    elif best is not None and (event := event or past.event_at(best[1], best[2])) is not None:
        key = event_key(event.name, event.id)
        resolve_waiter(ports, waiter, event, key, run.created, again=again)


def _message(waiter: Waiter, thorough: bool, cursor: Mapping[str, JSON] | None, delay: float) -> Message:
    body = {"stepwell": "lookback", "waiter": asdict(waiter) | {"match": dict(waiter.match)}, "thorough": thorough}
    return Message(body if cursor is None else {**body, "cursor": dict(cursor)}, delay)


class _Past:
    """What came from a time on, up to the time at which somebody began to look."""

    def __init__(self, ports: Ports, name: str, since: int, until: int, cursor: Mapping[str, Any] | None) -> None:
        self._ports = ports
        self._name = name
        self._since = since
        self._until: int = until if cursor is None else cursor["until"]
        self._begin: Place = (LOG, 0, 0, "") if cursor is None else tuple(cursor["place"])
        self._after: str | None = "" if cursor is None else cursor["after"]
        """The key in that place behind which to go on; None if the whole place has been looked at."""
        best = None if cursor is None else cursor["best"]
        self.best: tuple[int, Place, str] | None = None if best is None else (best[0], tuple(best[1]), best[2])
        """The earliest that fits, of what was looked at for earlier messages: its time, and where it stands."""
        self.stopped_at: dict[str, JSON] | None = None
        """Where to go on, once `look` has stopped before the end."""

    def look(self, thorough: bool) -> Iterator[tuple[Place, Found]]:
        """Go on through the past, for as long as one message may."""
        left = PIECE
        for place in self._places(thorough):
            if place < self._begin or (place == self._begin and self._after is None):
                continue
            after = self._after or "" if place == self._begin else ""
            for found in self._in(place, after):
                yield place, found
                left -= 1 if found.load is None else PER_CANDIDATE
                if left <= 0:
                    return self._stop(place, found.key)
            left -= PER_PLACE
            if left <= 0:
                return self._stop(place, None)
        return None

    def _stop(self, place: Place, after: str | None) -> None:
        self.stopped_at = {"until": self._until, "place": list(place), "after": after}

    def event_at(self, place: Place, key: str) -> Envelope | None:
        """The event that stands there; None if it is gone."""
        if place[0] != LOG:
            run = self._ports.store.runs.read(key)
            return None if run is None else self._event_of(run)
        logged = self._ports.store.events.logged_at(key)
        return None if logged is None else with_all_data(self._ports, logged)

    def _places(self, thorough: bool) -> Iterator[Place]:
        for day, shard in self._ports.store.events.partitions(self._since, self._until):
            yield (LOG, day, shard, "")
        if not thorough:
            return
        for shard in range(DUE_SHARDS):
            yield (LIVE, 0, shard, "")
        days = sorted({day for day, _ in self._ports.store.events.partitions(self._since, self._until)})
        ends = [*(status.value for status in TERMINAL), TAKEN]
        kinds = sorted(f"{function}#{end}" for function in self._listening for end in ends)
        for day in days:
            for shard in range(DONE_SHARDS):
                for kind in kinds:
                    yield (ENDED, day, shard, kind)

    def _in(self, place: Place, after: str) -> Iterator[Found]:
        kind, day, shard, rest = place
        if kind == LOG:
            return self._logged(day, shard, after)
        if kind == LIVE:
            apps = {function.partition("/")[0] for function in self._listening}
            now = self._ports.now()
            ids = [run for run in self._ports.store.runs.live(shard, now=now) if app_of(run) in apps]
        else:
            function, _, end = rest.rpartition("#")
            app, _, function = function.partition("/")
            since, until = max(self._since, day), min(self._until, day + DAY_MS - 1)
            ids = list(self._ports.store.runs.ended(app, function, end, shard, since=since, until=until))
        return self._started(sorted(run for run in ids if run > after))

    def _logged(self, day: int, shard: int, after: str) -> Iterator[Found]:
        events = self._ports.store.events
        for key, stored in events.logged_in(day, shard, self._since, self._until, after=after):
            named = key.partition("#")[2] == self._name
            yield Found(key, partial(self._unpacked, stored) if named else None)

    def _started(self, runs: list[str]) -> Iterator[Found]:
        """Runs and, of those whose event has the name and came in that time, the event that started them."""
        lowest, highest = ulid_of(self._since, b"\0" * 10), ulid_of(self._until, b"\xff" * 10)
        ids = (run for run in runs if lowest <= run.rpartition(".")[2] <= highest)
        while page := list(islice(ids, PAGE)):
            found = self._ports.store.runs.read_many(page)
            for run_id in page:
                run = found.get(run_id)
                yield Found(run_id, self._loader(run) if run is not None else None)

    def _loader(self, run: RunState) -> Callable[[], Envelope | None] | None:
        again = run.replay_of is not None or run.fork is not None  # then its event came earlier than it did
        if run.event_name != self._name or run.created < self._since or again:
            return None
        return partial(self._started_by, run)

    def _unpacked(self, stored: Stored) -> Envelope:
        return with_all_data(self._ports, self._ports.store.events.unpack(stored))

    def _started_by(self, run: RunState) -> Envelope | None:
        """The event of the run, unless it has yet to take effect."""
        event = self._event_of(run)
        return None if event is None or event.ts > self._until else event

    def _event_of(self, run: RunState) -> Envelope | None:
        try:
            return own_event(self._ports, run)
        except LookupError:  # it has expired
            return None

    @cached_property
    def _listening(self) -> list[str]:
        """The functions that such an event may have started, `app/function`."""
        return [
            f"{app.id}/{entry['id']}"
            for app in self._ports.store.apps.current()[0].values()
            for entry in app.functions
            if any(name_matches(trigger.get("event") or "", self._name) for trigger in entry["triggers"])
        ]
