"""invoke: another function, as a child run or as one that goes its own way."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from stepwell.codec import canonical, loads
from stepwell.durations import Duration
from stepwell.engine.resolve import shape_of
from stepwell.engine.waits import ChildRun, DetachedRun
from stepwell.errors import InvalidOption
from stepwell.ids import child_run_id, derived_ulid, event_id_of
from stepwell.models import call_body
from stepwell.planning.ask import Ask, One
from stepwell.planning.planner import Planner, wait_seconds
from stepwell.steps import check_step_id

if TYPE_CHECKING:
    from stepwell.app import Function

R = TypeVar("R")


@overload
def invoke(
    plan: Planner,
    /,
    function: Function[..., Any] | str,
    data: Any = None,
    *,
    id: str | None = None,
    detached: Literal[True],
) -> Ask[str]: ...
@overload
def invoke(
    plan: Planner,
    /,
    function: str,
    data: Any = None,
    *,
    id: str | None = None,
    timeout: Duration | None = None,
    detached: Literal[False] = False,
) -> Ask[Any]: ...
@overload
def invoke(
    plan: Planner,
    /,
    function: Function[..., Coroutine[Any, Any, R]],
    data: Any = None,
    *,
    id: str | None = None,
    timeout: Duration | None = None,
    detached: Literal[False] = False,
) -> Ask[R]: ...
@overload
def invoke(
    plan: Planner,
    /,
    function: Function[..., R],
    data: Any = None,
    *,
    id: str | None = None,
    timeout: Duration | None = None,
    detached: Literal[False] = False,
) -> Ask[R]: ...
def invoke(
    plan: Planner,
    /,
    function: Any,
    data: Any = None,
    *,
    id: str | None = None,
    timeout: Duration | None = None,
    detached: bool = False,
) -> Ask[Any]:
    """Run another function as a child run and wait for its result. `function`: the function, or "app/function-id".

    Raises StepError if it failed (its cause is a RunFailed), StepTimeout if it took too long; it goes on then.
    detached: do not wait, and give its run id; it goes on whatever becomes of this run, and has no parent.
    """
    if detached and timeout is not None:
        raise InvalidOption("timeout= is how long to wait for a child; a detached one is not waited for.")
    app, target, typed = plan.target(function)
    name = check_step_id(id) if id is not None else target
    core, run = plan.core, plan.core.run
    key = core.key_for(name)
    body = call_body(data, what=f"invoke {target!r}")
    child = child_run_id(app, target, run.id, key)
    shape = shape_of("invoke", [app, target, body, "detached"] if detached else [app, target, body])
    message = {
        "stepwell": "invoke",
        "run": child,
        "app": app,
        "function": target,
        "data": body,
        "event_id": event_id_of(derived_ulid(core.now(), "invoked", child)),
        "ts": core.now(),
    }
    if run.quiet:
        message["quiet"] = True
    if detached:
        message["child"] = True
    else:
        veiled = core.values.veil("invoke", shape)
        message["parent"] = {"run": run.id, "step": key, "id": name, "kind": "invoke", "shape": veiled}
    operation = (DetachedRun if detached else ChildRun)(
        key=key,
        id=name,
        kind="invoke",
        shape=shape,
        args=f"{app}/{target}, {canonical(body)}"[:100],
        decode=loads if detached else typed.decode,
        child=child,
        message=lambda _: message,
        timeout=None if timeout is None else wait_seconds(timeout, "timeout"),
    )
    return One(operation)
