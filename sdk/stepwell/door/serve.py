"""The routes. Who asks is looked at first, how often second, and only then what they say.

A wrong key, an unknown source and a bad signature get one and the same answer, and take the same way to it: a source that
does not exist is checked against a secret that does not exist either.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from stepwell.codec import JSON, sendable
from stepwell.door.http import Refusal, Request, Response, parse_json
from stepwell.door.keys import KeyRing, may_send
from stepwell.door.limits import Limiter
from stepwell.door.secrets import Secrets
from stepwell.door.transform import event_of
from stepwell.engine import answering
from stepwell.engine.sending import event_message
from stepwell.errors import CallbackOver, PayloadTooLarge, SecretUnavailable, StepwellError, UnknownCallback
from stepwell.events import SEALED, Envelope, parse_envelope
from stepwell.ids import digest, event_id_of
from stepwell.native import chosen_id
from stepwell.ports import Ports
from stepwell.signatures import Hmac, Scheme
from stepwell.store.keys import EventKey
from stepwell.webhooks import USUAL, Limit, Webhook

logger = logging.getLogger("stepwell")

MAX_EVENTS = 100
"""Events in one request."""
RETRY_AFTER = 5
"""Seconds after which to come again when something of ours is out of order."""
NOBODY: Scheme = Hmac("x-signature")
"""How a source that does not exist is checked."""


class Door:
    """One instance of the door."""

    def __init__(self, ports: Ports, webhooks: Mapping[str, Webhook], secrets: Secrets) -> None:
        self._ports = ports
        self._webhooks = webhooks
        self._secrets = secrets
        self._keys = KeyRing(ports)
        self._limiter = Limiter(ports)
        self._nobodys = ports.ids.token_bytes(24).hex()

    def serve(self, request: Request) -> Response:
        """Answer a request. Never raises."""
        try:
            return self._route(request)
        except Refusal as refusal:
            return Response.of(refusal)
        except CallbackOver as error:
            return Response.of(Refusal(410, error.code, error.message))
        except UnknownCallback:
            return Response.of(Refusal(404, "unknown-callback", "The token belongs to no callback."))
        except PayloadTooLarge as error:
            return Response.of(Refusal(413, error.code, error.message))
        except SecretUnavailable as error:
            logger.error("%s", error.message, extra={"stepwell": "webhook-unusable"})
            return _out_of_order()
        except StepwellError as error:
            return Response.of(Refusal(400, error.code, error.message))
        except Exception:  # nobody outside is told what it was
            logger.exception("a request could not be handled", extra={"stepwell": "webhook-unusable"})
            return _out_of_order()

    def _route(self, request: Request) -> Response:
        match request.segments():
            case ["e"]:
                scheme, _, key = request.headers.get("authorization", "").partition(" ")
                return self._events(_only(request, "POST"), key.strip() if scheme.lower() == "bearer" else "")
            case ["e", key]:
                return self._events(_only(request, "POST"), key)
            case ["w", name]:
                return self._webhook(_only(request, "POST"), name)
            case ["c", token]:
                return self._answer(_only(request, "POST", "GET"), token)
            case ["c", token, "fail"]:
                return self._fail(_only(request, "POST"), token)
            case ["c", token, "heartbeat"]:
                _only(request, "POST")
                answering.heartbeat(self._ports, token)
                return Response(200, {"status": "waiting"})
        raise Refusal(404, "not-found", "There is nothing here.")

    # ---- events

    def _events(self, request: Request, given: str) -> Response:
        key = self._keys.find(given)
        if key is None:
            raise _unauthorized()
        self._limit(f"key#{key.hash[:32]}", Limit.parse(key.limit) if key.limit else USUAL)
        body = parse_json(request.body)
        several = body if isinstance(body, list) else [body]
        if not 0 < len(several) <= MAX_EVENTS:
            raise Refusal(400, "invalid-event", f"A list of 1 to {MAX_EVENTS} events, not {len(several)}.")
        once = request.headers.get("idempotency-key")
        events = [self._event(each, key, n if isinstance(body, list) else None, once) for n, each in enumerate(several)]
        messages = [event_message(self._ports, event, group=key.name) for event in events]
        self._ports.queue.send(*messages)
        return Response(202, {"ids": [event.id for event in events]})

    def _event(self, body: JSON, key: EventKey, place: int | None, once: str | None) -> Envelope:
        """One of the events of a request. Raises Refusal naming its place if it is one of several."""
        where = "" if place is None else f"Event {place}: "
        if isinstance(body, dict) and "data_ref" in body:
            raise Refusal(400, "invalid-event", f"{where}data_ref is not for senders; give the data itself.")
        now = self._ports.now()
        if once:  # the same request again gives the same ids, so nothing runs twice
            default_id = "once-" + digest("once", key.hash, once, str(place or 0)).hex()[:40]
        else:
            default_id = event_id_of(self._ports.ids.ulid(now))
        try:
            event = parse_envelope(body, default_id=default_id, received_ms=now, refuse_own=False)  # see may_send
            sendable(event.data)
            _unsealed(event.data)
        except (StepwellError, Refusal) as error:
            raise Refusal(400, error.code, f"{where}{error.message}") from None
        if not may_send(key, event.name):
            raise Refusal(403, "forbidden-event", f"{where}Events {event.name!r} cannot be sent with this key.")
        if event.id == default_id:
            return event
        return replace(event, id=chosen_id(event.id, source=key.name))

    # ---- webhooks

    def _webhook(self, request: Request, name: str) -> Response:
        webhook = self._webhooks.get(name)
        scheme = NOBODY if webhook is None else webhook.scheme
        secrets = [self._nobodys] if webhook is None else self._secrets.get(webhook.secret)
        genuine = scheme.verify(secrets, request.headers, request.body, self._ports.clock.now())
        if webhook is None or not genuine:
            raise _unauthorized()
        self._limit(f"webhook#{name}", webhook.limit)
        now = self._ports.now()
        try:
            event = event_of(webhook, request, default_id=event_id_of(self._ports.ids.ulid(now)), now=now)
            if event is not None:
                sendable(event.data)
                _unsealed(event.data)
        except (StepwellError, Refusal) as error:
            # It is genuine, and it is lost if nobody looks: so somebody is told, here and at the provider.
            logger.error(
                "a delivery of the webhook %s makes no event: %s",
                name,
                error.message,
                extra={"stepwell": "webhook-unusable"},
            )
            raise Refusal(422, error.code, error.message) from None
        if event is None:
            return Response(202, {"ids": [], "ignored": True})
        self._ports.queue.send(event_message(self._ports, event, group=name))
        return Response(202, {"ids": [event.id]})

    # ---- callbacks

    def _answer(self, request: Request, token: str) -> Response:
        if request.method == "POST":
            result = request.parsed() if request.body else None
        elif request.query:
            result = dict(request.query)
        else:  # a bare GET answers nothing: previews and scanners open every link they see
            return Response(200, {"status": "waiting" if answering.check(self._ports, token) else "over"})
        answering.complete(self._ports, token, sendable(_unsealed(result)))
        return Response(200, {"status": "completed"})

    def _fail(self, request: Request, token: str) -> Response:
        body = request.parsed() if request.body else {}
        message = body.get("message") if isinstance(body, dict) else body
        answering.fail(self._ports, token, message if isinstance(message, str) else "no reason was given")
        return Response(200, {"status": "failed"})

    def _limit(self, subject: str, limit: Limit) -> None:
        wait = self._limiter.take(subject, limit)
        if wait:
            raise Refusal(429, "rate-limited", f"More than {limit}.", {"retry-after": str(wait)})


def _only(request: Request, *methods: str) -> Request:
    if request.method not in methods:
        raise Refusal(405, "method-not-allowed", f"Use {' or '.join(methods)}.", {"allow": ", ".join(methods)})
    return request


def _unsealed(value: JSON) -> JSON:
    """The value, if nothing of it claims to be encrypted. Nobody out here has a key, so what does so cannot be decrypted,
    and the run that gets it would fail as one whose records were tampered with. Raises Refusal."""
    if isinstance(value, dict) and SEALED in value:
        raise Refusal(
            400, "sealed", f"A field {SEALED!r} is for what Stepwell's own clients encrypt. Give it another name."
        )
    return value


def _unauthorized() -> Refusal:
    return Refusal(401, "unauthorized", "The key or the signature is not valid.")


def _out_of_order() -> Response:
    said = "It is not your fault; try again."
    return Response.of(Refusal(503, "unavailable", said, {"retry-after": str(RETRY_AFTER)}))
