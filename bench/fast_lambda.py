"""Lambda at full speed: Stepwell's real handlers behind the real Lambda client, fed by real requests to SQS.

What AWS's Lambda service itself would take is not in it: an invocation begins at once, in a thread of this process.
Everything else is what runs in Lambda: the clients, their requests over the network, the engine.

SQS answers a long poll when a message arrives. ministack looks for one ten times a second, which would be most of what
is measured; so the pollers are told when something was sent, and ask then.
"""

from __future__ import annotations

import io
import json
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config as ClientConfig

from bench.apps import app
from bench.invocations import InvocationContext
from bench.ministack import session
from stepwell.client import Client
from stepwell.engine.registration import register
from stepwell.ports import Config, Ports
from stepwell_lambdas.consumer import handler as consumer
from stepwell_lambdas.orchestrator import handler as orchestrator
from stepwell_lambdas.worker import handler as worker

Handler = Callable[[Any, Any], Any]

WORKER = "worker"


class FastLambda:
    """The Lambdas of one Stepwell, from `open` to the end of its block."""

    def __init__(self, config: Config, *, pollers: int, workers: int) -> None:
        self._pollers = pollers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="worker")
        self._stopping = False
        self._sent = threading.Semaphore(0)
        self._changed = threading.Condition()
        self.ended = 0
        """Worker invocations that have ended."""
        self.outcomes: list[str] = []
        self.failures: list[BaseException] = []
        self._config = config
        aws = session()
        hooks = aws.get_component("event_emitter")
        hooks.register("before-send.lambda", self._invoked)
        hooks.register("after-call.sqs.SendMessage", self._arrived)
        hooks.register("after-call.sqs.SendMessageBatch", self._arrived)
        self.ports = Ports.build(aws, config)
        polling = ClientConfig(parameter_validation=False, max_pool_connections=pollers)
        self._sqs = session().create_client(
            "sqs", region_name=config.region, endpoint_url=config.endpoint_url, config=polling
        )
        self._handlers: dict[str, Handler] = {
            "consumer": consumer.make_handler(self.ports),
            "orchestrator": orchestrator.make_handler(self.ports),
            WORKER: worker.make_handler(self.ports, app),
        }
        self.client = Client(self.ports, default_group=app.id)
        register(self.ports, app.manifest(), {"default": WORKER})

    @contextmanager
    def open(self) -> Iterator[FastLambda]:
        """Poll the queue for as long as the block lasts."""
        # One of them also looks by itself, for delayed messages, which arrive without being announced.
        looking = (0.25, *[None] * (self._pollers - 1))
        threads = [threading.Thread(target=self._poll, args=(every,)) for every in looking]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stopping = True
            self._sent.release(self._pollers)
            for thread in threads:
                thread.join()
            self._pool.shutdown()
        if self.failures:
            raise RuntimeError(f"{len(self.failures)} handlers failed") from self.failures[0]

    def await_ended(self, count: int, seconds: float = 120.0) -> None:
        """Wait until so many worker invocations have ended. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.ended >= count or bool(self.failures), seconds):
                raise TimeoutError(f"only {self.ended} of {count} worker invocations have ended in {seconds:g} s")

    # ---- the event source mapping

    def _arrived(self, **_: Any) -> None:
        self._sent.release()

    def _poll(self, every: float | None) -> None:
        while not self._stopping:
            self._sent.acquire(timeout=every)
            while messages := self._receive():
                self._deliver(messages)

    def _receive(self) -> list[dict[str, Any]]:
        answer = self._sqs.receive_message(
            QueueUrl=self._config.queue_url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=0,
            MessageSystemAttributeNames=["All"],
        )
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        return messages

    def _deliver(self, messages: list[dict[str, Any]]) -> None:
        records = [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message.get("Attributes", {}),
                "messageAttributes": {},
                "eventSource": "aws:sqs",
            }
            for message in messages
        ]
        answer = self._run("consumer", {"Records": records})
        failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
        done = [message for message in messages if message["MessageId"] not in failed]
        if done:
            entries = [{"Id": str(n), "ReceiptHandle": each["ReceiptHandle"]} for n, each in enumerate(done)]
            self._sqs.delete_message_batch(QueueUrl=self._config.queue_url, Entries=entries)

    # ---- invocations

    def _run(self, function: str, event: Any) -> Any:
        try:
            return self._handlers[function](event, InvocationContext(function))
        except BaseException as error:
            self.failures.append(error)
            with self._changed:
                self._changed.notify_all()
            raise

    def _work(self, event: Any) -> None:
        answer = self._run(WORKER, event)
        with self._changed:
            self.ended += 1
            self.outcomes.append(answer["outcome"])
            self._changed.notify_all()

    def _invoked(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        """The answer to `Invoke`, in place of the network: the handler runs here, or soon in the pool."""
        function = urllib.parse.unquote(request.url.split("/functions/")[1].split("/")[0])
        event = json.loads(_bytes(request.body))
        if _text(request.headers.get("X-Amz-Invocation-Type")) == "Event":
            self._pool.submit(self._work, event)
            return _response(request.url, 202, b"")
        return _response(request.url, 200, json.dumps(self._run(function, event)).encode())


def _response(url: str, status: int, body: bytes) -> AWSResponse:
    headers: Any = {"x-amzn-requestid": str(uuid.uuid4()), "content-length": str(len(body))}
    return AWSResponse(url, status, headers, _Raw(body))


class _Raw(io.BytesIO):
    """A body as urllib3 gives it."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


def _bytes(body: Any) -> bytes:
    return body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else bytes(body.read())


def _text(header: Any) -> str:
    return header.decode() if isinstance(header, bytes) else str(header)


def clocked(action: Callable[[], Any]) -> float:
    """Seconds that the action takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
