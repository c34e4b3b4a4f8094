"""JSON as it is stored and sent. No pydantic here: the consumer and the orchestrator start without it.

What is sent, in a message or an invocation, is JSON to everybody (`sendable`): without NaN and infinities, which Python
writes and Lambda refuses. One of them in one record would make the payload of its whole batch unusable. What is only stored
(`dumps`) may hold them, for only Python reads it again: a step may return NaN. Neither can hold half of a surrogate pair,
which is no character.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from typing import Any, NoReturn

from stepwell.errors import NotSerializable

JSON = Any
WRITE_UNIT = 1024
"""DynamoDB bills writes in whole kilobytes of the item."""

_HALF = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair: JSON can spell it (`\\ud800`), UTF-8 cannot."""
_UNSENDABLE = re.compile("[\ud800-\udfff\ufffe\uffff]")
"""What of a text JSON can spell and a message cannot hold."""

# json.dumps makes a new encoder at every call that has options of its own.
_COMPACT = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
_STRICT = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_CANONICAL = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, sort_keys=True)


def dumps(value: JSON) -> str:
    """The shortest JSON text of a plain value, to be stored.

    Raises NotSerializable for anything json cannot write.
    """
    return _written(_COMPACT, value)


def sendable(value: JSON) -> str:
    """The JSON text of a plain value, to be sent.

    Raises NotSerializable for anything JSON cannot hold, saying where in the value it stands. The two characters that a
    text may hold and SQS does not take (AWS SQS API, SendMessage) are spelled out, as JSON may spell any.
    """
    text = _written(_STRICT, value)
    return text.replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")  # they can only stand within a string


def spelled(value: JSON) -> str:
    """The text of what somebody else has sent, to be kept with all that `sendable` refuses in it: half of a surrogate pair
    is spelled out, a number without bounds is Infinity."""
    return _UNSENDABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", _COMPACT.encode(value))


def _written(encoder: json.JSONEncoder, value: JSON) -> str:
    try:
        text = encoder.encode(value)
        text.encode()
    except RecursionError:
        raise NotSerializable("Not JSON: it is nested too deeply.") from None
    except (TypeError, ValueError) as error:
        raise NotSerializable(f"Not JSON: {_fault(value) or error}.") from error
    return text


def loads(text: str | bytes) -> JSON:
    """The value of a JSON text that Stepwell has written."""
    return json.loads(text)


def parse(text: str | bytes) -> JSON:
    """The value of a text that somebody else has written. Raises ValueError for what is no JSON (NaN and Infinity are
    none), RecursionError for what is nested too deeply to be read.

    What JSON can say and nobody can send again (1e999, half of a surrogate pair) is refused by `sendable`.
    """
    return json.loads(text, parse_constant=_no_constant)


def deeper_than(value: JSON, most: int) -> bool:
    """Whether lists and objects stand in each other more than `most` deep. A value without any is 0 deep."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(most):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return bool(level)


def canonical(value: JSON) -> str:
    """One text for equal values, whatever the order of their keys."""
    return _CANONICAL.encode(value)


def squeeze(text: str, beside: int) -> str | bytes:
    """The text, or its compressed form if that saves a write unit of an item with `beside` other bytes.

    zlib at level 6: on texts of a few kilobytes it is within a few percent of the newer formats, and it is in every
    Python.
    """
    plain = text.encode()
    if beside + len(plain) <= WRITE_UNIT:
        return text
    packed = zlib.compress(plain, 6)
    return packed if units(beside + len(packed)) < units(beside + len(plain)) else text


def unsqueeze(stored: str | bytes) -> str:
    """The other way round."""
    return stored if isinstance(stored, str) else zlib.decompress(stored).decode()


def units(size: int) -> int:
    """Write units of an item of `size` bytes."""
    return max(1, math.ceil(size / WRITE_UNIT))


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


def _fault(value: Any) -> str | None:
    """What in a value JSON cannot hold, and where; None if it cannot be told."""
    rest: list[tuple[str, Any]] = [("", value)]
    seen: set[int] = set()
    while rest:
        path, each = rest.pop()
        where = f"{path or 'it'} "
        if isinstance(each, float) and not math.isfinite(each):
            return f"{where}is {each}, and JSON has no such number"
        if isinstance(each, str) and _HALF.search(each):
            return f"{where}holds half of a surrogate pair, which is no character"
        if not isinstance(each, dict | list | tuple) or id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, dict):
            if any(isinstance(name, str) and _HALF.search(name) for name in each):
                return f"{where}has a name that holds half of a surrogate pair, which is no character"
            rest += [(f"{path}.{name}" if path else str(name), inner) for name, inner in each.items()]
        else:
            rest += [(f"{path}[{n}]", inner) for n, inner in enumerate(each)]
    return None
