"""What has been asked for, noted before it is: so that asking twice asks for one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stepwell.ids import run_millis
from stepwell.records import RunState
from stepwell.store import layout
from stepwell.store.table import Item, Lost, Table

KEEP = 366 * 86_400
"""Seconds beyond the retention for which it is remembered as which run a function was invoked under an id."""

REMEMBERED = 30 * 86_400
"""The same, for what a bulk operation has replayed: by then whatever it came across then has expired."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A run that a function was invoked as, under an id of the caller's own."""

    run: str
    digest: str
    """Of its data, as far as they are not encrypted."""
    at: int
    """When it was asked for first, milliseconds."""


class Notes:
    """Every verb is one conditional write; the loser gets what stands."""

    def __init__(self, table: Table, *, retention: float) -> None:
        self._table = table
        self._retention = retention

    def replay(self, run: RunState, operation: str, new: str) -> str:
        """Note that a bulk operation replays the event of a run as `new`. CREATE: gives what stands, this or the first."""
        pk = layout.again_pk(run.app, run.function, run.event_name, run.event_id, run.event_digest)
        ttl = _noted_at(new) // 1000 + round(self._retention) + REMEMBERED
        stands = self._put({"pk": pk, "sk": operation, "run": new, "ttl": ttl}, layout.CREATE)
        return str(stands["run"])

    def lapsed(self, new: str, now: int) -> bool:
        """Whether the replay that was noted as `new` may have come, ended and expired since then."""
        return now >= _noted_at(new) + round(self._retention * 1000)

    def invoke(self, app: str, function: str, chosen: str, asked: Asked, *, instead_of: str | None = None) -> Asked:
        """Note as which run a function is invoked under the id `chosen`. CREATE: gives what stands, this or the first.

        instead_of: the run that was noted and has expired. STANDS.
        """
        item: Item = {
            "pk": layout.asked_pk(app, function, chosen),
            "sk": layout.ASKED_SK,
            "run": asked.run,
            "digest": asked.digest,
            "at": asked.at,
            "ttl": asked.at // 1000 + round(self._retention) + KEEP,
        }
        if instead_of is None:
            stands = self._put(item, layout.CREATE)
        else:
            stands = self._put(item, layout.STANDS, {":seen_run": instead_of})
        return Asked(stands["run"], stands["digest"], stands["at"])

    def _put(self, item: Item, if_: str, values: dict[str, Any] | None = None) -> Item:
        try:
            self._table.put(item, if_=if_, values=values)
        except Lost as lost:
            return lost.item or item  # gone just now, of old age: nobody else has noted anything
        return item


def _noted_at(run: str) -> int:
    """When a replay was noted, milliseconds: its id was made for the note. It has been asked for since, and not before."""
    return run_millis(run) or 0
