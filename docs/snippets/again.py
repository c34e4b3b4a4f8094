"""A billing function that has a bug, and how its runs are found and started again: docs/again.md."""

# ruff: noqa: T201

from datetime import timedelta
from typing import Any

from stepwell import Context, Event, EventModel, Run, Stepwell, step

app = Stepwell("billing")
rates: dict[str, int] = {"de": 19}


@step
def charge(order_id: str, amount: int) -> str:
    return f"ch-{order_id}-{amount}"


@step(retries=0)
def tax(country: str) -> int:
    return rates[country]  # there are countries nobody has thought of


# [tags]
class InvoiceWanted(EventModel, name="invoice/wanted"):
    order_id: str
    amount: int
    country: str


@app.function(on=InvoiceWanted, tags={"order": "event.data.order_id", "abroad": "event.data.country != 'de'"})
def make_invoice(ctx: Context[InvoiceWanted]) -> dict[str, str | int | bool]:
    wanted = ctx.event.data
    charged = ctx.step.run(charge, wanted.order_id, wanted.amount)
    rate = ctx.step.run(tax, wanted.country)
    accepted = ctx.step.wait_for_event(
        "accepted", event="invoice/accepted", match={"data.order_id": wanted.order_id}, timeout=timedelta(days=30)
    )
    return {"charge": charged, "rate": rate, "accepted": accepted is not None}


# [end]


def find(order_id: str) -> list[Run]:
    client = app.client
    # [find]
    runs = list(client.runs(tag=f"order={order_id}"))  # newest first; one query
    abroad = client.count(tag="abroad=true", status=["failed", "cancelled"])
    late = client.runs(function="billing/make-invoice", status="suspended", limit=100)
    for run in late:
        print(run.id, client.why_waiting(run.id))
    # [end]
    return runs[:abroad]


def search(event_id: str) -> tuple[list[Run], list[Event[Any]]]:
    client = app.client
    # [search]
    dear = list(client.runs(where="event.data.amount > 100 && event.data.country != 'de'", since=timedelta(days=7)))
    events = list(client.events(name="invoice/wanted", where="event.data.order_id == 'o-1'", limit=10))
    # [end]
    # [of-event]
    started = client.runs_of_event(event_id)  # of any state, oldest first
    failed = list(client.runs(event=event_id, status="failed"))  # the same as a filter, with others beside it
    # [end]
    assert {run.id for run in failed} <= {run.id for run in started}
    return dear, events


def invoke(order_id: str) -> str:
    client = app.client
    # [invoke]
    wanted = InvoiceWanted(order_id=order_id, amount=5, country="de")
    run_id = client.invoke(make_invoice, wanted, id=order_id)  # however often it is asked for: one run
    print(f"the invoice of {order_id} is run {run_id}")
    # [end]
    return run_id


def fork(run_id: str) -> list[str]:
    client = app.client
    # [fork]
    mended = client.fork(run_id, "tax")  # today's code; the charge is kept
    by_hand = client.fork(run_id, "tax", result=20)  # the step counts as completed with that
    moved = client.fork(run_id, "tax", input={"order_id": "o-1", "amount": 5, "country": "de"})
    # [end]
    return [mended, by_hand, moved]


def again() -> int:
    client = app.client
    # [bulk]
    failed = client.count(function="billing/make-invoice", status="failed")
    asked = client.replay_all(function="billing/make-invoice", status="failed", operation="tax abroad")
    print(f"asked for replays of {asked} of {failed} runs")
    # [end]
    return asked


def again_by_content() -> int:
    client = app.client
    # [bulk-where]
    where = "event.data.country in ['at', 'fr']"
    asked = client.replay_all(where=where, status="failed", operation="rates of at and fr")
    print(f"asked for {asked} replays")
    # [end]
    return asked


def stop() -> int:
    client = app.client
    # [stop]
    stopped = client.cancel_all(tag="abroad=true", where="event.data.amount < 10")
    print(f"{stopped} cancelled")
    # [end]
    return stopped
