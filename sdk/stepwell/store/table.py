"""DynamoDB as a handful of verbs over plain dictionaries.

Only the types items use are converted, by hand: boto3's own converter is several times slower and turns numbers into
Decimal. Numbers are whole.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from botocore.exceptions import ClientError

from stepwell.store.layout import LAST, STATUS_VALUES

Item = dict[str, Any]

INDEX = "due"
TABLE_SPEC: dict[str, Any] = {
    "AttributeDefinitions": [
        {"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk", "due_pk", "due_sk")
    ],
    "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
    "GlobalSecondaryIndexes": [
        {
            "IndexName": INDEX,
            "KeySchema": [
                {"AttributeName": "due_pk", "KeyType": "HASH"},
                {"AttributeName": "due_sk", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "KEYS_ONLY"},
        }
    ],
    "BillingMode": "PAY_PER_REQUEST",
}
"""What CreateTable takes, without the name."""
TTL_ATTRIBUTE = "ttl"
MOST_ITEMS = 10_000
"""Asked for in one page: about so many of the smallest fit."""

_NAME = re.compile(r"#(\w+)")
_VALUE = re.compile(r":\w+")


class Lost(Exception):
    """A conditional write was refused. `item` is what stands there, None if nothing does."""

    def __init__(self, item: Item | None) -> None:
        super().__init__("the condition did not hold")
        self.item = item


CONFLICTS = 8
"""How often a write that met another's transaction on the same item is tried again, before it is left to whoever asked."""
CONFLICT = "TransactionConflictException"
"""What a plain write gets that meets a transaction. The SDK does not try it again (botocore's retry rules)."""


def short_pause(attempt: int) -> None:
    """Sleep for some milliseconds, the longer the more attempts there were; a second at most."""
    time.sleep(random.uniform(0.25, 1.0) * min(0.64, 0.01 * 2.0**attempt))


class Table:
    """One table. Every write says on what it depends; a refused one raises Lost with the winner."""

    def __init__(self, client: Callable[[], Any], name: str, *, pause: Callable[[int], None] = short_pause) -> None:
        self.client = client
        self.name = name
        self.pause = pause
        """Before a write that met a transaction is tried again; given how often it has met one."""

    def get(self, pk: str, sk: str, *, consistent: bool = True) -> Item | None:
        """One item; strongly consistent unless told otherwise."""
        answer = self.client().get_item(
            TableName=self.name, Key={"pk": {"S": pk}, "sk": {"S": sk}}, ConsistentRead=consistent
        )
        found = answer.get("Item")
        return unmarshal(found) if found else None

    def put(self, item: Item, *, if_: str | None = None, values: Mapping[str, Any] | None = None) -> None:
        """Replace the item. Atomic; raises Lost if the condition does not hold."""
        request: dict[str, Any] = {"TableName": self.name, "Item": marshal(item)}
        self._write(self.client().put_item, request, if_, values)

    def update(
        self,
        pk: str,
        sk: str,
        *,
        set_: Mapping[str, Any] | None = None,
        remove: Sequence[str] = (),
        add: Mapping[str, Any] | None = None,
        if_: str | None = None,
        values: Mapping[str, Any] | None = None,
        returning: str = "ALL_NEW",
    ) -> Item:
        """Change attributes of an item and give back the whole of it as it is now.

        Atomic; raises Lost if the condition does not hold.
        """
        expression, names, changed = update_parts(set_ or {}, remove, add or {})
        given = {**(values or {}), **changed}
        request: dict[str, Any] = {
            "TableName": self.name,
            "Key": {"pk": {"S": pk}, "sk": {"S": sk}},
            "UpdateExpression": expression,
            "ReturnValues": returning,
        }
        answer = self._write(self.client().update_item, request, if_, given, names)
        return unmarshal(answer.get("Attributes", {}))

    def delete(self, pk: str, sk: str) -> None:
        """Remove the item if it is there."""
        self.client().delete_item(TableName=self.name, Key={"pk": {"S": pk}, "sk": {"S": sk}})

    def put_many(self, items: Iterable[Item]) -> None:
        """Write items under keys that nobody else writes. Neither atomic nor conditional; asks again for what was left."""
        rest, refusals = [{"PutRequest": {"Item": marshal(item)}} for item in items], 0
        while rest:
            asked, rest = rest[:25], rest[25:]  # the most that a request takes (DynamoDB API, BatchWriteItem)
            answer = self.client().batch_write_item(RequestItems={self.name: asked})
            if left := answer.get("UnprocessedItems", {}).get(self.name, []):
                self.pause(refusals)  # it is throttled
                refusals, rest = refusals + 1, rest + left

    def query(
        self,
        pk: str,
        *,
        prefix: str | None = None,
        between: tuple[str, str] | None = None,
        after: str = "",
        consistent: bool = True,
        newest_first: bool = False,
        page: int | None = None,
        first_page: int | None = None,
    ) -> Iterator[Item]:
        """The items of a partition in the order of their sort keys; of those only what stands behind `after`, if it is given.

        Page by page: 1 MB each, or `page` items; or `first_page` items, then four times as many, and so on.
        """
        if after:
            lowest, highest = between or (prefix or "", (prefix or "") + LAST)
            prefix, between = None, (max(lowest, after), highest)
        limit = {} if page is None else {"Limit": page}
        more = {"ConsistentRead": consistent, "first_page": first_page, **limit}
        for item in self._query("pk", "sk", pk, prefix, between, None, newest_first, **more):
            if item["sk"] != after:  # which BETWEEN includes
                yield item

    def query_index(
        self,
        pk: str,
        *,
        between: tuple[str, str] | None = None,
        newest_first: bool = False,
        first_page: int | None = None,
    ) -> Iterator[Item]:
        """The keys of the items in a partition of the index. Eventually consistent: read the item before acting.

        Page by page: 1 MB each, or `first_page` keys, then four times as many, and so on.
        """
        yield from self._query("due_pk", "due_sk", pk, None, between, INDEX, newest_first, first_page=first_page)

    def batch_get(self, keys: Iterable[tuple[str, str]]) -> list[Item]:
        """Those of the items that exist, strongly consistent, in no order. Asks again for what was left over."""
        found: list[Item] = []
        rest, refusals = [{"pk": {"S": pk}, "sk": {"S": sk}} for pk, sk in dict.fromkeys(keys)], 0
        while rest:
            asked, rest = rest[:100], rest[100:]
            answer = self.client().batch_get_item(RequestItems={self.name: {"Keys": asked, "ConsistentRead": True}})
            items = answer["Responses"].get(self.name, [])
            found += [unmarshal(item) for item in items]
            left = answer.get("UnprocessedKeys", {}).get(self.name, {}).get("Keys", [])
            if left and not items:  # it is throttled; otherwise the answer was only full
                self.pause(refusals)
                refusals += 1
            rest += left
        return found

    def _query(
        self,
        pk_name: str,
        sk_name: str,
        pk: str,
        prefix: str | None,
        between: tuple[str, str] | None,
        index: str | None,
        newest_first: bool,
        first_page: int | None,
        **more: Any,
    ) -> Iterator[Item]:
        condition, given = "#p = :p", {":p": {"S": pk}}
        names = {"#p": pk_name}
        if prefix is not None:
            condition += " AND begins_with(#s, :s)"
            given[":s"] = {"S": prefix}
        if between is not None:
            condition += " AND #s BETWEEN :a AND :b"
            given |= {":a": {"S": between[0]}, ":b": {"S": between[1]}}
        if len(given) > 1:
            names["#s"] = sk_name
        request: dict[str, Any] = {
            "TableName": self.name,
            "KeyConditionExpression": condition,
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": given,
            "ScanIndexForward": not newest_first,
            **more,
        }
        if index:
            request["IndexName"] = index
        if first_page is not None:
            request["Limit"] = first_page
        while True:
            page = self.client().query(**request)
            for item in page["Items"]:
                yield unmarshal(item)
            if not page.get("LastEvaluatedKey"):
                return
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]
            if first_page is not None:
                request["Limit"] = min(4 * request["Limit"], MOST_ITEMS)

    def _write(
        self,
        call: Any,
        request: dict[str, Any],
        condition: str | None,
        values: Mapping[str, Any] | None,
        names: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        given, named = dict(values or {}), dict(names or {})
        if condition:
            request["ConditionExpression"] = condition
            request["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
            names_in, values_in = condition_parts(condition)
            named |= names_in
            given |= values_in
        if named:
            request["ExpressionAttributeNames"] = named
        if given:
            request["ExpressionAttributeValues"] = values_of(given)
        attempt = 0
        while True:
            try:
                answer: dict[str, Any] = call(**request)
            except ClientError as error:
                code = error.response.get("Error", {}).get("Code")
                if code == CONFLICT and attempt < CONFLICTS:
                    self.pause(attempt)
                    attempt += 1
                    continue
                if code != "ConditionalCheckFailedException":
                    raise
                stands: Any = error.response.get("Item")
                raise Lost(unmarshal(stands) if stands else None) from None
            return answer


def update_parts(
    set_: Mapping[str, Any], remove: Sequence[str], add: Mapping[str, Any], absent: Mapping[str, Any] | None = None
) -> tuple[str, dict[str, str], dict[str, Any]]:
    """An update expression, with its names and values. `absent` is set where nothing of that name stands yet."""
    names: dict[str, str] = {}
    given: dict[str, Any] = {}

    def parts(changes: Mapping[str, Any], form: str) -> list[str]:
        names.update({"#" + attribute: attribute for attribute in changes})
        given.update({":s_" + attribute: value for attribute, value in changes.items()})
        return [form.format(attribute) for attribute in changes]

    sets = parts(set_, "#{0} = :s_{0}") + parts(absent or {}, "#{0} = if_not_exists(#{0}, :s_{0})")
    clauses = [("SET", sets), ("ADD", parts(add, "#{0} :s_{0}"))]
    if remove:
        names.update({"#" + attribute: attribute for attribute in remove})
        clauses.append(("REMOVE", ["#" + attribute for attribute in remove]))
    return " ".join(f"{keyword} {', '.join(written)}" for keyword, written in clauses if written), names, given


def values_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of an expression in DynamoDB's notation."""
    return {name: _value(value) for name, value in given.items()}


@lru_cache(maxsize=64)
def condition_parts(condition: str) -> tuple[dict[str, str], dict[str, str]]:
    """The names a condition uses, and those of its values that are states."""
    return (
        {"#" + name: name for name in _NAME.findall(condition)},
        {value: STATUS_VALUES[value] for value in _VALUE.findall(condition) if value in STATUS_VALUES},
    )


def marshal(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item in DynamoDB's notation. None is left out: an absent attribute costs nothing."""
    return {name: _value(value) for name, value in item.items() if value is not None}


def unmarshal(item: Mapping[str, Any]) -> Item:
    """The other way round."""
    return {name: _plain(value) for name, value in item.items()}


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int):
        return {"N": str(value)}
    if isinstance(value, bytes):
        return {"B": value}
    if isinstance(value, Mapping):
        return {"M": marshal(value)}
    if isinstance(value, set | frozenset):
        return {"SS": sorted(value)}
    if isinstance(value, list | tuple):
        return {"L": [_value(element) for element in value]}
    if value is None:
        return {"NULL": True}
    raise TypeError(f"no DynamoDB type for {value!r}")


def _plain(value: Mapping[str, Any]) -> Any:
    kind, inner = next(iter(value.items()))
    if kind == "N":
        return int(inner) if "." not in inner else float(inner)
    if kind == "M":
        return unmarshal(inner)
    if kind == "L":
        return [_plain(element) for element in inner]
    if kind == "SS":
        return set(inner)
    if kind == "NULL":
        return None
    if kind == "B":
        return bytes(inner)
    return inner
