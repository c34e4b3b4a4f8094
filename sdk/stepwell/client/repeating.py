"""A client that ends runs, and starts them once more: one, or all that some filters mean."""

from __future__ import annotations

from typing import Any, Unpack

from stepwell import again
from stepwell.again import UNSET
from stepwell.client.connection import Connection
from stepwell.clock import from_millis
from stepwell.engine.ending import cancel
from stepwell.finding import Filters
from stepwell.records import LIVE, RunState


class Repeating(Connection):
    """The verbs for runs that went wrong, or go on for too long."""

    def cancel(self, run: str) -> bool:
        """Cancel a run: it stops before its next step. False if it had already ended. Raises UnknownRun."""
        self._state(run)
        return cancel(self._ports, run, "cancelled by the client")

    def cancel_all(self, **filters: Unpack[Filters]) -> int:
        """Cancel the live runs among those that `runs` would give for these filters; how many were cancelled."""
        if filters.get("status") is None:
            filters["status"] = sorted(LIVE)
        return again.cancel_all(self._ports, list(self._finder.runs(filters, self._values)))

    def replay(self, run: str) -> str:
        """Start a new run with the same event, on today's code; gives its id. Nothing of the old one is reused, but
        `idempotency_key(scope="event")` gives the same keys.

        A run that another run started is replayed by itself: its result goes to nobody. Raises UnknownRun,
        UnknownFunction, and NotReplayable for a step that runs in a worker of its own.
        """
        state = self._again(run)
        return again.replay(self._ports, state)

    def fork(self, run: str, step: str, *, input: Any = UNSET, result: Any = UNSET) -> str:
        """Start a new run that keeps the checkpoints made before a step, on today's code; gives its id.

        step: a key of `run.steps`: its id, `id:1` for a repetition, `name[i]` for an item of a map. input: other data for
        the event. result: what the step has come to; otherwise it runs again. For a wait for an event that is an event
        of the name that it waits for (a model, or an object with name and data) or None for out of time; for a sleep it
        is None.

        Kept are the outcomes that the function saw before that of the step, with their results, errors and times, those
        of parallel branches, children and waits included. What was open begins anew. The old run goes on if it is live.
        Encrypted values are encrypted anew for the new run, so that takes a client with the app's middleware.
        Raises UnknownRun, UnknownStep (naming the steps there are), UnknownFunction, InvalidOption, NotReplayable,
        KeyUnavailable.
        """
        state = self._again(run)
        return again.fork(self._ports, state, step, data=input, result=result, values=self._values)

    def replay_all(self, *, operation: str = "replay", **filters: Unpack[Filters]) -> int:
        """Replay the runs that `runs` would give for these filters; how many replays were asked for.

        A function's run of an event is replayed once for each `operation`, however often that is repeated: after an
        interruption simply call it again. It asks again, and counts again, for those that an earlier call has asked for and
        that do not exist yet; each starts once. To replay the same events once more, name another operation. Without a `status`
        it takes runs that have completed, failed or been cancelled. Runs that other runs started are left out, because
        those start them anew: children, detached or not, and handlers of failures. So are runs of functions that are no
        longer registered.
        """
        if filters.get("status") is None:
            filters["status"] = sorted(again.REPLAYED)
        if filters.get("until") is None:
            filters["until"] = from_millis(self._ports.now())
        functions = {(app, entry["id"]) for app, record in self._finder.apps().items() for entry in record.functions}
        return again.replay_all(self._ports, self._finder.runs(filters, self._values), functions, operation)

    def _again(self, run: str) -> RunState:
        state = self._state(run)
        if state.call is None:
            self._finder.target(f"{state.app}/{state.function}")
        return state
