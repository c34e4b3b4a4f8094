"""The two systems that prices travel between, faked: a price list, published in versions, and the web shop's price API.

The API follows a clock and can be set to break down in the middle of a sync.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Lock
from zlib import crc32

Clock = Callable[[], datetime]


def wall_clock() -> datetime:
    return datetime.now(UTC)


class PriceApiDown(Exception):
    """The price API answered 503."""


class PriceList:
    """Published price lists. A version never changes, so any page of it can be read again at any time."""

    skus = 90_000

    def count(self, version: str) -> int:
        """How many SKUs a version has."""
        return self.skus

    def page(self, version: str, first: int, size: int) -> dict[str, int]:
        """The prices in cents of SKUs number `first` to `first + size - 1`."""
        return {sku(number): _price(version, sku(number)) for number in range(first, first + size)}


@dataclass(frozen=True)
class Request:
    """One call of the price API."""

    first_sku: str
    size: int
    status: int


class PriceApi:
    """Sets up to 50 prices at a time."""

    limit = 50

    def __init__(self) -> None:
        self._lock = Lock()
        self.reset(wall_clock)

    def reset(self, clock: Clock) -> None:
        """Forget everything and follow this clock."""
        self._clock = clock
        self.requests: list[Request] = []
        self.prices: dict[str, int] = {}
        self._answers: dict[str, int] = {}  # by idempotency key
        self._breaks_at: int | None = None
        self._outage = timedelta(0)
        self._up_again: datetime | None = None

    def break_at(self, request: int, lasts: timedelta) -> None:
        """Be down from that request on (1 is the first), for that long."""
        self._breaks_at, self._outage = request, lasts

    def update(self, prices: dict[str, int], *, idempotency_key: str) -> int:
        """Set these prices; how many of them are new. A request sent again gets the answer of the first time."""
        with self._lock:
            status = self._status(len(prices))
            self.requests.append(Request(next(iter(prices), ""), len(prices), status))
            if status == 503:
                raise PriceApiDown("the price API answered 503")
            if status == 400:
                raise ValueError(f"{len(prices)} prices in one request, allowed are {self.limit}")
            if idempotency_key not in self._answers:
                self._answers[idempotency_key] = len(prices.items() - self.prices.items())
                self.prices.update(prices)
            return self._answers[idempotency_key]

    def _status(self, size: int) -> int:
        if size > self.limit:
            return 400
        now = self._clock()
        if self._breaks_at is not None and len(self.requests) + 1 >= self._breaks_at:
            self._breaks_at, self._up_again = None, now + self._outage
        return 503 if self._up_again is not None and now < self._up_again else 200


def sku(number: int) -> str:
    """The name of the SKU with this number, counted from 1."""
    return f"SKU-{number:05d}"


def _price(version: str, name: str) -> int:
    """A price that most versions agree on; about one SKU in ten is dearer in any one version."""
    base = 100 + crc32(name.encode()) % 9_900
    return base + base // 20 if crc32(f"{version}:{name}".encode()) % 10 == 0 else base


price_list = PriceList()
price_api = PriceApi()


def reset(clock: Clock = wall_clock) -> None:
    """Start with an empty shop that follows this clock."""
    price_api.reset(clock)
