"""moto and botocore, made fit for many threads and many worlds.

moto is not thread-safe (two threads lose updates), so one lock goes around everything it does. Clients that know nothing
of a world, such as a step's own boto3 client, pass through here as well, and so take part in it: the turn passes at their
calls, and their Lambda may die there.

What is changed is changed once per process and for good; outside of worlds it does nothing.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import moto.core.responses
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.httpsession import URLLib3Session
from moto.core.botocore_stubber import BotocoreStubber
from moto.core.models import botocore_stubber
from moto.core.serialize import ResponseSerializer
from moto.core.utils import method_names_from_class

from stepwell.testing.answers import Answer
from stepwell.testing.invocations import Crash, current_invocation

LOCK = threading.RLock()
"""Held by whoever makes moto do anything, or looks into what it holds."""

on_outside_message: set[Callable[[], None]] = set()
"""Called when a client that no world made has used SQS: it may have sent a message."""

send = URLLib3Session.send
"""botocore's own way to send a request."""

_SCOPE = re.compile(r"Credential=[^/]*/\d+/[^/]*/([^/]+)/aws4_request")
_process_request = BotocoreStubber.process_request
_get_value = ResponseSerializer.get_value


def install() -> None:
    """Put the lock around moto."""
    BotocoreStubber.process_request = _passing  # type: ignore[method-assign, assignment]
    URLLib3Session.send = _sending  # type: ignore[method-assign, assignment]
    # Half of moto's time goes into two things that need not be done: listing the methods of a class anew for every
    # request, and looking for a DynamoDB value under all names it might have.
    moto.core.responses.method_names_from_class = cache(method_names_from_class)  # type: ignore[attr-defined]
    ResponseSerializer.get_value = _quick_value  # type: ignore[method-assign, assignment]


def answer(request: AWSPreparedRequest) -> AWSResponse:
    """moto's answer to a request of a world's own client."""
    with LOCK:
        answered = _process_request(botocore_stubber, request)
    if answered is None:
        raise RuntimeError(f"moto does not simulate {request.url}")
    status, headers, body = answered
    return Answer(status, headers, body.encode() if isinstance(body, str) else body).to(request)


def _passing(stubber: BotocoreStubber, request: AWSPreparedRequest) -> Any:
    """What clients reach that no world made, while moto is active."""

    def proceed() -> Any:
        with LOCK:
            answered = _process_request(stubber, request)
        if named(request)[0] == "sqs":
            for tell in list(on_outside_message):
                tell()
        return answered

    return _noticed(request, proceed)


def _sending(session: URLLib3Session, request: AWSPreparedRequest) -> Any:
    """The last step before a request of such a client leaves the process."""
    # A client that was made before moto was imported knows nothing of it, and would reach AWS itself.
    answered = botocore_stubber("before-send", request)
    return _noticed(request, lambda: send(session, request)) if answered is None else answered


def _noticed(request: AWSPreparedRequest, proceed: Callable[[], Any]) -> Any:
    """Let the world know of a call that is made by an invocation in it."""
    invocation = current_invocation()
    if invocation is None or invocation.wire is None:
        return proceed()
    if invocation.dead:
        raise Crash  # above all, a thread that outlived its world must not act outside of it
    service, operation = named(request)
    return invocation.wire.call(service, operation, {"Key": request.url}, proceed, foreign=True)


def _quick_value(serializer: ResponseSerializer, value: Any, key: str, shape: Any) -> Any:
    """moto's get_value, with a short way for DynamoDB's values: {"S": "text"} has no other spelling."""
    parent = getattr(shape, "parent", None)
    if type(value) is dict and parent is not None and parent.name == "AttributeValue":
        return value.get(key)
    return _get_value(serializer, value, key, shape)


def named(request: AWSPreparedRequest) -> tuple[str, str]:
    """The service and operation of a request, as far as it tells."""
    signed = _SCOPE.search(_header(request, "Authorization"))
    operation = _header(request, "X-Amz-Target").rpartition(".")[2]
    return signed[1] if signed else request.url.split("/")[2], operation or str(request.method)


def _header(request: AWSPreparedRequest, name: str) -> str:
    value: Any = request.headers.get(name, "")
    return value.decode() if isinstance(value, bytes) else str(value)
