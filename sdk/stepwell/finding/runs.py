"""The runs that are meant: candidates from an event, a tag or the index, and of those what all filters let pass."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from stepwell.engine.listing import list_runs, millis_of, pages, rank
from stepwell.engine.values import PLAIN, Values
from stepwell.errors import UnknownFunction
from stepwell.finding.content import Content
from stepwell.finding.filters import LATEST, Filters, Which, checked, named
from stepwell.ids import event_key, event_millis, run_id
from stepwell.ports import Ports
from stepwell.records import RunState
from stepwell.store.apps import AppRecord

Apps = Mapping[str, AppRecord]


class Finder:
    """Looks runs up."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    # ---- functions

    def apps(self) -> Apps:
        """The registered apps by id."""
        return self._ports.store.apps.current()[0]

    def target(self, function: Any) -> tuple[str, str]:
        """App and id of a registered function. Raises UnknownFunction naming those there are."""
        apps, found = self.apps(), named(function)
        if not _declares(apps, *found):
            raise _unknown(apps, function, found)
        return found

    def _has_runs(self, app: str, function: str) -> bool:
        """Whether a function that is not registered has left runs behind, in any state."""
        runs = list_runs(
            self._ports.store, [(app, function)], until=LATEST, now=self._ports.now(), threads=self._ports.threads
        )
        return next(runs, None) is not None

    # ---- runs

    def runs(self, filters: Filters, values: Values = PLAIN) -> Iterator[RunState]:
        """The runs that are meant, newest first, each as it is when it is given out.

        Raises InvalidOption and UnknownFunction for filters that make no sense, TypeError for one there is not.
        """
        which, apps = checked(filters, self._ports.now()), self.apps()
        only = which.function
        if only is not None and not _declares(apps, *only) and not (only[1] and self._has_runs(*only)):
            raise _unknown(apps, filters.get("function"), only)
        bound = None if which.before is None else rank(which.before)
        until = which.until if which.before is None else min(which.until, millis_of(which.before))
        if which.event is not None:
            found = iter(sorted(self.of_event(which.event, which.tag), key=lambda run: rank(run.id), reverse=True))
        elif which.tag is not None:
            found = self._tagged(apps, which.tag, which, until)
        else:
            found = self._listed(apps, which, until)
        content = None if which.where is None else Content(self._ports, values, which.where)

        def meant(run: RunState) -> bool:
            return (
                which.since <= millis_of(run.id) <= until
                and (bound is None or rank(run.id) < bound)
                and run.status in which.statuses
                and only in (None, (run.app, run.function))
                and (content is None or content.of_run(run))
            )

        return islice(filter(meant, found), which.limit)

    def of_event(self, event_id: str, tag: tuple[str, str] | None = None) -> list[RunState]:
        """The runs an event started, with this tag; for one that a batch took along, the batch's run."""
        received = event_millis(event_id)
        if received is not None:
            key, apps = event_key("", event_id), self.apps().values()
            ids = [run_id(app.id, entry["id"], received, key) for app in apps for entry in app.known_functions]
        else:
            ids = []
            for name, kept in self._ports.store.events.named(event_id):
                key = event_key(name, event_id)
                pairs = [function.split("/", 1) for function in kept.functions]
                ids += [run_id(app, target, kept.received, key) for app, target in pairs]
        found = self._ports.store.runs.read_many(ids).values()
        return list(self._standing([run for run in found if tag is None or run.tags.get(tag[0]) == tag[1]]).values())

    def _listed(self, apps: Apps, which: Which, until: int) -> Iterator[RunState]:
        """From the index: of one function; or of all there are or were, and whatever else lives."""
        known = [(app.id, entry["id"]) for app in apps.values() for entry in app.known_functions]
        return list_runs(
            self._ports.store,
            known if which.function is None else [which.function],
            statuses=which.statuses,
            since=which.since,
            until=until,
            now=self._ports.now(),
            all_live=which.function is None,
            threads=self._ports.threads,
        )

    def _tagged(self, apps: Apps, tag: tuple[str, str], which: Which, until: int) -> Iterator[RunState]:
        """Under a tag: one Query for each app. What is filed there without a run is passed over.

        The run of a batch is filed under the tags of each of its events, by its own id. So its place is that of its own
        run in every list, whether an event by which it is found is older or newer.
        """
        name, value = tag
        apps_of = apps if which.function is None else [which.function[0]]
        filed = [self._ports.store.tags.find(app, name, value, since=which.since, until=until) for app in apps_of]
        for page in pages(heapq.merge(*filed, key=lambda each: rank(each.run), reverse=True)):
            found = self._ports.store.runs.read_many(each.run for each in page)
            for run, taken in page:
                if run in found and (taken or found[run].tags.get(name) == value) and found[run].taken_by is None:
                    yield found[run]

    def _standing(self, runs: Iterable[RunState]) -> dict[str, RunState]:
        """By the id of each of these runs that which stands for it: itself, or the run of the batch it is in."""
        own = list(runs)
        batches = {run.taken_by for run in own if run.taken_by is not None}
        read = self._ports.store.runs.read_many(batches) if batches else {}
        standing = {run.id: run if run.taken_by is None else read.get(run.taken_by) for run in own}
        return {run: stands for run, stands in standing.items() if stands is not None}


def _declares(apps: Apps, app: str, function: str) -> bool:
    return app in apps and apps[app].function(function) is not None


def _unknown(apps: Apps, function: Any, parts: tuple[str, str]) -> UnknownFunction:
    known = sorted(f"{each.id}/{entry['id']}" for each in apps.values() for entry in each.functions)
    wrong = "/".join(parts) if parts[1] else f'{function!r}; it is written as "app/function-id"'
    return UnknownFunction(
        f"There is no function {wrong}. Registered: {', '.join(known) or 'none; is the app deployed?'}."
    )
