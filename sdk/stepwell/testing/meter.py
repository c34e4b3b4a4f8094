"""Billable requests, by AWS's rules: moto and ministack report a constant as consumed capacity.

DynamoDB, on demand: a write costs a unit for each KB begun of the larger of the item before and after, and so does a
write whose condition failed; every change of what stands in the index costs units of its own (a new or removed key one,
a changed key two, per KB projected). A strongly consistent read costs a unit for each 4 KB begun, an eventually
consistent one half; a Query is charged for the sum of the items it looked at. Transactions cost double. SQS charges
each 64 KB begun of a request, receiving and deleting by Lambda's event source mapping included (empty polls are not
counted: they cost the same whatever is done). S3 and Lambda charge requests.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from stepwell.testing.itemsize import Attributes, item_size
from stepwell.testing.shadow import Image

WRITE_UNIT = 1024
READ_UNIT = 4096
SQS_CHUNK = 65_536


@dataclass(frozen=True)
class Requests:
    """Billable requests so far. One taken later minus one taken earlier is what happened in between."""

    write_units: float = 0
    read_units: float = 0
    sqs: int = 0
    s3: int = 0
    invocations: Counter[str] = field(default_factory=Counter)
    """By Lambda: "consumer", "orchestrator", "worker", "sweeper". A Lambda that did not run counts as 0."""
    calls: Counter[str] = field(default_factory=Counter)
    """Requests by operation, such as "dynamodb.PutItem"."""

    def __sub__(self, earlier: Requests) -> Requests:
        return Requests(
            self.write_units - earlier.write_units,
            self.read_units - earlier.read_units,
            self.sqs - earlier.sqs,
            self.s3 - earlier.s3,
            _minus(self.invocations, earlier.invocations),
            _minus(self.calls, earlier.calls),
        )


def _minus(later: Counter[str], earlier: Counter[str]) -> Counter[str]:
    return Counter({name: count - earlier[name] for name, count in later.items() if count != earlier[name]})


class Meter:
    """Adds up."""

    def __init__(self) -> None:
        self._write_units = 0.0
        self._read_units = 0.0
        self._sqs = 0
        self._s3 = 0
        self._invocations: Counter[str] = Counter()
        self._calls: Counter[str] = Counter()

    @property
    def total(self) -> Requests:
        """Everything so far."""
        return Requests(
            self._write_units,
            self._read_units,
            self._sqs,
            self._s3,
            Counter(self._invocations),
            Counter(self._calls),
        )

    def request(self, service: str, operation: str) -> None:
        """One request of any service."""
        self._calls[f"{service}.{operation}"] += 1
        if service == "s3":
            self._s3 += 1

    def invocation(self, label: str) -> None:
        """One invocation of a Lambda."""
        self._invocations[label] += 1

    def sqs(self, size: int = 0) -> None:
        """One request to SQS that carries `size` bytes."""
        self._sqs += max(1, -(-size // SQS_CHUNK))

    def write(self, before: Image | None, after: Image | None, *, transactional: bool = False) -> None:
        """A write that took effect."""
        larger = max(before.size if before else 0, after.size if after else 0)
        self._write_units += _units(larger, WRITE_UNIT) * (2 if transactional else 1)
        self._write_units += index_units(before, after)

    def refused_write(self, before: Image | None, offered: Attributes | None, *, transactional: bool = False) -> None:
        """A write whose condition did not hold; `offered` is the item it would have put."""
        larger = max(before.size if before else 0, item_size(offered) if offered else 0)
        self._write_units += _units(larger, WRITE_UNIT) * (2 if transactional else 1)

    def read(self, size: int, *, consistent: bool, transactional: bool = False) -> None:
        """One item read, or what one Query page looked at; nothing found costs the minimum."""
        factor = 2 if transactional else 1 if consistent else 0.5
        self._read_units += _units(size, READ_UNIT) * factor


def index_units(before: Image | None, after: Image | None) -> int:
    """What a write costs in an index that holds keys only."""
    old = before.index_key if before else None
    new = after.index_key if after else None
    if old == new:
        return 0
    units = _units(before.index_size, WRITE_UNIT) if before is not None and old is not None else 0
    return units + (_units(after.index_size, WRITE_UNIT) if after is not None and new is not None else 0)


def _units(size: int, unit: int) -> int:
    return max(1, -(-size // unit))
