"""Values too large for an item or a message go to S3, and what stands in their place is a reference (claim check)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stepwell.codec import squeeze, unsqueeze
from stepwell.errors import PayloadTooLarge

if TYPE_CHECKING:
    from stepwell.records import Stored

INLINE_STEP = 32 * 1024
"""Above this a result lies in S3. A write of 8 KB costs what a PUT costs; below 32 KB DynamoDB is several times faster."""
INLINE_RUN = 2 * 1024
"""For values in the run item: they are billed again at every change of the run."""
MAX_PAYLOAD = 16 * 1024 * 1024
ENVELOPE = 64 * 1024
"""What the engine itself may add to a value that was as large as may be: names and times, an error with its traceback."""


class Payloads:
    """Packing values for items, unpacking them again.

    Objects are written once under a key nobody else uses and never changed, so a reference that was recorded always
    leads to the value that was recorded with it. They expire by the bucket's lifecycle.
    """

    def __init__(self, s3: Callable[[], Any], bucket: str | None, *, limit: int = MAX_PAYLOAD) -> None:
        self._s3 = s3
        self._bucket = bucket
        self.limit = limit

    def check(self, text: str, what: str, *, enveloped: bool = False) -> int:
        """The size in bytes. Raises PayloadTooLarge naming `what` and the size if it is above the cap.

        enveloped: the value was measured where it came from, and has been put into an envelope of the engine's since.
        """
        size = len(text) if text.isascii() else len(text.encode())
        if size > self.limit + (ENVELOPE if enveloped else 0):
            raise PayloadTooLarge(
                f"{what} is {size:,} bytes; the limit is {self.limit:,}. Store it yourself, for example in S3, and "
                "pass its key, or raise max_payload."
            )
        return size

    def pack(
        self, text: str, *, key: str, what: str, beside: int = 0, inline: int = INLINE_STEP, enveloped: bool = False
    ) -> Stored:
        """The value as it is to stand in an item that has `beside` other bytes.

        Plain if small, compressed if that saves a write unit, a reference to the S3 object `key` if it is still larger
        than `inline` bytes. `enveloped` as in `check`. Raises PayloadTooLarge.
        """
        size = self.check(text, what, enveloped=enveloped)
        squeezed = squeeze(text, beside)
        if len(squeezed if isinstance(squeezed, bytes) else squeezed.encode()) <= inline or self._bucket is None:
            return squeezed
        self.upload(key, text)
        return {"s3": key, "size": size}

    def unpack(self, stored: Stored) -> str:
        """The JSON text again."""
        if isinstance(stored, str | bytes):
            return unsqueeze(stored)
        return self.download(stored["s3"])

    def upload(self, key: str, text: str) -> None:
        """Write an object. Writing the same twice is harmless."""
        self._s3().put_object(Bucket=self._bucket, Key=key, Body=text.encode(), ContentType="application/json")

    def copy(self, source: str, key: str) -> None:
        """Copy an object within the bucket: the same value under a key of its own, its age beginning anew."""
        # Replacing its tags (there are none) spares the caller the permission to read them.
        source_object = {"Bucket": self._bucket, "Key": source}
        self._s3().copy_object(Bucket=self._bucket, Key=key, CopySource=source_object, TaggingDirective="REPLACE")

    def download(self, key: str) -> str:
        """Read an object."""
        body: bytes = self._s3().get_object(Bucket=self._bucket, Key=key)["Body"].read()
        return body.decode()
