"""The webhook door, through its real handler: what comes in, what is kept out, and what becomes of it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

import boto3
import botocore.session
import pytest

from stepwell import Callback, Context, RunStatus, StepError, StepTimeout, Stepwell
from stepwell.door.secrets import AwsSecrets
from stepwell.errors import InvalidOption
from stepwell.testing import Fault, FaultKind, FaultPlan, LocalStepwell, Reply
from stepwell.testing.door import API_URL
from stepwell.webhooks import GitHub, Hmac, Limit, StandardWebhooks, Stripe, Webhook
from stepwell_lambdas.api.handler import make_handler

from .sealing import encrypted
from .support import Deploy, run_of

VIDEO = Webhook(
    "video-house",
    Hmac("X-Signature", timestamp="X-Time"),
    secret="/secrets/video",
    event="video/{body.status}",
    id="body.delivery",
    data="{'video': body.video.id, 'query': query.account}",
    ts="body.at",
    tenant="body.account",
    where="body.status != 'progress'",
)
WEBHOOKS = [
    Webhook("github", GitHub(), secret="/secrets/github"),
    Webhook("stripe", Stripe(), secret="/secrets/stripe"),
    Webhook("clerk", StandardWebhooks(prefix="svix-"), secret="/secrets/clerk"),
    Webhook("forms", Hmac("X-Signature"), secret="/secrets/forms", event="form/told", id="body.id", form=True),
    Webhook("plain", Hmac("X-Signature"), secret="/secrets/plain", event="plain/told", id=None),
    Webhook("busy", GitHub(), secret="/secrets/busy", limit=Limit(3, "10s")),
    VIDEO,
]
FORM = "application/x-www-form-urlencoded"
DELIVERY = {"delivery": "d-1", "status": "ready", "video": {"id": "v-1"}, "account": "acme", "at": 1_700_000_000_000}

# Stripe API reference: an event object.
STRIPE_EVENT: dict[str, Any] = {
    "id": "evt_1NG8Du2eZvKYlo2CUI79vXWy",
    "object": "event",
    "api_version": "2019-02-19",
    "created": 1686089970,
    "data": {"object": {"id": "seti_1NG8Du2eZvKYlo2C9XMqbR0x", "object": "setup_intent", "status": "requires_action"}},
    "livemode": False,
    "pending_webhooks": 2,
    "request": {"id": None, "idempotency_key": None},
    "type": "setup_intent.created",
}


@pytest.fixture
def app(app: Stepwell) -> Stepwell:
    for number, name in enumerate(["order/*", "github/*", "stripe/*", "clerk/*", "plain/told", "video/*", "form/*"]):

        @app.function(on=name, id=f"on-{number}")
        def fn(ctx: Context[Any]) -> Any:
            return [ctx.event.name, ctx.event.data]

    return app


@pytest.fixture
def local(app: Stepwell, deploy: Deploy) -> LocalStepwell:
    return deploy(app, webhooks=WEBHOOKS)


def refused(reply: Reply, status: int, code: str) -> Reply:
    """Checks that the request was refused so, and with nothing but a code and a sentence."""
    assert (reply.status, reply.json()["error"]["code"]) == (status, code), reply
    assert set(reply.json()) == {"error"}
    assert set(reply.json()["error"]) == {"code", "message"}
    assert "Traceback" not in reply.body
    return reply


def names(local: LocalStepwell) -> list[str]:
    """The names of all events that were accepted."""
    local.run_until_idle()
    return sorted(event.name for event in local.client.events())


class TestEventKeys:
    def test_an_event_that_is_posted_runs(self, local: LocalStepwell) -> None:
        body = {"name": "order/created", "data": {"n": 1}, "id": "o-1", "ts": "2026-01-01T00:00:00Z", "tenant": "acme"}
        reply = local.http("POST", f"/e/{local.event_key()}", body=body)
        assert (reply.status, reply.json()) == (202, {"ids": ["o-1"]})
        local.run_until_idle()
        run = run_of(local, "o-1")
        assert run.result == ["order/created", {"n": 1}]
        assert run.event is not None
        assert run.event.tenant == "acme"

    def test_a_list_of_them_runs_each(self, local: LocalStepwell) -> None:
        events = [{"name": "order/created", "data": {"n": n}} for n in range(25)]
        reply = local.http("POST", f"/e/{local.event_key()}", body=events)
        local.run_until_idle()
        assert [run_of(local, event).result[1]["n"] for event in reply.json()["ids"]] == list(range(25))

    def test_the_key_may_stand_in_the_authorization_header(self, local: LocalStepwell) -> None:
        headers = {"Authorization": f"bearer {local.event_key()}"}
        assert local.http("POST", "/e", body={"name": "order/a", "data": {}}, headers=headers).status == 202

    def test_a_large_event_travels_through_s3(self, local: LocalStepwell) -> None:
        text = "x" * 600_000
        reply = local.http("POST", f"/e/{local.event_key()}", body={"name": "order/large", "data": {"text": text}})
        (event_id,) = reply.json()["ids"]
        local.run_until_idle()
        assert run_of(local, event_id).result == ["order/large", {"text": text}]

    def test_a_request_repeated_with_its_idempotency_key_runs_once(self, local: LocalStepwell) -> None:
        url, body = f"/e/{local.event_key()}", [{"name": "order/a", "data": {}}, {"name": "order/b", "data": {}}]
        replies = [local.http("POST", url, body=body, headers={"Idempotency-Key": "r-1"}) for _ in range(3)]
        assert len({reply.body for reply in replies}) == 1
        assert names(local) == ["order/a", "order/b"]
        other = local.http("POST", f"/e/{local.event_key('other')}", body=body, headers={"Idempotency-Key": "r-1"})
        assert set(other.json()["ids"]).isdisjoint(replies[0].json()["ids"])

    def test_a_key_that_was_revoked_opens_nothing_after_a_minute(self, local: LocalStepwell) -> None:
        url = f"/e/{local.event_key()}"
        send = lambda: local.http("POST", url, body={"name": "order/a", "data": {}})  # noqa: E731
        assert send().status == 202
        keys = local.client._ports.store.keys
        keys.remove(keys.all()[0].hash)
        local.advance("61s")
        refused(send(), 401, "unauthorized")

    def test_a_key_sends_only_what_it_is_for(self, local: LocalStepwell) -> None:
        url = f"/e/{local.event_key(events=['order/*', 'user/left'])}"
        for name, status in {"order/a": 202, "user/left": 202, "user/leftover": 403, "orders": 403}.items():
            assert local.http("POST", url, body={"name": name, "data": {}}).status == status
        mixed = [{"name": "order/b", "data": {}}, {"name": "user/x", "data": {}}]
        assert "Event 1" in refused(local.http("POST", url, body=mixed), 403, "forbidden-event").body
        assert names(local) == ["order/a", "user/left"]

    def test_the_table_holds_nothing_that_opens_the_door(self, local: LocalStepwell) -> None:
        key = local.event_key()
        held = json.dumps([[*name, image.plain()] for name, image in local.world.table.items()], default=str)
        assert key not in held
        assert key.removeprefix("swk_") not in held

    def test_an_id_that_looks_made_by_stepwell_is_marked(self, local: LocalStepwell) -> None:
        body = {"name": "order/a", "data": {}, "id": "evt_7ZZZZZZZZZ0000000000000000"}  # of the year 10889
        reply = local.http("POST", f"/e/{local.event_key('site')}", body=body)
        assert reply.json()["ids"] == ["site:evt_7ZZZZZZZZZ0000000000000000"]

    def test_all_that_an_event_says_of_itself_goes_with_it_whoever_chose_its_id(self, local: LocalStepwell) -> None:
        trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        body = {"name": "order/a", "data": {}, "ts": "2026-01-01T00:00:00Z", "tenant": "acme", "trace": trace}
        replies = [local.http("POST", f"/e/{local.event_key()}", body=each) for each in (body, {**body, "id": "o-1"})]
        local.run_until_idle()
        for reply in replies:
            event = run_of(local, reply.json()["ids"][0]).event
            assert event is not None
            assert (event.trace, event.tenant, event.ts.isoformat()) == (trace, "acme", "2026-01-01T00:00:00+00:00")

    def test_one_bad_event_of_a_list_is_named_and_none_is_sent(self, local: LocalStepwell) -> None:
        events = [{"name": "order/a", "data": {}}, {"name": "order/b", "data": []}]
        reply = local.http("POST", f"/e/{local.event_key()}", body=events)
        assert refused(reply, 400, "invalid-event").json()["error"]["message"].startswith("Event 1: ")
        assert names(local) == []

    def test_the_engines_own_events_are_not_for_keys(self, local: LocalStepwell) -> None:
        body = {"name": "stepwell/run.failed", "data": {}}
        refused(local.http("POST", f"/e/{local.event_key()}", body=body), 403, "forbidden-event")

    def test_if_the_queue_refuses_the_sender_is_told_to_come_again(self, app: Stepwell, deploy: Deploy) -> None:
        fault = Fault(FaultKind.REFUSED, operation="sqs.SendMessage", label="api")
        local = deploy(app, plan=FaultPlan([fault]))
        url, body = f"/e/{local.event_key()}", {"name": "order/a", "data": {}, "id": "o-1"}
        reply = refused(local.http("POST", url, body=body), 503, "unavailable")
        assert int(reply.headers["retry-after"]) > 0
        assert local.http("POST", url, body=body).status == 202
        assert names(local) == ["order/a"]


class TestProviders:
    def test_github(self, local: LocalStepwell) -> None:
        headers = {"X-GitHub-Event": "issues", "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958"}
        body = {"action": "opened", "issue": {"number": 1347}}
        replies = [local.webhook("github", body, headers=headers) for _ in range(3)]  # and redelivered by somebody
        assert [reply.status for reply in replies] == [202] * 3
        assert names(local) == ["github/issues.opened"]
        (event_id,) = {reply.json()["ids"][0] for reply in replies}
        assert run_of(local, event_id).result == ["github/issues.opened", body]

    def test_a_recorded_delivery_of_github_sent_again_under_another_id_starts_nothing(
        self, local: LocalStepwell
    ) -> None:
        body = json.dumps({"action": "opened", "issue": {"number": 1}}).encode()
        signed = local._door.sign("github", body, {"content-type": "application/json", "X-GitHub-Event": "issues"})
        for delivery in ("d-1", "d-2", ""):
            local.advance("1h")
            headers = {**signed, "X-GitHub-Delivery": delivery}
            assert local.http("POST", "/w/github", body=body, headers=headers).status == 202
        assert names(local) == ["github/issues.opened"]
        assert local.webhook("github", body + b" ", headers={"X-GitHub-Event": "issues"}).status == 202
        assert names(local) == ["github/issues.opened"] * 2

    def test_github_without_an_action(self, local: LocalStepwell) -> None:
        local.webhook("github", {"ref": "x"}, headers={"X-GitHub-Event": "push", "X-GitHub-Delivery": "d"})
        assert names(local) == ["github/push"]

    def test_github_as_a_form(self, local: LocalStepwell) -> None:
        headers = {
            "X-GitHub-Event": "push",
            "X-GitHub-Delivery": "d",
            "content-type": "application/x-www-form-urlencoded",
        }
        reply = local.webhook("github", b"payload=%7B%22ref%22%3A+%22main%22%7D", headers=headers)
        local.run_until_idle()
        assert run_of(local, reply.json()["ids"][0]).result == ["github/push", {"ref": "main"}]

    @pytest.mark.parametrize("name", ["github", "stripe", "clerk", "video-house", "forms"])
    def test_a_signed_text_does_not_become_fields_by_another_content_type(
        self, local: LocalStepwell, name: str
    ) -> None:
        """The header is not signed, so whoever has recorded a delivery may send it again under any."""
        told = {
            **STRIPE_EVENT,
            **DELIVERY,
            "text": "x&type=refund&id=evt_forged&delivery=forged&action=deleted&payload={}",
        }
        raw = json.dumps(told).encode()
        signed = local._door.sign(name, raw, {"X-GitHub-Event": "issues"})
        replies = [
            local.http("POST", f"/w/{name}?account=7", body=raw, headers={**signed, "content-type": kind})
            for kind in ("application/json", FORM, "text/plain", "")
        ]
        assert [reply.status for reply in replies] == [202] * 4
        assert len({reply.body for reply in replies}) == 1
        assert len(names(local)) == 1

    def test_the_form_of_github_is_known_by_its_one_field_and_by_no_header(self, local: LocalStepwell) -> None:
        raw = b"payload=%7B%22ref%22%3A+%22main%22%7D"
        replies = [
            local.webhook("github", raw, headers={"X-GitHub-Event": "push", "content-type": kind})
            for kind in (FORM, "application/json", "text/plain")
        ]
        (event_id,) = {reply.json()["ids"][0] for reply in replies}
        assert event_id == "github-" + hashlib.sha256(raw).hexdigest()[:40]
        assert names(local) == ["github/push"]
        assert run_of(local, event_id).result == ["github/push", {"ref": "main"}]

    @pytest.mark.parametrize(
        "raw", [b"payload=%7B%7D&action=opened", b"payload=%7B%7D&payload=%7B%7D", b"ref=main", b"payload=x"]
    )
    def test_any_other_form_is_none_of_githubs(self, local: LocalStepwell, raw: bytes) -> None:
        headers = {"X-GitHub-Event": "push", "content-type": FORM}
        refused(local.webhook("github", raw, headers=headers), 422, "not-json")
        assert names(local) == []

    def test_a_source_that_is_said_to_send_forms_may(self, local: LocalStepwell) -> None:
        raw = b"command=%2Fdeploy&id=77&text=a+b"
        for kind in (FORM, "application/json"):
            reply = local.webhook("forms", raw, headers={"content-type": kind})
            assert (reply.status, reply.json()) == (202, {"ids": ["77"]})
        assert local.webhook("forms", {"id": "78"}).json() == {"ids": ["78"]}  # JSON is JSON all the same
        assert names(local) == ["form/told"] * 2
        assert run_of(local, "77").result == ["form/told", {"command": "/deploy", "id": "77", "text": "a b"}]
        raw = "id=79&to[0]=x|y&text=grüß\r\n".encode()  # not all encode what they should
        assert local.webhook("forms", raw).json() == {"ids": ["79"]}
        local.run_until_idle()
        assert run_of(local, "79").result == ["form/told", {"id": "79", "to[0]": "x|y", "text": "grüß"}]

    def test_of_others_a_form_is_no_event(self, local: LocalStepwell) -> None:
        headers = {"content-type": FORM}
        refused(local.webhook("plain", b"id=77", headers=headers), 422, "not-json")
        # Nor is what is nearly JSON read as one, from whoever it comes.
        reply = local.webhook("forms", b'{"x": NaN, "y": "&id=77&"}', headers=headers)
        refused(reply, 422, "not-json")
        assert "neither JSON nor a form" in reply.body

    def test_stripe(self, local: LocalStepwell) -> None:
        """Stripe counts the deliveries still to come in the event: that must not make another event of it."""
        for pending in (2, 1, 0):
            assert local.webhook("stripe", {**STRIPE_EVENT, "pending_webhooks": pending}).status == 202
            local.advance("1h")
        assert local.dead_letters() == []
        run = run_of(local, STRIPE_EVENT["id"])
        assert run.result[0] == "stripe/setup_intent.created"
        assert run.result[1]["data"] == STRIPE_EVENT["data"]
        assert run.event is not None
        assert run.event.ts.timestamp() == STRIPE_EVENT["created"]

    def test_standard_webhooks(self, local: LocalStepwell) -> None:
        reply = local.webhook("clerk", {"type": "user.created", "data": {"id": "u-1"}})
        local.run_until_idle()
        (event_id,) = reply.json()["ids"]
        assert run_of(local, event_id).result[0] == "clerk/user.created"
        assert event_id.startswith("msg_")

    def test_anybody_else_by_expressions(self, local: LocalStepwell) -> None:
        raw = json.dumps(DELIVERY).encode()
        signed = local._door.sign("video-house", raw, {"content-type": "application/json"})
        for _ in range(2):
            reply = local.http("POST", "/w/video-house?account=7", body=raw, headers=signed)
            assert (reply.status, reply.json()) == (202, {"ids": ["d-1"]})
        local.run_until_idle()
        run = run_of(local, "d-1")
        assert run.result == ["video/ready", {"video": "v-1", "query": "7"}]
        assert run.event is not None
        assert (run.event.tenant, run.event.ts.timestamp()) == ("acme", 1_700_000_000)

    def test_what_the_condition_leaves_out_is_answered_and_forgotten(self, local: LocalStepwell) -> None:
        reply = local.webhook("video-house", {**DELIVERY, "status": "progress"})
        assert (reply.status, reply.json()) == (202, {"ids": [], "ignored": True})
        assert names(local) == []

    def test_integers_beyond_64_bits_are_as_good_as_others(self, local: LocalStepwell) -> None:
        raw = json.dumps({**DELIVERY, "wei": 10**20}).encode()
        signed = local._door.sign("video-house", raw, {"content-type": "application/json"})
        reply = local.http("POST", "/w/video-house?account=7", body=raw, headers=signed)
        assert (reply.status, reply.json()) == (202, {"ids": ["d-1"]})
        assert names(local) == ["video/ready"]

    def test_without_an_id_every_delivery_is_an_event(self, local: LocalStepwell) -> None:
        ids = {local.webhook("plain", {"x": 1}).json()["ids"][0] for _ in range(3)}
        assert len(ids) == 3
        assert names(local) == ["plain/told"] * 3

    def test_data_that_is_no_object_stands_in_one(self, local: LocalStepwell) -> None:
        (event_id,) = local.webhook("plain", [1, 2]).json()["ids"]
        local.run_until_idle()
        assert run_of(local, event_id).result == ["plain/told", {"body": [1, 2]}]

    def test_what_a_provider_says_cannot_be_an_event_of_the_engine(self, app: Stepwell, deploy: Deploy) -> None:
        webhook = Webhook("x", Hmac("X-Signature"), secret="/x", event="{body.name}", id=None)
        local = deploy(app, webhooks=[webhook])
        refused(local.webhook("x", {"name": "stepwell/run.failed"}), 422, "invalid-event")
        assert local.webhook("x", {"name": "a b#*"}).status == 202
        assert names(local) == ["a-b-"]


class TestForgery:
    BODY = json.dumps({"action": "opened"}).encode()
    HEADERS = {"content-type": "application/json", "X-GitHub-Event": "issues", "X-GitHub-Delivery": "d"}  # noqa: RUF012

    def test_all_that_is_not_genuine_gets_one_and_the_same_answer(self, local: LocalStepwell) -> None:
        signed = local._door.sign("github", self.BODY, self.HEADERS)
        attempts = [
            ("/w/github", self.BODY, self.HEADERS),  # no signature
            ("/w/github", self.BODY + b" ", signed),  # another body
            ("/w/github", b"not json", signed),
            ("/w/github", self.BODY, {**signed, "x-hub-signature-256": "sha256=" + "0" * 64}),
            ("/w/stripe", self.BODY, signed),  # the signature of another source
            ("/w/nobody", self.BODY, signed),  # a source there is not
            ("/w/GITHUB", self.BODY, signed),
            ("/e/swk_nobody", self.BODY, signed),
        ]
        answers = {(reply.status, reply.body) for url, body, headers in attempts
                   for reply in [local.http("POST", url, body=body, headers=headers)]}  # fmt: skip
        assert len(answers) == 1
        refused(local.http("POST", "/w/nobody", body=b"{}"), 401, "unauthorized")
        assert names(local) == []

    @pytest.mark.parametrize("name", ["github", "stripe", "clerk", "plain", "video-house"])
    def test_a_header_that_is_no_text_is_not_genuine_and_no_fault_of_ours(
        self, local: LocalStepwell, caplog: pytest.LogCaptureFixture, name: str
    ) -> None:
        signed = local._door.sign(name, self.BODY, {})
        for header, value in signed.items():
            for broken in ("\ud800", value + "\udfff", value.replace(",", "\ud800,")):
                if broken != value:
                    reply = local.http("POST", f"/w/{name}", body=self.BODY, headers={**signed, header: broken})
                    refused(reply, 401, "unauthorized")
        assert caplog.records == []

    def test_an_old_delivery_is_not_taken_again(self, local: LocalStepwell) -> None:
        raw = json.dumps(STRIPE_EVENT).encode()
        signed = local._door.sign("stripe", raw, {"content-type": "application/json"})
        local.advance("301s")
        refused(local.http("POST", "/w/stripe", body=raw, headers=signed), 401, "unauthorized")

    def test_headers_are_known_whatever_their_case(self, local: LocalStepwell) -> None:
        signed = local._door.sign("github", self.BODY, self.HEADERS)
        shouted = {name.upper(): value for name, value in signed.items()}
        assert local.http("POST", "/w/github", body=self.BODY, headers=shouted).status == 202

    def test_the_raw_body_is_what_counts_however_it_is_delivered(self, local: LocalStepwell) -> None:
        raw = b'{ "action" :\t"opened",  "text": "\xc3\xbc" }\r\n'
        for kind in ("application/json", "application/octet-stream", "text/plain; charset=utf-8"):
            headers = {**self.HEADERS, "content-type": kind}
            assert local.webhook("github", raw, headers=headers).status == 202
            raw += b" "  # GitHub's deliveries are told apart by their bodies
        assert names(local) == ["github/issues.opened"] * 3

    def test_while_a_secret_is_replaced_both_are_good(self, app: Stepwell, deploy: Deploy) -> None:
        local = deploy(app, webhooks=WEBHOOKS, secrets={"/secrets/github": "old\nnew\n"})
        for secret in ("old", "new"):
            signed = GitHub().sign(secret, self.BODY, 0)
            headers = {**self.HEADERS, "X-GitHub-Delivery": secret, **signed}
            assert local.http("POST", "/w/github", body=self.BODY, headers=headers).status == 202
        for forged in ("old\nnew", ""):
            headers = {**self.HEADERS, **GitHub().sign(forged, self.BODY, 0)}
            refused(local.http("POST", "/w/github", body=self.BODY, headers=headers), 401, "unauthorized")

    def test_a_source_whose_secret_is_missing_says_to_come_again_and_not_why(
        self, app: Stepwell, deploy: Deploy, caplog: pytest.LogCaptureFixture
    ) -> None:
        local = deploy(app, webhooks=WEBHOOKS, secrets={"/secrets/github": " \n"})
        reply = local.http("POST", "/w/github", body=self.BODY, headers={**self.HEADERS, "x-hub-signature-256": "x"})
        assert "/secrets" not in refused(reply, 503, "unavailable").body
        assert "/secrets/github" in caplog.text


class TestRotation:
    """Through the handler that is deployed, with secrets that lie in AWS."""

    BODY = json.dumps({"ref": "main"}).encode()

    @pytest.fixture
    def deliver(self, local: LocalStepwell) -> Callable[[str], int]:
        """Deliver something signed with a secret; gives how it was answered. All of it reaches one instance of the door."""
        secrets = AwsSecrets(botocore.session.get_session(), local.world.clock, region="us-east-1")
        handler = make_handler(local.client._ports, {"github": WEBHOOKS[0]}, secrets)

        def deliver(secret: str) -> int:
            headers = {"x-github-event": "push", **GitHub().sign(secret, self.BODY, 0)}
            event = {"requestContext": {"http": {"method": "POST", "path": "/w/github"}}, "headers": headers}
            status: int = handler({**event, "rawPath": "/w/github", "body": self.BODY.decode()}, None)["statusCode"]
            return status

        return deliver

    def put(self, text: str) -> None:
        boto3.client("ssm").put_parameter(Name="/secrets/github", Value=text, Type="SecureString", Overwrite=True)

    def test_a_secret_is_replaced_without_losing_a_delivery(
        self, local: LocalStepwell, deliver: Callable[[str], int]
    ) -> None:
        self.put("old")
        assert [deliver("old"), deliver("new")] == [202, 401]
        self.put("new\nold")
        local.advance("5m")
        assert [deliver("old"), deliver("new")] == [202, 202]
        self.put("new")
        local.advance("5m")
        assert [deliver("old"), deliver("new")] == [401, 202]

    def test_a_secret_that_was_deleted_opens_nothing_after_five_minutes(
        self, local: LocalStepwell, deliver: Callable[[str], int]
    ) -> None:
        self.put("leaked")
        assert deliver("leaked") == 202
        boto3.client("ssm").delete_parameter(Name="/secrets/github")
        local.advance("5m")
        assert [deliver("leaked"), deliver("leaked")] == [503, 503]
        self.put("new")
        assert [deliver("leaked"), deliver("new")] == [401, 202]


class TestLimits:
    def test_a_source_above_its_limit_is_told_when_to_come_again(self, local: LocalStepwell) -> None:
        def deliver(n: int) -> Reply:
            return local.webhook("busy", {}, headers={"X-GitHub-Event": "push", "X-GitHub-Delivery": str(n)})

        assert [deliver(n).status for n in range(3)] == [202] * 3
        reply = refused(deliver(3), 429, "rate-limited")
        wait = int(reply.headers["retry-after"])
        assert 1 <= wait <= 10
        local.advance(wait)
        assert deliver(4).status == 202

    def test_bad_signatures_use_up_nobodys_limit(self, local: LocalStepwell) -> None:
        for _ in range(20):
            assert local.http("POST", "/w/busy", body=b"{}").status == 401
        assert local.webhook("busy", {}, headers={"X-GitHub-Event": "push", "X-GitHub-Delivery": "d"}).status == 202

    @pytest.mark.parametrize("events", ["order/*", "*", "", [1], [None]])
    def test_a_key_is_made_for_a_list_of_names_only(self, local: LocalStepwell, events: Any) -> None:
        """A text would be one of its characters, the asterisk among them."""
        with pytest.raises(InvalidOption, match="a list of names"):
            local.event_key(events=events)

    def test_a_key_is_made_for_all_of_its_names_even_if_they_can_be_gone_through_only_once(
        self, local: LocalStepwell
    ) -> None:
        key = local.event_key(events=(f"{name}/*" for name in ("order", "user")))
        sent = [
            local.http("POST", f"/e/{key}", body={"name": name, "data": {}}).status
            for name in ("order/a", "user/a", "admin/a")
        ]
        assert sent == [202, 202, 403]

    def test_a_key_has_a_limit_of_its_own(self, local: LocalStepwell) -> None:
        tight, other = local.event_key(limit=Limit(2, "1m")), local.event_key("other")
        send = lambda key: local.http("POST", f"/e/{key}", body={"name": "order/a", "data": {}}).status  # noqa: E731
        assert [send(tight) for _ in range(4)] == [202, 202, 429, 429]
        assert send(other) == 202

    def test_the_limit_holds_for_all_instances_together(self, local: LocalStepwell) -> None:
        """A crash ends an instance, and the next request begins another."""
        function = local.world.lambdas.get("stepwell-api")
        assert function is not None
        key, let_in = local.event_key(limit=Limit(10, "1m")), 0
        for _ in range(30):
            function.idle.clear()  # a new instance for each request, as when all come at once
            let_in += local.http("POST", f"/e/{key}", body={"name": "order/a", "data": {}}).status == 202
        assert let_in == 10

    def test_a_busy_subject_costs_few_writes(self, local: LocalStepwell) -> None:
        key = local.event_key(limit=Limit(200, "1m"))
        before = local.requests
        for _ in range(210):
            local.http("POST", f"/e/{key}", body={"name": "order/a", "data": {}})
        assert (local.requests - before).calls[
            "dynamodb.UpdateItem"
        ] == 21  # twenty handfuls, and one that came too late

    def test_if_requests_cannot_be_counted_they_are_let_in(self, app: Stepwell, deploy: Deploy) -> None:
        fault = Fault(FaultKind.REFUSED, operation="dynamodb.UpdateItem", label="api")
        local = deploy(app, plan=FaultPlan([fault]))
        key = local.event_key(limit=Limit(1, "1m"))
        send = lambda: local.http("POST", f"/e/{key}", body={"name": "order/a", "data": {}}).status  # noqa: E731
        assert [send(), send(), send()] == [202, 202, 429]


class TestSealed:
    """Whoever has no key cannot say that something is encrypted: it could not be decrypted, and would fail the run."""

    SEALED = {"$sealed": "garbage", "x": 1}  # noqa: RUF012

    def test_it_is_no_data_of_an_event(self, local: LocalStepwell) -> None:
        url = f"/e/{local.event_key()}"
        refused(local.http("POST", url, body={"name": "order/a", "data": self.SEALED}), 400, "sealed")
        events = [{"name": "order/a", "data": {}}, {"name": "order/b", "data": self.SEALED}]
        assert "Event 1: " in refused(local.http("POST", url, body=events), 400, "sealed").body
        refused(local.webhook("plain", self.SEALED), 422, "sealed")
        assert names(local) == []

    def test_it_is_no_answer_and_the_callback_stays_open(self, deploy: Deploy) -> None:
        callbacks: list[Callback] = []
        app = encrypted(id="caller")

        @app.function(on="go")
        def fn(ctx: Context[Any]) -> Any:
            return ctx.step.wait_for_callback("asked", timeout="2d", submit=callbacks.append)

        local = deploy(app)
        event_id = local.send("go")
        local.run_until_idle()
        url = callbacks[0].url
        refused(local.http("POST", url, body=self.SEALED), 400, "sealed")
        refused(local.http("POST", url, body=b"%24sealed=x", headers={"content-type": FORM}), 400, "sealed")
        refused(local.http("GET", url, query={"$sealed": "x"}), 400, "sealed")
        assert local.http("POST", url, body={"inside": self.SEALED}).status == 200
        local.run_until_idle()
        assert run_of(local, event_id).result == {"inside": self.SEALED}


class TestCallbacks:
    @pytest.fixture
    def callbacks(self) -> list[Callback]:
        return []

    @pytest.fixture
    def waiting(self, deploy: Deploy, callbacks: list[Callback]) -> tuple[LocalStepwell, str]:
        app = Stepwell("caller")

        @app.function(on="go", retries=0)
        def fn(ctx: Context[Any]) -> Any:
            try:
                return ctx.step.wait_for_callback("asked", timeout="2d", heartbeat="1d", submit=callbacks.append)
            except StepTimeout as error:
                return ["timeout", error.message]
            except StepError as error:
                return ["failed", error.message]

        local = deploy(app)
        event_id = local.send("go")
        local.run_until_idle()
        return local, event_id

    def result(self, waiting: tuple[LocalStepwell, str]) -> Any:
        local, event_id = waiting
        local.run_until_idle()
        run = run_of(local, event_id)
        assert run.status is RunStatus.COMPLETED
        return run.result

    @pytest.mark.parametrize("answer", [{"ok": True, "n": [1, None]}, "yes", 0, [], "x" * 400_000])
    def test_the_url_of_a_callback_takes_the_answer(
        self, waiting: tuple[LocalStepwell, str], callbacks: list[Callback], answer: Any
    ) -> None:
        url = callbacks[0].url
        assert url.startswith(API_URL + "c/")
        reply = waiting[0].http("POST", url, body=json.dumps(answer))
        assert (reply.status, reply.json()) == (200, {"status": "completed"})
        assert self.result(waiting) == answer

    def test_an_empty_post_answers_null(self, waiting: tuple[LocalStepwell, str], callbacks: list[Callback]) -> None:
        assert waiting[0].http("POST", callbacks[0].url).status == 200
        assert self.result(waiting) is None

    def test_a_form_answers_with_its_fields(
        self, waiting: tuple[LocalStepwell, str], callbacks: list[Callback]
    ) -> None:
        headers = {"content-type": "application/x-www-form-urlencoded"}
        assert waiting[0].http("POST", callbacks[0].url, body=b"ok=yes&why=a+b", headers=headers).status == 200
        assert self.result(waiting) == {"ok": "yes", "why": "a b"}

    def test_a_get_answers_only_with_a_query(
        self, waiting: tuple[LocalStepwell, str], callbacks: list[Callback]
    ) -> None:
        local, url = waiting[0], callbacks[0].url
        for _ in range(2):  # a preview, a scanner
            assert local.http("GET", url).json() == {"status": "waiting"}
        assert local.http("HEAD", url).status == 405
        assert local.http("GET", url + "?approved=yes&by=Ada%20L").json() == {"status": "completed"}
        assert self.result(waiting) == {"approved": "yes", "by": "Ada L"}
        assert local.http("GET", url).json() == {"status": "over"}

    def test_a_url_with_its_tilde_encoded_is_the_same(
        self, waiting: tuple[LocalStepwell, str], callbacks: list[Callback]
    ) -> None:
        assert waiting[0].http("POST", callbacks[0].url.replace("~", "%7E"), body={"n": 1}).status == 200
        assert self.result(waiting) == {"n": 1}

    def test_a_failure_can_be_reported(self, waiting: tuple[LocalStepwell, str], callbacks: list[Callback]) -> None:
        reply = waiting[0].http("POST", callbacks[0].url + "/fail", body={"message": "out of film"})
        assert reply.json() == {"status": "failed"}
        assert self.result(waiting) == ["failed", "out of film"]

    def test_heartbeats_keep_it_open(self, waiting: tuple[LocalStepwell, str], callbacks: list[Callback]) -> None:
        local, url = waiting[0], callbacks[0].url
        local.advance("20h")
        assert local.http("POST", url + "/heartbeat").json() == {"status": "waiting"}
        local.advance("20h")
        assert local.http("POST", url, body={"late": True}).status == 200
        assert self.result(waiting) == {"late": True}

    def test_the_first_answer_stands_and_the_same_again_changes_nothing(
        self, waiting: tuple[LocalStepwell, str], callbacks: list[Callback]
    ) -> None:
        local, url = waiting[0], callbacks[0].url
        first, second = {"text": "a" * 100 + "1"}, {"text": "a" * 100 + "2"}
        assert local.http("POST", url, body=first).status == 200
        assert local.http("POST", url, body=first).status == 200
        refused(local.http("POST", url, body=second), 410, "callback-over")
        refused(local.http("POST", url + "/fail", body={}), 410, "callback-over")
        refused(local.http("POST", url + "/heartbeat"), 410, "callback-over")
        assert self.result(waiting) == first
        assert local.http("POST", url, body=first).status == 200

    def test_an_answer_out_of_time_is_told_so(
        self, waiting: tuple[LocalStepwell, str], callbacks: list[Callback]
    ) -> None:
        waiting[0].advance("3d")
        refused(waiting[0].http("POST", callbacks[0].url, body={}), 410, "callback-over")

    @pytest.mark.parametrize("change", ["secret", "step", "run", "x", "x~y~z", "~~", "%ff~%ff~%ff", "a" * 5000])
    def test_a_token_that_was_not_made_here_opens_nothing(
        self, waiting: tuple[LocalStepwell, str], callbacks: list[Callback], change: str
    ) -> None:
        run, step, secret = callbacks[0].token.split("~")
        other = base64.urlsafe_b64encode(b"other").decode()
        forged = {"secret": f"{run}~{step}~{'0' * 32}", "step": f"{run}~{other}~{secret}",
                  "run": f"{run[:-1]}0~{step}~{secret}"}.get(change, change)  # fmt: skip
        answers = {
            waiting[0].http(method, f"/c/{forged}{end}", body=b"{}" if method == "POST" else None).body
            for method, end in [("POST", ""), ("GET", ""), ("GET", "?x=1"), ("POST", "/fail"), ("POST", "/heartbeat")]
        }
        assert len(answers) == 1
        refused(waiting[0].http("POST", f"/c/{forged}"), 404, "unknown-callback")
        assert run_of(*waiting).status is RunStatus.SUSPENDED

    def test_an_answer_cut_off_before_the_run_was_woken_is_completed_by_its_repetition(self, deploy: Deploy) -> None:
        callbacks: list[Callback] = []
        app = Stepwell("caller")

        @app.function(on="go")
        def fn(ctx: Context[Any]) -> Any:
            return ctx.step.wait_for_callback("asked", timeout="2d", submit=callbacks.append)

        fault = Fault(FaultKind.CRASH_BEFORE, operation="sqs.SendMessage", label="api")
        local = deploy(app, plan=FaultPlan([fault]))
        event_id = local.send("go")
        local.run_until_idle()
        assert local.http("POST", callbacks[0].url, body={"n": 1}).status == 502
        local.run_until_idle()
        assert run_of(local, event_id).status is RunStatus.SUSPENDED
        assert local.http("POST", callbacks[0].url, body={"n": 1}).status == 200
        local.run_until_idle()
        assert run_of(local, event_id).result == {"n": 1}
