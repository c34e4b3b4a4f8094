"""What the sentences speak of: functions of every kind, an app, events."""

from __future__ import annotations

from typing import Any

from stepwell import AsyncContext, Backoff, Context, EventModel, Stepwell, step

app = Stepwell("shop")


class OrderCreated(EventModel, name="order/created"):
    order_id: str
    amount: int


class OrderPaid(EventModel, name="order/paid"):
    order_id: str


class Charge:
    id: str


def charge(order_id: str, amount: int = 1) -> Charge:
    raise NotImplementedError


async def charge_async(order_id: str, amount: int = 1) -> Charge:
    raise NotImplementedError


@step
def charge_step(order_id: str, amount: int = 1) -> Charge:
    raise NotImplementedError


@step(retries=5, timeout="30s", backoff=Backoff("2s"))
async def charge_options(order_id: str, amount: int = 1) -> Charge:
    raise NotImplementedError


def send_mail(to: str) -> None:
    raise NotImplementedError


def count(order: dict[str, Any]) -> int:
    raise NotImplementedError


async def count_async(order: dict[str, Any]) -> int:
    raise NotImplementedError


def anything(order_id: str) -> Any:
    raise NotImplementedError


class Bank:
    def charge(self, order_id: str) -> Charge:
        raise NotImplementedError

    async def charge_async(self, order_id: str) -> Charge:
        raise NotImplementedError

    @step
    def charge_step(self, order_id: str) -> Charge:
        raise NotImplementedError

    @step(retries=1)
    async def charge_options(self, order_id: str) -> Charge:
        raise NotImplementedError

    def __call__(self, order_id: str) -> Charge:
        raise NotImplementedError


bank = Bank()


@app.function(on=OrderCreated)
def pay(ctx: Context[OrderCreated]) -> Charge:
    raise NotImplementedError


@app.function(on=OrderCreated)
async def pay_async(ctx: AsyncContext[OrderCreated]) -> Charge:
    raise NotImplementedError
