"""Steps that other workers find by importing this module."""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel

from stepwell import RetryAfterError, step
from stepwell.testing.invocations import current_invocation


class Box(BaseModel):
    width: int


@step
def grow(box: Box) -> Box:
    return Box(width=box.width + 10)


@step(retries=1)
def reject_odd(n: int) -> int:
    if n % 2:
        raise ValueError(f"{n} is odd")
    return n


@step
def where() -> str:
    invocation = current_invocation()
    assert invocation is not None
    return invocation.function


@step(compute="large")
def where_large(n: int, note: str = "") -> str:
    return f"{where()} {n} {note}"


@step
def grow_number(n: int) -> int:
    return n + 1


@step
def works_in_an_hour(n: int) -> int:
    raise RetryAfterError(timedelta(hours=1))
