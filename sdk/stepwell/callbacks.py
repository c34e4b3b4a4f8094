"""Callback tokens: which step they answer, and the secret that proves it.

A token is `<run>~<step, base64>~<secret>`. The secret is 128 bits of an HMAC under the app's callback key, which lies
outside of table and bucket (`keyring`): it is the same on every replay, and whoever has all that is stored cannot make
one. The step's record holds the SHA-256 of the secret, its proof, so that answers are checked without the key.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re

from stepwell.errors import UnknownCallback
from stepwell.ids import digest, is_run_id

_IN_TEXT = re.compile(r"(~[A-Za-z0-9_-]+~)[0-9a-f]+")
"""A token in a text, from its step on. Also the beginning of one: half a secret is half as hard to guess."""

LONGEST = 8192
"""Characters of a token; the key of a step is a part of it, and URLs are not longer."""


def callback_token(key: bytes, run: str, step: str) -> str:
    """The token of the callback with this step key, under a callback key. All of it may stand in a URL as it is."""
    secret = hmac.digest(key, digest("callback", run, step), "sha256").hex()[:32]
    return f"{run}~{base64.urlsafe_b64encode(step.encode()).decode().rstrip('=')}~{secret}"


def proof_of(token: str) -> str:
    """What is recorded of a token: the SHA-256 of its secret."""
    return digest(token.rpartition("~")[2]).hex()


def proves(token: str, proof: str) -> bool:
    """Whether a token is the one that this was recorded of."""
    return hmac.compare_digest(proof_of(token), proof)


def callback_url(api_url: str | None, token: str) -> str:
    """Where to POST the answer; empty without a webhook door."""
    return f"{api_url.rstrip('/')}/c/{token}" if api_url else ""


def callback_key_name(table: str, app: str) -> str:
    """The name of the SSM parameter that holds the callback key of an app. Tables have names of their own in a region."""
    return f"/stepwell/{table}/{app}/callback-key"


def parse_token(token: str) -> tuple[str, str]:
    """Run and step key of a token, not yet proven. Raises UnknownCallback.

    Anybody may say anything in place of a token: what comes back can be asked for in the table.
    """
    if len(token) > LONGEST:
        raise UnknownCallback("This is not a callback token.")
    try:
        run, step, _ = token.split("~")
        key = base64.urlsafe_b64decode(step + "=" * (-len(step) % 4)).decode()
    except (ValueError, AttributeError, binascii.Error):
        raise UnknownCallback("This is not a callback token.") from None
    if not is_run_id(run):
        raise UnknownCallback("This is not a callback token.")
    return run, key


def without_secrets(text: str) -> str:
    """The text with the secrets of the callback tokens in it left out: for what is stored to be shown to people."""
    return _IN_TEXT.sub(r"\1...", text)
