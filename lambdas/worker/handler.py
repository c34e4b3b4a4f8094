"""The worker Lambda: the only one that holds the user's code."""

from __future__ import annotations

import importlib
import logging
import os
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stepwell.app import Stepwell
from stepwell.engine.core import NoHooks, StepHooks
from stepwell.engine.execution import Invocation, execute
from stepwell.errors import InvalidOption, KeyUnavailable
from stepwell.ports import Ports
from stepwell_lambdas.lazy import Handler, lazily, remaining

if TYPE_CHECKING:
    from stepwell.client import Client

logger = logging.getLogger("stepwell")


def make_handler(
    ports: Ports,
    app: Stepwell,
    hooks: StepHooks | None = None,
    *,
    end_process: Callable[[], None] = lambda: os._exit(1),
) -> Handler:
    """The handler over these ports, for this app.

    `end_process` is called when a sync step ran past its time-out: its thread cannot be ended in any other way, and
    Lambda would freeze it and let it go on in the next invocation.
    """

    def handler(event: Any, context: Any) -> dict[str, Any]:
        if event.get("describe"):
            asked = {"callback_key": trouble(ports, app.id)} if event.get("examine") else {}
            return {"manifest": app.manifest(), **asked}
        invocation = Invocation(context.aws_request_id, lambda: remaining(context))
        try:
            outcome = execute(
                ports,
                app.program,
                event["run"],
                event["epoch"],
                invocation,
                hooks or NoHooks(),
                end_process=end_process,
            )
        except Exception as error:
            if app.middleware.encoders:
                raise _unsealed(error) from None
            raise
        finally:
            app.middleware.flush()
        return {"run": event["run"], "outcome": outcome}

    return handler


class WorkerFailed(Exception):
    """Stands for an error of an app that encrypts: Lambda passes the text of errors on, into its logs and the queue."""


def _unsealed(error: Exception) -> WorkerFailed:
    """What may be known of an error whose text may hold values in clear: its class, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    where = "; ".join(f"{frame.filename}:{frame.lineno}, in {frame.name}" for frame in frames[-5:])
    return WorkerFailed(f"{type(error).__name__}, raised at {where}")


def trouble(ports: Ports, app: str) -> str | None:
    """Why this worker can make no callbacks, None if it can: only it can tell, by its role and from its network."""
    try:
        ports.keyring.check(app)
    except KeyUnavailable as error:
        return error.message
    return None


def load_app(path: str) -> Stepwell:
    """The app at `module:name`. Raises InvalidOption saying what is wrong with the path."""
    module, colon, name = path.partition(":")
    if not colon:
        raise InvalidOption(f"STEPWELL_APP is {path!r}; it must be 'module:app', such as 'shop.functions:app'.")
    app = getattr(importlib.import_module(module), name, None)
    if not isinstance(app, Stepwell):
        raise InvalidOption(f"STEPWELL_APP is {path!r}, but {name!r} in {module!r} is not a Stepwell app.")
    return app


def _build() -> Handler:
    app, ports = load_app(os.environ.get("STEPWELL_APP", "")), Ports.from_env()

    def open_client() -> Client:
        from stepwell.client import Client

        return Client(ports, default_group=app.id)

    app.bind(open_client)
    return make_handler(ports, app)


handler = lazily(_build)
