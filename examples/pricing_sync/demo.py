"""Play the nightly price sync at full size on a virtual clock: 90,000 SKUs, 1,800 steps, and an outage at batch 15."""

from collections.abc import Callable
from datetime import timedelta

from stepwell import RunStatus, Stepwell
from stepwell.testing import LocalStepwell

from . import fakes
from .app import PriceListPublished, app

apps: list[Stepwell] = [app]


def play(local: LocalStepwell, say: Callable[[str], None]) -> list[str]:
    """Sync the whole price list through an outage."""
    problems: list[str] = []
    fakes.reset(clock=local.now)
    fakes.price_api.break_at(request=15, lasts=timedelta(minutes=2))

    say("A price list of 90,000 SKUs is published. The price API breaks down at batch 15.")
    event_id = local.send(PriceListPublished(version="2026-11-22", skus=90_000))
    local.run_until_idle()

    run = local.run(event_id)
    say(f"The run is {run.status if run else 'missing'}; progress: {run.progress if run else None}.")
    if run is None or run.status != RunStatus.SUSPENDED or len(fakes.price_api.prices) != 14 * 50:
        problems.append(f"the run should wait with 14 batches done: {run}")

    local.advance("15m")
    run = local.run(event_id)
    requests = fakes.price_api.requests
    failed = [request for request in requests if request.status == 503]
    say(f"The API came back: {len(requests):,} requests for 1,800 batches, {len(failed) + 1} of them for batch 15.")
    if run is None or run.status != RunStatus.COMPLETED or run.result["batches"] != 1_800:
        problems.append(f"the sync should have completed: {run}")
    else:
        say(f"The summary: {run.result}.")
    if len(fakes.price_api.prices) != 90_000:
        problems.append(f"every price should have arrived, not {len(fakes.price_api.prices):,}")
    if len(requests) != 1_800 + len(failed) or {request.first_sku for request in failed} != {fakes.sku(14 * 50 + 1)}:
        problems.append("only batch 15 should have been asked for more than once")
    return problems
