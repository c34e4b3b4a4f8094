"""Webhook sources as they are declared, written down for the door, and where their secrets come from."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError
from moto import mock_aws

from stepwell.door.http import Refusal, Request, parse_form, parse_loose_form
from stepwell.door.secrets import KNOWN, PAUSE, AwsSecrets, FixedSecrets
from stepwell.errors import InvalidOption, SecretUnavailable
from stepwell.testing.clock import VirtualClock
from stepwell.webhooks import GitHub, Hmac, Limit, StandardWebhooks, Stripe, Webhook, config_of, webhooks_of

ALL = [
    Webhook("github", GitHub(), secret="/s/github"),
    Webhook("stripe", Stripe("10m"), secret="secretsmanager:arn:aws:secretsmanager:eu-west-1:1:secret:s-a1b2c3"),
    Webhook("svix", StandardWebhooks(prefix="Svix-"), secret="/s/svix", limit=Limit(5, "1s")),
    Webhook("named", GitHub(), secret="/s/x", event="gh/{headers['x-github-event']}", where="has(body.action)"),
    Webhook(
        "other",
        Hmac("X-Sig", algorithm="sha512", encoding="base64", prefix="v1=", timestamp="X-Time", tolerance="1m"),
        secret="/s/other",
        event="{body.kind}/{body.state}",
        id=None,
        data="{'x': body.x}",
        ts="body.at",
        tenant="query.account",
        form=True,
    ),
]


def test_the_door_reads_what_was_declared() -> None:
    assert list(webhooks_of(config_of(ALL)).values()) == ALL


def test_what_is_usual_takes_no_room_in_the_environment() -> None:
    assert config_of(ALL[:1]) == '{"github":{"scheme":{"kind":"github"},"secret":"/s/github"}}'
    assert webhooks_of("") == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "GitHub"}, "lower-case"),
        ({"name": ""}, "lower-case"),
        ({"name": "a/b"}, "lower-case"),
        ({"secret": "my-secret"}, "not the secret itself"),
        ({"event": "video/{body."}, "braces"),
        ({"event": ""}, "braces"),
        ({"event": "a}b"}, "braces"),
        ({"event": "video ready/{body.id}"}, "white space"),
        ({"event": "video/{body.}"}, "expression 1 of event"),
        ({"event": "video/{event.data}"}, "undeclared"),
        ({"data": "body."}, "data"),
        ({"id": "delivery"}, "id"),
        ({"where": "1 +"}, "where"),
        ({"tenant": "?"}, "tenant"),
        ({"ts": "now("}, "ts"),
        ({"form": True}, "its forms are known"),
        ({"form": 1, "scheme": Stripe()}, "True or False"),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_is_declared(options: dict[str, Any], words: str) -> None:
    settings: dict[str, Any] = {"name": "x", "scheme": GitHub(), "secret": "/s", **options}
    with pytest.raises(InvalidOption, match=words):
        config_of([Webhook(**settings)])


@pytest.mark.parametrize("said", [{}, {"event": "a/b"}, {"id": "body.id"}])
def test_for_somebody_unknown_the_event_and_its_id_have_to_be_said(said: dict[str, str]) -> None:
    with pytest.raises(InvalidOption, match="event= and id="):
        Webhook("x", Hmac("X-Sig"), secret="/s", **said)


def test_a_name_stands_for_one_source() -> None:
    with pytest.raises(InvalidOption, match="github"):
        config_of([ALL[0], ALL[0]])


@pytest.mark.parametrize(
    ("text", "limit"), [("100/1s", Limit(100, 1)), ("6000/1m", Limit(6000)), ("1/1d", Limit(1, "1d"))]
)
def test_a_limit_is_read_and_written(text: str, limit: Limit) -> None:
    assert Limit.parse(text) == limit == Limit.parse(str(limit))


@pytest.mark.parametrize("text", ["", "100", "/1s", "x/1s", "0/1s", "10/", "10/100ms", "10/2d", "-1/1s"])
def test_a_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidOption):
        Limit.parse(text)


def test_reading_the_declarations_loads_no_expressions() -> None:
    """The door compiles one when the first delivery needs it; GitHub and Stripe need none."""
    program = f"""
import sys
from stepwell.webhooks import webhooks_of
import stepwell.door.serve
webhooks_of({config_of(ALL)!r})
assert "cel_expr_python" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def refusal(code: str, status: int) -> ClientError:
    """What a client raises for an answer that is an error."""
    answer: Any = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "GetParameter")


SILENCE: list[Exception] = [
    ConnectTimeoutError(endpoint_url="https://ssm.test"),
    EndpointConnectionError(endpoint_url="https://ssm.test"),
    refusal("ThrottlingException", 400),
    refusal("TooManyRequestsException", 429),
    refusal("InternalServerError", 500),
    refusal("ServiceUnavailable", 503),
]


def failing(patch: pytest.MonkeyPatch, error: Exception) -> list[str]:
    """Lets AWS answer no question for a secret any more; gives what it was asked for."""
    asked: list[str] = []

    def fetch(self: AwsSecrets, place: str) -> str:
        asked.append(place)
        raise error

    patch.setattr(AwsSecrets, "_fetch", fetch)
    return asked


class TestSecrets:
    @pytest.fixture
    def aws(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "testing")
        with mock_aws():
            yield

    @pytest.fixture
    def clock(self) -> VirtualClock:
        return VirtualClock(None)

    @pytest.fixture
    def secrets(self, aws: None, clock: VirtualClock) -> AwsSecrets:
        return AwsSecrets(botocore.session.get_session(), clock, region="us-east-1")

    def put(self, text: str) -> None:
        ssm = boto3.client("ssm", "us-east-1")
        ssm.put_parameter(Name="/s/github", Value=text, Type="SecureString", Overwrite=True)

    def test_a_parameter_is_read_one_secret_a_line(self, secrets: AwsSecrets) -> None:
        self.put("one\n\n two \n")
        assert secrets.get("/s/github") == ["one", "two"]

    def test_a_secret_of_secrets_manager_is_read_by_its_arn(self, secrets: AwsSecrets) -> None:
        made = boto3.client("secretsmanager", "us-east-1").create_secret(Name="s", SecretString="one")
        assert secrets.get(f"secretsmanager:{made['ARN']}") == ["one"]

    def test_a_new_secret_is_known_after_five_minutes(self, secrets: AwsSecrets, clock: VirtualClock) -> None:
        self.put("old")
        assert secrets.get("/s/github") == ["old"]
        self.put("old\nnew")
        assert secrets.get("/s/github") == ["old"]
        clock.set(clock.now() + KNOWN)
        assert secrets.get("/s/github") == ["old", "new"]

    @pytest.mark.parametrize("silence", SILENCE)
    def test_what_was_read_stays_good_while_aws_does_not_answer(
        self, secrets: AwsSecrets, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, silence: Exception
    ) -> None:
        self.put("one")
        assert secrets.get("/s/github") == ["one"]
        self.put("two")
        clock.set(clock.now() + KNOWN)
        with monkeypatch.context() as patch:
            asked = failing(patch, silence)
            assert [secrets.get("/s/github") for _ in range(5)] == [["one"]] * 5
            assert len(asked) == 1  # each would take a request seconds
            clock.set(clock.now() + PAUSE)
            assert secrets.get("/s/github") == ["one"]
            assert len(asked) == 2
        clock.set(clock.now() + PAUSE)
        assert secrets.get("/s/github") == ["two"]

    @pytest.mark.parametrize("silence", SILENCE)
    def test_what_was_never_read_is_unavailable_while_aws_does_not_answer(
        self, secrets: AwsSecrets, monkeypatch: pytest.MonkeyPatch, silence: Exception
    ) -> None:
        self.put("one")
        with monkeypatch.context() as patch:
            failing(patch, silence)
            with pytest.raises(SecretUnavailable, match="/s/github"):
                secrets.get("/s/github")
        assert secrets.get("/s/github") == ["one"]

    @pytest.mark.parametrize("code", ["ParameterNotFound", "ResourceNotFoundException", "AccessDeniedException"])
    def test_a_secret_that_was_taken_away_is_good_for_nothing(
        self, secrets: AwsSecrets, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, code: str
    ) -> None:
        self.put("one")
        assert secrets.get("/s/github") == ["one"]
        clock.set(clock.now() + KNOWN)
        with monkeypatch.context() as patch:
            failing(patch, refusal(code, 400))
            with pytest.raises(SecretUnavailable, match=code):
                secrets.get("/s/github")
            failing(patch, SILENCE[0])  # nor does it come back when AWS falls silent
            with pytest.raises(SecretUnavailable, match="/s/github"):
                secrets.get("/s/github")

    def test_a_secret_that_was_emptied_is_good_for_nothing(
        self, secrets: AwsSecrets, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.put("one")
        assert secrets.get("/s/github") == ["one"]
        self.put(" ")
        clock.set(clock.now() + KNOWN)
        with pytest.raises(SecretUnavailable, match="empty"):
            secrets.get("/s/github")
        failing(monkeypatch, SILENCE[0])
        with pytest.raises(SecretUnavailable):
            secrets.get("/s/github")

    def test_a_secret_that_is_not_there_or_empty_is_said(self, secrets: AwsSecrets) -> None:
        with pytest.raises(SecretUnavailable, match="/s/github"):
            secrets.get("/s/github")
        self.put(" \n ")
        with pytest.raises(SecretUnavailable, match="empty"):
            secrets.get("/s/github")
        with pytest.raises(SecretUnavailable, match="/s/x"):
            FixedSecrets({}).get("/s/x")


# AWS Lambda developer guide, "Function URLs": the request payload, shortened.
DOCUMENTED: dict[str, Any] = {
    "version": "2.0",
    "routeKey": "$default",
    "rawPath": "/my/path",
    "rawQueryString": "parameter1=value1&parameter1=value2&parameter2=value",
    "cookies": ["cookie1", "cookie2"],
    "headers": {"header1": "value1", "Header2": "value1,value2"},
    "queryStringParameters": {"parameter1": "value1,value2", "parameter2": "value"},
    "requestContext": {
        "accountId": "123456789012",
        "http": {
            "method": "POST",
            "path": "/my/path",
            "protocol": "HTTP/1.1",
            "sourceIp": "123.123.123.123",
            "userAgent": "agent",
        },
        "timeEpoch": 1583348638390,
    },
    "body": "Hello from client!",
    "pathParameters": None,
    "isBase64Encoded": False,
    "stageVariables": None,
}


class TestRequests:
    def test_the_documented_payload_is_read(self) -> None:
        request = Request.from_lambda(DOCUMENTED, limit=100)
        assert (request.method, request.segments()) == ("POST", ["my", "path"])
        assert request.query == {"parameter1": "value2", "parameter2": "value"}
        assert request.headers == {"header1": "value1", "header2": "value1,value2"}
        assert request.body == b"Hello from client!"

    def test_base64_is_undone(self) -> None:
        event = {**DOCUMENTED, "body": "SGVsbG8=", "isBase64Encoded": True}
        assert Request.from_lambda(event, limit=100).body == b"Hello"

    def test_what_may_be_left_out_is_nothing(self) -> None:
        event = {"requestContext": DOCUMENTED["requestContext"]}
        assert Request.from_lambda(event, limit=100) == Request("POST", "/my/path", {}, {}, b"")

    @pytest.mark.parametrize(
        ("body", "fields"),
        [
            (b"ok=yes&why=a+b&why=%C3%BC", [("ok", "yes"), ("why", "a b"), ("why", "ü")]),
            (b"alone", [("alone", "")]),
            (b"", None),
            (b'{"x": NaN, "text": "a&b=c"}', None),
            (b"[1e&b=c", None),
            (b"a=b&c=\xc3\xbc", None),
            (b"a=b&c=d e", None),
            (b"a=b\n", None),
        ],
    )
    def test_a_form_is_what_a_url_could_hold(self, body: bytes, fields: list[tuple[str, str]] | None) -> None:
        assert parse_form(body) == fields

    @pytest.mark.parametrize(
        ("body", "fields"),
        [
            (b"ok=yes&why=a+b&why=%C3%BC", [("ok", "yes"), ("why", "a b"), ("why", "ü")]),
            (b"a[0]=1&b=x", [("a[0]", "1"), ("b", "x")]),
            (b"a=x|y&b=d e", [("a", "x|y"), ("b", "d e")]),
            (b"a=\xc3\xbc", [("a", "ü")]),
            (b"a=b\r\n", [("a", "b")]),
            (b"", []),
            (b"a=\xff", None),
            (b'{"x": NaN, "text": "a&b=c"}', None),
            (b" \r\n\t[1e&b=c", None),
            (b'"a&b=c', None),
            (b'\xef\xbb\xbf {"x": NaN, "text": "a&b=c"}', None),
            ('{"x": NaN, "text": "a&b=c"}'.encode("utf-16-be"), None),
        ],
    )
    def test_a_form_as_it_is_really_sent_is_all_that_does_not_begin_as_json(
        self, body: bytes, fields: list[tuple[str, str]] | None
    ) -> None:
        assert parse_loose_form(body) == fields

    @pytest.mark.parametrize(
        ("body", "encoded"), [("x" * 11, False), ("ü" * 6, False), ("eHh4eHh4eHh4eHg=", True), ("x" * 10**6, True)]
    )
    def test_a_body_above_the_limit_is_refused(self, body: str, encoded: bool) -> None:
        with pytest.raises(Refusal) as refusal:
            Request.from_lambda({**DOCUMENTED, "body": body, "isBase64Encoded": encoded}, limit=10)
        assert refusal.value.status == 413
