"""One tenant floods a function that gives five slots to each: all run, the limit holds, nobody else waits for the flood.

`TEST_FLOOD=10000` for more events than the everyday number; continuous integration plays ten thousand.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from stepwell import Concurrency, Context, Stepwell
from stepwell.store.layout import RUN_SK
from stepwell.testing.invariants import check, concurrency_within
from stepwell.testing.observations import Wrote

from .support import Deploy

EVENTS = int(os.environ.get("TEST_FLOOD", "300"))
TENANTS = 50
LIMIT = 5


@pytest.mark.slow
def test_every_tenant_progresses_while_one_floods(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", concurrency=Concurrency(LIMIT, key="event.data.tenant"))
    def fn(ctx: Context[Any]) -> int:
        return ctx.step.run("work", lambda: 1)

    local = deploy(app)
    flood = ["flood"] * (EVENTS // 2)
    others = [f"tenant-{n % (TENANTS - 1)}" for n in range(EVENTS - len(flood))]
    before = local.requests
    sent = [{"name": "go", "data": {"tenant": tenant}} for tenant in flood + others]
    for begin in range(0, len(sent), 100):
        local.client.send(sent[begin : begin + 100])
    local.run_until_idle()
    cost = local.requests - before

    def tenant(item: dict[str, Any]) -> str:
        return str(json.loads(item["event"])["data"]["tenant"])

    check(local.world.observations, [concurrency_within(LIMIT, tenant)])
    runs = [write for write in local.world.observations.of(Wrote) if write.sk == RUN_SK and write.after]
    done = [
        tenant(write.after.plain())
        for write in runs
        if write.after and write.after.attributes["status"]["S"] == "completed"
    ]
    assert len(done) == EVENTS
    last_of_the_others = max(place for place, name in enumerate(done) if name != "flood")
    assert "flood" in done[:last_of_the_others], "it is not held back either"
    assert done[last_of_the_others:].count("flood") > 1, "the flood goes on when all others are done"

    # Two transactions for each event: it is admitted, and it ends. One more for each that stood in line: it got its slot.
    # Whoever loses a slot to another call of the same line has tried in vain; that is what contention costs.
    waited = sum(
        write.before is None and write.after is not None and "line" in write.after.attributes for write in runs
    )
    in_vain = cost.calls["dynamodb.TransactWriteItems"] - 2 * EVENTS - waited
    assert cost.invocations["worker"] == EVENTS
    assert 0 <= in_vain <= 0.75 * waited
    assert cost.write_units <= 16 * EVENTS + 12 * waited
    assert cost.read_units <= 4 * EVENTS + 6 * waited
    assert cost.sqs <= EVENTS + 1.5 * waited
