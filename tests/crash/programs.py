"""Programs nobody wrote: generated from a seed, run by one durable function, predicted by a model of a few lines.

A program is a list of commands, as JSON, so it travels in the event. Every command gives a number; the run's result is
the list of them, so anything lost, doubled or changed on the way shows.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

from stepwell import AsyncContext, Context, StepError, Stepwell

Command = dict[str, Any]
KINDS = ["run", "fail", "give_up", "sleep", "wait", "missed", "map", "send", "poll", "child", "par"]
SIMPLE = KINDS[:-2]


def generate(random: Random, depth: int = 0) -> list[Command]:
    """A random program of up to five commands, nested two deep."""
    return [command(random, depth) for _ in range(random.randint(1, 5 - 2 * depth))]


def command(random: Random, depth: int) -> Command:
    kind = random.choice(KINDS if depth < 2 else SIMPLE)
    made: Command = {"do": kind, "n": random.randint(0, 99)}
    if kind in ("fail", "poll"):
        made["times"] = random.randint(1, 3)
    if kind == "map":
        made["items"] = [random.randint(0, 9) for _ in range(random.randint(1, 4))]
    if kind in ("sleep", "wait", "missed"):
        made["seconds"] = random.choice([1, 20, 120, 2000])
    if kind in ("child", "par"):
        made["body"] = generate(random, depth + 1)
    if kind == "par":
        made["more"] = generate(random, depth + 1)
    return made


def predict(program: list[Command]) -> list[Any]:
    """What the program must give, whatever fails on the way."""
    return [_predict(each) for each in program]


def _predict(command: Command) -> Any:
    kind, n = command["do"], command["n"]
    if kind == "map":
        return [item + n for item in command["items"]]
    if kind == "child":
        return predict(command["body"])
    if kind == "par":
        return [predict(command["body"]), predict(command["more"])]
    return {"give_up": -1, "sleep": 0, "wait": n, "missed": -2}.get(kind, n)


class Trouble:
    """Counts how often a body was begun, so that bodies can fail a number of times; kept outside of the runs."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}

    def __call__(self, key: str, times: int, n: int) -> int:
        self.seen[key] = self.seen.get(key, 0) + 1
        if self.seen[key] <= times:
            raise RuntimeError(f"trouble {self.seen[key]} of {times}")
        return n

    def count(self, key: str) -> int:
        self.seen[key] = self.seen.get(key, 0) + 1
        return self.seen[key]


def give_up() -> None:
    raise ValueError("never works")


def apps(trouble: Trouble) -> list[Stepwell]:
    """The interpreters: a sync and an async one, each calling the other for child runs."""
    app = Stepwell("program")

    @app.function(on="program/sync", id="sync", retries=6)
    def sync(ctx: Context[Any]) -> list[Any]:
        return [_sync(ctx, trouble, each, f"{number}") for number, each in enumerate(ctx.event.data["program"])]

    @app.function(on="program/async", id="async", retries=6)
    async def run_async(ctx: AsyncContext[Any]) -> list[Any]:
        return await _all(ctx, trouble, ctx.event.data["program"], "")

    return [app]


def _who(ctx: Any) -> str:
    """What the run calls itself to the outside: a name it was given, which its forks have, too, or its id."""
    return str(ctx.event.data.get("name", ctx.run_id))


def _match(ctx: Any, name: str) -> dict[str, Any]:
    return {"data.run": _who(ctx), "data.step": name}


def _sync(ctx: Context[Any], trouble: Trouble, command: Command, name: str) -> Any:
    kind, n = command["do"], command["n"]
    if kind == "par":  # a plain function has no tasks: one after the other, submitted where it can be
        future = ctx.step.submit(f"beside {name}", int, n)
        both = [
            [_sync(ctx, trouble, each, f"{name}{side}{number}") for number, each in enumerate(command[side])]
            for side in ("body", "more")
        ]
        assert future.result() == n
        return both
    if kind in ("run", "fail"):
        return ctx.step.run(f"run {name}", trouble, f"{_who(ctx)}{name}", command.get("times", 0), n)
    if kind == "give_up":
        try:
            ctx.step.run(f"give up {name}", give_up)
        except StepError:
            return -1
    if kind == "sleep":
        ctx.step.sleep(f"sleep {name}", command["seconds"])
        return 0
    if kind == "wait":
        ctx.step.send_event(f"tell {name}", "told", {"run": _who(ctx), "step": name, "n": n}, ts=None)
        event = ctx.step.wait_for_event(
            f"wait {name}", event="told", match=_match(ctx, name), timeout="30d", since="run_start"
        )
        return event.data["n"] if event else None
    if kind == "missed":
        event = ctx.step.wait_for_event(
            f"wait {name}", event="told", match=_match(ctx, "nobody"), timeout=command["seconds"]
        )
        return -2 if event is None else None
    if kind == "map":
        return list(ctx.step.map(lambda item: item + n, command["items"], id=f"map {name}"))
    if kind == "child":
        return ctx.step.invoke("program/async", {"program": command["body"]}, id=f"child {name}")
    if kind == "send":
        ctx.step.send_event(f"send {name}", "nobody/listens", {"n": n})
        return n
    assert kind == "poll"
    times = command["times"]
    checked = ctx.step.poll(
        f"poll {name}", trouble.count, f"{_who(ctx)}{name}", until=lambda count: count >= times, every="10s"
    )
    return n if checked >= times else None


async def _all(ctx: AsyncContext[Any], trouble: Trouble, program: list[Command], name: str) -> list[Any]:
    return [await _async(ctx, trouble, each, f"{name}{number}") for number, each in enumerate(program)]


async def _async(ctx: AsyncContext[Any], trouble: Trouble, command: Command, name: str) -> Any:
    kind, n = command["do"], command["n"]
    if kind == "par":
        return list(
            await asyncio.gather(
                _all(ctx, trouble, command["body"], f"{name}body"), _all(ctx, trouble, command["more"], f"{name}more")
            )
        )
    if kind in ("run", "fail"):
        return await ctx.step.run(f"run {name}", trouble, f"{_who(ctx)}{name}", command.get("times", 0), n)
    if kind == "give_up":
        try:
            await ctx.step.run(f"give up {name}", give_up)
        except StepError:
            return -1
    if kind == "sleep":
        await ctx.step.sleep(f"sleep {name}", command["seconds"])
        return 0
    if kind == "wait":
        await ctx.step.send_event(f"tell {name}", "told", {"run": _who(ctx), "step": name, "n": n})
        event = await ctx.step.wait_for_event(
            f"wait {name}", event="told", match=_match(ctx, name), timeout="30d", since="run_start"
        )
        return event.data["n"] if event else None
    if kind == "missed":
        event = await ctx.step.wait_for_event(
            f"wait {name}", event="told", match=_match(ctx, "nobody"), timeout=command["seconds"]
        )
        return -2 if event is None else None
    if kind == "map":

        async def add(item: int) -> int:
            return item + n

        return await ctx.step.map(add, command["items"], id=f"map {name}")
    if kind == "child":
        return await ctx.step.invoke("program/sync", {"program": command["body"]}, id=f"child {name}")
    if kind == "send":
        await ctx.step.send_event(f"send {name}", "nobody/listens", {"n": n})
        return n
    assert kind == "poll"
    times = command["times"]
    checked = await ctx.step.poll(
        f"poll {name}", trouble.count, f"{_who(ctx)}{name}", until=lambda count: count >= times, every="10s"
    )
    return n if checked >= times else None
