"""Where data keys come from: AWS KMS, or a secret of your own.

Values are encrypted with data keys, each used for some minutes by one process. What is stored beside a value is its data
key in wrapped form, from which only the holder of the key can get it back (envelope encryption). A data key of a secret
is derived from it and a random salt, so that no key ever encrypts more than it safely can (AES-GCM with random nonces:
2^32 values, NIST SP 800-38D, 8.3).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from stepwell.clock import Clock
from stepwell.errors import InvalidOption, KeyUnavailable, TamperedValue

KEPT = 1000
"""Data keys that a process remembers, so that replaying a run asks KMS once for each and not once for each value."""
USES = 1 << 24
"""Values under one data key, far below the 2^32 of AES-GCM with random nonces."""
GRACE = 3600.0
"""Seconds for which a data key that cannot be renewed is still used: an outage of KMS stops nothing that is under way."""


class Key(Protocol):
    """Makes data keys and unwraps them again."""

    def new(self) -> tuple[bytes, bytes]:
        """A data key of 32 bytes, and its wrapped form. Raises KeyUnavailable."""
        ...

    def unwrap(self, wrapped: bytes) -> bytes | None:
        """The data key, None if another key has wrapped it. Raises KeyUnavailable, and TamperedValue."""
        ...


class SecretKey:
    """A key from a secret of your own: 32 random bytes, or the same in base64, as `SecretKey.generate()` makes them.

    Not a password: nothing is stretched. Raises InvalidOption for anything else.
    """

    def __init__(self, secret: str | bytes) -> None:
        try:
            raw = secret if isinstance(secret, bytes) else base64.b64decode(secret, validate=True)
        except (binascii.Error, ValueError, TypeError):
            raw = b""
        if len(raw) != 32:
            raise InvalidOption(
                "SecretKey takes 32 random bytes, or these in base64. SecretKey.generate() makes some; keep them in AWS "
                "Secrets Manager or SSM."
            )
        self._secret = raw
        self._mark = b"S" + hashlib.sha256(b"stepwell key id" + raw).digest()[:8]

    def __repr__(self) -> str:
        return f"<SecretKey {self._mark[1:].hex()}>"

    @staticmethod
    def generate() -> str:
        """A new secret, in base64."""
        return base64.b64encode(os.urandom(32)).decode()

    def new(self) -> tuple[bytes, bytes]:
        """Derived from the secret and a new salt."""
        salt = os.urandom(16)
        return self._derive(salt), self._mark + salt

    def unwrap(self, wrapped: bytes) -> bytes | None:
        """Derived again, if the salt is one of this secret."""
        return self._derive(wrapped[len(self._mark) :]) if wrapped.startswith(self._mark) else None

    def _derive(self, salt: bytes) -> bytes:
        return HKDF(SHA256(), 32, salt=salt, info=b"stepwell data key").derive(self._secret)


class KmsKey:
    """A symmetric key in AWS KMS, by id, ARN or alias (its ARN, in another account).

    Whoever encrypts needs `kms:GenerateDataKey`, whoever decrypts `kms:Decrypt`. `context` is the encryption context of
    every call: it shows in CloudTrail, and a key policy can demand it. client: of KMS, made when first used unless given.
    """

    def __init__(
        self, key_id: str, *, context: Mapping[str, str] | None = None, client: Callable[[], Any] | None = None
    ) -> None:
        self._key_id = key_id
        self._context = dict(context or {"stepwell": "values"})
        self._make_client = client or _kms
        self._client: Any = None

    def __repr__(self) -> str:
        return f"<KmsKey {self._key_id}>"

    def new(self) -> tuple[bytes, bytes]:
        """GenerateDataKey."""
        made = self._call("generate_data_key", KeyId=self._key_id, KeySpec="AES_256")
        return made["Plaintext"], b"K" + made["CiphertextBlob"]

    def unwrap(self, wrapped: bytes) -> bytes | None:
        """Decrypt, with this key only: a stranger's key is not used, even if the role may."""
        if not wrapped.startswith(b"K"):
            return None
        answer = self._call("decrypt", KeyId=self._key_id, CiphertextBlob=wrapped[1:])
        return None if answer is None else answer["Plaintext"]

    def _call(self, verb: str, **arguments: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            if self._client is None:
                self._client = self._make_client()
            return getattr(self._client, verb)(EncryptionContext=self._context, **arguments)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code == "IncorrectKeyException":
                return None
            if code == "InvalidCiphertextException":
                raise TamperedValue(
                    f"KMS key {self._key_id} refuses a wrapped data key: it was changed, or wrapped in another encryption "
                    f"context than {self._context}."
                ) from error
            raise KeyUnavailable(f"KMS key {self._key_id} cannot be used ({verb}): {error}") from error
        except BotoCoreError as error:
            raise KeyUnavailable(f"KMS cannot be reached for key {self._key_id} ({verb}): {error}") from error


@dataclass(slots=True)
class _DataKey:
    secret: bytes
    wrapped: bytes
    since: float
    uses: int = 0


class DataKeys:
    """The data keys of a process: the first key makes new ones, all of them unwrap."""

    def __init__(self, keys: Sequence[Key], lifetime: float, clock: Clock) -> None:
        self._keys = tuple(keys)
        self._lifetime = lifetime
        self._clock = clock
        self._lock = threading.Lock()
        self._own: _DataKey | None = None
        self._known: OrderedDict[bytes, _DataKey] = OrderedDict()

    def current(self) -> tuple[bytes, bytes]:
        """The data key to encrypt with now, and its wrapped form."""
        with self._lock:
            now, own = self._clock.now(), self._own
            if own is None or now - own.since >= self._lifetime or own.uses >= USES:
                try:
                    own = self._own = _DataKey(*self._keys[0].new(), now)
                except KeyUnavailable:
                    if own is None or now - own.since >= GRACE or own.uses >= USES:
                        raise
                self._remember(own)
            own.uses += 1
            return own.secret, own.wrapped

    def unwrap(self, wrapped: bytes) -> bytes:
        """The data key behind a wrapped one. Raises KeyUnavailable if none of the keys has made it."""
        with self._lock:
            now, known = self._clock.now(), self._known.get(wrapped)
            if known is not None and now - known.since < self._lifetime:
                return known.secret
            try:
                secret = self._unwrapped(wrapped)
            except KeyUnavailable:
                if known is None or now - known.since >= GRACE:
                    raise
                return known.secret
            self._remember(_DataKey(secret, wrapped, now))
            return secret

    def _unwrapped(self, wrapped: bytes) -> bytes:
        first: KeyUnavailable | TamperedValue | None = None
        for key in self._keys:
            try:
                secret = key.unwrap(wrapped)
            except (KeyUnavailable, TamperedValue) as error:
                first = first or error
                continue
            if secret is not None:
                return secret
        if first is not None:
            raise first
        tried = ", ".join(map(repr, self._keys))
        raise KeyUnavailable(
            f"A value was encrypted with a key that is not among those given ({tried}). Add it after the others: the "
            "first key encrypts, all of them decrypt."
        )

    def _remember(self, key: _DataKey) -> None:
        self._known[key.wrapped] = key
        self._known.move_to_end(key.wrapped)
        while len(self._known) > KEPT:
            self._known.popitem(last=False)


def _kms() -> Any:
    import botocore.session
    from botocore.config import Config

    config = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 4})
    return botocore.session.get_session().create_client("kms", config=config)
