"""Watches the calls that take effect: what each costs, and what the table holds after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepwell.testing.calls import Call
from stepwell.testing.itemsize import Attributes
from stepwell.testing.meter import Meter
from stepwell.testing.shadow import Image, Key, Shadow

Change = tuple[Key, Image | None, Image | None]
"""A write to the table that took effect: the item's key, its images before and after."""


def message_size(entry: Mapping[str, Any]) -> int:
    """Bytes of a message as SQS charges it: body and attributes."""
    size = len(entry.get("MessageBody", entry.get("Body", "")).encode())
    for name, value in entry.get("MessageAttributes", {}).items():
        size += len(name) + len(value["DataType"]) + len(value.get("StringValue", "").encode())
        size += len(value.get("BinaryValue", b""))
    return size


class Accountant:
    """Watches the wire: keeps the shadow of the table up to date and has the meter count what passes."""

    def __init__(self, meter: Meter, shadow: Shadow, table: str) -> None:
        self._meter = meter
        self._shadow = shadow
        self._table = table

    def account(self, call: Call, status: int, answer: Any) -> list[Change]:
        """Count one attempt; the writes to the table that took effect, each with its images before and after."""
        self._meter.request(call.service, call.operation)
        if call.service == "sqs":
            entries = call.params.get("Entries") or [call.params]
            self._meter.sqs(sum(message_size(entry) for entry in entries))
        if call.service != "dynamodb" or call.params.get("TableName", self._table) != self._table:
            return []
        return _DYNAMODB.get(call.operation, _ignore)(self, call.params, status, answer)

    def _put(self, params: Mapping[str, Any], status: int, answer: Any) -> list[Change]:
        key = _key(params["Item"])
        if status != 200:
            return self._refused(key, params["Item"], answer)
        return self._wrote(key, *self._shadow.put(key, params["Item"]))

    def _update(self, params: Mapping[str, Any], status: int, answer: Any) -> list[Change]:
        key = _key(params["Key"])
        if status != 200:
            return self._refused(key, None, answer)
        return self._wrote(key, *self._shadow.refresh(key))

    def _delete(self, params: Mapping[str, Any], status: int, answer: Any) -> list[Change]:
        key = _key(params["Key"])
        if status != 200:
            return self._refused(key, None, answer)
        return self._wrote(key, self._shadow.delete(key), None)

    def _transact(self, params: Mapping[str, Any], status: int, answer: Any) -> list[Change]:
        written = []
        for entry in params["TransactItems"]:
            ((verb, request),) = entry.items()
            key = _key(request["Item"] if verb == "Put" else request["Key"])
            if status != 200 or verb == "ConditionCheck":
                if status == 200 or "TransactionCanceled" in _code(answer()):
                    self._meter.refused_write(self._shadow.get(key), request.get("Item"), transactional=True)
                continue
            change: Change
            if verb == "Put":
                change = (key, *self._shadow.put(key, request["Item"]))
            elif verb == "Delete":
                change = (key, self._shadow.delete(key), None)
            else:
                change = (key, *self._shadow.refresh(key))
            self._meter.write(change[1], change[2], transactional=True)
            written.append(change)
        return written

    def _get(self, params: Mapping[str, Any], status: int, answer: Any) -> list[Change]:
        if status == 200:
            image = self._shadow.get(_key(params["Key"]))
            self._meter.read(image.size if image else 0, consistent=bool(params.get("ConsistentRead")))
        return []

    def _batch_get(self, params: Mapping[str, Any], status: int, answer: Any) -> list[Change]:
        if status == 200:
            for request in params["RequestItems"].values():
                for key in request["Keys"]:
                    image = self._shadow.get(_key(key))
                    self._meter.read(image.size if image else 0, consistent=bool(request.get("ConsistentRead")))
        return []

    def _query(self, params: Mapping[str, Any], status: int, answer: Any) -> list[Change]:
        if status == 200:
            size = 0
            for item in answer().get("Items", []):
                image = self._shadow.get(_key(item))
                if image is not None:
                    size += image.index_size if "IndexName" in params else image.size
            self._meter.read(size, consistent=bool(params.get("ConsistentRead")))
        return []

    def _batch_write(self, params: Mapping[str, Any], status: int, answer: Any) -> list[Change]:
        written = []
        for request in params["RequestItems"].get(self._table, []) if status == 200 else []:
            if "PutRequest" in request:
                item = request["PutRequest"]["Item"]
                written += self._wrote(_key(item), *self._shadow.put(_key(item), item))
            else:
                key = _key(request["DeleteRequest"]["Key"])
                written += self._wrote(key, self._shadow.delete(key), None)
        return written

    def _wrote(self, key: Key, before: Image | None, after: Image | None) -> list[Change]:
        self._meter.write(before, after)
        return [(key, before, after)]

    def _refused(self, key: Key, offered: Attributes | None, answer: Any) -> list[Change]:
        if "ConditionalCheckFailed" in _code(answer()):  # other errors are free
            self._meter.refused_write(self._shadow.get(key), offered)
        return []


def _key(attributes: Mapping[str, Any]) -> Key:
    return attributes["pk"]["S"], attributes["sk"]["S"]


def _code(body: Mapping[str, Any]) -> str:
    return str(body.get("__type", ""))


def _ignore(accountant: Accountant, params: Mapping[str, Any], status: int, answer: Any) -> list[Change]:
    return []


_DYNAMODB = {
    "PutItem": Accountant._put,
    "UpdateItem": Accountant._update,
    "DeleteItem": Accountant._delete,
    "TransactWriteItems": Accountant._transact,
    "GetItem": Accountant._get,
    "BatchGetItem": Accountant._batch_get,
    "Query": Accountant._query,
    "BatchWriteItem": Accountant._batch_write,
}
