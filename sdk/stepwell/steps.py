"""Declaring steps: options that live with the function they are for."""

from __future__ import annotations

import dis
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import CellType, CodeType, ModuleType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from stepwell.durations import Duration, seconds
from stepwell.engine.core import current
from stepwell.engine.operations import Policy
from stepwell.errors import InvalidOption, MisplacedStep
from stepwell.ids import COMPUTE_CLASS, digest
from stepwell.policies import Backoff, check_policy, policy_json

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")

MAX_STEP_ID = 200


@dataclass(frozen=True, slots=True)
class StepOptions:
    """What @step was given; None means that the function's own setting holds."""

    id: str | None = None
    retries: int | None = None
    backoff: Backoff | None = None
    timeout: float | None = None
    compute: str | None = None
    at_most_once: bool = False

    def policy(self, retries: int, backoff: dict[str, Any] | None) -> Policy:
        """How the body is run, with the function's settings where the step has none."""
        return Policy(
            retries=retries if self.retries is None else self.retries,
            backoff=backoff if self.backoff is None else policy_json(self.backoff),
            timeout=self.timeout,
            at_most_once=self.at_most_once,
        )


class Step(Generic[P, R_co]):
    """A function with step options. Called directly it is the plain function."""

    def __init__(self, fn: Callable[P, R_co], options: StepOptions) -> None:
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.options = options

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        return self.fn(*args, **kwargs)

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Step[P, R_co]: ...
    @overload
    def __get__(self: Step[Concatenate[S, Q], R_co], instance: S, owner: type | None = None) -> Step[Q, R_co]: ...
    def __get__(self, instance: Any, owner: type | None = None) -> Step[..., R_co]:
        """A step that is a method binds like one."""
        return self if instance is None else Step(self.fn.__get__(instance, owner), self.options)

    def using(
        self,
        *,
        id: str | None = None,
        retries: int | None = None,
        backoff: Backoff | None = None,
        timeout: Duration | None = None,
        compute: str | None = None,
        at_most_once: bool | None = None,
    ) -> Step[P, R_co]:
        """The same step with some options changed."""
        given = _options(id, retries, backoff, timeout, compute, at_most_once)
        return Step(self.fn, replace(self.options, **given))

    def __repr__(self) -> str:
        return f"<step {step_id(self)}>"


@overload
def step(fn: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    id: str | None = None,
    retries: int | None = None,
    backoff: Backoff | None = None,
    timeout: Duration | None = None,
    compute: str | None = None,
    at_most_once: bool = False,
) -> Callable[[Callable[P, R]], Step[P, R]]: ...
def step(
    fn: Any = None,
    /,
    *,
    id: str | None = None,
    retries: int | None = None,
    backoff: Backoff | None = None,
    timeout: Duration | None = None,
    compute: str | None = None,
    at_most_once: bool = False,
) -> Any:
    """Give a function options for when it is run as a step; it stays callable as it is.

    id: the step's name, the function's own unless given. retries: attempts after the first, the workflow function's
    unless given. timeout: for one attempt. compute: run it as a child run in a worker of that class. at_most_once: write a
    start mark first, and if the step is cut off raise StepInterrupted instead of beginning it again.
    """
    options = StepOptions(**_options(id, retries, backoff, timeout, compute, at_most_once))
    if fn is not None and not callable(fn):
        advice = (
            f"write @step(id={fn!r})" if isinstance(fn, str) else "its options have names, such as @step(retries=5)"
        )
        raise InvalidOption(f"@step stands above a function, got {fn!r}; {advice}.")
    if fn is not None:
        return Step(fn, options)
    return lambda decorated: Step(decorated, options)


def _options(
    id: str | None,
    retries: int | None,
    backoff: Backoff | None,
    timeout: Duration | None,
    compute: str | None,
    at_most_once: bool | None,
) -> dict[str, Any]:
    """The options that were given, checked."""
    given: dict[str, Any] = {}
    if id is not None:
        given["id"] = check_step_id(id)
    if retries is not None:
        given["retries"] = check_retries(retries)
    if backoff is not None:
        given["backoff"] = check_policy("backoff", backoff, Backoff)
    if timeout is not None:
        given["timeout"] = seconds(timeout, what="timeout")
        if given["timeout"] <= 0:
            raise InvalidOption("timeout must be more than zero.")
    if compute is not None:
        given["compute"] = check_compute(compute)
    if at_most_once is not None:
        if not isinstance(at_most_once, bool):
            raise InvalidOption(f"at_most_once is True or False, got {at_most_once!r}.")
        given["at_most_once"] = at_most_once
    return given


def check_retries(retries: Any) -> int:
    """The number of retries if it is one."""
    if isinstance(retries, bool) or not isinstance(retries, int) or not 0 <= retries <= 1000:
        raise InvalidOption(f"retries is the number of attempts after the first, 0 to 1000; got {retries!r}.")
    return retries


def check_compute(compute: Any) -> str:
    """The compute class if it is one: a name that StepwellApp(compute=...) can have."""
    if not isinstance(compute, str) or not COMPUTE_CLASS.fullmatch(compute):
        raise InvalidOption(
            "compute is the name of a compute class such as 'large', letters, digits, '-', '_' and '.', at most 48; got "
            f"{compute!r}."
        )
    return compute


def check_step_id(id: Any) -> str:
    """The id if it is one: text of 1 to 200 printable characters."""
    if not isinstance(id, str) or not 0 < len(id) <= MAX_STEP_ID or not id.isprintable():
        raise InvalidOption(f"A step id is text of 1 to {MAX_STEP_ID} printable characters, got {id!r}.")
    if id.startswith("!"):
        raise InvalidOption(f"Step ids that begin with '!' are the engine's own; got {id!r}.")
    return id


def options_of(fn: Callable[..., Any]) -> StepOptions:
    """The options of a step, defaults for a plain callable."""
    return fn.options if isinstance(fn, Step) else StepOptions()


def named_steps(fn: Callable[..., Any]) -> set[Step[..., Any]]:
    """The declared steps that the code of a function names itself, its inner functions included.

    What it calls is not followed: a step in there is found when it runs.
    """
    inner = inspect.unwrap(fn)
    code = getattr(inner, "__code__", None)
    if code is None:
        return set()
    cells = zip(code.co_freevars, inner.__closure__ or (), strict=True)
    scope = {**inner.__globals__, **{name: cell.cell_contents for name, cell in cells if _is_set(cell)}}
    # By the type itself: isinstance asks objects for their class, which wakes lazy ones up.
    return {each for each in _named(code, scope) if issubclass(type(each), Step)}


def _named(code: CodeType, scope: Mapping[str, Any]) -> Iterator[Any]:
    """The values of the names that the code looks up, and of the attributes of modules among them."""
    value: Any = None
    for each in dis.get_instructions(code):
        if each.opname in _LOOKUPS:
            value = scope.get(each.argval)
            yield value
        elif each.opname in _ATTRIBUTES and issubclass(type(value), ModuleType):
            value = vars(value).get(each.argval)
            yield value
        elif each.opname not in _BETWEEN:
            value = None
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _named(constant, scope)


_LOOKUPS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF"}
_ATTRIBUTES = {"LOAD_ATTR", "LOAD_METHOD"}
_BETWEEN = {"CACHE", "PUSH_NULL"}


def _is_set(cell: CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:  # it is defined further down
        return False
    return True


def plain(fn: Callable[..., R]) -> Callable[..., R]:
    """The function below the options."""
    return cast("Callable[..., R]", fn.fn) if isinstance(fn, Step) else fn


def step_id(fn: Callable[..., Any]) -> str:
    """The id of a step: as given, or the function's name. Raises InvalidOption for what has no name, such as a lambda."""
    given = options_of(fn).id
    if given is not None:
        return given
    target = plain(fn)
    while isinstance(target, functools.partial):
        target = target.func
    name = getattr(target, "__name__", None)
    if not isinstance(name, str) or name == "<lambda>":
        raise InvalidOption('A lambda has no name to be remembered by: ctx.step.run("an-id", lambda: ...).')
    return name


def idempotency_key(scope: str = "run") -> str:
    """A key for the outside call this step makes, the same for every attempt; 32 characters.

    scope="run": of this step in this run. scope="event": the same in replays and forks of the run, too. Raises
    MisplacedStep outside a step.
    """
    here = current.get()
    if here is None or here.step is None:
        raise MisplacedStep("idempotency_key() is only known inside the body of a step.")
    if scope == "run":
        return digest("idempotency", here.core.run.id, here.step).hex()[:32]
    if scope == "event":
        return digest("idempotency", here.core.identity, here.step).hex()[:32]
    raise InvalidOption(f'scope is "run" or "event", got {scope!r}.')
