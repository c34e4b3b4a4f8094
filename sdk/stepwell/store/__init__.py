"""Everything Stepwell remembers, in one DynamoDB table. `layout` explains each item, key and condition."""

from __future__ import annotations

from stepwell.payloads import Payloads
from stepwell.store.apps import Apps
from stepwell.store.crons import Crons
from stepwell.store.due import Due
from stepwell.store.events import Events
from stepwell.store.gates import Gates
from stepwell.store.guards import Guards
from stepwell.store.keys import Keys
from stepwell.store.notes import Notes
from stepwell.store.rates import Rates
from stepwell.store.runs import Runs
from stepwell.store.table import Table
from stepwell.store.tags import Tags
from stepwell.store.transactions import Transactions
from stepwell.store.waiters import Waiters


class Store:
    """The rooms of the table."""

    def __init__(self, table: Table, payloads: Payloads, *, retention: float) -> None:
        self.table = table
        self.runs = Runs(table)
        self.gates = Gates(table, Transactions(table))
        self.waiters = Waiters(table)
        self.guards = Guards(table, self.waiters, retention=retention)
        self.tags = Tags(table)
        self.events = Events(table, payloads, retention=retention)
        self.apps = Apps(table, payloads)
        self.crons = Crons(table)
        self.due = Due(table)
        self.keys = Keys(table)
        self.notes = Notes(table, retention=retention)
        self.rates = Rates(table)


__all__ = ["Store"]
