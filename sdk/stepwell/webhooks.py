"""Webhook sources: who may POST to `/w/<name>`, how that is proven, and what event a delivery becomes.

    from stepwell.webhooks import GitHub, Hmac, Stripe, Webhook

    WEBHOOKS = [
        Webhook("github", GitHub(), secret="/stepwell/github"),
        Webhook("stripe", Stripe(), secret="/stepwell/stripe"),
        Webhook(
            "video-house",
            Hmac("X-Signature", timestamp="X-Timestamp"),
            secret="/stepwell/video-house",
            event="video/{body.status}",
            id="body.delivery_id",
            data="{'video': body.video.id, 'url': body.video.url}",
        ),
    ]

The same list goes to `Stepwell(webhooks=Webhooks(WEBHOOKS))` in the CDK app and to `LocalStepwell(app, webhooks=WEBHOOKS)`
in tests. Declarations are checked there; the door itself reads them from its environment, and compiles an expression
when it first needs it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from stepwell.codec import JSON, dumps, loads
from stepwell.durations import Duration, seconds
from stepwell.errors import InvalidEvent, InvalidOption
from stepwell.events import check_name
from stepwell.expressions import check_expression
from stepwell.signatures import GitHub, Hmac, Scheme, StandardWebhooks, Stripe, scheme_from, scheme_json

__all__ = ["GitHub", "Hmac", "Limit", "StandardWebhooks", "Stripe", "Webhook"]

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
VARIABLES = ("body", "headers", "query")
"""What the expressions of a webhook are about: the parsed body, headers with names in lower case, query parameters."""
SECRETS_MANAGER = "secretsmanager:"
"""Before the ARN of a secret that is not kept in SSM."""
OWN = "own"
"""The scheme's own choice: of providers that are known by name, and of no other."""

_HOLE = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` requests every `period`; more are answered 429. Raises InvalidOption if it makes no sense."""

    count: int
    period: Duration = 60.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "period", seconds(self.period, what="period"))
        if type(self.count) is not int or self.count < 1:
            raise InvalidOption(f"A limit is a number of requests from 1, got {self.count!r}.")
        if not 1 <= seconds(self.period) <= 86_400:
            raise InvalidOption(f"The period of a limit is 1 second to 1 day, got {self.period!r}.")

    @classmethod
    def parse(cls, text: str) -> Limit:
        """From text such as `100/1s` or `6000/1m`."""
        count, slash, period = text.partition("/")
        if not slash or not count.strip().isdigit():
            raise InvalidOption(f"{text!r} is not a limit. Write for example '100/1s' or '6000/1m'.")
        return cls(int(count), period)

    def __str__(self) -> str:
        return f"{self.count}/{seconds(self.period):g}s"


USUAL = Limit(6000, 60.0)
"""The limit of a webhook or an event key that names none."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """A source of webhooks.

    name: the end of its URL, `/w/<name>`. scheme: how it signs. secret: where its secret is kept: the name of an SSM
    parameter (`/stepwell/github`), or `secretsmanager:<ARN>`. Its text may hold several secrets, one a line; each is
    tried, so one is replaced by adding the new one, changing the provider, and removing the old one.

    What a delivery becomes is said by expressions (CEL) over `body`, `headers` (names in lower case) and `query`:

    event: the name of the event, with expressions in braces: `"video/{body.status}"`. data: its data, an object; the
    body unless given. id: the delivery's own id, so that a delivery that is repeated starts nothing twice; None if the
    provider sends none, and then a repeated delivery runs again. ts: when it happened: ISO 8601, or milliseconds. tenant:
    whose it is, for fair queueing. where: other deliveries are answered and forgotten. form: bodies that are no JSON are
    forms, and `body` an object of texts; the Content-Type of a delivery is not signed, and decides nothing.

    GitHub, Stripe and Standard Webhooks need none of these (see docs/webhooks.md for what theirs are); for Hmac `event` and
    `id` have to be said. data must be the same in each delivery of the same id.

    limit: how many deliveries are taken (6,000 a minute). Raises InvalidOption for a name or secret that cannot be.
    """

    name: str
    scheme: Scheme
    secret: str = field(kw_only=True)
    event: str = field(default=OWN, kw_only=True)
    data: str = field(default=OWN, kw_only=True)
    id: str | None = field(default=OWN, kw_only=True)
    ts: str | None = field(default=None, kw_only=True)
    tenant: str | None = field(default=None, kw_only=True)
    where: str | None = field(default=None, kw_only=True)
    form: bool = field(default=False, kw_only=True)
    limit: Limit = field(default=USUAL, kw_only=True)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise InvalidOption(
                f"A webhook is named by lower-case letters, digits, '.', '_' and '-', at most 64; got {self.name!r}."
            )
        if not self.secret.startswith(("/", SECRETS_MANAGER)):
            raise InvalidOption(
                f"Webhook {self.name!r}: secret= says where the secret is kept, and is not the secret itself: the name of "
                "an SSM parameter such as '/stepwell/github', or 'secretsmanager:' and the ARN of a secret."
            )
        form: object = self.form
        if not isinstance(form, bool) or (form and isinstance(self.scheme, GitHub)):
            raise InvalidOption(
                f"Webhook {self.name!r}: form= is True or False, got {form!r}. GitHub needs it not: its forms are known."
            )
        if isinstance(self.scheme, Hmac) and OWN in (self.event, self.id):
            raise InvalidOption(
                f"Webhook {self.name!r}: say event= and id=. The id is what tells a repeated delivery from a new one, such "
                'as id="body.delivery_id"; id=None if the provider sends none: then a repeated one runs again.'
            )


def holes(template: str) -> list[str]:
    """The expressions in the braces of a name's template."""
    return _HOLE.findall(template)


def fill(template: str, value: dict[str, str]) -> str:
    """The template with the value of each expression in its place."""
    return _HOLE.sub(lambda hole: value[hole[1]], template)


def config_of(webhooks: Iterable[Webhook]) -> str:
    """The webhooks as the door reads them. Raises InvalidOption for an expression that is none, or a name used twice."""
    found: dict[str, JSON] = {}
    for webhook in webhooks:
        if webhook.name in found:
            raise InvalidOption(f"Two webhooks are called {webhook.name!r}.")
        found[webhook.name] = _checked(webhook)
    return dumps(found)


def webhooks_of(config: str) -> dict[str, Webhook]:
    """The webhooks in what `config_of` wrote, by name."""
    return {
        name: Webhook(
            name,
            scheme_from(body["scheme"]),
            **{key: value for key, value in body.items() if key not in ("scheme", "limit")},
            limit=Limit(*body["limit"]) if "limit" in body else USUAL,
        )
        for name, body in loads(config or "{}").items()
    }


def _checked(webhook: Webhook) -> dict[str, JSON]:
    body: dict[str, JSON] = {"scheme": scheme_json(webhook.scheme), "secret": webhook.secret}
    if webhook.event != OWN:
        body["event"] = webhook.event
        rest = _HOLE.sub("", webhook.event)
        if "{" in rest or "}" in rest or (not rest and not holes(webhook.event)):
            raise InvalidOption(
                f"Webhook {webhook.name!r}: event={webhook.event!r} is no name with expressions in braces."
            )
        try:
            check_name(_HOLE.sub("x", webhook.event))
        except InvalidEvent as error:
            raise InvalidOption(f"Webhook {webhook.name!r}: event={webhook.event!r}: {error}") from None
    for n, source in enumerate(holes(webhook.event)):
        check_expression(source, what=f"webhook {webhook.name!r}, expression {n + 1} of event", variables=VARIABLES)
    for option in ("data", "id", "ts", "tenant", "where"):
        source = getattr(webhook, option)
        if source == OWN or (source is None and option != "id"):
            continue
        if source is not None:
            check_expression(source, what=f"webhook {webhook.name!r}, {option}", variables=VARIABLES)
        body[option] = source
    if webhook.form:
        body["form"] = True
    if webhook.limit != USUAL:
        body["limit"] = [webhook.limit.count, webhook.limit.period]
    return body
