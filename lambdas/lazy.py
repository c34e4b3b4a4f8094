"""A handler that is built at its first call: once per cold start, and not when the module is only imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Handler = Callable[[Any, Any], Any]


def lazily(build: Callable[[], Handler]) -> Handler:
    """The handler that `build` makes."""
    built: list[Handler] = []

    def handler(event: Any, context: Any) -> Any:
        if not built:
            built.append(build())
        return built[0](event, context)

    return handler


def remaining(context: Any) -> float:
    """Seconds until Lambda ends this invocation."""
    return float(context.get_remaining_time_in_millis()) / 1000
