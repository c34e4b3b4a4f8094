"""What DynamoDB answers is the same by moto's front door and past it."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from stepwell import Stepwell
from stepwell.testing import shortcut
from stepwell.testing.local import LocalStepwell

KEY = {"pk": {"S": "a"}, "sk": {"S": "b"}}


def ask(client: Any, operation: str, **asked: Any) -> Any:
    """The answer, or the refusal."""
    try:
        answer = getattr(client, operation)(**asked)
    except ClientError as error:
        refused = error.response
        return refused["Error"], [dict(each) for each in refused.get("CancellationReasons", [])], refused.get("Item")
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


def played(table: str, client: Any) -> list[Any]:
    """One of everything, told and refused; afterwards all is as before."""
    item = {
        **KEY,
        "words": {"S": "naïve ✓"},
        "bytes": {"B": b"\x00\xff"},
        "deep": {"M": {"B": {"S": "no bytes"}, "list": {"L": [{"B": b"in"}, {"N": "1.50"}, {"NULL": True}]}}},
        "some": {"BS": [b"1", b"2"]},
    }
    new = {"TableName": table, "Item": item, "ConditionExpression": "attribute_not_exists(pk)"}
    other = {**new, "Item": {**item, "sk": {"S": "other"}}}
    count = {
        "TableName": table,
        "Key": KEY,
        "UpdateExpression": "SET #n = if_not_exists(#n, :zero) + :one",
        "ConditionExpression": "attribute_exists(pk)",
        "ExpressionAttributeNames": {"#n": "n"},
        "ExpressionAttributeValues": {":zero": {"N": "0"}, ":one": {"N": "1"}},
    }
    whole = {
        "TableName": table,
        "KeyConditionExpression": "pk = :pk",
        "ExpressionAttributeValues": {":pk": {"S": "a"}},
    }
    return [
        ask(client, "get_item", TableName=table, Key=KEY),
        ask(client, "put_item", **new, ReturnConsumedCapacity="TOTAL"),
        ask(client, "put_item", **new, ReturnValuesOnConditionCheckFailure="ALL_OLD"),
        ask(client, "get_item", TableName=table, Key=KEY, ConsistentRead=True),
        ask(client, "update_item", **count, ReturnValues="ALL_NEW"),
        ask(client, "update_item", **{**count, "UpdateExpression": "SET"}),
        ask(client, "query", **whole),
        ask(client, "query", **whole, Limit=1, Select="COUNT"),
        ask(client, "query", **whole, IndexName="none"),
        ask(client, "batch_get_item", RequestItems={table: {"Keys": [KEY, {"pk": {"S": "c"}, "sk": {"S": "d"}}]}}),
        ask(client, "transact_write_items", TransactItems=[{"Put": other}, {"Put": new}]),
        ask(client, "transact_write_items", TransactItems=[{"Put": other}, {"Update": count}]),
        ask(client, "transact_write_items", TransactItems=[{"Update": count}, {"Put": new}]),
        ask(client, "query", **whole),
        ask(client, "delete_item", TableName=table, Key={**KEY, "sk": {"S": "other"}}),
        ask(client, "delete_item", TableName=table, Key=KEY, ReturnValues="ALL_OLD"),
        ask(client, "put_item", TableName="none", Item=item),
    ]


def test_everyday_requests_are_answered_alike_past_the_front_door(monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalStepwell(Stepwell("shop")) as local:
        table, client = local.world.aws.resources.table, local.world.session(counted=False).create_client("dynamodb")
        past = played(table, client)
        monkeypatch.setattr(shortcut, "KNOWN", ())
        assert past == played(table, client)


def test_the_pinned_moto_is_one_whose_inside_is_known() -> None:
    assert shortcut.moto.__version__ in shortcut.KNOWN
