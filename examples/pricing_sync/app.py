"""Every night ninety thousand prices go to an API that takes fifty at a time and may break down: one loop, one step a batch."""

from math import ceil
from typing import Any

from stepwell import Backoff, Context, Cron, EventModel, Singleton, Stepwell, idempotency_key, step

from .fakes import price_api, price_list

app = Stepwell("pricing")

BATCH_SIZE = 50


class PriceListPublished(EventModel, name="prices/published"):
    version: str
    skus: int


@app.function(on=Cron("0 22 * * *", tz="Europe/Paris"))
def publish_prices(ctx: Context[dict[str, Any]]) -> str:
    """Publish the price list of the day when the shops have closed."""
    version: str = ctx.event.data["scheduled_at"][:10]  # the day in Paris, also when the tick comes late or is replayed
    skus = ctx.step.run("count-skus", price_list.count, version)
    ctx.step.send_event("publish", PriceListPublished(version=version, skus=skus))
    return version


@step(retries=8, backoff=Backoff("15s", factor=2, maximum="10m"))
def push_batch(version: str, first: int, size: int) -> int:
    """Push one page of the price list; how many prices changed."""
    prices = price_list.page(version, first, size)
    return price_api.update(prices, idempotency_key=idempotency_key())


@app.function(
    on=PriceListPublished,
    singleton=Singleton("skip", key="event.data.version"),
    tags={"version": "event.data.version"},
)
def sync_prices(ctx: Context[PriceListPublished]) -> dict[str, int]:
    published = ctx.event.data
    batches = ceil(published.skus / BATCH_SIZE)

    changed = 0
    for batch in range(1, batches + 1):
        first = (batch - 1) * BATCH_SIZE + 1
        size = min(BATCH_SIZE, published.skus - first + 1)
        changed += ctx.step.run(f"batch-{batch}", push_batch, published.version, first, size)
        ctx.progress(batch, batches, f"{changed:,} prices changed")

    return {"skus": published.skus, "batches": batches, "changed": changed}
