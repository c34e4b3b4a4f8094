"""The functions that are measured. Their steps do next to nothing: what remains is Stepwell."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from stepwell import AsyncContext, Context, Stepwell

app = Stepwell("bench")

TEXT = "x" * 200
"""Makes results a few hundred bytes of JSON, as they usually are."""


class Charge(BaseModel):
    """A typed result."""

    id: str
    amount: int
    note: str


def plain(number: int) -> dict[str, Any]:
    """A step without an annotation worth the name."""
    return {"number": number, "note": TEXT}


def typed(number: int, note: str) -> Charge:
    """A step whose result is a model."""
    return Charge(id=f"ch_{number}", amount=number, note=note)


async def awaited(number: int) -> dict[str, Any]:
    """A step that is a coroutine."""
    return {"number": number, "note": TEXT}


@app.function(on="bench/plain")
def plain_steps(ctx: Context[Any]) -> int:
    """As many plain steps as the event says, under one name."""
    total = 0
    for number in range(ctx.event.data["steps"]):
        total += ctx.step.run(plain, number)["number"]
    return total


@app.function(on="bench/typed")
def typed_steps(ctx: Context[Any]) -> int:
    """As many typed steps as the event says, each under a name of its own."""
    total = 0
    for number in range(ctx.event.data["steps"]):
        total += ctx.step.run(f"charge-{number}", typed, number, note=TEXT).amount
    return total


@app.function(on="bench/async")
async def async_steps(ctx: AsyncContext[Any]) -> int:
    """As many awaited steps as the event says."""
    total = 0
    for number in range(ctx.event.data["steps"]):
        total += (await ctx.step.run(awaited, number))["number"]
    return total


@app.function(on="bench/rest")
def steps_and_a_rest(ctx: Context[Any]) -> int:
    """As many plain steps as the event says, then a sleep, then one more: the second invocation replays them all."""
    total = 0
    for number in range(ctx.event.data["steps"]):
        total += ctx.step.run(plain, number)["number"]
    ctx.step.sleep("rest", 1)
    return total + int(ctx.step.run("last", plain, 0)["number"])
