"""What happened in a world, in order: the material of reports, and of the checks in `invariants`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from stepwell.testing.invocations import Invocation
from stepwell.testing.shadow import Image


@dataclass(frozen=True, slots=True)
class Began:
    """An invocation began."""

    at: float
    by: Invocation
    event: Any


@dataclass(frozen=True, slots=True)
class Ended:
    """An invocation ended; `error` is what its handler raised, if it did."""

    at: float
    by: Invocation
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class Crashed:
    """An invocation was killed."""

    at: float
    by: Invocation
    why: str


@dataclass(frozen=True, slots=True)
class Wrote:
    """An item of the table changed."""

    at: float
    by: Invocation | None
    pk: str
    sk: str
    before: Image | None
    after: Image | None

    @property
    def run_id(self) -> str | None:
        """The run whose partition it is in, or None."""
        return self.pk.removeprefix("RUN#") if self.pk.startswith("RUN#") else None


@dataclass(frozen=True, slots=True)
class BodyBegan:
    """The body of a step began."""

    at: float
    by: Invocation | None
    run_id: str
    key: str
    name: str


@dataclass(frozen=True, slots=True)
class BodyEnded:
    """The body of a step returned or raised."""

    at: float
    by: Invocation | None
    run_id: str
    key: str
    name: str


@dataclass(frozen=True, slots=True)
class Sent:
    """A message was sent."""

    at: float
    by: Invocation | None
    body: str
    delay: float
    """Seconds."""
    dead_letter: bool


Observation = Began | Ended | Crashed | Wrote | BodyBegan | BodyEnded | Sent

Kind = TypeVar("Kind", bound=Observation)


class Observations(list[Observation]):
    """All of them, in order."""

    def of(self, kind: type[Kind]) -> Iterator[Kind]:
        """Those of one kind."""
        return (entry for entry in self if isinstance(entry, kind))

    def about(self, run_id: str) -> Iterator[Observation]:
        """Those that concern one run."""
        for entry in self:
            if isinstance(entry, Wrote | BodyBegan | BodyEnded):
                if entry.run_id == run_id:
                    yield entry
            elif isinstance(entry, Sent):
                if run_id in entry.body:
                    yield entry
            elif entry.by.run_id == run_id:
                yield entry


def told(entry: Observation) -> str:
    """One line for people."""
    clock = datetime.fromtimestamp(entry.at, UTC).strftime("%m-%d %H:%M:%S")
    who = str(entry.by) if entry.by is not None else "client"
    return f"{clock}  {who:<16} {_what(entry)}"


def _what(entry: Observation) -> str:
    if isinstance(entry, Began):
        return "began"
    if isinstance(entry, Ended):
        return "ended" if entry.error is None else f"failed: {type(entry.error).__name__}: {entry.error}".rstrip(": ")
    if isinstance(entry, Crashed):
        return f"CRASHED {entry.why}"
    if isinstance(entry, BodyBegan):
        return f"body of {entry.key} began"
    if isinstance(entry, BodyEnded):
        return f"body of {entry.key} ended"
    if isinstance(entry, Sent):
        later = f" (in {entry.delay:g} s)" if entry.delay else ""
        return f"{'dead letter' if entry.dead_letter else 'sent'}{later}: {entry.body[:160]}"
    return f"{entry.sk}: {_status(entry.before)} -> {_status(entry.after)}"


def _status(image: Image | None) -> str:
    if image is None:
        return "absent"
    status = image.attributes.get("status", {}).get("S", "present")
    epoch = image.attributes.get("epoch", {}).get("N")
    return str(status) if epoch is None else f"{status} (epoch {epoch})"
