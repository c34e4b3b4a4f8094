"""A DynamoDB that answers at once: an engine on it shows what the engine itself takes."""

from __future__ import annotations

from typing import Any

from bench.timed import Spent, TimedClient
from stepwell.clock import SystemClock
from stepwell.codec import dumps
from stepwell.decisions.next import DISPATCH_DEADLINE
from stepwell.events import Envelope
from stepwell.ids import SystemIds, derived_ulid, digest, event_id_of
from stepwell.invoker import Invoker
from stepwell.payloads import Payloads
from stepwell.ports import RETENTION, TRUSTED, Config, Ports
from stepwell.queue import Queue
from stepwell.records import Lease, RunState, RunStatus
from stepwell.store import Store
from stepwell.store.items import run_item
from stepwell.store.table import Item, Table, marshal
from stepwell.threads import SystemThreads

STEP = "STEP#"


class CannedDynamoDb:
    """Holds one run that is always its caller's, and takes whatever is put. No conditions: nobody else is there."""

    def __init__(self, run: RunState) -> None:
        lease = {"status": "running", "epoch": run.epoch + 1, "holder": "bench", "lease_until": run.created + 900_000}
        self._run: Item = marshal({**run_item(run), **lease, "started": run.created})
        self.steps: dict[str, Item] = {}

    def put_item(self, **request: Any) -> dict[str, Any]:
        """PutItem."""
        item = request["Item"]
        sk = item["sk"]["S"]
        if sk.startswith(STEP):
            self.steps[sk] = item
        return {}

    def update_item(self, **request: Any) -> dict[str, Any]:
        """UpdateItem: the run, claimed."""
        return {"Attributes": self._run}

    def get_item(self, **request: Any) -> dict[str, Any]:
        """GetItem: the run, still held."""
        return {"Item": self._run}

    def query(self, **request: Any) -> dict[str, Any]:
        """Query: all steps on one page, in the order of their keys."""
        return {"Items": [self.steps[sk] for sk in sorted(self.steps)]}


def queued_run(function: str, event: str, data: dict[str, Any], *, epoch: int = 0) -> RunState:
    """A run as the orchestrator creates it; `epoch` is how often it was claimed before."""
    now = round(SystemClock().now() * 1000)
    ulid = derived_ulid(now, "bench", function)
    envelope = Envelope(event_id_of(ulid), event, data, now)
    return RunState(
        id=f"bench.{ulid}",
        app="bench",
        function=function,
        status=RunStatus.QUEUED,
        created=now,
        seed=digest("seed", ulid).hex()[:32],
        event_id=envelope.id,
        event_name=event,
        event_digest="0" * 16,
        event=dumps(envelope.as_json()),
        epoch=epoch,
        due_at=now + DISPATCH_DEADLINE,
        lease=Lease("bench", now),
    )


def canned_ports(dynamodb: CannedDynamoDb, spent: Spent) -> Ports:
    """Ports over the canned table. There is no queue, no bucket and no Lambda: a bench that needs them is another one."""
    client = TimedClient(dynamodb, spent)

    def nothing() -> Any:
        raise AssertionError("this bench calls DynamoDB only")

    clock = SystemClock()
    payloads = Payloads(nothing, None)
    store = Store(Table(lambda: client, "bench"), payloads, retention=RETENTION)
    return Ports(
        clock=clock,
        ids=SystemIds(),
        threads=SystemThreads(),
        open_store=lambda: store,
        queue=Queue(nothing, "bench", None),
        payloads=payloads,
        invoker=Invoker(nothing, nothing),
        config=Config("bench", "bench"),
        fresh=lambda _, seen: clock.now() - seen < TRUSTED,
        open_keyring=nothing,
    )
