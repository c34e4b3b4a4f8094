"""Every verb once: docs/writing-functions.md."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel

from stepwell import (
    AsyncContext,
    Backoff,
    Callback,
    Context,
    EventModel,
    Failure,
    NonRetriableError,
    RetryAfterError,
    RunFailed,
    StepError,
    StepInterrupted,
    StepTimeout,
    Stepwell,
    Trigger,
    idempotency_key,
    step,
)

from .outside import RateLimited, Refused, bank, mail, printer, renderer, stock


# [events]
class OrderCreated(EventModel, name="order/created"):
    order_id: str
    amount: int
    email: str


class OrderPaid(EventModel, name="order/paid"):
    order_id: str


# [end]

app = Stepwell("guide")


class Charge(BaseModel):
    id: str
    amount: int


# ---- steps -----------------------------------------------------------------------------------------------------------


# [step]
@step(retries=5, timeout="30s", backoff=Backoff("2s", factor=3, maximum="5m"))
def charge_card(order_id: str, amount: int) -> Charge:
    charge_id = bank.charge(order_id, amount, key=idempotency_key())
    return Charge(id=charge_id, amount=amount)


# [end]


@step
def send_mail(to: str, template: str) -> None:
    mail.append((to, template))


@app.function(on="guide/run")
def running(ctx: Context[Any]) -> dict[str, Any]:
    # [run]
    charge = ctx.step.run(charge_card, "o-1", 4200)  # id "charge_card"; a Charge, also on replay
    ctx.step.run("receipt", send_mail, "ada@example.com", "receipt")  # an id of your own
    ctx.step.run("second-try", charge_card.using(retries=0), "o-2", 100)  # other options, this once
    # [end]
    return {"charge": charge.id}


# [refusals]
@step(retries=4)
def charge_politely(order_id: str, amount: int) -> str:
    try:
        return bank.charge(order_id, amount, key=idempotency_key(scope="event"))
    except RateLimited as busy:
        raise RetryAfterError(busy.seconds) from busy  # not before then; still uses up one retry
    except Refused as refusal:
        raise NonRetriableError(f"the bank refused: {refusal}") from refusal  # trying again cannot help


# [end]


# [catch]
@app.function(on=OrderCreated)
def pay(ctx: Context[OrderCreated]) -> str:
    order = ctx.event.data
    try:
        return ctx.step.run(charge_politely, order.order_id, order.amount)
    except StepError as error:  # its retries are used up, or it was not worth another
        ctx.step.run("sorry", send_mail, order.email, f"not charged: {error.message}")
        return "unpaid"


# [end]


# [at-most-once]
@step(at_most_once=True)
def print_ticket(order_id: str) -> None:
    printer.print(order_id)  # a printer knows no idempotency keys


@app.function(on="guide/print")
def print_once(ctx: Context[Any]) -> str:
    try:
        ctx.step.run(print_ticket, "o-1")
    except StepInterrupted:
        return "nobody knows whether it was printed: ask a person"
    return "printed"


# [end]


# ---- waiting ---------------------------------------------------------------------------------------------------------


@app.function(on="guide/sleep")
def sleeping(ctx: Context[Any]) -> str:
    # [sleep]
    ctx.step.sleep("cool-off", "10m")  # or timedelta(minutes=10), or 600 (seconds)
    ctx.step.sleep_until("new-year", datetime(2027, 1, 1, tzinfo=UTC))
    # [end]
    return ctx.now().isoformat()


@app.function(on="guide/wait")
def waiting(ctx: Context[Any]) -> list[bool]:
    order_id = ctx.event.data["order_id"]
    # [wait]
    paid = ctx.step.wait_for_event(
        "paid",
        event=OrderPaid,
        match={"data.order_id": order_id},
        timeout=timedelta(days=3),
    )
    large = ctx.step.wait_for_event(
        "large",
        event="order/refunded",
        where="async.data.order_id == event.data.order_id && async.data.amount > 100",
        timeout="1d",
    )
    # [end]
    return [paid is not None, large is not None]


@app.function(on="guide/since")
def since(ctx: Context[Any]) -> bool:
    order_id = ctx.event.data["order_id"]
    # [since]
    ctx.step.run("ask", send_mail, "ada@example.com", "please pay")
    ctx.step.sleep("a-moment", "5m")  # it may be paid meanwhile
    paid = ctx.step.wait_for_event(
        "paid", event=OrderPaid, match={"data.order_id": order_id}, timeout="3d", since="run_start"
    )
    # [end]
    return paid is not None


# [callback]
@step(retries=5)
def order_video(callback: Callback) -> None:
    renderer.order("intro", token=callback.token)


@app.function(on="guide/callback")
def render(ctx: Context[Any]) -> str:
    try:
        answer = ctx.step.wait_for_callback("video", submit=order_video, timeout="2h", heartbeat="10m")
    except StepTimeout:
        return "no answer in two hours, or no heartbeat in ten minutes"
    except StepError as failure:
        return f"the renderer gave up: {failure.message}"
    return str(answer["url"])


# [end]


def answer(token: str) -> None:
    # [answer]
    app.client.heartbeat_callback(token)
    app.client.complete_callback(token, {"url": "https://example.com/intro.mp4"})
    # [end]


@app.function(on="guide/approve")
def approve(ctx: Context[Any]) -> Any:
    # [create-callback]
    approval = ctx.step.create_callback("approval", timeout="2d")
    ctx.step.run("ask", send_mail, "boss@example.com", f"answer with {approval.token}")
    ctx.step.run("prepare", send_mail, "ada@example.com", "we are on it")
    return approval.wait()
    # [end]


@app.function(on="guide/poll")
def polling(ctx: Context[Any]) -> int:
    # [poll]
    return ctx.step.poll("restocked", stock.count, "sku-1", until=lambda count: count > 0, every="1m", timeout="1h")
    # [end]


# ---- several at once -------------------------------------------------------------------------------------------------


@app.function(on="guide/parallel")
def parallel(ctx: Context[Any]) -> list[Any]:
    # [submit]
    first = ctx.step.submit("left", stock.count, "left")  # both run in threads, at the same time
    second = ctx.step.submit("right", stock.count, "right")
    counts = [first.result(), second.result()]
    # [end]
    # [map]
    results = ctx.step.map(stock.count, ["a", "b", "broken"], max_concurrency=2, tolerated_failures=1)
    found = [result for result in results if not isinstance(result, StepError)]
    # [end]
    return [counts, found]


# [spread]
@step(compute="large", timeout="10m")  # a worker of the class "large"; each call is a child run
def shrink(picture: str) -> str:
    return f"small-{picture}"


@step
def tag(picture: str) -> str:
    return f"tagged-{picture}"


@app.function(on="guide/spread")
def spread(ctx: Context[Any]) -> list[list[Any]]:
    pictures = ["a", "b", "c"]
    small = ctx.step.map(shrink, pictures)
    tagged = ctx.step.map(tag, pictures, spread=True)  # the same in workers of the usual class
    return [small, tagged]


# [end]


# [async]
@step
async def fetch(page: str) -> int:
    await asyncio.sleep(0.01)
    return len(page)


@app.function(on="guide/async")
async def crawl(ctx: AsyncContext[Any]) -> int:
    left, right = await asyncio.gather(
        ctx.step.run("left", fetch, "a page"),
        ctx.step.run("right", fetch, "another page"),
    )
    await ctx.step.sleep("pause", "1h")
    return left + right


# [end]


# ---- other functions -------------------------------------------------------------------------------------------------


# [invoke]
@app.function(on="invoice/wanted")
def make_invoice(ctx: Context[Any]) -> str:
    return f"invoice-{ctx.event.data['order_id']}"


@app.function(on="guide/invoke")
def bill(ctx: Context[Any]) -> str:
    try:
        return str(ctx.step.invoke(make_invoice, {"order_id": "o-1"}, timeout="1h"))
    except StepError as error:
        if isinstance(error.cause, RunFailed):
            ctx.logger.warning("run %s failed", error.cause.run_id)
        raise


# [end]


@app.function(on="guide/send")
def sending(ctx: Context[Any]) -> Any:
    # [send-event]
    ctx.step.send_event("tell", OrderPaid(order_id="o-1"))
    ids = ctx.step.send_event(
        "tell-many",
        [OrderPaid(order_id="o-2"), {"name": "order/noted", "data": {"order_id": "o-2"}, "tenant": "acme"}],
    )
    # [end]
    return list(ids)


# [on-failure]
def give_up(ctx: Context[Failure]) -> None:
    failure = ctx.event.data
    ctx.step.run("tell-us", send_mail, "ops@example.com", f"{failure.function}: {failure.error.message}")


@app.function(on="guide/fail", retries=1, backoff=Backoff("5s"), on_failure=give_up)
def fails(ctx: Context[Any]) -> None:
    raise ValueError("no luck")


# [end]


# [triggers]
@app.function(on=[OrderPaid, Trigger("refund/*", where="event.data.amount > 100")])
def audit(ctx: Context[Any]) -> str:
    return ctx.event.name


# [end]


@app.function(on="guide/context")
def context(ctx: Context[Any]) -> dict[str, Any]:
    # [context]
    ctx.logger.info("attempt %d of %d", ctx.attempt, ctx.max_attempts)  # silent while replaying
    token = ctx.uuid()  # the same on every replay, and so are ctx.now() and ctx.random()
    deadline = ctx.now() + timedelta(hours=1)
    lucky = ctx.random() < 0.5
    ctx.progress(3, 10, "three of ten")
    # [end]
    ctx.step.sleep("a-while", "1m")
    return {"token": str(token), "deadline": deadline.isoformat(), "lucky": lucky}


# ---- from outside ----------------------------------------------------------------------------------------------------


def send() -> list[str]:
    # [send]
    plain = app.send("order/noted", {"order_id": "o-1"})
    typed = app.send(OrderPaid(order_id="o-1"), id="paid-o-1", tenant="acme")
    later = app.send(OrderPaid(order_id="o-2"), ts=datetime(2026, 12, 24, 18, tzinfo=UTC))
    many = app.client.send([OrderPaid(order_id="o-3"), {"name": "order/noted", "data": {}}])
    # [end]
    return [plain, typed, later, *many]


def ask() -> list[Any]:
    # [client]
    client = app.client  # or Client.from_stack("stepwell"), or Client.from_env()
    run_id = client.invoke("guide/make-invoice", {"order_id": "o-1"})
    result = client.result(run_id, timeout=60)
    run = client.run(run_id)
    again = client.replay(run_id)  # the same event, a new run, today's code
    stopped = client.cancel(run_id)  # False: it had already ended
    completed = [run.id for run in client.runs(function="guide/make-invoice", status="completed", limit=10)]
    # [end]
    return [run_id, result, run.status, again, stopped, completed]
