"""The webhook door of a local world: requests in, through the real handler, as its Function URL would deliver them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from stepwell.codec import JSON
from stepwell.door.secrets import FixedSecrets, lines
from stepwell.ports import Ports
from stepwell.testing.world import World
from stepwell.webhooks import Webhook, config_of, webhooks_of
from stepwell_lambdas.api import handler as api

API_URL = "https://door.stepwell.test/"
"""Where the door of a local world is said to stand. Only `local.http` reaches it."""
_TEXT = ("text/", "application/json", "application/xml", "application/javascript")
"""Content types that a Function URL delivers as text; every other body comes in base64."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the door answered."""

    status: int
    headers: Mapping[str, str]
    body: str

    def json(self) -> JSON:
        """The body as a value."""
        return json.loads(self.body)


class LocalDoor:
    """The door of one world."""

    def __init__(
        self,
        world: World,
        ports: Callable[[], Ports],
        webhooks: Sequence[Webhook],
        secrets: Mapping[str, str],
    ) -> None:
        self._world = world
        self._webhooks = webhooks_of(config_of(webhooks))  # the way a deployment goes
        made_up = {webhook.secret: f"the local secret of {webhook.name}" for webhook in webhooks}
        self._secrets = {**made_up, **secrets}
        build = lambda: api.make_handler(ports(), self._webhooks, FixedSecrets(self._secrets))  # noqa: E731
        self._function = world.lambdas.add("stepwell-api", "api", build)

    def request(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str], query: Mapping[str, str] | None
    ) -> Reply:
        """Make a request. A handler that fails or dies is answered 502, as by AWS."""
        event = self._event(method, url, body, headers, query)
        outcome = self._world.lambdas.invoke(self._function, json.dumps(event))
        if outcome.failed:
            return Reply(502, {"content-type": "application/json"}, '{"Message":"Internal Server Error"}')
        answer = json.loads(outcome.payload)
        return Reply(answer["statusCode"], answer["headers"], answer["body"])

    def sign(self, name: str, body: bytes, headers: Mapping[str, str]) -> dict[str, str]:
        """The headers of a delivery, signed now with the source's first secret. Raises LookupError."""
        if name not in self._webhooks:
            raise LookupError(f"no webhook {name!r} here; there are {', '.join(sorted(self._webhooks)) or 'none'}")
        webhook = self._webhooks[name]
        secret = lines(self._secrets[webhook.secret])[0]
        return {**webhook.scheme.sign(secret, body, self._world.clock.now()), **headers}

    def _event(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str], query: Mapping[str, str] | None
    ) -> dict[str, Any]:
        """AWS Lambda developer guide, "Function URLs": request payload format."""
        parts = urlsplit(url)
        raw_query = "&".join(part for part in (parts.query, urlencode(query or {})) if part)
        path = "/" + quote(parts.path, safe="/%~").lstrip("/")
        lower = {name.lower(): value for name, value in headers.items()}
        text = _text(body) if lower.get("content-type", "").startswith(_TEXT) else None
        event: dict[str, Any] = {
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": path,
            "rawQueryString": raw_query,
            "headers": {"host": urlsplit(API_URL).netloc, "x-forwarded-proto": "https", **lower},
            "requestContext": {
                "accountId": "anonymous",
                "apiId": "door",
                "domainName": urlsplit(API_URL).netloc,
                "http": {
                    "method": method.upper(),
                    "path": path,
                    "protocol": "HTTP/1.1",
                    "sourceIp": "192.0.2.1",
                    "userAgent": lower.get("user-agent", "stepwell-local"),
                },
                "requestId": self._world.lambdas.request_id(),
                "routeKey": "$default",
                "stage": "$default",
                "time": self._world.clock.datetime().strftime("%d/%b/%Y:%H:%M:%S +0000"),
                "timeEpoch": round(self._world.clock.now() * 1000),
            },
            "isBase64Encoded": bool(body) and text is None,
        }
        if raw_query:
            event["queryStringParameters"] = dict(parse_qsl(raw_query, keep_blank_values=True))
        if body:
            event["body"] = base64.b64encode(body).decode() if text is None else text
        return event


def _text(body: bytes) -> str | None:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def body_of(value: Any) -> tuple[bytes, dict[str, str]]:
    """The bytes of a body that was given as a value, as text or as bytes, and the headers that go with it."""
    if value is None:
        return b"", {}
    if isinstance(value, bytes):
        return value, {}
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode(), {"content-type": "application/json"}
