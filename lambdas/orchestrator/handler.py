"""The orchestrator Lambda: records of the consumer in, one answer each out."""

from __future__ import annotations

from typing import Any

from stepwell.engine.orchestrate import orchestrate
from stepwell.ports import Ports
from stepwell_lambdas.lazy import Handler, lazily, remaining


def make_handler(ports: Ports) -> Handler:
    """The handler over these ports."""

    def handler(event: Any, context: Any) -> dict[str, Any]:
        return {"results": orchestrate(ports, event["records"], lambda: remaining(context))}

    return handler


handler = lazily(lambda: make_handler(Ports.from_env()))
