"""poll: a check again and again, until a condition holds for its result."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar, TypeVarTuple, overload

from stepwell.durations import Duration, seconds
from stepwell.engine.operations import Poll
from stepwell.engine.resolve import shape_of
from stepwell.errors import InvalidOption
from stepwell.planning.ask import Ask, One
from stepwell.planning.planner import Planner, wait_seconds
from stepwell.policies import Backoff, policy_json
from stepwell.steps import plain
from stepwell.typed import fingerprint, returns

Ts = TypeVarTuple("Ts")
R = TypeVar("R")

SHORTEST = 0.001
"""Seconds between two checks of a poll, at least: times are kept in milliseconds."""


@overload
def poll(
    plan: Planner,
    /,
    id: str,
    check: Callable[[*Ts], Coroutine[Any, Any, R]],
    *args: *Ts,
    until: Callable[[R], bool],
    every: Duration | Backoff = "5s",
    timeout: Duration | None = None,
    max_attempts: int | None = None,
) -> Ask[R]: ...
@overload
def poll(
    plan: Planner,
    /,
    id: str,
    check: Callable[[*Ts], R],
    *args: *Ts,
    until: Callable[[R], bool],
    every: Duration | Backoff = "5s",
    timeout: Duration | None = None,
    max_attempts: int | None = None,
) -> Ask[R]: ...
def poll(
    plan: Planner,
    /,
    id: str,
    check: Callable[[*Ts], Any],
    *args: *Ts,
    until: Callable[[Any], bool],
    every: Duration | Backoff = "5s",
    timeout: Duration | None = None,
    max_attempts: int | None = None,
) -> Ask[Any]:
    """Call `check` again and again until the condition holds for its result, resting in between.

    A check that raises is retried like a step. Raises StepTimeout when out of time or attempts.
    """
    key = plan.key(id)
    fn = plain(check)
    typed = returns(fn, f"the result of step {key!r}")
    text, shown = fingerprint((args, {}))
    operation = Poll(
        key=key,
        id=id,
        kind="poll",
        shape=shape_of("poll", text),
        args=shown,
        decode=typed.decode,
        fn=fn,
        positional=args,
        policy=plan.policy(check),
        encode=typed.round_trip,
        is_async=inspect.iscoroutinefunction(fn),
        until=until,
        every=pauses(every),
        timeout=None if timeout is None else wait_seconds(timeout, "timeout"),
        max_attempts=max_attempts,
    )
    return One(operation)


def pauses(every: Duration | Backoff) -> Mapping[str, Any]:
    """The pauses of a poll: a fixed interval is a back-off without growth.

    Raises InvalidOption for one without length: the checks would follow each other without end, each of them paid for.
    """
    backoff = policy_json(every) if isinstance(every, Backoff) else _fixed(every)
    if min(backoff["initial"], backoff["maximum"]) < SHORTEST:
        raise InvalidOption(
            f"every: {every!r} leaves no time between two checks, so they would follow each other without end. Write a "
            "duration of a millisecond or more, such as '5s', or a Backoff whose initial and maximum are."
        )
    return backoff


def _fixed(every: Duration) -> Mapping[str, Any]:
    return {"initial": seconds(every, what="every"), "factor": 1.0, "maximum": 365 * 86400.0, "jitter": False}
