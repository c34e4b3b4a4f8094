"""A webhook, proven, becomes an event. Pure: a source's declaration and a request in, an envelope out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from stepwell.codec import JSON
from stepwell.door.http import Refusal, Request, parse_form, parse_json, parse_loose_form
from stepwell.errors import InvalidEvent
from stepwell.events import Envelope, check_data, check_name, check_sender, check_tenant, parse_ts
from stepwell.expressions import CannotEvaluate, expression
from stepwell.native import chosen_id, fit
from stepwell.signatures import GitHub, Hmac, StandardWebhooks, Stripe
from stepwell.webhooks import OWN, VARIABLES, Webhook, fill, holes


@dataclass(frozen=True, slots=True)
class Delivery:
    """What can be said of a delivery without its source's expressions."""

    name: str
    id: str | None
    data: JSON
    ts: int | None = None


def event_of(webhook: Webhook, request: Request, *, default_id: str, now: int) -> Envelope | None:
    """The event of a delivery; None if the source's `where` leaves it out.

    Raises Refusal for a body that is none, and InvalidEvent, saying which expression, for one that no event can be made
    of: an expression other than `where` has no value for it, or one cannot be evaluated at all.
    """
    body = _body(webhook, request.body)
    scope = {"body": body, "headers": dict(request.headers), "query": dict(request.query)}
    if webhook.where is not None and not _holds(webhook.where, scope):
        return None
    own = _own(webhook, body, request)
    name = check_name(own.name if webhook.event == OWN else _name(webhook, scope))
    check_sender(name, "A webhook")
    data = own.data if webhook.data == OWN else _value(webhook.data, scope, "data")
    if not isinstance(data, dict):
        data = {"body": data}
    event_id = own.id if webhook.id == OWN else None if webhook.id is None else _text(webhook.id, scope, "id")
    if not event_id:
        if webhook.id is not None:
            raise InvalidEvent(
                "The delivery has no id: without one, a repeated delivery could not be told from a new one."
            )
        event_id = default_id
    else:
        event_id = chosen_id(event_id, source=webhook.name)
    ts = own.ts if webhook.ts is None else parse_ts(_value(webhook.ts, scope, "ts"))
    tenant = None if webhook.tenant is None else check_tenant(_text(webhook.tenant, scope, "tenant"))
    return Envelope(event_id, name, check_data(data, name), now if ts is None else min(ts, now), tenant)


def _body(webhook: Webhook, raw: bytes) -> JSON:
    """The body as a value. It follows from the signed bytes and the declaration alone: who chose the Content-Type nobody
    knows, and a text in a JSON body must not become fields because it was read as a form.

    GitHub's form has one field, with the JSON in it.
    """
    github = isinstance(webhook.scheme, GitHub)
    try:
        return parse_json(raw)
    except Refusal:
        fields = parse_form(raw) if github else parse_loose_form(raw) if webhook.form else None
        if fields is None and webhook.form:
            raise Refusal(400, "not-json", "The body is neither JSON nor a form.") from None
        if fields is None:
            raise
    if not github:
        return dict(fields)
    if [name for name, _ in fields] != ["payload"]:
        raise Refusal(400, "not-json", "The body is neither JSON nor a form with one field, payload.")
    return parse_json(fields[0][1])


# ---- providers that are known --------------------------------------------------------------------------------------------


def _own(webhook: Webhook, body: JSON, request: Request) -> Delivery:
    """What the scheme itself knows of its provider's deliveries. Their names begin with that of the source."""
    fields = body if isinstance(body, dict) else {}
    headers, scheme = request.headers, webhook.scheme
    if isinstance(scheme, GitHub):
        kind, action = headers.get("x-github-event", "unknown"), fields.get("action")
        what = f"{kind}.{action}" if isinstance(action, str) else kind
        # Only the body is signed. The delivery's own id (X-GitHub-Delivery) is not: somebody who has recorded a delivery
        # could send it again under another one. So the id is made of what is signed.
        signed = hashlib.sha256(request.body).hexdigest()[:40]
        return Delivery(f"{webhook.name}/{fit(what)}", f"github-{signed}", body)
    if isinstance(scheme, Stripe):
        created = fields.get("created")
        ts = created * 1000 if isinstance(created, int) and not isinstance(created, bool) and created >= 0 else None
        return Delivery(
            f"{webhook.name}/{fit(_said(fields.get('type')))}", _given(fields.get("id")), _stripe(fields), ts
        )
    if isinstance(scheme, StandardWebhooks):
        return Delivery(f"{webhook.name}/{fit(_said(fields.get('type')))}", headers.get(f"{scheme.prefix}id"), body)
    assert isinstance(scheme, Hmac)
    return Delivery(f"{webhook.name}/received", None, body)


def _stripe(event: dict[str, JSON]) -> JSON:
    """Stripe's event without the one field that changes from delivery to delivery: how many are still to come."""
    return {name: value for name, value in event.items() if name != "pending_webhooks"}


def _given(value: JSON) -> str | None:
    return value if isinstance(value, str) else None


def _said(value: JSON) -> str:
    return value if isinstance(value, str) and value else "unknown"


# ---- expressions ---------------------------------------------------------------------------------------------------------


def _name(webhook: Webhook, scope: dict[str, JSON]) -> str:
    template = webhook.event
    return fill(template, {source: fit(_text(source, scope, "event")) for source in holes(template)})


def _value(source: str, scope: dict[str, JSON], what: str) -> JSON:
    try:
        return expression(source, VARIABLES).evaluate(scope)
    except ValueError as error:
        raise InvalidEvent(f"{what}: {source!r} cannot be evaluated for this delivery: {error}") from None


def _text(source: str, scope: dict[str, JSON], what: str) -> str:
    value = _value(source, scope, what)
    if value is None or isinstance(value, bool | dict | list):
        raise InvalidEvent(f"{what}: {source!r} gives no text for this delivery.")
    return str(value)


def _holds(source: str, scope: dict[str, JSON]) -> bool:
    """A condition without a value does not hold, as everywhere: the delivery lacks a field, or has something else in it.

    Raises InvalidEvent if it cannot be evaluated at all: nobody knows then whether the delivery was wanted.
    """
    try:
        return expression(source, VARIABLES).evaluate(scope) is True
    except CannotEvaluate as error:
        raise InvalidEvent(f"where: {error}") from None
    except ValueError:
        return False
