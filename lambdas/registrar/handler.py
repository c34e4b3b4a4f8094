"""The registrar Lambda: CloudFormation's custom resource of an app. A deployment is over only when it is registered.

CloudFormation sends Create, Update or Delete and waits for an answer at a URL; whatever happens here, it must get
one, or the stack stands still for as long as the resource may take. What an app holds is asked of the worker that was
just deployed: if it cannot be imported, its traceback is the reason the deployment fails.

Before an app is first registered it gets its callback key. That stays, also when the app is removed: open callbacks of
live runs are made with it, and the app may come back.
"""

from __future__ import annotations

import json
import logging
import os
import ssl
import time
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from botocore.exceptions import ClientError

from stepwell.engine.registration import register, unregister
from stepwell.errors import StepwellError
from stepwell.invoker import InvokeFailed
from stepwell.ports import Ports
from stepwell_lambdas.lazy import Handler, lazily

logger = logging.getLogger("stepwell")

REGISTERED = "stepwell-app/"
"""What the physical ids of registered apps begin with; a resource with any other id was never registered."""

MAX_REASON = 3000
"""Bytes of JSON. CloudFormation refuses answers above 4096 bytes (custom resource reference), ids and URL included."""

PATIENCE = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds between attempts while a new worker, or the leave to invoke it or to make its key, is not yet known everywhere
in AWS."""

NOT_YET = {
    "AccessDeniedException",
    "ResourceConflictException",
    "ResourceNotFoundException",
    "TooManyRequestsException",
}

Answer = Callable[[str, bytes], None]
T = TypeVar("T")


class CannotRegister(Exception):
    """The app cannot be registered. The words are for the person who deploys."""


def make_handler(ports: Ports, *, answer: Answer | None = None, wait: Callable[[float], None] = time.sleep) -> Handler:
    """The handler over these ports. ``answer`` puts a body to a URL; ``wait`` waits for some seconds."""

    def handler(event: Any, context: Any) -> None:
        response = {key: event[key] for key in ("StackId", "RequestId", "LogicalResourceId")}
        try:
            physical = _carry_out(ports, event, wait)
            response |= {"Status": "SUCCESS", "PhysicalResourceId": physical}
        except Exception as error:  # CloudFormation must hear of it, whatever it is
            logger.exception("%s of %s failed", event["RequestType"], event["ResourceProperties"].get("AppId"))
            known = isinstance(error, (CannotRegister, StepwellError))
            reason = str(error) if known else f"{type(error).__name__}: {error}"
            # A resource that failed to be created must not have a registered id: CloudFormation deletes it next.
            physical = event.get("PhysicalResourceId") or f"not-registered/{event['RequestId']}"
            response |= {"Status": "FAILED", "PhysicalResourceId": physical, "Reason": shorten(reason)}
        (answer or put_answer)(event["ResponseURL"], json.dumps(response).encode())

    return handler


def _carry_out(ports: Ports, event: Mapping[str, Any], wait: Callable[[float], None]) -> str:
    """Do what CloudFormation asks; gives back the physical id. Raises CannotRegister."""
    properties = event["ResourceProperties"]
    workers: dict[str, str] = properties["Workers"]
    if event["RequestType"] == "Delete":
        physical: str = event["PhysicalResourceId"]
        _remove(ports, physical, workers)
        return physical
    manifest = _describe(ports, workers["default"], wait)
    app: str = manifest["app"]
    expected = properties["AppId"]
    if app != expected:
        raise CannotRegister(
            f"The worker holds the app {app!r}, but is deployed as {expected!r}: its role may touch only the runs of "
            f"{expected!r}. Give the StepwellApp app_id={app!r}."
        )
    # First the key: from the registration on its functions get events, and may make callbacks.
    if _patiently(lambda: ports.keyring.ensure(app, ports.ids), wait):
        logger.info("made the callback key of %s", app)
    register(ports, manifest, workers)
    logger.info("registered %s: %d functions", app, len(manifest["functions"]))
    return REGISTERED + app


def _remove(ports: Ports, physical: str, workers: Mapping[str, str]) -> None:
    """Forget the app, if it is still this resource's.

    A resource that got a new logical id is created anew before the old one is deleted: then the app is registered with
    other workers by now, and must stay so.
    """
    app = physical.removeprefix(REGISTERED)
    if app == physical:
        return
    apps, _ = ports.store.apps.current()
    if app in apps and dict(apps[app].workers) == dict(workers):
        unregister(ports, app)
        logger.info("unregistered %s", app)
    else:
        logger.info("%s is not registered with these workers any more: left as it is", app)


def _describe(ports: Ports, worker: str, wait: Callable[[float], None]) -> dict[str, Any]:
    """The manifest, from the worker itself. Raises CannotRegister with the worker's traceback."""
    try:
        described = _patiently(lambda: ports.invoker.call(worker, {"describe": True}), wait)
    except InvokeFailed as failed:
        raise CannotRegister(f"The app cannot be loaded in its worker.\n{readable(str(failed))}") from failed
    manifest: dict[str, Any] = described["manifest"]
    return manifest


def _patiently(call: Callable[[], T], wait: Callable[[float], None]) -> T:
    """What a call gives, once AWS lets it through."""
    for pause in PATIENCE:
        try:
            return call()
        except ClientError as error:
            if error.response["Error"]["Code"] not in NOT_YET:
                raise
            logger.info("not possible yet (%s)", error)
            wait(pause)
    return call()


def readable(failure: str) -> str:
    """Lambda's account of a failed invocation, as a traceback that people know how to read."""
    try:
        told = json.loads(failure)
        trace, kind, message = (
            told.get("stackTrace") or [],
            told.get("errorType", "Error"),
            told.get("errorMessage", ""),
        )
    except (ValueError, AttributeError):
        return failure
    lines = "".join(line if line.endswith("\n") else line + "\n" for line in trace)
    return f"{lines}{kind}: {message}"


def shorten(reason: str) -> str:
    """``reason`` cut to what CloudFormation takes: its first line says what failed, the end of a traceback says why."""
    if _size(reason) <= MAX_REASON:
        return reason
    head, _, rest = reason.partition("\n")
    while _size(head) > MAX_REASON // 4:
        head = head[: len(head) * 9 // 10]
    while rest and _size(f"{head}\n[...]\n{rest}") > MAX_REASON:
        rest = rest[max(1, len(rest) // 20) :]
    return f"{head}\n[...]\n{rest}" if rest else head


def _size(text: str) -> int:
    return len(json.dumps(text))


def put_answer(url: str, body: bytes) -> None:
    """Give CloudFormation its answer. A lost one would hold up the stack, so the network gets three chances."""
    # The URL is signed without a content type, which urllib would add by itself.
    request = urllib.request.Request(url, data=body, method="PUT", headers={"Content-Type": ""})
    trusted = ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE") or None)
    for chance in (2, 1, 0):
        try:
            with urllib.request.urlopen(request, timeout=10, context=trusted) as answered:
                answered.read()
            return
        except OSError:
            if not chance:
                raise
            logger.warning("CloudFormation could not be answered, %d more attempts", chance, exc_info=True)


handler = lazily(lambda: make_handler(Ports.from_env()))
