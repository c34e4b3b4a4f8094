"""Answers made up here instead of by an emulator."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from botocore.awsrequest import AWSPreparedRequest, AWSResponse


class _Body(BytesIO):
    """A body that can be read in the two ways botocore reads one."""

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        while piece := self.read():
            yield piece


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @classmethod
    def json(cls, body: Mapping[str, Any]) -> Answer:
        """A successful answer of a service that speaks JSON."""
        return cls(200, {"content-type": "application/x-amz-json-1.0"}, json.dumps(body).encode())

    @classmethod
    def error(cls, status: int, code: str, message: str) -> Answer:
        """A refusal."""
        headers = {"content-type": "application/json", "x-amzn-errortype": code}
        return cls(status, headers, json.dumps({"__type": code, "message": message, "Message": message}).encode())

    def to(self, request: AWSPreparedRequest) -> AWSResponse:
        """As botocore wants it."""
        headers: Any = dict(self.headers)  # botocore makes its own kind of it
        return AWSResponse(request.url, self.status, headers, _Body(self.body))
