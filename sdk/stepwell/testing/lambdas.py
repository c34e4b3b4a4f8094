"""A simulated Lambda service: functions, their execution environments, invocations of both kinds.

An environment serves one invocation at a time and is kept for the next, as in Lambda; a crash destroys it, so the next
invocation is a cold start that builds its handler anew.
"""

from __future__ import annotations

import json
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import Random
from typing import Any
from uuid import UUID

from botocore.awsrequest import AWSPreparedRequest, AWSResponse

from stepwell.codec import parse
from stepwell.testing.answers import Answer
from stepwell.testing.calls import Call
from stepwell.testing.clock import VirtualClock
from stepwell.testing.invocations import Crash, Invocation, LambdaContext
from stepwell.testing.turns import Turns
from stepwell.testing.wire import Transport

Handler = Callable[[Any, Any], Any]

SYNC_LIMIT = 6 * 1024 * 1024
"""Bytes of a request or an answer (AWS Lambda quotas)."""
ASYNC_LIMIT = 1024 * 1024
"""Bytes of an asynchronous event (AWS Lambda quotas)."""
TIME_LIMIT = 900.0
"""Seconds that an invocation may take."""


@dataclass(eq=False)
class Function:
    """A Lambda function."""

    name: str
    label: str
    """Under which it is counted: consumer, orchestrator, worker, sweeper."""
    arn: str
    build: Callable[[], Handler]
    """A cold start."""
    time_limit: float = TIME_LIMIT
    idle: list[Handler] = field(default_factory=list)
    """Environments that wait for their next invocation."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an invocation ended."""

    payload: str
    """The answer as JSON; of a failed invocation, what Lambda says about the error."""
    failed: bool = False
    invocation: Invocation | None = None


@dataclass(frozen=True, slots=True)
class Queued:
    """An asynchronous invocation that has not begun."""

    function: Function
    payload: str
    request_id: str


class Lambdas:
    """The functions of one world."""

    def __init__(self, turns: Turns, clock: VirtualClock, random: Random, *, account: str, region: str) -> None:
        self._turns = turns
        self._clock = clock
        self._random = random
        self._prefix = f"arn:aws:lambda:{region}:{account}:function:"
        self._functions: dict[str, Function] = {}
        self._count = 0
        self.queued: deque[Queued] = deque()
        """Asynchronous invocations that were accepted."""
        self.leaks: list[str] = []
        """Threads that were still running when their handler returned."""
        self.wire: Any = None
        self.on_queued: Callable[[], None] = lambda: None
        self.on_begin: Callable[[Invocation, Any], None] = lambda invocation, event: None
        self.on_end: Callable[[Invocation, Outcome, BaseException | None], None] = lambda invocation, outcome, error: (
            None
        )

    def add(self, name: str, label: str, build: Callable[[], Handler], *, time_limit: float = TIME_LIMIT) -> Function:
        """Create a function; `build` makes its handler at every cold start."""
        function = Function(name, label, self._prefix + name, build, time_limit)
        self._functions[name] = function
        return function

    def get(self, name: str) -> Function | None:
        """A function by its name or ARN, with or without a qualifier."""
        short = name.removeprefix(self._prefix)
        return self._functions.get(short.partition(":")[0])

    def labelled(self, label: str) -> Function | None:
        """The function that is counted under this label, or the first of them."""
        return next((function for function in self._functions.values() if function.label == label), None)

    @property
    def functions(self) -> list[Function]:
        """All of them, as they were deployed."""
        return list(self._functions.values())

    # ---- the API of the service

    def answer(self, call: Call, request: AWSPreparedRequest, forward: Transport) -> AWSResponse | None:
        """Lambda's `Invoke`, both ways."""
        if call.operation != "Invoke":
            return None
        name = call.params["FunctionName"]
        function = self.get(name)
        if function is None:
            return Answer.error(404, "ResourceNotFoundException", f"Function not found: {name}").to(request)
        try:
            payload = _text(call.params.get("Payload", b"")) or "{}"
            parse(payload)
        except ValueError as error:
            message = f"Could not parse request body into json: {error}"
            return Answer.error(400, "InvalidRequestContentException", message).to(request)
        if call.params.get("InvocationType", "RequestResponse") == "Event":
            return self._accept(function, payload).to(request)
        if len(payload.encode()) > SYNC_LIMIT:
            return _too_large(SYNC_LIMIT).to(request)
        outcome = self.invoke(function, payload)
        headers = {"x-amz-executed-version": "$LATEST", "content-type": "application/json"}
        if outcome.failed:
            headers["x-amz-function-error"] = "Unhandled"
        return Answer(200, headers, outcome.payload.encode()).to(request)

    def _accept(self, function: Function, payload: str) -> Answer:
        if len(payload.encode()) > ASYNC_LIMIT:
            return _too_large(ASYNC_LIMIT)
        self.queued.append(Queued(function, payload, self.request_id()))
        self.on_queued()
        return Answer(202, {"content-type": "application/json"}, b"")

    # ---- running

    def request_id(self) -> str:
        """A new request id, decided by the seed."""
        return str(UUID(bytes=self._random.randbytes(16), version=4))

    def invoke(self, function: Function, payload: str, request_id: str | None = None) -> Outcome:
        """Run the function's handler in the calling thread. Never raises what the handler raises."""
        self._count += 1
        event = json.loads(payload)
        invocation = Invocation(
            self._count, function.name, function.label, request_id or self.request_id(), _run_of(event), wire=self.wire
        )
        self.on_begin(invocation, event)
        error: BaseException | None = None
        try:
            with self._turns.member_of(invocation):
                outcome = self._run(function, invocation, event)
        except BaseException as raised:
            error = raised
            outcome = Outcome(json.dumps(_described(raised, invocation)), failed=True)
            if not isinstance(raised, Exception):
                self._turns.doom(invocation)
                self._turns.bury()
                if not isinstance(raised, Crash | SystemExit):
                    raise
        self.on_end(invocation, outcome, error)
        return replace(outcome, invocation=invocation)

    def _run(self, function: Function, invocation: Invocation, event: Any) -> Outcome:
        handler = function.idle.pop() if function.idle else function.build()
        context = LambdaContext(invocation, function.arn, seconds=function.time_limit, clock=self._clock)
        with self._returned_alive(function, invocation, handler):
            answer = handler(event, context)
        try:
            payload = json.dumps(answer)
        except (TypeError, ValueError) as error:
            raise MarshalError(f"Unable to marshal response: {error}") from error
        if len(payload.encode()) > SYNC_LIMIT:
            raise ResponseSizeTooLarge(
                f"Response payload size exceeded maximum allowed payload size ({SYNC_LIMIT} bytes)."
            )
        return Outcome(payload)

    @contextmanager
    def _returned_alive(self, function: Function, invocation: Invocation, handler: Handler) -> Iterator[None]:
        """What happens to the environment: kept if the handler returned or raised, gone if the process died."""
        try:
            yield
        except Exception:
            self._freeze(function, invocation, handler)
            raise
        self._freeze(function, invocation, handler)

    def _freeze(self, function: Function, invocation: Invocation, handler: Handler) -> None:
        if invocation.dead:
            raise Crash  # one of its other threads brought the process down before the answer left it
        others = self._turns.companions(invocation)
        if others:
            self.leaks.append(f"{invocation} returned while its threads {', '.join(others)} were still running")
            self._turns.doom(invocation)
        else:
            function.idle.append(handler)

    def failure_record(self, queued: Queued, outcome: Outcome) -> dict[str, Any]:
        """What Lambda sends to the OnFailure destination of an asynchronous invocation that failed."""
        timestamp = datetime.fromtimestamp(self._clock.now(), UTC).isoformat(timespec="milliseconds")
        return {
            "version": "1.0",
            "timestamp": timestamp.replace("+00:00", "Z"),
            "requestContext": {
                "requestId": queued.request_id,
                "functionArn": f"{queued.function.arn}:$LATEST",
                "condition": "RetriesExhausted",
                "approximateInvokeCount": 1,
            },
            "requestPayload": json.loads(queued.payload),
            "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
            "responsePayload": json.loads(outcome.payload),
        }


class MarshalError(Exception):
    """A handler returned what cannot be written as JSON."""


class ResponseSizeTooLarge(Exception):
    """A handler returned more than Lambda carries."""


def _run_of(event: Any) -> str | None:
    run = event.get("run") if isinstance(event, Mapping) else None
    return run if isinstance(run, str) else None


def _described(error: BaseException, invocation: Invocation) -> dict[str, Any]:
    """How Lambda's Python runtime reports an error, or Lambda itself the end of the process."""
    if not isinstance(error, Exception):
        message = f"RequestId: {invocation.request_id} Error: Runtime exited with error: signal: killed"
        return {"errorType": "Runtime.ExitError", "errorMessage": message}
    names = {MarshalError: "Runtime.MarshalError", ResponseSizeTooLarge: "Function.ResponseSizeTooLarge"}
    return {
        "errorMessage": str(error),
        "errorType": names.get(type(error), type(error).__name__),
        "requestId": invocation.request_id,
        "stackTrace": traceback.format_tb(error.__traceback__),
    }


def _too_large(limit: int) -> Answer:
    message = f"Request must be smaller than {limit} bytes for the InvokeFunction operation"
    return Answer.error(413, "RequestTooLargeException", message)


def _text(payload: Any) -> str:
    raw = payload.read() if hasattr(payload, "read") else payload
    return raw.decode() if isinstance(raw, bytes | bytearray) else str(raw)
