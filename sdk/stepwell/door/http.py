"""Requests and answers, as a Lambda Function URL carries them (payload format 2.0)."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import parse_qsl, unquote

from stepwell.codec import JSON, dumps, parse

_FORM = re.compile(rb"[A-Za-z0-9\-._~%!$&'()*+,;=:@/?]+")
"""What may stand in the query of a URL (RFC 3986, 3.4), of which a form is one."""
_BLANK = b" \t\r\n\v\f\0\xef\xbb\xbf"
"""What JSON may begin with: white space, a byte order mark, or half of a letter of UTF-16."""


class Refusal(Exception):
    """The request is answered with an error: a status, a code for programs, a sentence for people."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: JSON, always."""

    status: int
    body: JSON
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, refusal: Refusal) -> Response:
        """The answer to a request that is refused."""
        body = {"error": {"code": refusal.code, "message": refusal.message}}
        return cls(refusal.status, body, refusal.headers)

    def for_lambda(self) -> dict[str, Any]:
        """As a Function URL takes it."""
        headers = {"content-type": "application/json", "cache-control": "no-store", **self.headers}
        return {"statusCode": self.status, "headers": headers, "body": dumps(self.body), "isBase64Encoded": False}


@dataclass(frozen=True, slots=True)
class Request:
    """A request."""

    method: str
    path: str
    """Without the query, as it was sent: still percent-encoded."""
    query: Mapping[str, str]
    """The last value of each parameter."""
    headers: Mapping[str, str]
    """Names in lower case; several values of a name joined by commas, as the Function URL joins them."""
    body: bytes
    """The raw body: what was signed."""

    @classmethod
    def from_lambda(cls, event: Mapping[str, Any], *, limit: int) -> Request:
        """From a Function URL's event. Raises Refusal for a body of more than `limit` bytes, or one that cannot be read.

        The size is looked at before the body is decoded.
        """
        http = event["requestContext"]["http"]
        text, encoded = event.get("body") or "", bool(event.get("isBase64Encoded"))
        headers = {name.lower(): str(value) for name, value in (event.get("headers") or {}).items()}
        if (len(text) * 3 // 4 - 2 if encoded else len(text)) > limit:
            _too_large(limit)
        try:
            body = base64.b64decode(text, validate=True) if encoded else text.encode()
        except (binascii.Error, ValueError):  # ValueError: text that is no UTF-8
            raise Refusal(400, "bad-request", "The body cannot be read.") from None
        if len(body) > limit:
            _too_large(limit)
        query = dict(parse_qsl(event.get("rawQueryString") or "", keep_blank_values=True))
        return cls(http["method"].upper(), event.get("rawPath") or http["path"], query, headers, body)

    def segments(self) -> list[str]:
        """The parts of the path, decoded."""
        return [unquote(part) for part in self.path.split("/") if part]

    def parsed(self) -> JSON:
        """The body as a value: of a form, an object of texts; of anything else, its JSON. Raises Refusal.

        Which of them it is, its Content-Type says. So this is not for bodies that are signed: the header is not.
        """
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/x-www-form-urlencoded":
            try:
                return dict(parse_qsl(self.body.decode(), keep_blank_values=True))
            except ValueError:
                raise Refusal(400, "bad-request", "The form cannot be read.") from None
        return parse_json(self.body)


def parse_json(body: bytes | str) -> JSON:
    """The value of a JSON text. Raises Refusal for anything else, NaN and Infinity included, which are no JSON."""
    try:
        return parse(body)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else _place(error)
        raise Refusal(400, "not-json", f"The body is not JSON: {why}.") from None


def parse_form(body: bytes) -> list[tuple[str, str]] | None:
    """The fields of a form in their order, None if the body cannot be one whatever its Content-Type says.

    A form encodes all that a URL could not hold. So what is nearly JSON (NaN in it, or cut off) is no form: otherwise a
    text in it could pass for fields.
    """
    return parse_qsl(body.decode(), keep_blank_values=True) if body and _FORM.fullmatch(body) else None


def parse_loose_form(body: bytes) -> list[tuple[str, str]] | None:
    """The fields of a form as it is really sent: not all encode all that they should, and some end the line. None if it
    begins as JSON does, an object, list or text of it: of what is nearly JSON a text could pass for fields here, too."""
    if body.lstrip(_BLANK)[:1] in (b"{", b"[", b'"'):
        return None
    try:
        return parse_qsl(body.decode().removesuffix("\n").removesuffix("\r"), keep_blank_values=True)
    except ValueError:  # no UTF-8
        return None


def _place(error: ValueError) -> str:
    """Where JSON ends to be JSON, without a word of what stands there."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno}, column {error.colno}"
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else "a number in it is none"


def _too_large(limit: int) -> NoReturn:
    raise Refusal(413, "payload-too-large", f"The body is larger than {limit:,} bytes.")
