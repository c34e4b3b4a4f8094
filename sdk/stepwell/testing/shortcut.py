"""DynamoDB's everyday requests, handed to moto without the detour that it takes by HTTP.

moto turns each request into one of werkzeug's, looks for who may answer it, parses it by the description of the service and
writes the answer by it again. That takes longer than what DynamoDB is asked to do, and these few operations are nearly all
that a world does. What moto refuses goes the long way after all, and is refused there in the words of the service.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import moto
from botocore.awsrequest import AWSPreparedRequest
from moto.core.exceptions import ServiceException
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.dynamodb.responses import DynamoHandler
from werkzeug.exceptions import HTTPException

from stepwell.testing.answers import Answer

KNOWN = ("5.2.5",)
"""The versions of moto whose inside this has been held against. With another one everything goes the long way."""
ACTIONS = {
    "BatchGetItem": "batch_get_item",
    "DeleteItem": "delete_item",
    "GetItem": "get_item",
    "PutItem": "put_item",
    "Query": "query",
    "TransactWriteItems": "transact_write_items",
    "UpdateItem": "update_item",
}


def answer(request: AWSPreparedRequest, region: str) -> Answer | None:
    """moto's answer to a request, None if it has to go the long way."""
    target: Any = request.headers.get("X-Amz-Target", "")
    service, _, operation = (target.decode() if isinstance(target, bytes) else target).partition(".")
    if operation not in ACTIONS or not service.startswith("DynamoDB_") or moto.__version__ not in KNOWN:
        return None
    body: Any = request.body
    handler = DynamoHandler()
    handler.region, handler.current_account = region, DEFAULT_ACCOUNT_ID
    handler.body = handler.params = json.loads(body, object_hook=_decoded)
    try:
        result = getattr(handler, ACTIONS[operation])().result
    except (ServiceException, HTTPException):
        return None
    return Answer(200, {"Content-Type": "application/x-amz-json-1.0"}, json.dumps(result, default=_encoded).encode())


def _decoded(value: dict[str, Any]) -> dict[str, Any]:
    """Binary values are written in base64 (DynamoDB, AttributeValue)."""
    if len(value) == 1 and type(value.get("B")) is str:
        return {"B": base64.b64decode(value["B"])}
    return value


def _encoded(value: Any) -> str:
    return base64.b64encode(value).decode()
