"""Functions of docs/flow-control.md. They run in tests/docs/test_flow.py."""

from __future__ import annotations

from typing import Any

from stepwell import (
    Batch,
    Concurrency,
    Context,
    Debounce,
    EventModel,
    RateLimit,
    Singleton,
    Stepwell,
    Throttle,
    step,
)

app = Stepwell("flow")

done: list[Any] = []
"""What the functions of this page have done, in order."""


@step
def note(what: Any) -> None:
    done.append(what)


class VideoUploaded(EventModel, name="video/uploaded"):
    video_id: str
    tenant: str
    paying: bool = False


# [concurrency]
@app.function(
    on=VideoUploaded,
    concurrency=[
        Concurrency(2, key="event.data.tenant"),  # two at once for each tenant
        Concurrency(20, scope="app"),  # and twenty at once in the whole app
    ],
    priority="event.data.paying ? 300 : 0",  # those who pay stand five minutes further ahead in the line
)
def transcode(ctx: Context[VideoUploaded]) -> None:
    ctx.step.run(note, ctx.event.data.video_id)


# [end]


# [singleton]
@app.function(on="catalogue/changed", singleton=Singleton("cancel", key="event.data.shop"))
def rebuild_catalogue(ctx: Context[Any]) -> None:
    ctx.step.sleep("let changes settle", "1m")
    ctx.step.run(note, ctx.event.data["version"])


# [end]


# [singleton-skip]
@app.function(on="mailbox/changed", singleton=Singleton("skip", key="event.data.mailbox"))
def sync_mailbox(ctx: Context[Any]) -> None:
    ctx.step.run(note, ctx.event.data["mailbox"])  # looks at the whole mailbox, so one at a time is enough
    ctx.step.sleep("not too often", "1m")


# [end]


# [throttle]
@app.function(on="contact/added", throttle=Throttle(30, "1m", burst=5, key="event.data.account"))
def tell_crm(ctx: Context[Any]) -> None:
    ctx.step.run(note, ctx.event.data["email"])


# [end]


# [rate-limit]
@app.function(on="login/failed", rate_limit=RateLimit(1, "1h", key="event.data.user"))
def warn_of_logins(ctx: Context[Any]) -> None:
    ctx.step.run(note, ctx.event.data["user"])


# [end]


# [idempotency]
@app.function(on="invoice/due", idempotency="event.data.invoice")
def send_invoice(ctx: Context[Any]) -> None:
    ctx.step.run(note, ctx.event.data["invoice"])


# [end]


# [debounce]
@app.function(on="document/edited", debounce=Debounce("30s", timeout="10m", key="event.data.document"))
def index_document(ctx: Context[Any]) -> None:
    ctx.step.run(note, ctx.event.data["text"])


# [end]


class Clicked(EventModel, name="page/clicked"):
    page: str
    robot: bool = False


# [batch]
@app.function(on=Clicked, batch=Batch(100, "10s", where="!event.data.robot"))
def count_clicks(ctx: Context[Clicked]) -> int:
    ctx.step.run(note, [event.data.page for event in ctx.events])
    return len(ctx.events)


# [end]


# [batch-by-key]
@app.function(on="invoice/line", batch=Batch(3, "1h", key="event.data.customer"))
def bill(ctx: Context[Any]) -> None:
    ctx.step.run(note, [event.data["line"] for event in ctx.events])  # all of one customer


# [end]
