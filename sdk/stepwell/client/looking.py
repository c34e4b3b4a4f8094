"""A client that looks: at runs and events, at functions, and at what becomes of a run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Unpack

from stepwell.client.connection import Connection
from stepwell.codec import loads
from stepwell.durations import spoken
from stepwell.engine.ending import result_text
from stepwell.errors import ErrorInfo, KeyUnavailable, RunCancelled, RunFailed, TamperedValue, UnknownRun
from stepwell.events import Envelope, Event
from stepwell.finding import Filters
from stepwell.finding.events import find_events
from stepwell.records import RunState, RunStatus
from stepwell.views import Run, view
from stepwell.waiting import why


class Looking(Connection):
    """The verbs that change nothing."""

    # ---- finding

    def run(self, run: str) -> Run:
        """A run as it is now. Raises UnknownRun."""
        return view(self._ports, self._state(run), self._values)

    def runs(self, **filters: Unpack[Filters]) -> Iterator[Run]:
        """Runs, newest first: of one `function` ("app/function-id"), in some `status` or several, created from `since` to
        `until` (a naive time is UTC, a timedelta that long ago), under a `tag` ("name=value"), started by an `event` (its
        id), for whose event a condition holds (`where`, CEL over `event`), older than the run `before`; at most `limit`.
        Read page by page as they are taken. Who cannot hold on to the iterator gives the id of the last run of a page as
        `before` of the next.

        A function that is gone from the code is found as long as it has runs. Steps that run in workers of their own are
        not among them. An event that a batch took along is found as the batch's run. `where` reads the event of each run
        that the other filters let pass; it does not hold for an event for which it cannot be evaluated, or which is
        encrypted and which the middleware of this client cannot open. Raises InvalidOption, UnknownFunction.
        """
        return (view(self._ports, run, self._values) for run in self._finder.runs(filters, self._values))

    def count(self, **filters: Unpack[Filters]) -> int:
        """How many runs there are, by the same filters as `runs`. Each is read, since lists may lag behind."""
        return sum(1 for _ in self._finder.runs(filters, self._values))

    def runs_of_event(self, event_id: str) -> list[Run]:
        """The runs an event started, oldest first; for an event that a batch took along, the run of the batch."""
        states = sorted(self._finder.of_event(event_id), key=lambda state: (state.created, state.id))
        return [view(self._ports, state, self._values) for state in states]

    def events(
        self,
        *,
        name: str | None = None,
        since: datetime | timedelta | None = None,
        until: datetime | timedelta | None = None,
        where: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Event[Any]]:
        """Accepted events, newest first: those that started runs and those that matched nothing.

        since, until: when they were accepted; a naive time is UTC, a timedelta is that long ago. where: a CEL condition
        over `event`, as for `runs`. Read as they are taken, so a `limit` is what is paid for. Raises InvalidOption.
        One that the middleware of this client cannot decrypt is shown as it is stored.
        """
        apps = self._finder.apps()
        found = find_events(
            self._ports, apps, self._values, name=name, since=since, until=until, where=where, limit=limit
        )
        return map(self._shown, found)

    def _shown(self, event: Envelope) -> Event[Any]:
        try:
            return self._values.receive(event).event()
        except (KeyUnavailable, TamperedValue):  # of another app, perhaps: its event must not hide all the others
            return event.event()

    def functions(self) -> dict[str, dict[str, Any]]:
        """The registered functions by "app/function-id", each as it was declared: triggers, retries, options."""
        apps = self._finder.apps()
        return {f"{app}/{entry['id']}": dict(entry) for app in sorted(apps) for entry in apps[app].functions}

    # ---- waiting

    def why_waiting(self, run: str) -> str:
        """In one sentence, what a run waits for, until when, what it has missed so far, and when a time limit ends it.
        Raises UnknownRun.

        It reads the run's steps, the state of child runs it waits for, and of each event it waits for the latest of
        that name: of at most 800 logged events, of at most 7 days.
        """
        return why(self._ports, self._state(run), self._values)

    def result(self, run: str, *, timeout: float | timedelta | None = None) -> Any:
        """Wait for a run to end; what its function returned, as plain JSON.

        Raises RunFailed, RunCancelled (also for a skipped run), TimeoutError, UnknownRun.
        """
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        deadline = None if seconds is None else self._ports.clock.now() + seconds
        pause, missing = 0.1, 0
        while True:
            state = self._ports.store.runs.read(run)
            if state is None:
                missing += 1  # an invoked run exists only once its message has been handled
                if missing > 20:
                    raise UnknownRun(f"There is no run {run!r}, or it has expired.")
            elif not state.is_live:
                return self._result(state)
            if deadline is not None and self._ports.clock.now() >= deadline:
                raise TimeoutError(f"Run {run} has not ended within {spoken(seconds or 0)}.")
            self._sleep(pause if deadline is None else min(pause, max(0.0, deadline - self._ports.clock.now())))
            pause = min(2.0, pause * 1.5)

    def _result(self, state: RunState) -> Any:
        if state.status is RunStatus.COMPLETED:
            return loads(self._values.result(state, result_text(self._ports, state)))
        if state.status is RunStatus.FAILED:
            raise RunFailed(state.id, self._values.run_error(state) or ErrorInfo("Unknown", "no error was recorded"))
        raise RunCancelled(state.id, state.reason)
