"""Durations as users write them: timedelta, seconds, or text such as "10m", "1h30m", "500ms", "3d"."""

from __future__ import annotations

import math
import re
from datetime import timedelta

from stepwell.errors import InvalidOption

Duration = timedelta | float | int | str

YEAR = 366 * 86_400.0
"""The longest that a step waits, in seconds."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)\s*")


def seconds(value: Duration, *, what: str = "duration") -> float:
    """The duration in seconds, never negative.

    Raises InvalidOption, naming `what`, for anything that is not a finite duration.
    """
    if isinstance(value, timedelta):
        result = value.total_seconds()
    elif isinstance(value, bool):
        raise InvalidOption(f"{what}: {value!r} is not a duration.")
    elif isinstance(value, int | float):
        result = float(value)
    elif isinstance(value, str):
        result = _parse(value, what)
    else:
        raise InvalidOption(f"{what}: {value!r} is not a duration. Write a timedelta, seconds, or text such as '10m'.")
    if not math.isfinite(result) or result < 0:
        raise InvalidOption(f"{what}: {value!r} is not a duration of zero or more.")
    return result


def _parse(text: str, what: str) -> float:
    position, total = 0, 0.0
    stripped = text.strip()
    for part in _PART.finditer(stripped):
        if part.start() != position:
            break
        total += float(part[1]) * _UNITS[part[2]]
        position = part.end()
    if not stripped or position != len(stripped):
        raise InvalidOption(
            f"{what}: cannot read {text!r}. Write for example '500ms', '30s', '10m', '1h30m', '3d', '2w'."
        )
    return total


def spoken(value: float) -> str:
    """Seconds for people: 90061 -> '1d1h1m1s'."""
    if value < 1:
        return f"{round(value * 1000)}ms"
    rest, words = round(value), ""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        words += f"{count}{unit}" if count else ""
    return words
