"""Encryption of what Stepwell stores and sends, with keys that only your workers and clients have.

    app = Stepwell("shop", middleware=[Encryption(KmsKey("alias/shop"), clear=["order_id"])])

AES-256-GCM by the `cryptography` package. Each value is bound to its place (which run, step, event): moved to another
place, or changed, it is refused. An encrypted value is, in base64,

    version   1 byte: 1, or 2 if the text was compressed first
    length    2 bytes: of the wrapped data key
    wrapped   the data key, wrapped by KMS or (salt) derived from a secret
    nonce     12 random bytes
    the ciphertext and its tag

and stands in the JSON `{"$sealed": "..."}`.
"""

from __future__ import annotations

import base64
import binascii
import os
import zlib
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stepwell.clock import Clock, SystemClock
from stepwell.codec import JSON, canonical, dumps, loads
from stepwell.durations import Duration, seconds
from stepwell.errors import InvalidOption, TamperedValue
from stepwell.events import CRON_TICK, INVOKED, RESERVED, RUN_EVENT, SEALED, Event
from stepwell.middleware.base import Middleware, Place
from stepwell.middleware.keys import DataKeys, Key, KmsKey, SecretKey

__all__ = ["Encryption", "KmsKey", "SecretKey"]

COMPRESS = 256
"""Bytes from which compressing is tried: what is encrypted cannot be compressed any more, and items are paid by size."""
OPEN_IN_RUN_EVENTS = frozenset({"app", "function", "run_id", "status", "parent_id", "reason", "tags", "omitted"})
"""What the news of a run's end says in clear, being the engine's own words."""
_OPENING = '{"' + SEALED + '":"'


class Encryption(Middleware):
    """Encrypts event data, results of steps and runs, answers of callbacks, error messages and step arguments.

    keys: the first encrypts, all of them decrypt. clear: the top-level fields of event data that stay as they are, because
    `where`, keys, tags or `match` look at them; they are authenticated all the same. lifetime: how long a process uses one
    data key, and trusts those it has unwrapped. Put it last: it is then nearest to what is stored.
    """

    def __init__(
        self, *keys: Key, clear: Iterable[str] = (), lifetime: Duration = "5m", clock: Clock | None = None
    ) -> None:
        if not keys or not all(hasattr(key, "unwrap") for key in keys):
            raise InvalidOption(
                "Encryption takes keys: Encryption(KmsKey('alias/shop')) or Encryption(SecretKey(...))."
            )
        if isinstance(clear, str) or SEALED in (fields := frozenset(clear)):
            raise InvalidOption(f"clear= is a list of names of top-level fields of event data, got {clear!r}.")
        self._clear = fields
        self._keys = DataKeys(keys, seconds(lifetime, what="lifetime"), clock or SystemClock())

    # ---- the hooks

    def hides(self, field: str) -> bool:
        """Every field that is not to stay in clear."""
        return field not in self._clear

    def on_send(self, event: Event[dict[str, Any]]) -> Event[dict[str, Any]]:
        """The data with all hidden fields as one ciphertext, beside those in clear."""
        clear = self._clear_of(event)
        hidden = {name: value for name, value in event.data.items() if name not in clear}
        if not hidden:
            return event
        shown = {name: value for name, value in event.data.items() if name in clear}
        sealed = self._seal(dumps(hidden), _of(event), shown)
        return replace(event, data={**shown, SEALED: sealed})

    def on_receive(self, event: Event[dict[str, Any]]) -> Event[dict[str, Any]]:
        """The data as it was sent. Data that was sent in clear stays as it is."""
        sealed = event.data.get(SEALED)
        if not isinstance(sealed, str):
            return event
        shown = {name: value for name, value in event.data.items() if name != SEALED}
        return replace(event, data={**shown, **loads(self._open(sealed, _of(event), shown))})

    def encode(self, text: str, place: Place) -> str:
        """The ciphertext, as JSON."""
        return f'{_OPENING}{self._seal(text, place)}"}}'

    def decode(self, text: str, place: Place) -> str:
        """The text again; what is no ciphertext stays as it is."""
        return self._open(text[len(_OPENING) : -2], place) if text.startswith(_OPENING) else text

    def _clear_of(self, event: Event[Any]) -> frozenset[str]:
        """The engine's own events are sent only if somebody has edited one, for a fork."""
        if event.name == CRON_TICK:
            return frozenset(event.data)
        if event.name.startswith(RUN_EVENT):
            return OPEN_IN_RUN_EVENTS
        return self._clear if event.name == INVOKED or not event.name.startswith(RESERVED) else frozenset()

    # ---- sealing

    def _seal(self, text: str, place: Place, shown: JSON = None) -> str:
        version, content = 1, text.encode()
        if len(content) >= COMPRESS:
            packed = zlib.compress(content, 6)
            if len(packed) < len(content):
                version, content = 2, packed
        secret, wrapped = self._keys.current()
        head = version.to_bytes(1, "big") + len(wrapped).to_bytes(2, "big") + wrapped
        nonce = os.urandom(12)
        sealed = AESGCM(secret).encrypt(nonce, content, _bound(head, place, shown))
        return base64.b64encode(head + nonce + sealed).decode()

    def _open(self, sealed: str, place: Place, shown: JSON = None) -> str:
        try:
            raw = base64.b64decode(sealed, validate=True)
        except (binascii.Error, ValueError) as error:
            raise TamperedValue(_refused(place, "it is no ciphertext")) from error
        version, length = raw[0] if raw else 0, int.from_bytes(raw[1:3], "big")
        head, nonce, content = raw[: 3 + length], raw[3 + length : 15 + length], raw[15 + length :]
        if version not in (1, 2) or len(content) < 16:
            raise TamperedValue(_refused(place, "it is no ciphertext of a kind that this release knows"))
        secret = self._keys.unwrap(head[3:])
        try:
            plain = AESGCM(secret).decrypt(nonce, content, _bound(head, place, shown))
        except InvalidTag as error:
            raise TamperedValue(_refused(place, "it was changed, or was encrypted for another place")) from error
        return (zlib.decompress(plain) if version == 2 else plain).decode()


def _of(event: Event[Any]) -> Place:
    return Place("event", event.id, event.name)


def _bound(head: bytes, place: Place, shown: JSON) -> bytes:
    """What is authenticated with a value without being in it."""
    return head + canonical([asdict(place), shown]).encode()


def _refused(place: Place, why: str) -> str:
    what = f"{place.kind} {place.name!r} of {place.owner}" if place.name else f"{place.kind} of {place.owner}"
    return (
        f"The stored {what} cannot be decrypted: {why}. Somebody has written to the table, the queue or the bucket past "
        "Stepwell, or a value was copied. Restore it, or replay the run from its event."
    )
