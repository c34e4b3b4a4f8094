"""Schedules in the table: one item for each cron trigger of a registered function."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from stepwell.schedules import Schedule
from stepwell.store import layout
from stepwell.store.due import Key
from stepwell.store.table import Item, Lost, Table


@dataclass(frozen=True, slots=True)
class CronState:
    """The item of a schedule."""

    app: str
    function: str
    schedule: Schedule
    tick: int
    """The first tick that nobody has posted yet, milliseconds."""
    due_at: int
    """When the sweeper looks, milliseconds."""

    @property
    def key(self) -> Key:
        """Of its item."""
        schedule = self.schedule
        return layout.cron_pk(self.app), layout.cron_sk(self.function, schedule.expression, schedule.tz)

    @property
    def owner(self) -> str:
        """Whose jitter it is: each function has its own."""
        return f"{self.app}/{self.function}"


class Crons:
    """Every verb is one request, atomic; whoever loses a conditional one has nothing left to do."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def of_app(self, app: str) -> list[CronState]:
        """The schedules of an app, strongly consistent."""
        return [cron_from(item) for item in self._table.query(layout.cron_pk(app))]

    def read_many(self, keys: Iterable[Key]) -> list[CronState]:
        """Those of the schedules that exist, strongly consistent."""
        return [cron_from(item) for item in self._table.batch_get(keys)]

    def create(self, cron: CronState) -> bool:
        """Put a new schedule. CREATE: one that is there already stays as it is."""
        try:
            self._table.put(cron_item(cron), if_=layout.CREATE)
        except Lost:
            return False
        return True

    def move(self, cron: CronState, *, seen: int) -> bool:
        """Let the schedule stand at another tick, or with another jitter. SEEN_DUE: `seen` is the due_at it was read with."""
        item = cron_item(cron)
        set_: Item = {name: item[name] for name in ("tick", "due_pk", "due_sk", "jitter") if name in item}
        remove = () if "jitter" in item else ("jitter",)
        values = {":seen_due": f"{seen:015d}"}
        try:
            self._table.update(*cron.key, set_=set_, remove=remove, if_=layout.SEEN_DUE, values=values)
        except Lost:
            return False
        return True

    def remove(self, cron: CronState) -> None:
        """Delete the schedule if it is there."""
        self._table.delete(*cron.key)


def cron_item(cron: CronState) -> Item:
    """The item of a schedule."""
    pk, sk = cron.key
    due_pk, due_sk = layout.due_key(f"{pk}#{sk}", cron.due_at)
    item: Item = {"pk": pk, "sk": sk, "function": cron.function, "tick": cron.tick, "due_pk": due_pk, "due_sk": due_sk}
    item |= {"cron": cron.schedule.expression, "tz": cron.schedule.tz}
    if cron.schedule.jitter:
        item["jitter"] = round(cron.schedule.jitter * 1000)
    return item


def cron_from(item: Item) -> CronState:
    """A schedule from its item."""
    return CronState(
        app=item["pk"].removeprefix("CRON#"),
        function=item["function"],
        schedule=Schedule(item["cron"], item["tz"], item.get("jitter", 0) / 1000),
        tick=item["tick"],
        due_at=int(item["due_sk"]),
    )
