"""run and submit: the arguments are those of the function, the result is what it gives, when awaited if it is async."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, assert_type

from stepwell import AsyncContext, Context, StepFuture, step

from .world import (
    Bank,
    Charge,
    anything,
    bank,
    charge,
    charge_async,
    charge_options,
    charge_step,
    count,
    count_async,
    send_mail,
)


def a_step_is_called_like_the_plain_function() -> None:
    assert_type(charge_step("o-1"), Charge)
    assert_type(charge_step("o-1", amount=3), Charge)
    assert_type(bank.charge_step("o-1"), Charge)
    assert_type(Bank.charge_step(bank, "o-1"), Charge)
    assert_type(charge_step.using(id="another", retries=1, timeout="1m")("o-1"), Charge)

    charge_step(1)  # E: arg-type
    charge_step("o-1", amont=3)  # E: call-arg
    charge_step.using(retrys=1)  # E: call-arg
    charge_step.using(timeout=charge)  # E: arg-type
    bank.charge_step(1)  # E: arg-type
    step(retrys=1)  # E: call-overload
    charge_options("o-1")  # E: unused-coroutine


def run(ctx: Context[Any], order: dict[str, Any], unknown: Any) -> None:
    run = ctx.step.run
    assert_type(run(charge, "o-1"), Charge)
    assert_type(run(charge, "o-1", amount=3), Charge)
    assert_type(run("an-id", charge, "o-1", 3), Charge)
    assert_type(run(charge_async, "o-1"), Charge)
    assert_type(run("an-id", charge_async, "o-1"), Charge)
    assert_type(run(charge_step, "o-1"), Charge)
    assert_type(run("an-id", charge_step, "o-1"), Charge)
    assert_type(run(charge_options, "o-1"), Charge)
    assert_type(run("an-id", charge_options, "o-1"), Charge)
    assert_type(run(charge_options.using(retries=0), "o-1"), Charge)
    assert_type(run(bank.charge, "o-1"), Charge)
    assert_type(run(bank.charge_async, "o-1"), Charge)
    assert_type(run(bank.charge_step, "o-1"), Charge)
    assert_type(run(bank.charge_options, "o-1"), Charge)
    assert_type(run(bank.charge_options.using(id="b"), "o-1"), Charge)
    assert_type(run("an-id", bank, "o-1"), Charge)
    assert_type(run("an-id", Bank), Bank)
    assert_type(run("an-id", lambda: 5), int)
    assert_type(run("an-id", lambda n: n * 2, 5), int)
    assert_type(run("an-id", lambda: charge_async("o-1")), Charge)
    assert_type(run(partial(charge, "o-1"), amount=3), Charge)
    assert_type(run(partial(charge_async, "o-1")), Charge)
    assert_type(run(count, order), int)
    assert_type(run(count_async, order), int)
    assert_type(run(count_async, order["inner"]), int)
    assert_type(run(anything, "o-1"), Any)
    assert_type(run(unknown, "o-1"), Any)
    assert_type(run("an-id", list[str]().append, "o-1"), None)
    assert_type(run("an-id", max, [1, 2]), int)
    assert_type(run("an-id", round, 2.5), int)
    assert_type(run("an-id", round, 2.5, 1), float)
    assert_type(run("an-id", dict, a=1), dict[str, int])
    run(send_mail, "ada@example.com")
    run("an-id", print, "any", "number", sep="")

    run(charge, 1)  # E: call-overload
    run(charge)  # E: call-overload
    run(charge, "o-1", 3, 4)  # E: call-overload
    run(charge, "o-1", amont=3)  # E: call-arg
    run("an-id", charge, 1)  # E: call-overload
    run("an-id")  # E: call-overload
    run(charge_async, 1)  # E: call-overload
    run("an-id", charge_async, 1)  # E: call-overload
    run(charge_step, 1)  # E: call-overload
    run(charge_options, 1)  # E: call-overload
    run(charge_options.using(retries=0), 1)  # E: call-overload
    run(bank.charge, 1)  # E: call-overload
    run(bank.charge_async, 1)  # E: call-overload
    run(bank.charge_step, 1)  # E: call-overload
    run(bank.charge_options, 1)  # E: call-overload
    run("an-id", lambda: 5, 1)  # E: call-overload
    run(charge("o-1"))  # E: call-overload


def submit(ctx: Context[Any], order: dict[str, Any]) -> None:
    submit = ctx.step.submit
    assert_type(submit(charge, "o-1"), StepFuture[Charge])
    assert_type(submit("an-id", charge_step, "o-1"), StepFuture[Charge])
    assert_type(submit(charge_async, "o-1"), StepFuture[Charge])
    assert_type(submit("an-id", count_async, order), StepFuture[int])
    assert_type(submit(charge, "o-1").result(), Charge)
    assert_type(submit(charge, "o-1").done(), bool)

    submit(charge, 1)  # E: call-overload
    submit("an-id", charge_step, 1)  # E: call-overload
    submit(charge_async, 1)  # E: call-overload
    submit("an-id", count_async, 1)  # E: call-overload


async def run_async(ctx: AsyncContext[Any], order: dict[str, Any]) -> None:
    run = ctx.step.run
    assert_type(await run(charge, "o-1"), Charge)
    assert_type(await run("an-id", charge_step, "o-1"), Charge)
    assert_type(await run(charge_async, "o-1"), Charge)
    assert_type(await run("an-id", charge_options, "o-1"), Charge)
    assert_type(await run(count_async, order), int)
    assert_type(await run("an-id", lambda: 5), int)
    assert_type(await run(bank.charge_step, "o-1"), Charge)
    await run(send_mail, "ada@example.com")

    await run(charge, 1)  # E: call-overload
    await run("an-id", charge_step, 1)  # E: call-overload
    await run(charge_async, 1)  # E: call-overload
    await run("an-id", charge_options, 1)  # E: call-overload
    run(send_mail, "ada@example.com")  # E: unused-coroutine
    run(charge, "o-1").id  # E: attr-defined


async def submit_async(ctx: AsyncContext[Any], order: dict[str, Any]) -> None:
    submit = ctx.step.submit
    assert_type(submit(charge, "o-1"), asyncio.Task[Charge])
    assert_type(submit("an-id", charge_step, "o-1"), asyncio.Task[Charge])
    assert_type(submit(charge_async, "o-1"), asyncio.Task[Charge])
    assert_type(submit("an-id", count_async, order), asyncio.Task[int])
    assert_type(await submit(charge, "o-1"), Charge)

    submit(charge, 1)  # E: call-overload
    submit("an-id", charge_step, 1)  # E: call-overload
    submit(charge_async, 1)  # E: call-overload
    submit("an-id", count_async, 1)  # E: call-overload


async def beside_each_other(ctx: AsyncContext[Any], order: dict[str, Any]) -> None:
    step = ctx.step
    charged, counted = await asyncio.gather(step.run(charge, "o-1"), step.run(count_async, order))
    assert_type(charged, Charge)
    assert_type(counted, int)
    assert_type(await asyncio.gather(step.run(count, order), step.sleep("an-id", 1)), tuple[int, None])
    one, other = step.run(count, order), step.sleep("an-id", 1)
    assert_type(await asyncio.gather(one, other), tuple[int, None])
    assert_type(await asyncio.gather(step.map(count, [order]), step.run(charge, "o-1")), tuple[list[int], Charge])
    assert_type(await asyncio.gather(step.run(charge, "o-1"), step.submit(count, order)), tuple[Charge, int])
    assert_type(await asyncio.gather(*(step.run(charge, order_id) for order_id in "abc")), list[Charge])
    assert_type(await asyncio.wait_for(step.run(charge, "o-1"), 60), Charge)
    async with asyncio.TaskGroup() as group:
        assert_type(group.create_task(step.run(charge, "o-1")), asyncio.Task[Charge])
