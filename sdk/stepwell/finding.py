"""Finding runs: by function, state, time and tag."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
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
    since: datetime | None
    """Created then or later. A naive time is local."""
    until: datetime | None
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
        app, target = function.partition("/")[::2] if isinstance(function, str) else (function.app.id, function.id)
        record = apps.get(app)
        if record is None or record.function(target) is None:
            known = sorted(f"{each.id}/{entry['id']}" for each in apps.values() for entry in each.functions)
            raise UnknownFunction(
                f"There is no function {app}/{target}. Registered: {', '.join(known) or 'none; is the app deployed?'}."
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
        several = [given] if isinstance(given, str) else given
        statuses = list(RunStatus) if several is None else [status_of(each) for each in several]
        function, tag = filters.get("function"), filters.get("tag")
        apps = self.apps()
        only = None if function is None else self.target(function, apps)
        since, until = self.span(apps, filters.get("since"), filters.get("until"))
        before = filters.get("before")
        if before is not None:
            until = min(until, _created(before))
        if tag is not None:
            found = self._tagged(apps if only is None else [only[0]], tag, only, statuses, since, until)
        else:
            found = self.listed(apps, only, statuses, since, until)
        older = found if before is None else (run for run in found if rank(run.id) < rank(before))
        return islice(older, filters.get("limit"))

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
        tag: str,
        only: tuple[str, str] | None,
        statuses: Collection[RunStatus],
        since: int,
        until: int,
    ) -> Iterator[RunState]:
        """Runs under a tag: one Query for each app. What is filed there without a run is passed over."""
        name, given, value = tag.partition("=")
        if not name or not given:
            raise InvalidOption(f'A tag is given as "name=value", such as "order=o-1"; got {tag!r}.')
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

    def span(self, apps: Apps, since: datetime | None, until: datetime | None) -> tuple[int, int]:
        """The time to look at in milliseconds, not further back than anything can be kept."""
        now = self._ports.now()
        first = min((app.since for app in apps.values()), default=now) - 86_400_000
        begin = first if since is None else max(first, _millis(since))
        oldest = now - round(self._ports.config.retention * 1000) - 366 * 86_400_000
        return max(begin, oldest), now + SKEW if until is None else _millis(until)


def status_of(status: RunStatus | str) -> RunStatus:
    """The state of that name. Raises InvalidOption naming those there are."""
    try:
        return RunStatus(status)
    except ValueError:
        known = ", ".join(each.value for each in RunStatus)
        raise InvalidOption(f"There is no status {status!r}; there are {known}.") from None


def _created(run: str) -> int:
    created = ulid_millis(rank(run)[0])
    if created is None:
        raise InvalidOption(f"`before` is the id of a run, the last of a page; got {run!r}.")
    return created


def _millis(moment: datetime) -> int:
    return millis((moment if moment.tzinfo else moment.astimezone()).timestamp())
