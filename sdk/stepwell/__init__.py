"""Stepwell: durable step functions for Python, in your own AWS account.

Names are loaded when they are first used: the Lambdas that need no pydantic must not pay for it.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepwell.app import Stepwell
    from stepwell.client import Client
    from stepwell.context import AsyncContext, Context
    from stepwell.errors import (
        NonDeterminism,
        NonRetriableError,
        NotSerializable,
        PayloadTooLarge,
        RetryAfterError,
        RunCancelled,
        RunFailed,
        StepError,
        StepInterrupted,
        StepTimeout,
        StepwellError,
    )
    from stepwell.events import Event
    from stepwell.middleware.base import Middleware
    from stepwell.models import EventModel, Failure
    from stepwell.planning.handing import Callback
    from stepwell.policies import (
        Backoff,
        Batch,
        CancelOn,
        Concurrency,
        Cron,
        Debounce,
        RateLimit,
        Singleton,
        Throttle,
        Timeouts,
        Trigger,
    )
    from stepwell.providing import provided
    from stepwell.records import RunStatus
    from stepwell.steps import idempotency_key, step
    from stepwell.verbs import StepFuture
    from stepwell.views import Run, StepRecord

_HOMES = {
    "app": ["Stepwell"],
    "client": ["Client"],
    "context": ["AsyncContext", "Context"],
    "errors": [
        "NonDeterminism",
        "NonRetriableError",
        "NotSerializable",
        "PayloadTooLarge",
        "RetryAfterError",
        "RunCancelled",
        "RunFailed",
        "StepError",
        "StepInterrupted",
        "StepTimeout",
        "StepwellError",
    ],
    "events": ["Event"],
    "middleware": ["Middleware"],
    "models": ["EventModel", "Failure"],
    "planning.handing": ["Callback"],
    "policies": [
        "Backoff",
        "Batch",
        "CancelOn",
        "Concurrency",
        "Cron",
        "Debounce",
        "RateLimit",
        "Singleton",
        "Throttle",
        "Timeouts",
        "Trigger",
    ],
    "providing": ["provided"],
    "records": ["RunStatus"],
    "steps": ["idempotency_key", "step"],
    "verbs": ["StepFuture"],
    "views": ["Run", "StepRecord"],
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

logging.getLogger("stepwell").addHandler(logging.NullHandler())  # a library speaks only where it is listened to

__all__ = [
    "AsyncContext",
    "Backoff",
    "Batch",
    "Callback",
    "CancelOn",
    "Client",
    "Concurrency",
    "Context",
    "Cron",
    "Debounce",
    "Event",
    "EventModel",
    "Failure",
    "Middleware",
    "NonDeterminism",
    "NonRetriableError",
    "NotSerializable",
    "PayloadTooLarge",
    "RateLimit",
    "RetryAfterError",
    "Run",
    "RunCancelled",
    "RunFailed",
    "RunStatus",
    "Singleton",
    "StepError",
    "StepFuture",
    "StepInterrupted",
    "StepRecord",
    "StepTimeout",
    "Stepwell",
    "StepwellError",
    "Throttle",
    "Timeouts",
    "Trigger",
    "idempotency_key",
    "provided",
    "step",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'stepwell' has no attribute {name!r}")
    value = getattr(import_module(f"stepwell.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
