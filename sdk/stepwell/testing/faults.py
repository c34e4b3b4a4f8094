"""What can go wrong at a call to AWS, and a plan that says at which call it does.

CRASH_BEFORE   the Lambda dies before the request leaves it: out of memory, a deploy, a host that fails
CRASH_AFTER    the request takes effect, then the Lambda dies
THROTTLED      one attempt is refused with the service's throttling error; the SDK tries again
REFUSED        every attempt is refused so, until the SDK gives up and raises: a longer outage
LOST           the request takes effect, its answer is lost; the SDK repeats it and meets its own earlier write
UNKNOWN        the same, but the SDK cannot get through again: the caller sees a time-out of a write that happened
PARTIAL        part of a batch is refused (SendMessageBatch, BatchGetItem, BatchWriteItem)
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepwell.testing.calls import Call


class FaultKind(StrEnum):
    """What happens at a call; the module says what each stands for."""

    CRASH_BEFORE = "crash before"
    CRASH_AFTER = "crash after"
    THROTTLED = "throttled once"
    REFUSED = "refused"
    LOST = "answer lost"
    UNKNOWN = "outcome unknown"
    PARTIAL = "partial batch"

    def applies_to(self, call: Call) -> bool:
        """Whether this can happen at that call."""
        if self in (FaultKind.CRASH_BEFORE, FaultKind.CRASH_AFTER):
            return True
        if call.foreign:
            return False  # a call of the user's own client: it passes us by too far out for anything but a crash
        if self is FaultKind.PARTIAL:
            return call.operation in ("SendMessageBatch", "BatchGetItem", "BatchWriteItem")
        if self in (FaultKind.LOST, FaultKind.UNKNOWN):
            return call.operation not in READS
        return call.service in _THROTTLING


READS = frozenset({"GetItem", "Query", "BatchGetItem", "GetObject", "GetParameter"})
"""Operations that leave nothing behind."""

_THROTTLING = {
    "dynamodb": (400, "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException", "Rate exceeded"),
    "sqs": (403, "com.amazonaws.sqs#RequestThrottled", "The request was denied due to request throttling."),
    "lambda": (429, "TooManyRequestsException", "Rate Exceeded."),
    "s3": (503, "SlowDown", "Please reduce your request rate."),
    "ssm": (400, "ThrottlingException", "Rate exceeded"),
}


def throttling_answer(service: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a refusal for load, as this service sends it."""
    status, code, message = _THROTTLING[service]
    if service == "s3":
        body = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
        return status, {"content-type": "application/xml"}, body.encode()
    headers = {"content-type": "application/x-amz-json-1.0", "x-amzn-errortype": code}
    return status, headers, json.dumps({"__type": code, "message": message, "Type": "User"}).encode()


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault at one call.

    The call is chosen by `at`, its number among all calls that handlers make, or by `operation` ("dynamodb.PutItem",
    "sqs.SendMessage") and `occurrence`, the how-manieth of those, both from 0. `label` restricts it to one kind of
    Lambda: consumer, orchestrator, worker or sweeper.
    """

    kind: FaultKind
    at: int | None = None
    operation: str | None = None
    occurrence: int = 0
    label: str | None = None

    def __post_init__(self) -> None:
        if (self.at is None) == (self.operation is None):
            raise ValueError("a fault needs either at= (the number of the call) or operation=")

    def __str__(self) -> str:
        place = f"call {self.at}" if self.at is not None else f"{self.operation} [{self.occurrence}]"
        return f"{self.kind.value} at {place}" + (f" of the {self.label}" if self.label else "")


@dataclass
class FaultPlan:
    """The faults of one world. Each happens once."""

    faults: Iterable[Fault] = ()
    fired: list[tuple[Fault, Call]] = field(default_factory=list)
    """What has happened so far, and where."""

    def __post_init__(self) -> None:
        self._open = list(self.faults)
        self._seen: dict[Fault, int] = {}

    def add(self, fault: Fault) -> None:
        """Plan one more."""
        self._open.append(fault)

    def match(self, call: Call) -> FaultKind | None:
        """What happens at this call. At most one fault does."""
        for fault in self._open:
            if fault.label is not None and call.label != fault.label:
                continue
            if fault.at is not None:
                hit = fault.at == call.number
            else:
                if f"{call.service}.{call.operation}" != fault.operation:
                    continue
                count = self._seen.get(fault, 0)
                self._seen[fault] = count + 1
                hit = count == fault.occurrence
            if hit:
                self._open.remove(fault)
                self.fired.append((fault, call))
                return fault.kind
        return None

    @property
    def pending(self) -> tuple[Fault, ...]:
        """What has not happened yet."""
        return tuple(self._open)


def split_batch(operation: str, request: dict[str, Any]) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Divide a batch request: what is let through (None if nothing), and what the answer reports as not done.

    The last entry of a batch is refused, or the only one.
    """
    if operation == "SendMessageBatch":
        *kept, refused = request["Entries"]
        failure = {"Id": refused["Id"], "SenderFault": False, "Code": "InternalError", "Message": "Service unavailable"}
        return ({**request, "Entries": kept} if kept else None), {"Failed": [failure]}
    table = next(reversed(request["RequestItems"]))
    entries = request["RequestItems"][table]
    if operation == "BatchGetItem":
        *kept, refused = entries["Keys"]
        rest = {**request["RequestItems"], table: {**entries, "Keys": kept}}
        left: dict[str, Any] = {"UnprocessedKeys": {table: {**entries, "Keys": [refused]}}}
    else:
        *kept, refused = entries
        rest = {**request["RequestItems"], table: kept}
        left = {"UnprocessedItems": {table: [refused]}}
    if not kept:
        del rest[table]
    return ({**request, "RequestItems": rest} if rest else None), left
