"""Steps with all kinds of results. At module level, because annotations are resolved by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, Literal, NamedTuple
from uuid import UUID

from pydantic import BaseModel, ConfigDict
from typing_extensions import TypedDict


class Currency(StrEnum):
    EUR = "eur"


class Level(Enum):
    LOW = 1
    HIGH = 2


class Charge(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    id: str
    amount: Decimal
    currency: Currency = Currency.EUR
    raw: bytes = b""


@dataclass
class Parcel:
    number: int
    packed: datetime
    charge: Charge | None = None
    labels: set[str] = field(default_factory=set)
    picture: bytes = b"\x89PNG\xff"


class Address(TypedDict):
    street: str
    since: date
    plan: bytes


class Point(NamedTuple):
    x: float
    y: float


CHARGE = Charge(id="ch_1", amount=Decimal("12.30"), raw=b"\x00\xff")
PARCEL = Parcel(3, datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC), CHARGE, {"fragile"})


def model() -> Charge:
    return CHARGE


def plain_dataclass() -> Parcel:
    return PARCEL


def typed_dict() -> Address:
    return {"street": "Mill Lane", "since": date(2020, 2, 29), "plan": b"\xfe"}


def moment() -> datetime:
    return datetime(2026, 3, 29, 1, 30, tzinfo=UTC)


def duration() -> timedelta:
    return timedelta(days=2, milliseconds=5)


def decimal() -> Decimal:
    return Decimal("0.1000")


def uuid() -> UUID:
    return UUID("12345678-1234-4321-8765-123456789abc")


def raw_bytes() -> bytes:
    return bytes(range(256))


def enum() -> Level:
    return Level.HIGH


def nested() -> dict[str, list[Parcel | None]]:
    return {"a": [PARCEL, None], "b": []}


def keyed_by_number() -> dict[int, tuple[Charge, Decimal]]:
    return {7: (CHARGE, Decimal(1))}


def named_tuple() -> Point:
    return Point(0.5, -1)


def union() -> Charge | int:
    return 4


def optional() -> Charge | None:
    return None


def literal() -> Literal["a", "b"]:
    return "a"


def path() -> Path:
    return Path("/tmp/clip.mp4")


def not_finite() -> float:
    return float("inf")


def nothing() -> None:
    return None


def big_integer() -> int:
    return 2**80


def text() -> str:
    return "żółć 🐚  \x00"


TYPED: list[Any] = [
    model, plain_dataclass, typed_dict, moment, duration, decimal, uuid, raw_bytes, enum, nested, keyed_by_number,
    named_tuple, union, optional, literal, path, not_finite, nothing, big_integer, text,
]  # fmt: skip
