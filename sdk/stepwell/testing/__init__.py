"""Test your functions: the real Lambdas of Stepwell on a simulated AWS, with a clock you move and crashes you choose.

    from stepwell.testing import LocalStepwell

    def test_an_order_is_charged_once() -> None:
        with LocalStepwell(app) as local:
            local.crash_after("charge_card")
            event_id = local.send(OrderCreated(order_id="o-1", amount=4200))
            local.advance("20m")
            assert local.run(event_id).steps["charge_card"].status == "completed"

`crash_sweep(app, event, check=...)` repeats that at every point at which a worker can die. The pytest plugin gives the
fixture `local_stepwell`.
"""

from __future__ import annotations

from stepwell.dead_letters import DeadLetter
from stepwell.testing.door import Reply
from stepwell.testing.faults import Fault, FaultKind, FaultPlan
from stepwell.testing.hooks import CrashNeverHappened
from stepwell.testing.invariants import InvariantBroken
from stepwell.testing.local import LocalStepwell
from stepwell.testing.mailbox import Chaos
from stepwell.testing.meter import Requests
from stepwell.testing.sweep import SweepFailed, crash_sweep
from stepwell.testing.world import LeakedThreads, WorldNeverIdle

__all__ = [
    "LocalStepwell",
    "crash_sweep",
    "Chaos",
    "CrashNeverHappened",
    "DeadLetter",
    "Fault",
    "FaultKind",
    "FaultPlan",
    "InvariantBroken",
    "LeakedThreads",
    "Reply",
    "Requests",
    "SweepFailed",
    "WorldNeverIdle",
]
