"""Refusing expressions over event data that a middleware hides: the engine would look for it in vain, and say nothing.

What is hidden depends on the event. In an expression `event` is the one that starts, or has started, the run, and
`async` the one that comes in. The engine makes its own events without any middleware: a schedule's ticks hide nothing,
and the news of a run's end only what they hold of that run: its result, its error, and the data of its event.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from stepwell.errors import InvalidOption
from stepwell.events import CRON_TICK, RESERVED, RUN_EVENT
from stepwell.middleware.base import Chain, Middleware

EXPRESSIONS = frozenset({"where", "key", "priority"})
"""Fields of policies whose text is an expression."""

_TOKEN = re.compile(
    r"""//[^\n]* | \s+ | (?P<token>
        [bB]?[rR](?P<raw> "{3} | '{3} | ["'] ) .*? (?P=raw)  # in which a backslash is a backslash
        | [bB]? (?P<quote> "{3} | '{3} | ["'`] ) (?: [^\\] | \\. )*? (?P=quote)
        | [A-Za-z_]\w* | \d[\w.]* | \S )""",
    re.VERBOSE | re.DOTALL,
)
"""The tokens of CEL (cel-spec, doc/langdef.md, "Syntax"), as far as it matters here where names and texts begin and end."""
_TEXT = re.compile(r"""([rR]?)("{3}|'{3}|["'])(.*)\2""", re.DOTALL)
_EDGE = ("",) * 4
"""As far as is looked ahead, or back."""
_BEFORE, _AFTER = {"", *"&|?:,([{"}, {"", *"&|?:,)]}"}
"""What stands around all of `a in b`. Next to anything else, `a` or `b` may be a part of something larger."""
_OPERATORS = {"in", *"!=<>+-*/%"}
_ROOTS = ("event", "async")


def check_function(chain: Chain, entry: Mapping[str, Any], *, what: str) -> None:
    """Raise InvalidOption if an option of a function, as it stands in the manifest, looks at a hidden field."""
    triggers = entry.get("triggers", ())
    own = [trigger.get("event", CRON_TICK) for trigger in triggers] or [""]
    for trigger in triggers:
        _check(chain, "where", trigger.get("where"), [trigger.get("event", CRON_TICK)], (), what)
    for option, text in _texts(entry.get("flow", {})):
        _check(chain, option, text, own, (), what)
    for name, text in entry.get("tags", {}).items():
        _check(chain, f"tag {name}", text, own, (), what)
    for rule in entry.get("cancel_on", ()):
        for path, value in rule.get("match", {}).items():
            _check(chain, "match", path, [rule["event"]], (), what)
            if isinstance(value, str) and value.startswith("event."):  # any other is compared with, not evaluated
                _check(chain, "match", value, own, (), what)
        _check(chain, "where", rule.get("where"), own, [rule["event"]], what)


def check_wait(chain: Chain, own: str, event: str, match: Iterable[str], where: str | None, *, what: str) -> None:
    """Raise InvalidOption if a wait for `event`, by a run that `own` has started, looks at a hidden field."""
    for path in match:
        _check(chain, "match", path, [event], (), what)
    _check(chain, "where", where, [own], [event], what)


def fields_of(text: str) -> Iterator[tuple[str, list[str]]]:
    """What an expression or path looks at in the data of events: `event` or `async`, and the names of the fields on the
    way there; none for the data as a whole, or with a field that only the event itself names."""
    found = (match["token"] for match in _TOKEN.finditer(text))
    tokens = [*_EDGE, *(token for token in found if token), *_EDGE]
    for place in range(len(_EDGE), len(tokens) - len(_EDGE)):
        path, first, after = _path(tokens, place)
        if tokens[place] == "data" and place == len(_EDGE):
            yield "event", path
        elif tokens[place] not in _ROOTS or _is_field(tokens, place):
            continue
        elif path == ["data"] and (key := _sought(tokens, first, after)) is not None:
            yield tokens[place], [key]
        elif path[:1] in ([], ["data"]):
            yield tokens[place], path[1:]


def _path(tokens: Sequence[str], first: int) -> tuple[list[str], int, int]:
    """The names that follow: `.a`, `.?a`, `["a"]`. What is called is no field: `.size()`. And where all of it begins, with the
    parentheses around it, and what comes after it."""
    path, after = list[str](), first + 1
    while True:
        name = after + 1 + (tokens[after + 1] == "?")
        if tokens[after] == "." and tokens[name].isidentifier() and tokens[name + 1] != "(":
            path.append(tokens[name])
            after = name + 1
        elif tokens[after] == "[" and (text := _text(tokens[name])) is not None and tokens[name + 1] == "]":
            path.append(text)
            after = name + 2
        elif tokens[after] == ")" and tokens[first - 1] == "(" and not _is_called(tokens, first - 1):
            first, after = first - 1, after + 1
        else:
            return path, first, after


def _is_field(tokens: Sequence[str], place: int) -> bool:
    """Whether it is a field of something else, and no root: `a.event`, `a.?event`. A root may have a dot before it, too."""
    dot = place - 1 - (tokens[place - 1] == "?")
    return tokens[dot] == "." and tokens[dot - 1] not in _BEFORE | _OPERATORS


def _is_called(tokens: Sequence[str], parenthesis: int) -> bool:
    return tokens[parenthesis - 1].isidentifier() and tokens[parenthesis - 1] != "in"


def _sought(tokens: Sequence[str], first: int, after: int) -> str | None:
    """The field of which is asked whether the data has it: `"a" in event.data`."""
    asked = tokens[first - 1] == "in" and tokens[first - 3] in _BEFORE and tokens[after] in _AFTER
    return _text(tokens[first - 2]) if asked else None


def _text(token: str) -> str | None:
    """What a text says; None if it is none, or has escapes in it: nobody has to write the name of a field so."""
    literal = _TEXT.fullmatch(token)
    return literal[3] if literal and (literal[1] or "\\" not in literal[3]) else None


def _texts(policies: Any, option: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(policies, Mapping):
        for name, value in policies.items():
            yield from _texts(value, name)
    elif isinstance(policies, list):
        for value in policies:
            yield from _texts(value, option)
    elif isinstance(policies, str) and option in EXPRESSIONS:
        yield option, policies


def _check(chain: Chain, option: str, text: str | None, own: Iterable[str], coming: Iterable[str], what: str) -> None:
    for root, path in fields_of(text or ""):
        for event in coming if root == "async" else own:
            field, hider = _hidden(chain, event, path)
            if hider is not None:
                seen = f"data.{field}, which" if path else "data as a whole, of which"
                part = "" if path else " some"
                raise InvalidOption(
                    f"{what}: {option} {text!r} looks at {seen} {type(hider).__name__} encrypts{part}: the engine "
                    "evaluates it without your keys. Look at a field that is in clear, by its name."
                )


def _hidden(chain: Chain, event: str, path: Sequence[str]) -> tuple[str, Middleware | None]:
    """The field of the event that is hidden, and by whom; None if the path leads to nothing hidden."""
    if event == CRON_TICK:
        return "", None
    if not path:
        return "", next(iter((*chain.hiders, *chain.encoders)), None)
    if not event.startswith(RUN_EVENT) and not (event.startswith(RESERVED) and event.endswith("*")):
        return path[0], next((each for each in chain.hiders if each.hides(path[0])), None)
    if path[0] == "event" and path[1:2] == ["data"] and len(path) > 2:
        return f"event.data.{path[2]}", next((each for each in chain.hiders if each.hides(path[2])), None)
    encoded = path[0] == "result" or (path[0] == "error" and path[1:2] in (["message"], ["traceback"]))
    return ".".join(path[:2]), next(iter(chain.encoders), None) if encoded else None
