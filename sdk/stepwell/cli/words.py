"""Times, counts and values in words: pure, short, and the same everywhere."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from stepwell.durations import seconds
from stepwell.errors import InvalidOption

_UNITS = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))
_ROUNDED = ((86_400, 3600), (3600, 60))
"""From so many seconds on, only so many are told apart."""


def duration(value: float) -> str:
    """Seconds in at most two units: 0.032 -> '32ms', 4.21 -> '4.2s', 93784 -> '1d2h'."""
    if value < 0.9995:
        return f"{max(0, round(value * 1000))}ms"
    if value < 9.95:
        return f"{value:.1f}s".replace(".0s", "s")
    parts: list[str] = []
    rest = next((round(value / fine) * fine for coarse, fine in _ROUNDED if value >= coarse - fine / 2), round(value))
    for unit, size in _UNITS:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
        elif parts:
            break
        if len(parts) == 2:
            break
    return "".join(parts)


def ago(moment: datetime, now: datetime) -> str:
    """How long since, or the date if that was more than a week ago; 'in 3h' for what is yet to come."""
    passed = (now - moment).total_seconds()
    if passed < 0:
        return f"in {_largest(-passed)}"
    if passed < 1:
        return "just now"
    return f"{_largest(passed)} ago" if passed < 7 * 86_400 else f"{moment:%Y-%m-%d}"


def _largest(value: float) -> str:
    for unit, size in _UNITS:
        if value >= size:
            return f"{int(value // size)}{unit}"
    return "1s"


def moment(value: datetime | None, now: datetime) -> str:
    """A time of day in UTC, with its date if it is not today's."""
    if value is None:
        return ""
    value = value.astimezone(UTC)
    return f"{value:%H:%M:%S}" if value.date() == now.astimezone(UTC).date() else f"{value:%Y-%m-%d %H:%M}"


def iso(value: datetime | None) -> str | None:
    """ISO 8601 in UTC with milliseconds, for programs."""
    return None if value is None else value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def preview(value: Any, width: int = 60) -> str:
    """A value as JSON on one line, cut to `width` characters."""
    return cut(json.dumps(value, ensure_ascii=False, default=str), width)


def cut(text: str, width: int) -> str:
    """The text on one line, cut to `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: max(0, width - 1)] + "…"


def several(count: int, noun: str) -> str:
    """'1 run', '2 runs', '1,800 steps', '2 bodies'."""
    plural = noun[:-1] + "ies" if noun[-2:] in {"dy", "cy"} else noun + "s"
    return f"{count:,} {noun if count == 1 else plural}"


def point_in_time(text: str, *, now: datetime, option: str) -> datetime:
    """'24h' (that long ago) or ISO 8601 (naive means UTC). Raises InvalidOption naming the option."""
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        try:
            return now - timedelta(seconds=seconds(text))
        except OverflowError:
            raise InvalidOption(f"{option}: {text!r} ago is before there were any dates.") from None
        except InvalidOption:
            raise InvalidOption(
                f"{option}: {text!r} is neither a duration such as '24h' or '7d' nor a time such as '2026-03-01T12:00'."
            ) from None
    return value if value.tzinfo else value.replace(tzinfo=UTC)
