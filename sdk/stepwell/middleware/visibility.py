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

_TOKEN = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[A-Za-z_]\w*|\d[\w.]*|\S)""")
_END = ("",) * 4
"""As far as is looked ahead."""
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
    tokens = [*_TOKEN.findall(text), *_END]
    for place, token in enumerate(tokens[: -len(_END)]):
        path = list(_path(tokens, place + 1))
        if token == "data" and place == 0:
            yield "event", path
        elif token in _ROOTS and (place == 0 or tokens[place - 1] not in (".", "?")) and path[:1] in ([], ["data"]):
            yield token, path[1:]


def _path(tokens: Sequence[str], place: int) -> Iterator[str]:
    """The names that follow: `.a`, `.?a`, `["a"]`. What is called is no field: `.size()`."""
    while tokens[place] in (".", "["):
        indexed, at = tokens[place] == "[", place + 1
        at += tokens[at] == "?"
        name = tokens[at]
        if not (name[:1] in ("'", '"') and tokens[at + 1] == "]" if indexed else name.isidentifier()):
            return
        if not indexed and tokens[at + 1] == "(":
            return
        yield name[1:-1] if indexed else name
        place = at + (2 if indexed else 1)


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
