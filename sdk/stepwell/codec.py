"""JSON as it is stored and sent. No pydantic here: the consumer and the orchestrator start without it."""

from __future__ import annotations

import json
import math
import zlib
from typing import Any

from stepwell.errors import NotSerializable

JSON = Any
WRITE_UNIT = 1024
"""DynamoDB bills writes in whole kilobytes of the item."""

# json.dumps makes a new encoder at every call that has options of its own.
_COMPACT = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
_CANONICAL = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, sort_keys=True)


def dumps(value: JSON) -> str:
    """The shortest JSON text of a plain value.

    Raises NotSerializable for anything json cannot write.
    """
    try:
        text = _COMPACT.encode(value)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise NotSerializable(f"Not JSON: {error}.") from error
    return text


def loads(text: str | bytes) -> JSON:
    """The value of a JSON text."""
    return json.loads(text)


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
