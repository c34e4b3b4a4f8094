"""CEL expressions (https://cel.dev) over events: `where`, `key`, `priority`, `tags`.

The evaluator is Google's own C++ implementation, which loads in milliseconds. It is imported at the first expression,
so an app without one does not pay for it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from stepwell.codec import JSON
from stepwell.errors import InvalidOption
from stepwell.events import SCOPE

EVENTS = ("event", "async")
"""The variables of expressions over the event of a run and one that comes in."""
OWN = ("event",)
"""Those of expressions over one event."""

_TEXT = re.compile(r"'[^'\\]*'|\"[^\"\\]*\"")
_ASYNC = re.compile(r"\basync\b")
_BOUND = re.compile(r"\(\s*(?:event|async)\s*,")
"""A macro that gives the name another meaning."""
_FIELD = re.compile(r"(?<![\w.])(?<!\.\s)(?P<event>event|async)\s*\.\s*(?P<field>\w+)\b(?!\s*\()")
_FAULT = re.compile(
    r":\d+:(?P<column>\d+): (?:Syntax error: )?(?P<says>.+?)(?: expecting \{.*| \(in container '.*)?$", re.M
)


class Expression:
    """A compiled expression, over the variables `event` and `async` unless others are named."""

    def __init__(self, source: str, variables: tuple[str, ...] = EVENTS) -> None:
        self.source = source
        self._program = _environment(variables).compile(source)

    def value(self, event: dict[str, JSON], incoming: dict[str, JSON] | None = None) -> JSON:
        """What the expression gives for this event, as plain JSON.

        `incoming` is bound to `async`. Raises ValueError if it cannot be evaluated, for example for a missing field.
        """
        return self.evaluate({"event": event, "async": incoming or {}})

    def evaluate(self, scope: dict[str, JSON]) -> JSON:
        """What the expression gives with its variables bound so. Raises ValueError as `value` does."""
        try:
            result = self._program.eval(data=scope)
        except (RuntimeError, TypeError, OverflowError) as error:  # a value CEL has no type for
            raise ValueError(str(error)) from error
        if result.type().name() == "ERROR":
            raise ValueError(str(result.value()))
        return _plain(result.plain_value())

    def holds(self, event: dict[str, JSON], incoming: dict[str, JSON] | None = None) -> bool:
        """Whether the condition is true. A condition that cannot be evaluated (a missing field) does not hold."""
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


def _plain(value: Any) -> JSON:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
