"""run, submit and map: the user's code as a step, here or in a worker of its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar, overload

from stepwell.engine.operations import BodyStep, Operation
from stepwell.engine.resolve import shape_of
from stepwell.engine.sync_driver import PARALLEL
from stepwell.engine.waits import ChildRun
from stepwell.errors import InvalidOption, StepError
from stepwell.ids import child_run_id, derived_ulid, digest, event_id_of
from stepwell.planning.ask import Ask, Many
from stepwell.planning.planner import Planner
from stepwell.remote import importable, pack_call
from stepwell.steps import check_step_id, options_of, plain, step_id
from stepwell.typed import fingerprint, returns

T = TypeVar("T")
R = TypeVar("R")


def run(plan: Planner, target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Operation:
    """`run(fn, ...)` or `run("id", fn, ...)`."""
    id, fn, args = named(target, args)
    return body(plan, plan.core.key_for(id), id, fn, args, kwargs)


# An overload for each of what decides the result: async functions first, whose result is what they give when awaited, and
# written as coroutines: behind Awaitable, mypy would take a function with an Any in its signature for either and give up.
@overload
def map(
    plan: Planner,
    /,
    fn: Callable[[T], Coroutine[Any, Any, R]],
    items: Iterable[T],
    *,
    id: str | None = None,
    max_concurrency: int | None = None,
    spread: bool = False,
) -> Ask[list[R]]: ...
@overload
def map(
    plan: Planner,
    /,
    fn: Callable[[T], R],
    items: Iterable[T],
    *,
    id: str | None = None,
    max_concurrency: int | None = None,
    spread: bool = False,
) -> Ask[list[R]]: ...
@overload
def map(
    plan: Planner,
    /,
    fn: Callable[[T], Coroutine[Any, Any, R]],
    items: Iterable[T],
    *,
    id: str | None = None,
    max_concurrency: int | None = None,
    tolerated_failures: int | float,
    spread: bool = False,
) -> Ask[list[R | StepError]]: ...
@overload
def map(
    plan: Planner,
    /,
    fn: Callable[[T], R],
    items: Iterable[T],
    *,
    id: str | None = None,
    max_concurrency: int | None = None,
    tolerated_failures: int | float,
    spread: bool = False,
) -> Ask[list[R | StepError]]: ...
def map(
    plan: Planner,
    /,
    fn: Callable[[Any], Any],
    items: Iterable[Any],
    *,
    id: str | None = None,
    max_concurrency: int | None = None,
    tolerated_failures: int | float = 0,
    spread: bool = False,
) -> Ask[list[Any]]:
    """Run one step for each item, side by side; the results in the order of the items.

    tolerated_failures: how many may fail (a count, or a share from 0.0 to 1.0); a tolerated failure stands in its
    place as the StepError, one more raises it. max_concurrency: 10 unless given. spread: each item in a worker
    invocation of its own, which needs an importable @step.
    """
    name = check_step_id(id) if id is not None else step_id(fn)
    base = plan.core.key_for(name)
    make = apart if spread else body
    operations = []
    for index, item in enumerate(items):
        key = plan.core.claim_key(f"{base}[{index}]", (base, f"[{index}]", 0))
        operations.append(make(plan, key, f"{name}[{index}]", fn, (item,), {}))
    return Many(base, operations, *limits(len(operations), max_concurrency, tolerated_failures, spread))


def body(plan: Planner, key: str, id: str, fn: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Operation:
    """A step whose body is run in this invocation, unless it is declared for workers of another class."""
    compute = options_of(fn).compute
    if compute is not None and compute != plan.core.run.compute:
        return apart(plan, key, id, fn, args, kwargs)
    call = plain(fn)
    typed = returns(call, f"the result of step {key!r}")
    text, shown = fingerprint((args, kwargs))
    return BodyStep(
        key=key,
        id=id,
        kind="run",
        shape=shape_of("run", text),
        args=shown,
        decode=typed.decode,
        fn=call,
        positional=args,
        keywords=kwargs,
        policy=plan.policy(fn),
        encode=typed.round_trip,
        is_async=inspect.iscoroutinefunction(call),
    )


def apart(plan: Planner, key: str, id: str, fn: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Operation:
    """A step as a child run in a worker invocation of its own."""
    where = importable(fn)
    typed = returns(plain(fn), f"the result of step {key!r}")
    packed = pack_call(plain(fn), args, kwargs, id)
    text, shown = fingerprint((args, kwargs))
    core, run = plan.core, plan.core.run
    function = f"{run.function}.{_slug(id)}"
    child = child_run_id(run.app, function, run.id, key)
    shape = shape_of("run", text)
    message = {
        "stepwell": "invoke",
        "run": child,
        "app": run.app,
        "function": function,
        "compute": options_of(fn).compute or run.compute,
        "call": where,
        "data": {
            **packed,
            "id": id,
            "identity": digest("child", core.identity, key).hex(),
            "policy": asdict(plan.policy(fn)),
        },
        "event": "stepwell/step.called",
        "event_id": event_id_of(derived_ulid(core.now(), "call", child)),
        "ts": core.now(),
        "parent": {"run": run.id, "step": key, "id": id, "kind": "run", "shape": core.values.veil("run", shape)},
    }
    return ChildRun(
        key=key, id=id, kind="run", shape=shape, args=shown, decode=typed.decode, child=child, message=lambda _: message
    )


def named(target: Any, args: tuple[Any, ...]) -> tuple[str, Any, tuple[Any, ...]]:
    """Id, function and arguments of `run(fn, ...)` or `run("id", fn, ...)`."""
    if isinstance(target, str):
        if not args or not callable(args[0]):
            raise InvalidOption(f"ctx.step.run({target!r}, ...) needs the function to run after the id.")
        return check_step_id(target), args[0], args[1:]
    if not callable(target):
        raise InvalidOption(f"ctx.step.run takes a function, or an id and a function; got {target!r}.")
    return step_id(target), target, args


def limits(count: int, max_concurrency: Any, tolerated: int | float, spread: bool) -> tuple[int, int]:
    """How many items at once, and how many may fail. Raises InvalidOption."""
    if max_concurrency is not None and (not isinstance(max_concurrency, int) or max_concurrency < 1):
        raise InvalidOption(f"max_concurrency is a number from 1, got {max_concurrency!r}.")
    if isinstance(tolerated, bool) or tolerated < 0 or (isinstance(tolerated, float) and tolerated > 1):
        raise InvalidOption(
            f"tolerated_failures is a count (an int from 0) or a share (a float from 0.0 to 1.0), got {tolerated!r}."
        )
    parallel = max_concurrency or (count if spread else PARALLEL)
    return max(1, parallel), int(tolerated * count) if isinstance(tolerated, float) else tolerated


def _slug(id: str) -> str:
    return "".join(char if char.isalnum() or char in "._-" else "-" for char in id.lower())[:60].strip("-") or "step"
