"""Apps that encrypt, and looking for what they must not let anybody read."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any

import boto3

from stepwell import Stepwell
from stepwell.middleware.encryption import Encryption, SecretKey
from stepwell.testing import LocalStepwell
from stepwell.testing.observations import Began, Sent, Wrote

PLAIN = "sesame"
"""What must not be found. Steps make other texts of it, in upper case too."""
LONG = PLAIN + "".join(f"{n:05d}" for n in range(80_000))


def secret(fill: int = 1) -> SecretKey:
    return SecretKey(bytes([fill]) * 32)


def encrypted(*keys: Any, clear: Any = ("order",), id: str = "shop") -> Stepwell:
    return Stepwell(id, middleware=[Encryption(*(keys or (secret(),)), clear=clear)])


def texts(value: Any) -> Iterator[str]:
    """Every text in a stored value, uncompressed."""
    if isinstance(value, bytes | bytearray):
        try:
            yield zlib.decompress(value).decode()
        except zlib.error:
            yield value.decode("latin-1")
    elif isinstance(value, dict):
        for name, item in value.items():
            yield str(name)
            yield from texts(item)
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from texts(item)
    else:
        yield str(value)


def everything_ever_stored(local: LocalStepwell) -> Iterator[str]:
    """All that ever stood in an item, a message, an object or an invocation, as anybody with read access sees it."""
    seen = local.world.observations
    for write in seen.of(Wrote):
        yield from texts([write.pk, write.sk, write.after.plain() if write.after else None])
    for sent in seen.of(Sent):
        yield sent.body
    for began in seen.of(Began):
        yield json.dumps(began.event)
    s3, bucket = boto3.client("s3"), local.world.aws.resources.bucket
    for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", []):
        yield entry["Key"]
        yield from texts(s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read())


def readable(local: LocalStepwell, *words: str) -> list[str]:
    """What of `words` can be found."""
    stored = [text.lower() for text in everything_ever_stored(local)]
    assert len(stored) > 50
    return [text[:300] for text in stored for word in words if word in text]


def use(app: Stepwell, encryption: Encryption) -> None:
    """Deploy the same app with another encryption."""
    fresh = Stepwell(app.id, middleware=[encryption])
    app.middleware, app._values = fresh.middleware, fresh._values


def copy_attribute(local: LocalStepwell, name: str, source: tuple[str, str], target: tuple[str, str]) -> None:
    """Write what one item holds into another, as somebody with write access to the table might."""
    table = boto3.resource("dynamodb").Table(local.world.aws.resources.table)
    value = table.get_item(Key=dict(zip(("pk", "sk"), source, strict=True)))["Item"][name]
    table.update_item(
        Key=dict(zip(("pk", "sk"), target, strict=True)),
        UpdateExpression="SET #name = :value",
        ExpressionAttributeNames={"#name": name},
        ExpressionAttributeValues={":value": value},
    )
