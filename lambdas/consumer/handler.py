"""The consumer Lambda: SQS in, partial batch failures out."""

from __future__ import annotations

from typing import Any

from stepwell.engine.intake import consume
from stepwell.ports import Ports
from stepwell_lambdas.lazy import Handler, lazily, remaining


def make_handler(ports: Ports) -> Handler:
    """The handler over these ports."""

    def handler(event: Any, context: Any) -> dict[str, Any]:
        failed = consume(ports, event["Records"], lambda: remaining(context))
        return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}

    return handler


handler = lazily(lambda: make_handler(Ports.from_env()))
