"""CEL expressions (https://cel.dev) over events: `where`, `key`, `priority`, `tags`.

The evaluator is Google's own C++ implementation, which loads in milliseconds. It is imported at the first expression,
so an app without one does not pay for it.

An expression that has no value for an event, because a field is missing or of another type than it thinks, is a ValueError:
as a condition it does not hold, as a key there is none. One that could not be evaluated at all (mostly because it goes
through so many elements that CEL gives up) is CannotEvaluate: whoever asked must not take that for an answer.

JSON knows whole numbers of any size, CEL those of 64 bits. A larger one counts as a double, so that nothing in an event
that an expression does not even mention can keep it from being evaluated. What an expression names by its path alone
(`event.data.id`) is taken from the event as it stands, all digits kept: two ids are never the same for being large.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from stepwell.codec import JSON
from stepwell.errors import InvalidOption
from stepwell.events import SCOPE

logger = logging.getLogger("stepwell")

EVENTS = ("event", "async")
"""The variables of expressions over the event of a run and one that comes in."""
OWN = ("event",)
"""Those of expressions over one event."""

_TEXT = re.compile(r"'[^'\\]*'|\"[^\"\\]*\"")
_ASYNC = re.compile(r"\basync\b")
_BOUND = re.compile(r"\(\s*(?:event|async)\s*,")
"""A macro that gives the name another meaning."""
_FIELD = re.compile(r"(?<![\w.])(?<!\.\s)(?P<event>event|async)\s*\.\s*(?P<field>\w+)\b(?!\s*\()")
_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
"""An expression that only names a field."""
_TOO_LARGE = re.compile(r"Integer value .* out of range", re.S)
"""What the library says of a whole number of more than 64 bits, wherever in the event it stands."""
_HALF = re.compile("[\ud800-\udfff]")
_FAULT = re.compile(
    r":\d+:(?P<column>\d+): (?:Syntax error: )?(?P<says>.+?)(?: expecting \{.*| \(in container '.*)?$", re.M
)


class CannotEvaluate(ValueError):
    """An expression could not be evaluated, which says nothing about the event."""


class Expression:
    """A compiled expression, over the variables `event` and `async` unless others are named."""

    def __init__(self, source: str, variables: tuple[str, ...] = EVENTS) -> None:
        self.source = source
        self._program = _environment(variables).compile(source)
        self._path = source.split(".") if _PATH.fullmatch(source) else None

    def value(self, event: dict[str, JSON], incoming: dict[str, JSON] | None = None) -> JSON:
        """What the expression gives for this event, as plain JSON.

        `incoming` is bound to `async`. Raises ValueError if it has no value, for example for a missing field, and
        CannotEvaluate, which is logged.
        """
        try:
            return self.evaluate({"event": event, "async": incoming or {}})
        except CannotEvaluate as error:
            logger.error("%s", error)
            raise

    def evaluate(self, scope: dict[str, JSON]) -> JSON:
        """What the expression gives with its variables bound so. Raises ValueError and CannotEvaluate as `value` does."""
        if self._path is not None:
            return _plain(_at(scope, self._path))
        try:
            result = self._run(scope)
        except CannotEvaluate:
            result = None
        if result is None or (result.type().name() == "ERROR" and _TOO_LARGE.search(str(result.value()))):
            result = self._run(_fitting(scope))
        if result.type().name() == "ERROR":
            raise ValueError(str(result.value())[:500])
        return _plain(result.plain_value())

    def _run(self, scope: dict[str, JSON]) -> Any:
        try:
            return self._program.eval(data=scope)
        except (RuntimeError, TypeError, OverflowError, UnicodeError) as error:
            raise CannotEvaluate(f"{self.source!r} cannot be evaluated: {str(error)[:500]}") from error

    def holds(self, event: dict[str, JSON], incoming: dict[str, JSON] | None = None) -> bool:
        """Whether the condition is true. One that has no value (a missing field) does not hold.

        Nor does one that cannot be evaluated; that is logged. Who must tell it apart asks for the `value`.
        """
        try:
            return self.value(event, incoming) is True
        except ValueError:
            return False


@lru_cache(maxsize=1024)
def expression(source: str, variables: tuple[str, ...] = EVENTS) -> Expression:
    """The compiled expression; compiled once per process."""
    return Expression(source, variables)


def check_expression(source: Any, *, what: str, variables: tuple[str, ...] = OWN) -> str:
    """The source if it compiles and asks only for what there is. Raises InvalidOption naming `what` and the fault."""
    if not isinstance(source, str) or not source.strip():
        raise InvalidOption(f"{what} must be a CEL expression such as 'event.data.amount > 100', got {source!r}.")
    bare = _TEXT.sub("''", source)
    if variables == OWN and not _ASYNC.search(bare):
        variables = EVENTS  # it is the same, and compiled already when it is evaluated
    try:
        expression(source, variables)
    except Exception as error:  # the library raises several kinds for a bad expression
        if variables == OWN and "undeclared reference to 'async" in str(error):
            raise InvalidOption(
                f"{what}: {source!r} names async, the event that comes in for a live run; here there is only event."
            ) from error
        raise InvalidOption(f"{what}: {source!r} is not a CEL expression: {_reason(str(error))}.") from error
    if variables == EVENTS:
        _check_fields(source, bare, what)
    return source


def _check_fields(source: str, bare: str, what: str) -> None:
    """Raise InvalidOption for a field that no event has. Told from the text, so in doubt there is nothing to say."""
    if "\\" in source or '"""' in source or "'''" in source or _BOUND.search(bare):
        return
    for found in _FIELD.finditer(bare):
        if found["field"] not in SCOPE:
            path = f"{found['event']}.{found['field']}"
            raise InvalidOption(
                f"{what}: {source!r} asks for {path}, which no event has; there are {', '.join(SCOPE)}. Did you mean "
                f"{found['event']}.data.{found['field']}?"
            )


def _reason(message: str) -> str:
    """The first fault that the library has found, in one line."""
    found = _FAULT.search(message)
    return f"{found['says']} (character {found['column']})" if found else message.partition("\n")[0]


@lru_cache(maxsize=4)
def _environment(variables: tuple[str, ...]) -> Any:
    from cel_expr_python import cel

    return cel.NewEnv(variables=dict.fromkeys(variables, cel.Type.DYN))


def _at(scope: Mapping[str, JSON], path: list[str]) -> JSON:
    """The value at a path. Raises ValueError if there is none."""
    value: Any = scope
    for name in path:
        if not isinstance(value, Mapping) or name not in value:
            raise ValueError(f"there is no {name!r} in {'.'.join(path)}")
        value = value[name]
    return value


def _fitting(value: JSON) -> JSON:
    """The value with what CEL has no type for as near to it as it has one."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    if isinstance(value, str):
        return _HALF.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_fitting(name): _fitting(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_fitting(inner) for inner in value]
    return value


def _plain(value: Any) -> JSON:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
