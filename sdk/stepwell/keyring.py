"""The callback keys of apps: 256 random bits each, from which workers make the tokens of their callbacks.

They are kept outside of table and bucket, so that no backup, export or reader of those can make a token. The registrar
makes an app's key when the app is first deployed; its workers read it when a function first makes a callback, so an app
without callbacks never pays for it. A token is checked by its proof in the step's record: no key is needed for that.

A stored text may hold several keys, one a line: the first makes new tokens, all of them make again those that they have
made. So a key can be changed while callbacks are open.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from stepwell.callbacks import callback_key_name, callback_token, proves
from stepwell.errors import KeyUnavailable
from stepwell.ids import Ids, app_of

KEY_BYTES = 32


class KeyStore(Protocol):
    """Where the keys are kept."""

    def read(self, app: str) -> str:
        """The keys of an app in base64, one a line. Raises KeyUnavailable."""
        ...

    def create(self, app: str, text: str) -> bool:
        """Keep the first key of an app, unless it has one: says whether it had none. Atomic, so of two one stays."""
        ...


class Keyring:
    """The keys of a process, each app's read once."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store
        self._known: dict[str, Sequence[bytes]] = {}

    def token(self, run: str, step: str, proof: str | None = None) -> str:
        """The token of the callback with this step key; with `proof`, the very one that its record was made of.

        Raises KeyUnavailable if the key cannot be read, or is another one than that token was made with.
        """
        app = app_of(run)
        for fresh in (False, True):
            for key in self._keys(app, fresh=fresh):
                token = callback_token(key, run, step)
                if proof is None or proves(token, proof):
                    return token
        raise KeyUnavailable(
            f"The token of callback {step!r} of run {run} was made with a key that app {app!r} no longer has. Put that "
            "key back, as a line after the first: the first key makes new tokens, all of them make their old ones again."
        )

    def ensure(self, app: str, ids: Ids) -> bool:
        """Make the key of an app unless it has one; says whether it had none."""
        return self._store.create(app, base64.b64encode(ids.token_bytes(KEY_BYTES)).decode())

    def check(self, app: str) -> None:
        """Read the keys of an app anew. Raises KeyUnavailable."""
        self._keys(app, fresh=True)

    def _keys(self, app: str, *, fresh: bool) -> Sequence[bytes]:
        if fresh or app not in self._known:
            self._known[app] = _parsed(self._store.read(app), app)
        return self._known[app]


def _parsed(text: str, app: str) -> Sequence[bytes]:
    try:
        keys = [base64.b64decode(line, validate=True) for line in text.split()]
    except (binascii.Error, ValueError):
        keys = []
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise KeyUnavailable(
            f"What is kept as the callback key of app {app!r} is none: {KEY_BYTES} random bytes in base64, one key a line "
            "(`openssl rand -base64 32` makes one)."
        )
    return keys


class ParameterStore:
    """Keys in SSM Parameter Store: SecureStrings of the standard tier, which cost nothing, under a name that follows
    from table and app. `kms_key` encrypts those that are made here, else the account's key for SSM (`alias/aws/ssm`)."""

    def __init__(self, ssm: Callable[[], Any], table: str, *, kms_key: str | None = None) -> None:
        self._ssm = ssm
        self._table = table
        self._kms_key = kms_key

    def read(self, app: str) -> str:
        """See KeyStore."""
        name = callback_key_name(self._table, app)
        try:
            answer = self._ssm().get_parameter(Name=name, WithDecryption=True)
        except (BotoCoreError, ClientError) as error:
            raise KeyUnavailable(
                f"The callback key of app {app!r}, the SSM parameter {name}, cannot be read: {error}. A deployment of the "
                "app makes it if it is missing; workers may read it by their role, and in a VPC need a way to SSM."
            ) from error
        return str(answer["Parameter"]["Value"])

    def create(self, app: str, text: str) -> bool:
        """See KeyStore. Raises ClientError."""
        under = {"KeyId": self._kms_key} if self._kms_key else {}
        try:
            self._ssm().put_parameter(
                Name=callback_key_name(self._table, app),
                Description=f"Stepwell: makes the tokens of callbacks of the app {app}",
                Value=text,
                Type="SecureString",
                Tier="Standard",
                Overwrite=False,
                **under,
            )
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") != "ParameterAlreadyExists":
                raise
            return False
        return True
