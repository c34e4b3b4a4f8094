"""Events that take effect later: their runs begin then, once, and can be called off before."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from stepwell import Context, RunStatus, Stepwell
from stepwell.testing import Chaos, LocalStepwell

from .support import Deploy, run_of


def noting(app: Stepwell) -> list[Any]:
    """Declare a function that notes when it is called, and how much it was sent."""
    began: list[Any] = []

    def fn(ctx: Context[Any]) -> int:
        began.append(ctx.now())
        return len(ctx.event.data.get("text", ""))

    app.function(on="go", id="fn")(fn)
    return began


@pytest.mark.parametrize("seconds", [2, 899, 901, 3600, 45 * 86_400])
def test_a_run_begins_at_the_time_of_its_event_near_or_far(app: Stepwell, deploy: Deploy, seconds: int) -> None:
    began = noting(app)
    local = deploy(app)
    start = local.now()
    event_id = local.send("go", ts=start + timedelta(seconds=seconds))
    local.advance(seconds - 1)
    assert run_of(local, event_id).status == RunStatus.SCHEDULED
    local.advance("2s")
    assert began == [start + timedelta(seconds=seconds)]
    assert run_of(local, event_id).status == RunStatus.COMPLETED


def test_it_begins_once_whatever_comes_twice_or_late(app: Stepwell, deploy: Deploy) -> None:
    began = noting(app)
    local = deploy(app, chaos=Chaos(duplicate=0.7, delay=0.5, lose=0.3))
    later = local.now() + timedelta(hours=3)
    for _ in range(3):
        local.send("go", {"n": 1}, id="mine", ts=later)
    local.advance("4h")
    assert run_of(local, "mine").status == RunStatus.COMPLETED
    assert len(began) == 1
    assert later <= began[0] <= later + timedelta(minutes=10)


def test_it_can_be_cancelled_before(app: Stepwell, deploy: Deploy) -> None:
    began = noting(app)
    local = deploy(app)
    event_id = local.send("go", ts=local.now() + timedelta(minutes=10))
    local.run_until_idle()
    assert [run.id for run in local.client.runs(status="scheduled")] == [run_of(local, event_id).id]
    assert local.client.cancel(run_of(local, event_id).id) is True
    local.advance("1d")
    assert (run_of(local, event_id).status, began) == (RunStatus.CANCELLED, [])


def test_a_large_event_is_kept_until_it_has_run(app: Stepwell, deploy: Deploy) -> None:
    noting(app)
    local = deploy(app)
    event_id = local.send("go", {"text": "x" * 50_000}, ts=local.now() + timedelta(days=60))
    local.run_until_idle()
    assert expiry(local, run_of(local, event_id).id) > (local.now() + timedelta(days=60)).timestamp()
    local.advance("60d")
    assert run_of(local, event_id).result == 50_000


def expiry(local: LocalStepwell, run_id: str) -> int:
    """When the event beside a run may be deleted, epoch seconds."""
    image = local.world.table.get((f"RUN#{run_id}", "EVENT"))
    assert image is not None
    return int(image.plain()["ttl"])
