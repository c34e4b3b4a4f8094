"""How large DynamoDB says an item is (DynamoDB developer guide, "Item sizes and formats")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Attributes = Mapping[str, Mapping[str, Any]]
"""An item in DynamoDB's notation: {"name": {"S": "text"}}."""


def item_size(item: Attributes) -> int:
    """Bytes of an item: the names of its attributes and their values."""
    return sum(len(name.encode()) + value_size(value) for name, value in item.items())


def value_size(value: Mapping[str, Any]) -> int:
    """Bytes of one value."""
    ((kind, inner),) = value.items()
    if kind == "S":
        return len(inner) if inner.isascii() else len(inner.encode())
    if kind == "N":
        return number_size(inner)
    if kind == "B":
        return _binary_size(inner)
    if kind in ("BOOL", "NULL"):
        return 1
    if kind == "M":  # three bytes for the map, one for each pair
        return 3 + sum(1 + len(name.encode()) + value_size(element) for name, element in inner.items())
    if kind == "L":
        return 3 + sum(1 + value_size(element) for element in inner)
    return sum(value_size({kind[0]: element}) for element in inner)  # SS, NS, BS


def number_size(text: str) -> int:
    """Bytes of a number: one for each two significant digits, one more, and one for a minus sign."""
    mantissa = text.lower().partition("e")[0]
    digits = mantissa.lstrip("+-").replace(".", "").strip("0")
    return (len(digits) + 1) // 2 + 1 + mantissa.startswith("-")


def _binary_size(value: bytes | bytearray | str) -> int:
    if isinstance(value, str):  # as emulators keep it: in base64
        return len(value) * 3 // 4 - value[-2:].count("=")
    return len(value)
