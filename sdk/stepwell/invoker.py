"""Invoking the other Lambdas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stepwell.codec import JSON, loads, sendable


class InvokeFailed(Exception):
    """The invoked function raised, ran out of time or died."""


class Invoker:
    """Lambda invocations, both ways."""

    def __init__(self, starting: Callable[[], Any], calling: Callable[[], Any]) -> None:
        self._starting = starting
        self._calling = calling

    def start(self, function: str, payload: dict[str, JSON]) -> None:
        """Invoke asynchronously. When it returns, Lambda has queued the invocation; it may still be lost or doubled."""
        self._starting().invoke(FunctionName=function, InvocationType="Event", Payload=sendable(payload).encode())

    def call(self, function: str, payload: dict[str, JSON]) -> JSON:
        """Invoke and wait for the answer. Raises InvokeFailed with Lambda's own words if the function failed."""
        answer: dict[str, Any] = self._calling().invoke(
            FunctionName=function, InvocationType="RequestResponse", Payload=sendable(payload).encode()
        )
        text = answer["Payload"].read().decode()
        if "FunctionError" in answer:
            raise InvokeFailed(text)
        return loads(text) if text else None
