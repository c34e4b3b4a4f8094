"""Webhooks and what they start: docs/webhooks.md."""

from typing import Any

from stepwell import Callback, Context, Stepwell, Trigger, step

# [declare]
from stepwell.webhooks import GitHub, Hmac, Limit, StandardWebhooks, Stripe, Webhook

WEBHOOKS = [
    Webhook("github", GitHub(), secret="/stepwell/github"),
    Webhook("stripe", Stripe(), secret="/stepwell/stripe"),
    Webhook(
        "video-house",
        Hmac("X-Signature", prefix="sha256=", timestamp="X-Timestamp"),
        secret="/stepwell/video-house",
        event="video/{body.status}",
        id="body.delivery_id",
        data="{'video': body.video.id, 'url': body.video.url}",
        where="body.status != 'progress'",
    ),
    Webhook(
        "mailer",
        StandardWebhooks(prefix="svix-"),
        secret="/stepwell/mailer",
        event="mail/{body.type}",
        ts="body.timestamp",  # when it happened, rather than when it came
        tenant="body.data.account",  # so that a big account does not hold up the others
        limit=Limit(100, "1s"),
    ),
]
# [end]

app = Stepwell("hooks")


# [functions]
@app.function(on=Trigger("github/issues.*", where="event.data.repository.full_name == 'example/shop'"))
def triage(ctx: Context[dict[str, Any]]) -> str:
    return f"{ctx.event.data['action']} #{ctx.event.data['issue']['number']}"


@app.function(on="stripe/checkout.session.completed")
def fulfil(ctx: Context[dict[str, Any]]) -> str:
    return str(ctx.event.data["data"]["object"]["client_reference_id"])


# [end]


@app.function(on="video/ready")
def publish(ctx: Context[dict[str, Any]]) -> str:
    return str(ctx.event.data["url"])


@app.function(on="mail/bounced")
def note_bounce(ctx: Context[dict[str, Any]]) -> str:
    return f"{ctx.event.data['data']['to']} at {ctx.event.ts:%H:%M} for {ctx.event.tenant}"


asked: list[str] = []


def send_mail(to: str, text: str) -> None:
    asked.append(text.rpartition(" ")[2])


# [callback]
@step
def ask(callback: Callback) -> None:
    send_mail("boss@example.com", f"POST your answer to {callback.url}")


@app.function(on="hooks/approve")
def approve(ctx: Context[Any]) -> bool:
    answer = ctx.step.wait_for_callback("approval", submit=ask, timeout="2d")
    return bool(answer["approved"])


# [end]
