"""Reading what `python -X importtime` writes."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

_LINE = re.compile(r"import time:\s*(\d+) \|\s*(\d+) \| ( *)(\S+)")


@dataclass(frozen=True, slots=True)
class Import:
    """One module, imported for the first time."""

    name: str
    depth: int
    own: int
    """Microseconds of the module's own code."""
    total: int
    """Microseconds, with all it imported."""


def parse(text: str) -> list[Import]:
    """The imports in the order in which they ended: a module stands behind what it imported, two columns to the left."""
    found = []
    for line in text.splitlines():
        if match := _LINE.fullmatch(line.rstrip()):
            found.append(Import(match[4], len(match[3]) // 2, int(match[1]), int(match[2])))
    return found


def total(imports: Iterable[Import], module: str, *, without: Collection[str] = ()) -> int:
    """Microseconds that importing `module` took, leaving out the packages in `without` and all they imported.

    Raises LookupError if it was not imported.
    """
    ordered = list(imports)[::-1]  # parents before children
    place = next((n for n, each in enumerate(ordered) if each.name == module), None)
    if place is None:
        raise LookupError(f"{module} was not imported")
    top = ordered[place]
    left, inside = top.total, None
    for each in ordered[place + 1 :]:
        if each.depth <= top.depth:
            break
        if inside is not None and each.depth > inside:
            continue
        inside = None
        if each.name.partition(".")[0] in without:
            left -= each.total
            inside = each.depth
    return left


def heaviest(imports: Iterable[Import], count: int) -> list[Import]:
    """The modules whose own code took longest."""
    return sorted(imports, key=lambda each: -each.own)[:count]
