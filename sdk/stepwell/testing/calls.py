"""Calls to AWS, as the world sees them pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stepwell.testing.faults import FaultKind
from stepwell.testing.invocations import Invocation


@dataclass(eq=False)
class Call:
    """One call of an operation, with all attempts the SDK makes at it."""

    service: str
    """As botocore calls it: dynamodb, sqs, s3, lambda."""
    operation: str
    params: Mapping[str, Any] = field(repr=False)
    invocation: Invocation | None
    """Who makes it; None for code outside of simulated Lambdas, such as the test itself."""
    number: int | None = None
    """Its place among the calls that simulated Lambdas make, from 0; None for others."""
    foreign: bool = False
    """Made by a client of the user's own, not by the engine."""
    fault: FaultKind | None = None
    attempts: int = 0
    by_client: bool = False
    """Made through a Client, which knows nothing of the run whose step may be using it."""

    @property
    def label(self) -> str:
        """The kind of Lambda that makes it, or "client"."""
        return self.invocation.label if self.invocation is not None else "client"

    @property
    def subject(self) -> str:
        """What it is about: a key, a message kind, a function's name."""
        params = self.params
        if "Key" in params or "Item" in params:
            key = params["Key"] if "Key" in params else params["Item"]
            if isinstance(key, str):
                return key
            return "/".join(str(next(iter(key[name].values()))) for name in ("pk", "sk") if name in key)
        for name in ("FunctionName", "MessageBody", "Bucket"):
            if name in params:
                return str(params[name])[:120]
        if "Entries" in params:
            return f"{len(params['Entries'])} messages"
        values = params.get("ExpressionAttributeValues", {})
        return str(next(iter(values[":p"].values()))) if ":p" in values else ""

    def __str__(self) -> str:
        who = str(self.invocation) if self.invocation is not None else "client"
        what = f"{self.service}.{self.operation}{' (your own client)' if self.foreign else ''}"
        number = "" if self.number is None else f"call {self.number}: "
        return f"{number}{who} {what} {self.subject}".rstrip()
