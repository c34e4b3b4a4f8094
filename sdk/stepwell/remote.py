"""A step that runs in a worker of its own: what travels there, and how it is run."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stepwell.codec import JSON, canonical, loads
from stepwell.engine.core import Core
from stepwell.engine.execution import Driver, Program
from stepwell.engine.operations import BodyStep, Policy
from stepwell.errors import InvalidOption, UnknownFunction
from stepwell.steps import Step, plain
from stepwell.typed import Typed, parameters, returns


def importable(fn: Any) -> str:
    """`module:name` of a step. Raises InvalidOption if another process would not find the same function there."""
    target = plain(fn)
    module, name = getattr(target, "__module__", None), getattr(target, "__qualname__", "")
    if isinstance(fn, Step) and module and module != "__main__" and "<" not in name:
        found: Any = __import__(module, fromlist=["_"])
        for part in name.split("."):
            found = getattr(found, part, None)
        if plain(found) is target:
            return f"{module}:{name}"
    raise InvalidOption(
        f"{fn!r} cannot run in a worker of its own: spread=True and a compute class of its own need a @step defined at "
        "the top level of an importable module, so that the other worker finds it."
    )


def pack_call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], id: str) -> dict[str, JSON]:
    """The arguments of a call as JSON; they are rebuilt from the parameters' annotations."""
    what = f"an argument of step {id!r}"
    return {
        "args": [loads(Typed(Any, what).encode(value)) for value in args],
        "kwargs": {name: loads(Typed(Any, what).encode(value)) for name, value in kwargs.items()},
    }


def unpack_call(fn: Callable[..., Any], data: Mapping[str, JSON], id: str) -> tuple[list[Any], dict[str, Any]]:
    """The other way round."""
    what = f"an argument of step {id!r}"
    hints = parameters(fn, what)
    names = [
        name
        for name, parameter in inspect.signature(fn).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]

    def rebuild(name: str | None, value: JSON) -> Any:
        return Typed(hints.get(name, Any) if name else Any, what).decode(canonical(value))

    args: Sequence[JSON] = data["args"]
    positional = [rebuild(names[n] if n < len(names) else None, value) for n, value in enumerate(args)]
    return positional, {name: rebuild(name, value) for name, value in data["kwargs"].items()}


def remote_program(call: str) -> Program:
    """A step that runs as a child run: found by its import path, run as the one step of its run."""
    module, _, name = call.partition(":")
    try:
        step: Any = importlib.import_module(module)
        for part in name.split("."):
            step = getattr(step, part)
    except (ImportError, AttributeError) as error:
        raise UnknownFunction(f"The step {call} cannot be imported by the worker: {error}.") from error
    fn = plain(step)
    typed = returns(fn, f"the result of step {name!r}")

    def start(core: Core, driver: Driver) -> Any:
        data = core.event.data
        core.identity = data["identity"]
        args, kwargs = unpack_call(fn, data, data["id"])
        operation = BodyStep(
            key=core.key_for(data["id"]),
            id=data["id"],
            kind="run",
            shape="",
            args="",
            decode=typed.decode,
            fn=fn,
            positional=tuple(args),
            keywords=kwargs,
            policy=Policy(**data["policy"]),
            encode=typed.round_trip,
            is_async=inspect.iscoroutinefunction(fn),
        )
        return driver.finish(operation)

    return Program(start, typed.round_trip, 0, None, False)
