"""What a test may do around the bodies of steps: replace them, watch them, and kill the worker beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from stepwell.testing.observations import BodyBegan, BodyEnded
from stepwell.testing.world import World

UNSET: Any = object()


class CrashNeverHappened(AssertionError):
    """A crash that a test has planned did not happen, so it has tested nothing."""


class LocalHooks:
    """The engine's `StepHooks` in a local world. Steps are named by id; `name` also means every `name[i]` of a map."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._mocks: dict[str, Callable[..., Any]] = {}
        self._before: Counter[str] = Counter()
        self._after: Counter[str] = Counter()
        self._waiting: dict[str, None] = {}
        """The calls that planned crashes of which none has happened yet."""
        self._begun: dict[str, None] = {}

    def mock(self, name: str, *, returns: Any = UNSET, raises: Any = UNSET, calls: Any = UNSET) -> None:
        """Replace the body of a step; exactly one of the three says by what."""
        given = [option for option in (returns, raises, calls) if option is not UNSET]
        if len(given) != 1:
            raise TypeError(f"mock_step({name!r}): give exactly one of returns=, raises= and calls=")
        if raises is not UNSET and not _is_exception(raises):
            raise TypeError(
                f"mock_step({name!r}): raises= takes an exception, such as ValueError('no'); got {raises!r}"
            )
        if calls is not UNSET and not callable(calls):
            raise TypeError(f"mock_step({name!r}): calls= takes a function to call instead; got {calls!r}")
        if calls is not UNSET:
            self._mocks[name] = calls
        elif raises is not UNSET:
            self._mocks[name] = _raising(raises)
        else:
            self._mocks[name] = lambda *args, **kwargs: returns

    def crash_before(self, name: str, times: int) -> None:
        """Kill the worker this many times when the body is about to begin."""
        self._plan(self._before, "crash_before", name, times)

    def crash_after(self, name: str, times: int) -> None:
        """Kill the worker this many times when the body is done and its result not recorded."""
        self._plan(self._after, "crash_after", name, times)

    def check(self) -> None:
        """Raise CrashNeverHappened for a planned crash of which none has happened."""
        for call in self._waiting:
            begun = ", ".join(self._begun) or "none"
            raise CrashNeverHappened(
                f"local.{call} has killed no worker: it has not come to a step of that id. Steps that began: {begun}. Correct "
                "the id, or let the run get there (run_until_idle(), advance()) before the block ends."
            )

    def _plan(self, planned: Counter[str], call: str, name: str, times: Any) -> None:
        if not isinstance(times, int) or times < 1:
            raise ValueError(f"{call}({name!r}): times is a number from 1, got {times!r}")
        planned[name] += times
        self._waiting[f"{call}({name!r})"] = None

    # ---- what the engine calls

    def before(self, name: str, key: str, run_id: str) -> None:
        """The body of a step is about to begin."""
        self._begun[name] = None
        if self._take(self._before, "crash_before", name):
            self._world.crash(f"before the body of {key}")
        self._world.observe(BodyBegan, run_id, key, name)

    def after(self, name: str, key: str, run_id: str) -> None:
        """The body of a step is done; its result is not recorded yet."""
        self._world.observe(BodyEnded, run_id, key, name)
        if self._take(self._after, "crash_after", name):
            self._world.crash(f"after the body of {key}, before its result was recorded")

    def replace(self, name: str) -> Callable[..., Any] | None:
        """What to call instead of the body."""
        return self._mocks.get(name) or self._mocks.get(_whole(name))

    def _take(self, planned: Counter[str], call: str, name: str) -> bool:
        for known in (name, _whole(name)):
            if planned[known] > 0:
                planned[known] -= 1
                self._waiting.pop(f"{call}({known!r})", None)
                return True
        return False


def _whole(name: str) -> str:
    """The map that a step `name[i]` belongs to."""
    return name.partition("[")[0]


def _is_exception(error: Any) -> bool:
    return isinstance(error, BaseException) or (isinstance(error, type) and issubclass(error, BaseException))


def _raising(error: Any) -> Callable[..., Any]:
    def body(*args: Any, **kwargs: Any) -> Any:
        raise error

    return body
