"""What a bench gives: figures, each beside its target, and how they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure: the median of its samples."""

    name: str
    unit: str
    samples: tuple[float, ...]
    target: float | None = None
    """None: shown for orientation, nothing is promised."""
    at_least: bool = False
    """Whether the target is a floor; otherwise it is a ceiling."""
    peers: Mapping[str, float] = field(default_factory=dict)
    """The same of other systems."""
    peers_from: str = "measured elsewhere"
    """Where those come from."""

    def __post_init__(self) -> None:
        if not self.samples:
            raise ValueError(f"{self.name}: nothing was measured")

    @property
    def value(self) -> float:
        """The median."""
        return median(self.samples)

    @property
    def ok(self) -> bool | None:
        """Whether the target is met, None if there is none."""
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target

    def as_json(self) -> dict[str, Any]:
        """Everything, for machines."""
        return {
            "name": self.name,
            "unit": self.unit,
            "value": self.value,
            "lowest": min(self.samples),
            "highest": max(self.samples),
            "rounds": len(self.samples),
            "target": self.target,
            "at_least": self.at_least,
            "ok": self.ok,
            "peers": dict(self.peers),
            "peers_from": self.peers_from if self.peers else None,
        }


def number(value: float) -> str:
    """Three significant digits, thousands apart: 0.123, 12.3, 1,234."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """A plain text table; the columns in `right` are aligned to the right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = []
    for row in [head, ["-" * width for width in widths], *rows]:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def figures_table(figures: Sequence[Figure]) -> str:
    """The figures with their targets."""
    rows = []
    for figure in figures:
        spread = f"{number(min(figure.samples))} .. {number(max(figure.samples))}" if len(figure.samples) > 1 else ""
        sign = "" if figure.target is None else "at least " if figure.at_least else "at most "
        target = "" if figure.target is None else sign + number(figure.target)
        verdict = {None: "", True: "ok", False: "MISSED"}[figure.ok]
        rows.append([figure.name, number(figure.value), figure.unit, spread, target, verdict])
    return table(["figure", "median", "unit", "lowest .. highest", "target", ""], rows, right=[1])


def peers_table(figures: Sequence[Figure]) -> str | None:
    """Stepwell beside others, None if no figure has others to stand beside."""
    compared = [figure for figure in figures if figure.peers]
    if not compared:
        return None
    names = list(dict.fromkeys(name for figure in compared for name in figure.peers))
    rows = [
        [figure.name, figure.unit, number(figure.value)]
        + [number(figure.peers[name]) if name in figure.peers else "" for name in names]
        for figure in compared
    ]
    return table([compared[0].peers_from, "unit", "Stepwell, here", *names], rows, right=range(2, len(names) + 3))
