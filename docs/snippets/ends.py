"""Functions of docs/ends.md: runs that end early, and those who hear of it. They run in tests/docs/test_ends.py."""

from __future__ import annotations

from typing import Any

from stepwell import CancelOn, Context, EventModel, Failure, Stepwell, Timeouts, Trigger, step

app = Stepwell("ends")

said: list[str] = []
"""What the functions of this page have told somebody."""


@step
def tell(text: str) -> None:
    said.append(text)


class OrderCreated(EventModel, name="order/created"):
    order_id: str
    amount: int = 0


class OrderCancelled(EventModel, name="order/cancelled"):
    order_id: str


# [cancel-on]
@app.function(
    on=OrderCreated,
    cancel_on=[
        CancelOn(OrderCancelled, match={"data.order_id": "event.data.order_id"}),
        CancelOn("shop/closed", where="async.data.reason != 'lunch'", timeout="1h"),
    ],
)
def fulfil(ctx: Context[OrderCreated]) -> str:
    ctx.step.sleep("picking", "2d")
    ctx.step.run(tell, f"shipped {ctx.event.data.order_id}")
    return "shipped"


# [end]


# [timeouts]
@app.function(on="report/wanted", timeouts=Timeouts(start="10m", finish="2h"))
def report(ctx: Context[Any]) -> str:
    ctx.step.wait_for_event("figures", event="figures/ready", timeout="3d")
    return "reported"


# [end]


@app.function(on="mail/wanted")
def newsletter(ctx: Context[Any]) -> str:
    ctx.step.sleep("until-they-are-awake", "8h")
    ctx.step.run(tell, f"mail to {ctx.event.data['to']}")
    return "sent"


# [detached]
@app.function(on="user/signed-up")
def sign_up(ctx: Context[Any]) -> str:
    mail_run = ctx.step.invoke(newsletter, {"to": ctx.event.data["email"]}, detached=True)
    return str(mail_run)  # its run id, at once


# [end]


# [on-failure]
def apologise(ctx: Context[Failure]) -> None:
    failure = ctx.event.data
    order_id = failure.event.data["order_id"]  # the event that started the run that failed
    ctx.step.run(tell, f"{order_id}: {failure.error.type} in {failure.error.step}")


@app.function(on="refund/wanted", retries=0, on_failure=apologise)
def give_back(ctx: Context[Any]) -> None:
    def ask_the_bank() -> None:
        raise ConnectionError("the bank is closed")

    ctx.step.run("bank", ask_the_bank)


# [end]


# [run-events]
@app.function(on=Trigger("stepwell/run.failed", where="event.data.app == 'ends'"))
def alert(ctx: Context[Any]) -> None:
    run = ctx.event.data
    ctx.step.run(tell, f"{run['function']} failed: {run['error']['message']}")


@app.function(on=Trigger("stepwell/run.*", where="event.data.function == 'fulfil'"))
def keep_books(ctx: Context[Any]) -> None:
    run = ctx.event.data
    ctx.step.run(tell, f"{run['event']['data']['order_id']} {run['status']}: {run['result'] or run['reason']}")


# [end]
