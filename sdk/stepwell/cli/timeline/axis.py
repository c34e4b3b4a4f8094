"""The time axis of one run: seconds to columns, with idle time hidden.

A run that works for a second and then sleeps for three days is drawn as that second. Every idle stretch that is long
against the work becomes a gap of fixed width, with its length written above.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, floor

from stepwell.cli.words import duration

IDLE_SHARE = 0.25
"""Idle time longer than this share of the work is hidden..."""
IDLE_LEAST = 0.5
"""... if it is longer than this, in seconds."""
GAPS_AT_MOST = 0.5
"""The share of the width that labels of gaps may take; else they are drawn without."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A hidden idle stretch."""

    begin: float
    end: float
    column: int
    width: int

    @property
    def label(self) -> str:
        """How long it is, if there is room for it."""
        text = duration(self.end - self.begin)
        return text if len(text) + 2 <= self.width else ""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch of time and the columns it has."""

    begin: float
    end: float
    column: int
    width: int
    hidden: bool


class Axis:
    """Seconds to columns 0 to `width` - 1, from `begin` to `end`."""

    def __init__(self, busy: Iterable[tuple[float, float]], begin: float, end: float, width: int) -> None:
        self.width = max(1, width)
        self._pieces = self._laid_out(self._divided(_merged(busy, begin, end), begin, end))
        self.gaps = [Gap(each.begin, each.end, each.column, each.width) for each in self._pieces if each.hidden]

    def column(self, at: float) -> int:
        """Where what begins at that moment begins."""
        return min(self.width - 1, floor(self._position(at)))

    def last_column(self, at: float) -> int:
        """Where what ends at that moment ends: the column in which the next begins is not its own."""
        return min(self.width - 1, max(0, ceil(self._position(at)) - 1))

    def _position(self, at: float) -> float:
        for piece in self._pieces:
            if at < piece.end or piece is self._pieces[-1]:
                length = piece.end - piece.begin
                # The moment at which a wait ended is the end of the line, not the beginning of its last column.
                share = (at - piece.begin) / length if length > 0 else float(piece is not self._pieces[0])
                return piece.column + min(1.0, max(0.0, share)) * piece.width
        return 0.0

    def _divided(self, busy: list[tuple[float, float]], begin: float, end: float) -> list[tuple[float, float, bool]]:
        """Stretches that are shown and hidden, one after the other, without holes."""
        work = sum(stop - start for start, stop in busy)
        longest = max(IDLE_LEAST, IDLE_SHARE * work)
        pieces: list[tuple[float, float, bool]] = []
        shown_from = at = begin
        for start, stop in [*busy, (end, end)]:
            if start - at > longest:
                if at > shown_from or not pieces:
                    pieces.append((shown_from, at, False))
                pieces.append((at, start, True))
                shown_from = start
            at = max(at, stop)
        pieces.append((shown_from, max(at, shown_from), False))
        return pieces

    def _laid_out(self, pieces: list[tuple[float, float, bool]]) -> list[_Piece]:
        labelled = [len(duration(stop - start)) + 2 for start, stop, hidden in pieces if hidden]
        with_labels = sum(labelled) <= GAPS_AT_MOST * self.width
        widths = [0] * len(pieces)
        gaps = iter(labelled)
        for index, (_, _, hidden) in enumerate(pieces):
            if hidden:
                labelled_width = next(gaps)
                widths[index] = labelled_width if with_labels else 1
        shown = [index for index, piece in enumerate(pieces) if not piece[2]]
        # A column each at least, so that a moment of work between two long waits is still seen.
        rest = max(0, self.width - sum(widths) - len(shown))
        lengths = [pieces[index][1] - pieces[index][0] for index in shown]
        total = sum(lengths)
        exact = 0.0
        for index, length in zip(shown, lengths, strict=True):
            before, exact = exact, exact + 1 + rest * (length / total if total > 0 else 1 / len(shown))
            widths[index] = floor(exact + 0.5) - floor(before + 0.5)  # whole columns that add up
        laid, column = [], 0
        for (start, stop, hidden), width in zip(pieces, widths, strict=True):
            laid.append(_Piece(start, stop, column, width, hidden))
            column += width
        return laid


def _merged(busy: Iterable[tuple[float, float]], begin: float, end: float) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for start, stop in sorted((max(begin, start), min(end, max(start, stop))) for start, stop in busy):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((start, stop))
    return merged
