"""The one point through which every call to AWS passes, so that it can be counted, faulted and watched.

A call passes twice. `call` sees the whole of it, with its parameters, and is where the turn passes on and Lambdas
crash. `send` sees each attempt the SDK makes, and is where answers get lost and requests are refused, so that the SDK's
own retries are part of what is tested.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from copy import copy
from functools import cache
from typing import Any, NoReturn, Protocol

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError

from stepwell.testing.answers import Answer
from stepwell.testing.calls import Call
from stepwell.testing.faults import FaultKind, FaultPlan, split_batch, throttling_answer
from stepwell.testing.invocations import Crash, Invocation, current_invocation
from stepwell.testing.turns import Turns

Transport = Callable[[AWSPreparedRequest], AWSResponse]


class Interceptor(Protocol):
    """Answers some calls in place of the emulator, such as invocations of Lambdas."""

    def answer(self, call: Call, request: AWSPreparedRequest, forward: Transport) -> AWSResponse | None:
        """The answer, or None to let the emulator answer."""
        ...


class Watcher(Protocol):
    """Is told of every effect, at once and before anything else can happen."""

    def saw(self, call: Call, status: int, answer: Callable[[], Any]) -> None:
        """One attempt was answered with this HTTP status. `answer()` is the body as JSON."""
        ...


class Wire:
    """One world's point of passage."""

    def __init__(self, turns: Turns, plan: FaultPlan, on_crash: Callable[[Invocation, str], None]) -> None:
        self.turns = turns
        self.plan = plan
        self.calls: list[Call] = []
        """What simulated Lambdas have called, in order."""
        self.watchers: list[Watcher] = []
        self.interceptors: dict[str, Interceptor] = {}
        """By service."""
        self._on_crash = on_crash
        self._effects = threading.RLock()
        self._local = threading.local()

    # ---- a call

    def call(
        self,
        service: str,
        operation: str,
        params: Mapping[str, Any],
        proceed: Callable[[], Any],
        *,
        foreign: bool = False,
        by_client: bool = False,
    ) -> Any:
        """Let a call pass; `proceed` makes it."""
        call = self._begin(Call(service, operation, params, current_invocation(), foreign=foreign, by_client=by_client))
        if call.fault is FaultKind.CRASH_BEFORE:
            self.crash(call.invocation, f"before {call}")
        before = getattr(self._local, "call", None)
        self._local.call = call
        try:
            return proceed()
        finally:
            self._local.call = before
            if call.fault is FaultKind.CRASH_AFTER:  # whatever the answer was
                self.crash(call.invocation, f"after {call}")

    def _begin(self, call: Call) -> Call:
        self.turns.pause()
        if call.invocation is None:
            return call
        if call.invocation.dead:
            raise Crash
        call.number = len(self.calls)
        self.calls.append(call)
        fault = self.plan.match(call)
        if fault is not None and fault.applies_to(call):
            call.fault = fault
        return call

    def crash(self, invocation: Invocation | None, why: str) -> NoReturn:
        """Kill the invocation that is calling, with all its threads."""
        if invocation is not None and not invocation.dead:
            self._on_crash(invocation, why)
            self.turns.doom(invocation)
        raise Crash

    # ---- an attempt

    def send(self, request: AWSPreparedRequest, forward: Transport) -> AWSResponse:
        """Let one attempt of the current call pass; `forward` hands it to the emulator."""
        call: Call = self._local.call
        call.attempts += 1
        if call.fault is FaultKind.REFUSED or (call.fault is FaultKind.THROTTLED and call.attempts == 1):
            return Answer(*throttling_answer(call.service)).to(request)
        if call.fault is FaultKind.PARTIAL and call.attempts == 1:
            return self._partly(call, request, forward)
        if call.fault is FaultKind.UNKNOWN and call.attempts > 1:
            raise ConnectTimeoutError(endpoint_url=request.url)
        response = self._take_effect(call, request, forward)
        if call.fault in (FaultKind.LOST, FaultKind.UNKNOWN) and call.attempts == 1:
            raise ReadTimeoutError(endpoint_url=request.url)
        return response

    def _take_effect(self, call: Call, request: AWSPreparedRequest, forward: Transport) -> AWSResponse:
        interceptor = self.interceptors.get(call.service)
        if call.service == "lambda":
            # Not under the lock: an invoked handler runs in here, and makes calls of its own.
            invoked = interceptor.answer(call, request, forward) if interceptor is not None else None
            return self._seen(call, forward(request) if invoked is None else invoked)
        with self._effects:  # an effect and what is noted of it are one: no other thread may come in between
            response = interceptor.answer(call, request, forward) if interceptor is not None else None
            if response is None:
                response = forward(request)
            return self._seen(call, response)

    def _seen(self, call: Call, response: AWSResponse) -> AWSResponse:
        body = cache(lambda: json.loads(response.content or b"{}"))
        for watcher in self.watchers:
            watcher.saw(call, response.status_code, body)
        return response

    def _partly(self, call: Call, request: AWSPreparedRequest, forward: Transport) -> AWSResponse:
        kept, report = split_batch(call.operation, dict(call.params))
        if kept is None:
            empty: dict[str, Any] = {"Successful": []} if call.service == "sqs" else {"Responses": {}}
            return Answer.json(empty | report).to(request)
        let_through = dict(call.params)
        call.params = kept
        try:
            response = self._take_effect(
                call, rewritten(request, split_batch(call.operation, body_of(request))[0]), forward
            )
        finally:
            call.params = let_through
        if response.status_code != 200:
            return response
        return Answer.json(json.loads(response.content) | report).to(request)


def body_of(request: AWSPreparedRequest) -> dict[str, Any]:
    """The body of a JSON request."""
    text: Any = request.body
    body: dict[str, Any] = json.loads(text)
    return body


def rewritten(request: AWSPreparedRequest, body: Mapping[str, Any] | None) -> AWSPreparedRequest:
    """The same JSON request with another body."""
    text = json.dumps(body).encode()
    headers = copy(request.headers)
    headers["Content-Length"] = str(len(text))
    return AWSPreparedRequest(request.method, request.url, headers, text, request.stream_output)
