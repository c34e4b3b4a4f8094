"""Guards: waiters of runs that an event cancels (`cancel_on`), and notes of the events that came for them.

A guard is a waiter in the place of all waiters, so an event finds both with one query. Unlike a wait, it is filed before
its run exists, and what it waits for may be handled before it is filed: SQS keeps no order. So each side first leaves a
word and then looks for the other's:

    the run's start     file the guard, create the run, look for notes
    the event           note that it came, look for guards

Whichever is second sees the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from stepwell.codec import JSON
from stepwell.records import Stored
from stepwell.store import layout
from stepwell.store.table import Lost, Table
from stepwell.store.waiters import Waiter, Waiters

PREFIX = "!cancel."
"""Begins the step of a waiter that is a guard; no step's own key does."""
MARK = "!"
"""Begins the announcement of a path that guards are filed under."""
LET_GO = 0
"""The time-out of a guard whose run has ended."""


@dataclass(frozen=True, slots=True)
class Note:
    """An event that came."""

    came: int
    """When the queue received it first, or it took effect; milliseconds."""
    event: Stored
    run: str | None
    """The run whose guard it met while the run did not exist."""


class Guards:
    """Filing guards, noting events."""

    def __init__(self, table: Table, waiters: Waiters, *, retention: float) -> None:
        self._table = table
        self._waiters = waiters
        self._retention = retention

    def file(self, guard: Waiter, *, ttl: int) -> None:
        """File a guard until `ttl` (epoch seconds). CREATE: when it is repeated the first stays, with the time from which it
        counts."""
        self._waiters.announce(guard.app, guard.event, MARK + guard.place()[0])
        item = self._waiters.item(guard)
        with suppress(Lost):
            self._table.put({**item, "ttl": min(item["ttl"], ttl)}, if_=layout.CREATE)

    def prolong(self, app: str, run: str, name: str, ttl: int) -> None:
        """Keep a guard of a live run until `ttl` (epoch seconds). EXISTING."""
        number, _, tail = name.partition("#")
        with suppress(Lost):
            self._table.update(
                layout.waiter_key(app, tail),
                f"{run}#{PREFIX}{number}",
                set_={"ttl": ttl},
                if_=layout.EXISTING,
                returning="NONE",
            )

    def let_go(self, app: str, run: str, name: str, now: int) -> None:
        """The run has ended: nothing is to find this guard any more. EXISTING: harmless when repeated.

        It is left to TTL, or to the next event that meets it: a worker has no leave to delete.
        """
        number, _, tail = name.partition("#")
        with suppress(Lost):
            self._table.update(
                layout.waiter_key(app, tail),
                f"{run}#{PREFIX}{number}",
                set_={"until": LET_GO, "ttl": now // 1000},
                if_=layout.EXISTING,
                returning="NONE",
            )

    def note(self, app: str, name: str, path: str, value: JSON, note: Note, key: str, now: int) -> None:
        """Note that an event came for the guards of this place. Unconditional: repeated it is the same."""
        self._table.put(
            {
                "pk": layout.came_pk(app, name, path, value),
                "sk": f"{note.came:015d}#{key}" + (f"#{note.run}" if note.run else ""),
                "event": note.event,
                "run": note.run,
                "ttl": now // 1000 + round(self._retention),
            }
        )

    def notes(self, guard: Waiter) -> Iterator[Note]:
        """The events that came for this guard since it counts, in order; strongly consistent."""
        pk = layout.came_pk(guard.app, guard.event, *guard.place())
        for item in self._table.query(pk, between=(f"{guard.registered:015d}", "~")):
            yield Note(int(item["sk"][:15]), item["event"], item.get("run"))


def is_guard(waiter: Waiter) -> bool:
    """Whether a waiter is a guard."""
    return waiter.step.startswith(PREFIX)


def guard_name(guard: Waiter) -> str:
    """What a run keeps of its guard, to find it again: its number and the end of its key."""
    return f"{guard.step.removeprefix(PREFIX)}#{layout.place(guard.event, *guard.place())}"
