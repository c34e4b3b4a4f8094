"""Finding runs: by function, state, time and tag."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, TypedDict

from stepwell.clock import millis
from stepwell.engine.listing import list_runs, rank
from stepwell.errors import InvalidOption, UnknownFunction
from stepwell.ids import ulid_millis
from stepwell.ports import Ports
from stepwell.records import RunState, RunStatus
from stepwell.store.apps import AppRecord

Apps = Mapping[str, AppRecord]

_PAGE = 100
SKEW = 300_000
"""Milliseconds by which the clock of whoever sent an event may be ahead: nothing may be missing from a list for that."""


class Filters(TypedDict, total=False):
    """Which runs are meant. All that is given has to hold."""

    function: Any
    """A declared function, or "app/function-id"."""
    status: RunStatus | str | Sequence[RunStatus | str] | None
    since: datetime | timedelta | None
    """Created then or later. A naive time is UTC; a timedelta is that long ago."""
    until: datetime | timedelta | None
    """Created by then."""
    before: str | None
    """Older than the run of this id: the last one of a page, to read the next page."""
    tag: str | None
    """`name=value`."""
    limit: int | None
    """The newest so many."""


class Finder:
    """Looks runs up."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    def apps(self) -> Apps:
        """The registered apps by id."""
        return self._ports.store.apps.current()[0]

    def target(self, function: Any, apps: Apps | None = None) -> tuple[str, str]:
        """App and id of a registered function. Raises UnknownFunction naming those there are."""
        apps = self.apps() if apps is None else apps
        app, target = named(function)
        record = apps.get(app)
        if record is None or record.function(target) is None:
            known = sorted(f"{each.id}/{entry['id']}" for each in apps.values() for entry in each.functions)
            wrong = f"{app}/{target}" if target else f'{function!r}; it is written as "app/function-id"'
            raise UnknownFunction(
                f"There is no function {wrong}. Registered: {', '.join(known) or 'none; is the app deployed?'}."
            )
        return app, target

    def runs(self, filters: Filters) -> Iterator[RunState]:
        """The runs that are meant, newest first, each as it is when it is given out.

        Raises InvalidOption and UnknownFunction for filters that make no sense, TypeError for one there is not.
        """
        unknown = sorted(set(filters) - set(Filters.__annotations__))
        if unknown:  # taken for no filter at all, a slip of the pen would cancel everything
            raise TypeError(f"There is no filter {', '.join(unknown)}; there are {', '.join(Filters.__annotations__)}.")
        given = filters.get("status")
        several = [given] if isinstance(given, str) or not isinstance(given, Collection | None) else given
        statuses = list(RunStatus) if several is None else [status_of(each) for each in several]
        function, tag = filters.get("function"), filters.get("tag")
        apps = self.apps()
        only = None if function is None else self.target(function, apps)
        since, until = self.span(apps, filters.get("since"), filters.get("until"))
        limit = checked_limit(filters.get("limit"))
        before = filters.get("before")
        if before is not None:
            until = min(until, _created(before))
        if tag is not None:
            found = self._tagged(apps if only is None else [only[0]], _pair(tag), only, statuses, since, until)
        else:
            found = self.listed(apps, only, statuses, since, until)
        older = found if before is None else (run for run in found if rank(run.id) < rank(before))
        return islice(older, limit)

    def listed(
        self, apps: Apps, only: tuple[str, str] | None, statuses: Collection[RunStatus], since: int, until: int
    ) -> Iterator[RunState]:
        """Runs from the index: of one function, or of all there are or were."""
        known = [(app.id, entry["id"]) for app in apps.values() for entry in app.known_functions]
        wanted = known if only is None else [only]
        return list_runs(self._ports.store, wanted, statuses=statuses, since=since, until=until)

    def _tagged(
        self,
        apps: Iterable[str],
        tag: tuple[str, str],
        only: tuple[str, str] | None,
        statuses: Collection[RunStatus],
        since: int,
        until: int,
    ) -> Iterator[RunState]:
        """Runs under a tag: one Query for each app. What is filed there without a run is passed over."""
        name, value = tag
        tags = self._ports.store.tags
        ids = heapq.merge(
            *(tags.find(app, name, value, since=since, until=until) for app in apps), key=rank, reverse=True
        )
        while page := list(islice(ids, _PAGE)):
            found = self._ports.store.runs.read_many(page)
            for run in (found[each] for each in page if each in found):
                mine = only is None or only == (run.app, run.function)
                if mine and run.status in statuses and run.tags.get(name) == value:
                    yield run

    def span(
        self, apps: Apps, since: datetime | timedelta | None, until: datetime | timedelta | None
    ) -> tuple[int, int]:
        """The time to look at in milliseconds, not further back than anything can be kept. Raises InvalidOption."""
        now = self._ports.now()
        first = min((app.since for app in apps.values()), default=now) - 86_400_000
        begin = first if since is None else max(first, _millis(since, "since", now))
        oldest = now - round(self._ports.config.retention * 1000) - 366 * 86_400_000
        return max(begin, oldest), now + SKEW if until is None else _millis(until, "until", now)


def named(function: Any) -> tuple[str, str]:
    """App and id of a declared function, or of "app/function-id"; the id is empty if there is no slash.

    Raises InvalidOption for anything else.
    """
    if isinstance(function, str):
        app, _, target = function.partition("/")
        return app, target
    parts = (getattr(getattr(function, "app", None), "id", None), getattr(function, "id", None))
    if not isinstance(parts[0], str) or not isinstance(parts[1], str):
        raise InvalidOption(
            f'`function` is a function declared with @app.function, or its name as "app/function-id"; got {function!r}.'
        )
    return parts[0], parts[1]


def checked_limit(limit: Any) -> int | None:
    """How many at most. Raises InvalidOption."""
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 0):
        raise InvalidOption(f"`limit` is a number from 0, how many to give at most; got {limit!r}.")
    return limit


def status_of(status: RunStatus | str) -> RunStatus:
    """The state of that name. Raises InvalidOption naming those there are."""
    try:
        return RunStatus(status)
    except ValueError:
        known = ", ".join(each.value for each in RunStatus)
        raise InvalidOption(f"There is no status {status!r}; there are {known}.") from None


def _pair(tag: Any) -> tuple[str, str]:
    name, given, value = tag.partition("=") if isinstance(tag, str) else ("", "", "")
    if not name or not given:
        raise InvalidOption(f'A tag is given as "name=value", such as "order=o-1"; got {tag!r}.')
    return name, value


def _created(run: Any) -> int:
    created = ulid_millis(rank(run)[0]) if isinstance(run, str) else None
    if created is None:
        raise InvalidOption(f"`before` is the id of a run, the last of a page; got {run!r}.")
    return created


def _millis(moment: Any, what: str, now: int) -> int:
    if isinstance(moment, timedelta):
        return now - round(moment.total_seconds() * 1000)
    if not isinstance(moment, datetime):
        raise InvalidOption(
            f"`{what}` is a datetime (a naive one is UTC), or a timedelta for that long ago; got {moment!r}."
        )
    return millis((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
