"""How providers sign their webhooks, and how a signature is checked. Pure: bytes, headers and a time in, yes or no out.

All of them are an HMAC of the raw body, some with a time beside it. A scheme says where the signature stands and what
was signed; `verify` compares in constant time and tries every secret with every signature there is (of a header the first
ten), so a secret can be replaced while both are in use, and how long it takes says nothing of how near a guess was.

`sign` makes the headers that a provider would send: for tests, and for trying a door out.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

from stepwell.codec import JSON
from stepwell.durations import Duration, seconds
from stepwell.errors import InvalidOption

Headers = Mapping[str, str]
"""With names in lower case."""
TOLERANCE = 300.0
"""Seconds by which the time in a signature may differ from ours: what Stripe, Slack and Standard Webhooks advise."""

ALGORITHMS = ("sha256", "sha384", "sha512", "sha1")
"""sha1 only for providers that have nothing better: HMAC-SHA1 is not broken, but nobody should begin with it."""
MOST = 10
"""Signatures looked at in one header; a provider sends one for each secret in use."""
_ENCODERS: dict[str, Callable[[bytes], str]] = {
    "hex": bytes.hex,
    "base64": lambda digest: base64.b64encode(digest).decode(),
}
_PLACES = re.compile(rb"\{(body|timestamp)\}")


class Scheme(Protocol):
    """A way to sign."""

    kind: ClassVar[str]

    def verify(self, secrets: Sequence[str], headers: Headers, body: bytes, now: float) -> bool:
        """Whether the body was signed with one of the secrets, and (if the scheme has a time) lately."""
        ...

    def sign(self, secret: str, body: bytes, now: float) -> dict[str, str]:
        """The headers of a delivery signed now."""
        ...


@dataclass(frozen=True, slots=True)
class GitHub:
    """`X-Hub-Signature-256: sha256=<hex>` over the body.

    GitHub signs no time and no header: a delivery is told from its repetition by its body (`door.transform`), and the name
    of its event has to be taken on trust.
    """

    kind: ClassVar[str] = "github"

    def verify(self, secrets: Sequence[str], headers: Headers, body: bytes, now: float) -> bool:
        """See Scheme."""
        expected = ["sha256=" + _hmac(secret.encode(), body, "sha256").hex() for secret in secrets]
        return _any_equal(expected, [headers.get("x-hub-signature-256", "")])

    def sign(self, secret: str, body: bytes, now: float) -> dict[str, str]:
        """See Scheme."""
        return {"x-hub-signature-256": "sha256=" + _hmac(secret.encode(), body, "sha256").hex()}


@dataclass(frozen=True, slots=True)
class Stripe:
    """`Stripe-Signature: t=<seconds>,v1=<hex>[,v1=...]` over `<seconds>.<body>`.

    tolerance: how old a signature may be (5 minutes). Stripe signs every retry anew.
    """

    tolerance: Duration = TOLERANCE
    kind: ClassVar[str] = "stripe"

    def __post_init__(self) -> None:
        object.__setattr__(self, "tolerance", seconds(self.tolerance, what="tolerance"))

    def verify(self, secrets: Sequence[str], headers: Headers, body: bytes, now: float) -> bool:
        """See Scheme."""
        parts = [part.strip().partition("=") for part in headers.get("stripe-signature", "").split(",")]
        signed_at = next((value for name, _, value in parts if name == "t"), "")
        payload = _bytes(signed_at) + b"." + body
        expected = [_hmac(secret.encode(), payload, "sha256").hex() for secret in secrets]
        genuine = _any_equal(expected, [value for name, _, value in parts if name == "v1"])
        return _lately(signed_at, now, self.tolerance) and genuine

    def sign(self, secret: str, body: bytes, now: float) -> dict[str, str]:
        """See Scheme."""
        digest = _hmac(secret.encode(), f"{int(now)}.".encode() + body, "sha256")
        return {"stripe-signature": f"t={int(now)},v1={digest.hex()}"}


@dataclass(frozen=True, slots=True)
class StandardWebhooks:
    """The scheme of standardwebhooks.com, and of Svix with `prefix="svix-"`.

    `webhook-signature: v1,<base64>[ v1,<base64>...]` over `<webhook-id>.<webhook-timestamp>.<body>`; the secret is
    base64 after `whsec_`.
    """

    prefix: str = "webhook-"
    tolerance: Duration = TOLERANCE
    kind: ClassVar[str] = "standard"

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefix", self.prefix.lower())
        object.__setattr__(self, "tolerance", seconds(self.tolerance, what="tolerance"))

    def verify(self, secrets: Sequence[str], headers: Headers, body: bytes, now: float) -> bool:
        """See Scheme."""
        signed_at = headers.get(f"{self.prefix}timestamp", "")
        payload = _bytes(f"{headers.get(f'{self.prefix}id', '')}.{signed_at}.") + body
        expected = [self._signature(secret, payload) for secret in secrets]
        genuine = _any_equal(expected, headers.get(f"{self.prefix}signature", "").split())
        return _lately(signed_at, now, self.tolerance) and genuine

    def sign(self, secret: str, body: bytes, now: float) -> dict[str, str]:
        """See Scheme. The id of the delivery is made of its body."""
        delivery = "msg_" + hashlib.sha256(body).hexdigest()[:24]
        signature = self._signature(secret, f"{delivery}.{int(now)}.".encode() + body)
        named = {"id": delivery, "timestamp": str(int(now)), "signature": signature}
        return {self.prefix + name: value for name, value in named.items()}

    def _signature(self, secret: str, payload: bytes) -> str:
        encoded = secret.removeprefix("whsec_")
        try:
            key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
        except ValueError:  # not base64, or not even ASCII
            key = b""
        # An empty key would be known to everybody.
        return "v1," + base64.b64encode(_hmac(key or secret.encode(), payload, "sha256")).decode()


@dataclass(frozen=True, slots=True)
class Hmac:
    """Anybody else's: a header with an HMAC in it.

    header: where the signature stands. algorithm: sha256, sha384, sha512 or sha1. encoding: hex or base64. prefix: what
    stands before the signature, such as `sha256=`. timestamp: the header with the time of signing in seconds, if there
    is one; then `tolerance` (5 minutes) bounds it. payload: what is signed, made of `{body}` and `{timestamp}`; by
    default the body, or `{timestamp}.{body}`.

    Slack: `Hmac("X-Slack-Signature", prefix="v0=", timestamp="X-Slack-Request-Timestamp",
    payload="v0:{timestamp}:{body}")`. Shopify: `Hmac("X-Shopify-Hmac-Sha256", encoding="base64")`.

    Raises InvalidOption for an algorithm or encoding that is none, and for a payload without the body, or with no place
    for a timestamp that is checked: an unsigned time protects from nothing.
    """

    header: str
    algorithm: str = "sha256"
    encoding: str = "hex"
    prefix: str = ""
    timestamp: str | None = None
    tolerance: Duration = TOLERANCE
    payload: str = ""
    kind: ClassVar[str] = "hmac"

    def __post_init__(self) -> None:
        object.__setattr__(self, "header", self.header.lower())
        object.__setattr__(self, "timestamp", self.timestamp.lower() if self.timestamp else None)
        object.__setattr__(self, "tolerance", seconds(self.tolerance, what="tolerance"))
        if not self.payload:
            object.__setattr__(self, "payload", "{timestamp}.{body}" if self.timestamp else "{body}")
        if self.algorithm not in ALGORITHMS:
            raise InvalidOption(f"algorithm={self.algorithm!r}: use one of {', '.join(ALGORITHMS)}.")
        if self.encoding not in _ENCODERS:
            raise InvalidOption(f"encoding={self.encoding!r}: use one of {', '.join(_ENCODERS)}.")
        if "{body}" not in self.payload:
            raise InvalidOption(f"payload={self.payload!r} leaves out {{body}}: anything could be sent under it.")
        if ("{timestamp}" in self.payload) != (self.timestamp is not None):
            raise InvalidOption(
                f"payload={self.payload!r} and timestamp={self.timestamp!r}: name the header of the time and put "
                "{timestamp} where it is signed, or leave out both."
            )

    def verify(self, secrets: Sequence[str], headers: Headers, body: bytes, now: float) -> bool:
        """See Scheme."""
        signed_at = headers.get(self.timestamp, "") if self.timestamp else ""
        given = headers.get(self.header, "").strip()
        digest = given[len(self.prefix) :] if given.startswith(self.prefix) else ""
        expected = [self._digest(secret, body, signed_at) for secret in secrets]
        genuine = _any_equal(expected, [digest.lower() if self.encoding == "hex" else digest])
        return (self.timestamp is None or _lately(signed_at, now, self.tolerance)) and genuine

    def sign(self, secret: str, body: bytes, now: float) -> dict[str, str]:
        """See Scheme."""
        headers = {self.timestamp: str(int(now))} if self.timestamp else {}
        return headers | {self.header: self.prefix + self._digest(secret, body, str(int(now)))}

    def _digest(self, secret: str, body: bytes, signed_at: str) -> str:
        values = {b"body": body, b"timestamp": _bytes(signed_at)}
        payload = _PLACES.sub(lambda place: values.get(place[1], b""), self.payload.encode())
        return _ENCODERS[self.encoding](_hmac(secret.encode(), payload, self.algorithm))


SCHEMES: dict[str, type[Any]] = {scheme.kind: scheme for scheme in (GitHub, Stripe, StandardWebhooks, Hmac)}


def scheme_json(scheme: Any) -> dict[str, JSON]:
    """A scheme as plain JSON, without what is its default."""
    plain = type(scheme)(scheme.header) if isinstance(scheme, Hmac) else type(scheme)()
    defaults = asdict(plain)
    changed = {name: value for name, value in asdict(scheme).items() if value != defaults[name]}
    if isinstance(scheme, Hmac):
        changed["header"] = scheme.header
    return {"kind": scheme.kind, **changed}


def scheme_from(body: Mapping[str, JSON]) -> Scheme:
    """The other way round."""
    scheme: Scheme = SCHEMES[body["kind"]](**{name: value for name, value in body.items() if name != "kind"})
    return scheme


def _hmac(key: bytes, payload: bytes, algorithm: str) -> bytes:
    return hmac.digest(key, payload, algorithm)


def _bytes(header: str) -> bytes:
    """What of a header was signed. One with half of a surrogate pair is no text, so nobody has signed it: its bytes have to
    differ from those of any other header, and must not be an error."""
    return header.encode("utf-8", "surrogatepass")


def _any_equal(expected: Sequence[str], given: Sequence[str]) -> bool:
    """Whether one of the given is one of the expected. Looks at all of them, whatever it has found."""
    found = False
    for ours in expected:
        for theirs in given[:MOST]:
            found |= hmac.compare_digest(ours.encode(), _bytes(theirs))
    return found


def _lately(signed_at: str, now: float, tolerance: Duration) -> bool:
    if not signed_at.isascii() or not signed_at.isdigit() or len(signed_at) > 12:
        return False
    return abs(now - int(signed_at)) <= seconds(tolerance)
