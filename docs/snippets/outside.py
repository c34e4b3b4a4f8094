"""What the snippets talk to: a bank, a printer and others that do as they are told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar


class RateLimited(Exception):
    """HTTP 429, with Retry-After."""

    def __init__(self, seconds: float) -> None:
        super().__init__("too many requests")
        self.seconds = seconds


class Refused(Exception):
    """HTTP 4xx."""


class Bank:
    """Takes money once for each key."""

    def __init__(self) -> None:
        self.charges: dict[str, str] = {}
        self.answers: list[Exception] = []
        self.requests = 0

    def charge(self, order_id: str, amount: int, *, key: str) -> str:
        """The id of the charge."""
        self.requests += 1
        if self.answers:
            raise self.answers.pop(0)
        return self.charges.setdefault(key, f"ch-{order_id}-{amount}")


class Printer:
    """Prints."""

    def __init__(self) -> None:
        self.printed: list[str] = []

    def print(self, what: str) -> None:
        """On paper, for good."""
        self.printed.append(what)


class Renderer:
    """Takes orders, answers by callback."""

    def __init__(self) -> None:
        self.orders: list[tuple[str, str]] = []

    def order(self, what: str, *, token: str) -> None:
        """Order a video."""
        self.orders.append((what, token))


class Stock:
    """Counts."""

    def __init__(self) -> None:
        self.empty_for = 0
        self.asked: Counter[str] = Counter()

    def count(self, sku: str) -> int:
        """How many there are."""
        self.asked[sku] += 1
        if sku == "broken":
            raise LookupError(sku)
        return 7 if self.asked[sku] > self.empty_for else 0


class Database:
    """A database that counts its rows and its open connections."""

    rows: ClassVar[list[str]] = []
    connections: ClassVar[int] = 0

    @classmethod
    @contextmanager
    def connect(cls, name: str) -> Iterator[Database]:
        cls.connections += 1
        try:
            yield cls()
        finally:
            cls.connections -= 1

    def insert(self, row: str) -> int:
        self.rows.append(row)
        return len(self.rows)


metrics: dict[str, float] = {}
bank, printer, renderer, stock = Bank(), Printer(), Renderer(), Stock()
mail: list[tuple[str, str]] = []


def reset() -> None:
    """Forget everything."""
    for thing in (bank, printer, renderer, stock):
        thing.__init__()  # type: ignore[misc]
    mail.clear()
    metrics.clear()
    Database.rows.clear()
