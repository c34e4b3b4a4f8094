"""A web shop: an order is charged, packed, confirmed and followed until it ships; a sign-up starts three functions."""

from datetime import datetime, timedelta
from typing import Any

from stepwell import CancelOn, Context, EventModel, Stepwell, Trigger, idempotency_key, step

from .fakes import Charge, crm, mail, payments, trials, warehouse

app = Stepwell("shop")


# ---- events: what happened, with types -------------------------------------------------------------------------------


class OrderCreated(EventModel, name="order/created"):
    order_id: str
    amount: int  # in cents
    card: str
    email: str


class OrderShipped(EventModel, name="order/shipped"):
    order_id: str
    tracking: str


class OrderCancelled(EventModel, name="order/cancelled"):
    order_id: str


class UserSignedUp(EventModel, name="user/signed-up"):
    user_id: str
    email: str


# ---- steps: ordinary functions, with the options that belong to them -------------------------------------------------


@step(retries=5, timeout="30s")
def charge_card(order_id: str, amount: int, card: str) -> Charge:
    # The key is the same for every attempt, and for every replay of the event: the processor takes the money once.
    return payments.charge(order_id, amount, card, idempotency_key=idempotency_key(scope="event"))


@step
def create_fulfillment(order_id: str, charge_id: str) -> str:
    return warehouse.pack(order_id, charge_id)


@step(retries=5)
def refund(order_id: str) -> int:
    return payments.refund(order_id)


@step
def send_mail(to: str, template: str, about: str) -> None:
    mail.send(to, template, about, idempotency_key=idempotency_key())


@step(retries=8)
def upsert_contact(user_id: str, email: str) -> None:
    crm.upsert(user_id, email)


@step
def open_trial(user_id: str, ends: datetime) -> None:
    trials.open(user_id, ends)


# ---- functions: the story, told in order -----------------------------------------------------------------------------


@app.function(
    on=OrderCreated,
    tags={"order": "event.data.order_id"},
    cancel_on=CancelOn(OrderCancelled, match={"data.order_id": "event.data.order_id"}),
)
def process_order(ctx: Context[OrderCreated]) -> dict[str, str]:
    order = ctx.event.data

    charge = ctx.step.run(charge_card, order.order_id, order.amount, order.card)
    if charge.status == "declined":
        ctx.step.run("declined-mail", send_mail, order.email, "card-declined", order.order_id)
        return {"status": "declined"}

    parcel = ctx.step.run(create_fulfillment, order.order_id, charge.id)
    ctx.step.run("confirmation-mail", send_mail, order.email, "order-confirmed", order.order_id)

    shipped = ctx.step.wait_for_event(
        "shipped", event=OrderShipped, match={"data.order_id": order.order_id}, timeout=timedelta(days=7)
    )
    if shipped is None:
        ctx.step.run("delay-mail", send_mail, order.email, "order-delayed", order.order_id)
        return {"status": "late", "charge": charge.id, "parcel": parcel}

    ctx.step.run("shipped-mail", send_mail, order.email, "order-shipped", shipped.data.tracking)
    return {"status": "shipped", "charge": charge.id, "parcel": parcel, "tracking": shipped.data.tracking}


@app.function(on=Trigger("stepwell/run.cancelled", where="event.data.function == 'process-order'"))
def undo_order(ctx: Context[dict[str, Any]]) -> int:
    order = OrderCreated.model_validate(ctx.event.data["event"]["data"])

    ctx.step.sleep("a-step-may-still-be-running", "1m")  # charge_card takes 30 s at most
    cents = ctx.step.run(refund, order.order_id)
    ctx.step.run("cancelled-mail", send_mail, order.email, "order-cancelled", order.order_id)
    return cents


@app.function(on=UserSignedUp)
def welcome_user(ctx: Context[UserSignedUp]) -> None:
    user = ctx.event.data
    ctx.step.run("welcome-mail", send_mail, user.email, "welcome", user.user_id)


@app.function(on=UserSignedUp)
def sync_crm(ctx: Context[UserSignedUp]) -> None:
    user = ctx.event.data
    ctx.step.run(upsert_contact, user.user_id, user.email)


@app.function(on=UserSignedUp)
def start_trial(ctx: Context[UserSignedUp]) -> None:
    user = ctx.event.data
    ends = ctx.now() + timedelta(days=14)  # ctx.now() is the same in every invocation of this run

    ctx.step.run(open_trial, user.user_id, ends)
    ctx.step.sleep_until("last-three-days", ends - timedelta(days=3))
    ctx.step.run("reminder-mail", send_mail, user.email, "trial-ends-soon", user.user_id)
