"""What the webhook door refuses, table by table, all in one world: none of it may leave an event behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from stepwell import Stepwell
from stepwell.door.secrets import FixedSecrets
from stepwell.testing import LocalStepwell
from stepwell.webhooks import Hmac, Webhook
from stepwell_lambdas.api.handler import make_handler

from .test_door import DELIVERY, WEBHOOKS, refused

CHOOSY = Webhook(
    "choosy",
    Hmac("X-Signature"),
    secret="/secrets/choosy",
    event="choosy/told",
    id=None,
    where="body.status != 'progress' && body.wei > 1",
)
ENDLESS = Webhook(
    "endless",
    Hmac("X-Signature"),
    secret="/secrets/endless",
    event="endless/told",
    id=None,
    where="body.l.all(a, body.l.all(b, body.l.all(c, a + b + c >= 0)))",
)


@pytest.fixture(scope="module")
def world(endpoint: str | None) -> Iterator[LocalStepwell]:
    """A world whose door has been tried by all tests before."""
    with LocalStepwell(Stepwell("shop"), webhooks=[*WEBHOOKS, CHOOSY, ENDLESS], endpoint_url=endpoint) as local:
        yield local


@pytest.fixture
def local(world: LocalStepwell) -> Iterator[LocalStepwell]:
    """The world; at the end nothing may have come of the test."""
    yield world
    world.run_until_idle()
    assert list(world.client.events()) == []
    assert world.dead_letters() == []


class TestEvents:
    @pytest.mark.parametrize("key", ["", "swk_", "swk_0000", "x" * 5000, "%00", "é", "%F0%9F%98%80", "KEYS", "*"])
    def test_a_key_that_is_none_opens_nothing(self, local: LocalStepwell, key: str) -> None:
        real = local.event_key()
        for wrong in (key, real[:-1], real + "x", real.swapcase()):
            reply = local.http("POST", f"/e/{wrong}", body={"name": "order/a", "data": {}})
            refused(reply, 401, "unauthorized")

    @pytest.mark.parametrize(
        ("body", "code", "says"),
        [
            (b"", "not-json", "line 1"),
            (b"not json", "not-json", "line 1"),
            (b"\xff\xfe\x00", "not-json", "not"),
            (b'{"name": "order/a", "data": {"x": NaN}}', "not-json", "number"),
            (b"[" * 100_000, "not-json", "deeply"),
            (b"null", "invalid-event", "not null"),
            (b'"text"', "invalid-event", "not text"),
            (b"{}", "invalid-event", "needs a name"),
            (b'{"name": "order/a"}', "invalid-event", "data must be"),
            (b'{"name": "order a", "data": {}}', "invalid-event", "white space"),
            (b'{"name": "order/a", "data": []}', "invalid-event", "not a list"),
            (b'{"name": "order/a", "data": {}, "id": 5}', "invalid-event", "event id"),
            (b'{"name": "order/a", "data": {}, "ts": "soon"}', "invalid-event", "ISO 8601"),
            (b'{"name": "order/a", "data": {}, "tenant": " "}', "invalid-event", "tenant"),
            (b'{"name": "order/a", "data": {"x": "\\ud800"}}', "not-serializable", "Not JSON"),
            (b'{"name": "order/a", "data": {"x": [1e999]}}', "not-serializable", "x[0] is inf"),
            (b'{"name": "order/a\\ud800", "data": {}}', "invalid-event", "white space"),
            (b'{"name": "order/a", "data": {}, "ts": 281474976710655}', "invalid-event", "after 9999"),
            (b'{"name": "order/a", "data": {}, "ts": "9999-01-01"}', "invalid-event", "366 days ahead"),
            (b'{"name": "order/a", "data": {}, "ts": -1}', "invalid-event", "before 1970"),
            (b'{"name": "order/a", "data": {"x": ' + b"[" * 100 + b"]" * 100 + b"}}", "invalid-event", "100 deep"),
            (b'{"name": "order/a", "data_ref": "events/x/y"}', "invalid-event", "not for senders"),
            (b'{"stepwell": "look", "run": "shop.1"}', "invalid-event", "needs a name"),
            (b"[]", "invalid-event", "1 to 100"),
            (json.dumps([{"name": "order/a", "data": {}}] * 101).encode(), "invalid-event", "1 to 100"),
        ],
    )
    def test_what_is_no_event_is_refused_with_its_reason(
        self, local: LocalStepwell, body: bytes, code: str, says: str
    ) -> None:
        url, headers = f"/e/{local.event_key()}", {"content-type": "application/json"}
        assert says in refused(local.http("POST", url, body=body, headers=headers), 400, code).body
        assert says in refused(local.http("POST", url, body=body), 400, code).body  # the same, delivered as base64

    @pytest.mark.parametrize(("size", "status"), [(1_048_576, 403), (1_048_577, 413), (5_000_000, 413)])
    @pytest.mark.parametrize("kind", ["application/json", "application/octet-stream"])
    def test_a_body_above_the_limit_is_refused(self, local: LocalStepwell, size: int, status: int, kind: str) -> None:
        empty = json.dumps({"name": "order/a", "data": {"text": ""}})
        body = empty.replace('""', f'"{"x" * (size - len(empty))}"').encode()
        assert len(body) == size
        headers = {"content-type": kind}
        key = local.event_key(events=["other"])  # so that one of the right size is refused, too, but for its name
        assert local.http("POST", f"/e/{key}", body=body, headers=headers).status == status


class TestDeliveries:
    @pytest.mark.parametrize(
        ("name", "body", "headers", "code", "says"),
        [
            ("clerk", b"not json", {}, "not-json", "line 1"),
            ("github", b"not json", {"X-GitHub-Delivery": "d"}, "not-json", "line 1"),
            ("github", b'{"x": NaN}', {"X-GitHub-Event": "push"}, "not-json", "a number in it is none"),
            ("github", b'{"x": 1e999}', {"X-GitHub-Event": "push"}, "not-serializable", "x is inf"),
            ("github", b'{"x": "\\ud800"}', {"X-GitHub-Event": "push"}, "not-serializable", "x holds half"),
            ("stripe", {"type": "a.b"}, {}, "invalid-event", "no id"),
            ("video-house", {**DELIVERY, "delivery": None}, {}, "invalid-event", "id: 'body.delivery' gives no text"),
            ("video-house", {"status": "ready"}, {}, "invalid-event", "data: "),
            ("video-house", {**DELIVERY, "status": {}}, {}, "invalid-event", "event: 'body.status' gives no text"),
            ("video-house", {**DELIVERY, "at": "soon"}, {}, "invalid-event", "ts"),
            ("video-house", {**DELIVERY, "account": "ü"}, {}, "invalid-event", "tenant"),
        ],
    )
    def test_a_genuine_delivery_that_makes_no_event_says_why_and_is_logged(
        self,
        local: LocalStepwell,
        caplog: pytest.LogCaptureFixture,
        name: str,
        body: Any,
        headers: dict[str, str],
        code: str,
        says: str,
    ) -> None:
        url = f"/w/{name}" + ("?account=1" if says.startswith(("event", "id", "ts", "tenant")) else "")
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        signed = local._door.sign(name, raw, {"content-type": "application/json", **headers})
        assert says in refused(local.http("POST", url, body=raw, headers=signed), 422, code).body
        assert [getattr(entry, "stepwell", None) for entry in caplog.records] == ["webhook-unusable"]

    def test_a_delivery_that_lacks_the_field_a_condition_looks_at_is_answered_and_forgotten(
        self, local: LocalStepwell, caplog: pytest.LogCaptureFixture
    ) -> None:
        for body in ({}, {"status": "done"}, {"status": "done", "wei": "1"}, [], {"status": "progress"}):
            reply = local.webhook("choosy", body)
            assert (reply.status, reply.json()) == (202, {"ids": [], "ignored": True})
        assert caplog.records == []

    def test_a_delivery_for_which_a_condition_cannot_be_evaluated_is_refused_and_somebody_is_told(
        self, local: LocalStepwell, caplog: pytest.LogCaptureFixture
    ) -> None:
        reply = refused(local.webhook("endless", {"l": list(range(100))}), 422, "invalid-event")
        assert "where: 'body.l.all(a, " in reply.body
        assert "budget" in reply.body
        assert [getattr(entry, "stepwell", None) for entry in caplog.records] == ["webhook-unusable"]
        assert local.webhook("endless", {}).json()["ignored"] is True


class TestCallbacks:
    @pytest.mark.parametrize(
        "token",
        [
            "a" * 2100 + "~YQ~x",
            "shop." + "0" * 26 + "~" + "YQ" * 5000 + "~x",
            "~YQ~x",
            "a%00~YQ~x",
            "%ff~YQ~x",
            "%ed%a0%80~YQ~x",
            "shop.x~YQ~x",
            "SHOP.01KDVDNA00Q7JY7EJWQZ60DMEE~YQ~x",
            "shop.01KDVDNA00Q7JY7EJWQZ60DMEE~%ff~x",
            "shop.01KDVDNA00Q7JY7EJWQZ60DMEE",
            "~~~~",
        ],
    )
    def test_what_cannot_be_a_token_is_not_even_looked_for(
        self, local: LocalStepwell, caplog: pytest.LogCaptureFixture, token: str
    ) -> None:
        before = len(local.world.calls)
        for method, end in (("GET", ""), ("POST", ""), ("POST", "/fail"), ("POST", "/heartbeat")):
            refused(local.http(method, f"/c/{token}{end}"), 404, "unknown-callback")
        assert len(local.world.calls) == before
        assert caplog.records == []


class TestRoutes:
    @pytest.mark.parametrize(
        ("method", "path", "status", "code"),
        [
            ("GET", "/", 404, "not-found"),
            ("POST", "/favicon.ico", 404, "not-found"),
            ("POST", "/w", 404, "not-found"),
            ("POST", "/c", 404, "not-found"),
            ("POST", "/e/a/b", 404, "not-found"),
            ("POST", "/c/token/other", 404, "not-found"),
            ("POST", "/../w/github/../..", 404, "not-found"),
            ("GET", "/w/github", 405, "method-not-allowed"),
            ("GET", "/e/key", 405, "method-not-allowed"),
            ("OPTIONS", "/e/key", 405, "method-not-allowed"),
            ("PUT", "/c/token", 405, "method-not-allowed"),
            ("GET", "/c/token/fail", 405, "method-not-allowed"),
        ],
    )
    def test_what_is_not_there_is_said_in_json(
        self, local: LocalStepwell, method: str, path: str, status: int, code: str
    ) -> None:
        reply = refused(local.http(method, path), status, code)
        assert reply.headers["content-type"] == "application/json"
        assert (code == "method-not-allowed") is ("allow" in reply.headers)

    def test_nothing_is_cached_on_the_way(self, local: LocalStepwell) -> None:
        assert local.http("GET", "/").headers["cache-control"] == "no-store"

    def test_a_body_that_is_not_base64_is_refused(self, local: LocalStepwell) -> None:
        handler = make_handler(local.client._ports, {}, FixedSecrets({}), max_body=100)
        http = {"http": {"method": "POST", "path": "/e/x"}}
        answer = handler({"requestContext": http, "rawPath": "/e/x", "body": "%%%", "isBase64Encoded": True}, None)
        assert (answer["statusCode"], json.loads(answer["body"])["error"]["code"]) == (400, "bad-request")
