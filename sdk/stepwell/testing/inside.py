"""moto and botocore, made fit for many threads and many worlds.

moto is not thread-safe (two threads lose updates), so one lock goes around everything it does. Clients that know nothing
of a world, such as a step's own boto3 client, pass through here as well, and so take part in it: the turn passes at their
calls, and their Lambda may die there.

What is changed is changed once per process and for good; outside of worlds it does nothing.
"""

from __future__ import annotations

import copy
import inspect
import re
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import moto.core.responses
import moto.dynamodb.models
import moto.dynamodb.parsing.ast_nodes
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.httpsession import URLLib3Session
from moto.core.botocore_stubber import BotocoreStubber
from moto.core.models import botocore_stubber
from moto.core.serialize import ResponseSerializer
from moto.core.utils import method_names_from_class, unix_time_millis
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.table import Table
from moto.sqs.exceptions import BatchRequestTooLong, SQSException
from moto.sqs.models import Message, SQSBackend, sqs_backends
from moto.sqs.models import Queue as SqsQueue
from moto.sqs.responses import SQSResponse

from stepwell.queue import MAX_BYTES
from stepwell.testing import shortcut
from stepwell.testing.accountant import message_size
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
_transact_write_items = DynamoDBBackend.transact_write_items
_table_query = Table.query
_send_message = SQSBackend.send_message
_send_message_batch = SQSBackend.send_message_batch
_put_message = SqsQueue.add_message
_receive = SQSResponse.receive_message
_SOURCE = "DeadLetterQueueSourceArn"
"""What SQS calls the queue that a dead letter was moved from (SQS API, ReceiveMessage)."""
_REFUSED = re.compile("[^\\x09\\x0a\\x0d\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")
"""What SQS does not take in the body or an attribute of a message (SQS API, SendMessage)."""
_PROCESSED: dict[type, tuple[type, ...]] = {}
_QUERY_TAKES = tuple(inspect.signature(Table.query).parameters)[1:]
_all_items = Table.all_items


def install() -> None:
    """Put the lock around moto."""
    BotocoreStubber.process_request = _passing  # type: ignore[method-assign, assignment]
    URLLib3Session.send = _sending  # type: ignore[method-assign, assignment]
    # Half of moto's time goes into two things that need not be done: listing the methods of a class anew for every
    # request, and looking for a DynamoDB value under all names it might have.
    moto.core.responses.method_names_from_class = cache(method_names_from_class)  # type: ignore[attr-defined]
    ResponseSerializer.get_value = _quick_value  # type: ignore[method-assign, assignment]
    # For every node of every expression, it asks anew which kinds of node are of interest.
    nodes: Any = moto.dynamodb.parsing.ast_nodes
    nodes.DepthFirstTraverser.nodes_to_be_processed = _processed
    # A transaction first copies the whole table, once for each item in it, to be able to put it back.
    moto.dynamodb.models.copy = _Copying()  # type: ignore[attr-defined, assignment]
    DynamoDBBackend.transact_write_items = _transact  # type: ignore[method-assign, assignment]
    # A query first sorts all items of the table, of whatever partition, and then sorts what it has chosen among them.
    Table.query = _query  # type: ignore[method-assign, assignment]
    Table.all_items = _candidates  # type: ignore[method-assign, assignment]
    # Each message that is sent counts all those in the queue, and asks for the time once or twice for each.
    SqsQueue.messages = property(_deliverable)  # type: ignore[method-assign, assignment]
    SqsQueue.approximate_number_of_messages_delayed = property(_delayed)  # type: ignore[method-assign, assignment]
    SqsQueue.approximate_number_of_messages_not_visible = property(_hidden)  # type: ignore[method-assign, assignment]
    # It also takes characters that SQS does not, and of the size of a message it counts the characters of the body alone.
    SQSBackend.send_message = _send_checked  # type: ignore[method-assign, assignment]
    SQSBackend.send_message_batch = _send_batch_checked  # type: ignore[method-assign, assignment]
    # A message that SQS moves to the dead letters says where it came from; one that somebody puts there does not.
    SqsQueue.add_message = _add_message  # type: ignore[method-assign, assignment]
    SQSResponse.receive_message = _receive_message  # type: ignore[method-assign, assignment]


class _Copying:
    """The module copy as moto's tables see it. Within a transaction a table is not copied: see `_transact`."""

    def __init__(self) -> None:
        self.keeps_tables = False

    def __getattr__(self, name: str) -> Any:
        return getattr(copy, name)

    def deepcopy(self, value: Any, memo: dict[int, Any] | None = None) -> Any:
        return value if self.keeps_tables and isinstance(value, Table) else copy.deepcopy(value, memo)


def _transact(backend: DynamoDBBackend, transact_items: list[dict[str, Any]]) -> None:
    """A transaction that puts back, if it fails, only what it has touched."""
    copying: _Copying = moto.dynamodb.models.copy  # type: ignore[attr-defined, assignment]
    requests = [next(iter(entry.values())) for entry in transact_items]
    keys = [request.get("Item") or request.get("Key") or {} for request in requests]
    tables = [backend.tables.get(request.get("TableName", "")) for request in requests]
    if None in tables or not all("pk" in key and "sk" in key for key in keys):  # somebody else's table
        return _transact_write_items(backend, transact_items)
    before = []
    for table, key in zip(tables, keys, strict=True):
        items: Any = table.items if table is not None else {}
        partition, place = DynamoType(key["pk"]), DynamoType(key["sk"])
        before.append((items, partition, place, copy.deepcopy(items.get(partition, {}).get(place))))
    copying.keeps_tables = True
    try:
        return _transact_write_items(backend, transact_items)
    except BaseException:
        for items, partition, place, item in before:
            if item is not None:
                items[partition][place] = item
            elif partition in items:
                items[partition].pop(place, None)
                if not items[partition]:
                    del items[partition]
        raise
    finally:
        copying.keeps_tables = False


_queried: list[tuple[DynamoType | None, str | None]] = []
"""The query under way, if there is one: its partition, and the name of its index. Moto does one thing at a time."""


def _query(table: Table, *args: Any, **more: Any) -> Any:
    given = dict(zip(_QUERY_TAKES, args, strict=False)) | more
    _queried.append((given.get("hash_key"), given.get("index_name")))
    try:
        return _table_query(table, *args, **more)
    finally:
        _queried.pop()


def _candidates(table: Table) -> list[Any]:
    """The items a query chooses from. Its own partition is enough, and since it sorts what it takes, any order will do."""
    if not _queried or not table.range_key_attr:
        return _all_items(table)
    hash_key, index_name = _queried[-1]
    if index_name is None:
        return list(table.items.get(hash_key, {}).values()) if hash_key is not None else []
    return [item for partition in table.items.values() for item in partition.values()]


def _deliverable(queue: SqsQueue) -> list[Message]:
    now = unix_time_millis()
    return [each for each in queue._messages if now > each.visible_at and now >= each.delayed_until]


def _delayed(queue: SqsQueue) -> int:
    now = unix_time_millis()
    return sum(1 for each in queue._messages if now < each.delayed_until)


def _hidden(queue: SqsQueue) -> int:
    now = unix_time_millis()
    return sum(1 for each in queue._messages if now <= each.visible_at)


def _send_checked(backend: SQSBackend, queue_name: str, message_body: str, **more: Any) -> Message:
    attributes = more.get("message_attributes") or {}
    texts = [message_body, *(str(each.get("StringValue", "")) for each in attributes.values())]
    if any(_REFUSED.search(text) for text in texts):
        raise SQSException("InvalidMessageContents", _NOT_ALLOWED)
    if _size(message_body, attributes) > MAX_BYTES:
        raise SQSException("InvalidParameterValue", _TOO_LONG)
    return _send_message(backend, queue_name, message_body, **more)


def _send_batch_checked(
    backend: SQSBackend, queue_name: str, entries: dict[str, dict[str, Any]]
) -> tuple[list[Message], list[dict[str, Any]]]:
    """Each entry is answered for by itself, but for the size of all of them."""
    size = sum(_size(entry["MessageBody"], entry.get("MessageAttributes") or {}) for entry in entries.values())
    if size > MAX_BYTES:
        raise BatchRequestTooLong(size)
    fit = {place: entry for place, entry in entries.items() if not _REFUSED.search(entry["MessageBody"])}
    sent, failed = _send_message_batch(backend, queue_name, fit) if fit else ([], [])
    refused = {"SenderFault": True, "Code": "InvalidMessageContents", "Message": _NOT_ALLOWED}
    return sent, [*failed, *({"Id": entry["Id"], **refused} for place, entry in entries.items() if place not in fit)]


def _size(body: str, attributes: dict[str, dict[str, Any]]) -> int:
    return message_size({"MessageBody": body, "MessageAttributes": attributes})


def _add_message(queue: SqsQueue, message: Message) -> None:
    # A new one has not been received; this one comes from the queue these letters are of.
    if message.approximate_receive_count:
        queues = sqs_backends[queue.account_id][queue.region].queues.values()
        source: Any = next((each for each in queues if each.dead_letter_queue is queue), None)
        if source is not None:
            message.system_attributes = {**message.system_attributes, _SOURCE: source.queue_arn}
    _put_message(queue, message)


def _receive_message(response: SQSResponse) -> Any:
    answered = _receive(response)
    wanted = {
        *(response._get_param("MessageSystemAttributeNames") or ()), *(response._get_param("AttributeNames") or ())
    }  # fmt: skip
    queue: Any = response.sqs_backend.get_queue(response._get_queue_name())
    sources = {
        each.id: each.system_attributes[_SOURCE] for each in queue._messages if _SOURCE in each.system_attributes
    }
    result: Any = answered.result
    for message in result.get("Messages", []):
        if message["MessageId"] in sources and wanted & {"All", _SOURCE}:
            message.setdefault("Attributes", {})[_SOURCE] = sources[message["MessageId"]]
    return answered


_NOT_ALLOWED = "The message contains characters outside the allowed set."
_TOO_LONG = f"One or more parameters are invalid. Reason: Message must be shorter than {MAX_BYTES} bytes."


def answer(request: AWSPreparedRequest, region: str) -> AWSResponse:
    """moto's answer to a request of a world's own client."""
    with LOCK:
        short = shortcut.answer(request, region)
        if short is not None:
            return short.to(request)
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


def _processed(traverser: Any) -> tuple[type, ...]:
    kind = type(traverser)
    if kind not in _PROCESSED:
        _PROCESSED[kind] = tuple(traverser._processing_map())
    return _PROCESSED[kind]


def named(request: AWSPreparedRequest) -> tuple[str, str]:
    """The service and operation of a request, as far as it tells."""
    signed = _SCOPE.search(_header(request, "Authorization"))
    operation = _header(request, "X-Amz-Target").rpartition(".")[2]
    return signed[1] if signed else request.url.split("/")[2], operation or str(request.method)


def _header(request: AWSPreparedRequest, name: str) -> str:
    value: Any = request.headers.get(name, "")
    return value.decode() if isinstance(value, bytes) else str(value)
