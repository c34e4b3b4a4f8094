"""The sweeper Lambda, once a minute."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from stepwell.engine.sweep import sweep
from stepwell.ports import Ports
from stepwell_lambdas.lazy import Handler, lazily, remaining


def make_handler(ports: Ports) -> Handler:
    """The handler over these ports."""

    def handler(event: Any, context: Any) -> dict[str, Any]:
        return asdict(sweep(ports, lambda: remaining(context)))

    return handler


handler = lazily(lambda: make_handler(Ports.from_env()))
