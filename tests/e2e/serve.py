"""ministack, and two things that AWS Lambda says of a failure and ministack does not.

* The record of an asynchronous invocation that failed names the request (AWS Lambda, asynchronous invocation
  destinations). Without it a crash is noticed only when the worker's lease runs out.
* The payload of a failed invocation holds the exception's type and its stack trace (AWS Lambda, Python errors).
"""

from __future__ import annotations

import json
import sys
from contextvars import ContextVar
from typing import Any

from ministack.app import main
from ministack.services import lambda_svc

_failed: ContextVar[str | None] = ContextVar("the request whose failure is being recorded", default=None)
_dispatch, _route = lambda_svc._execute_function_dispatch, lambda_svc._route_async_failure


def _remembering(func: Any, config: Any, event: Any, request_id: str, started: float) -> Any:
    result = _dispatch(func, config, event, request_id, started)
    if isinstance(result, dict):
        result["stepwell_request_id"] = request_id
        if result.get("error") and isinstance(result.get("body"), dict):
            result["body"] |= _told(str(result.get("log", "")))
    return result


def _told(log: str) -> dict[str, Any]:
    """What Lambda's Python runtime would say of the exception that ends the log."""
    _, begin, trace = log.rpartition("Traceback (most recent call last):\n")
    if not begin:
        return {}
    frames, _, last = trace.rstrip().rpartition("\n")
    return {"errorType": last.partition(":")[0].rpartition(".")[2], "stackTrace": frames.splitlines(keepends=True)}


def _naming(target: str, name: str, event: Any, result: dict[str, Any]) -> None:
    token = _failed.set(result.get("stepwell_request_id"))
    try:
        _route(target, name, event, result)
    finally:
        _failed.reset(token)


class _Json:
    """The json module, as lambda_svc sees it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(json, name)

    def dumps(self, value: Any, *arguments: Any, **options: Any) -> str:
        if (request := _failed.get()) and isinstance(value, dict) and "requestContext" in value:
            value["requestContext"]["requestId"] = request
        return json.dumps(value, *arguments, **options)


lambda_svc._execute_function_dispatch = _remembering
lambda_svc._route_async_failure = _naming
lambda_svc.json = _Json()

if __name__ == "__main__":
    sys.exit(main())
