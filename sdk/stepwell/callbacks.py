"""Callback tokens: which step they answer, and the secret that proves it.

A token is `<run>~<step, base64>~<secret>`. The secret is 128 bits derived from the run's random seed, so it is the same
on every replay without being stored, and nobody without access to the table can make one.
"""

from __future__ import annotations

import base64
import binascii
import hmac

from stepwell.errors import UnknownCallback
from stepwell.ids import digest, is_run_id
from stepwell.records import RunState

LONGEST = 8192
"""Characters of a token; the key of a step is a part of it, and URLs are not longer."""


def callback_token(run: RunState, key: str) -> str:
    """The token of the callback with this step key."""
    step = base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")
    return f"{run.id}~{step}~{_secret(run, key)}"


def callback_url(api_url: str | None, token: str) -> str:
    """Where to POST the answer; empty without a webhook door. All of a token may stand in a URL as it is."""
    return f"{api_url.rstrip('/')}/c/{token}" if api_url else ""


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


def proves(token: str, run: RunState, key: str) -> bool:
    """Whether the token was made for this step of this run."""
    return hmac.compare_digest(token.rpartition("~")[2].encode(), _secret(run, key).encode())


def _secret(run: RunState, key: str) -> str:
    return digest("callback", run.seed, run.id, key).hex()[:32]
