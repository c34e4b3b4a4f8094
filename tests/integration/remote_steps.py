"""Steps that other workers find by importing this module."""

from __future__ import annotations

from pydantic import BaseModel

from stepwell import step
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
