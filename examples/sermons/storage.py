"""Where files stay between steps.

The next step may run on another machine, so nothing on the local disk outlives a step: files go to S3, and a step's
result is a key. A step that runs twice makes the same keys, and so overwrites its own files.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import boto3
from botocore.exceptions import ClientError

from stepwell import NonRetriableError

BUCKET = os.environ.get("SERMONS_BUCKET", "sermons")


class Missing(NonRetriableError):
    """There is no such file, and S3 is never late: looking again would not help."""


@contextmanager
def workspace() -> Iterator[Path]:
    """A directory that is gone when the step is over."""
    with TemporaryDirectory(prefix="sermons-") as directory:
        yield Path(directory)


def download(key: str, to: Path) -> str:
    """Fetch a file; returns its version, for `replace`. Raises Missing."""
    try:
        stored = boto3.client("s3").get_object(Bucket=BUCKET, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchKey":
            raise Missing(f"there is no {key} in the bucket {BUCKET}") from error
        raise
    with to.open("wb") as file:
        shutil.copyfileobj(stored["Body"], file)
    return stored["ETag"]


def upload(path: Path, key: str) -> str:
    """Keep a file under a key, which is returned."""
    with path.open("rb") as file:
        boto3.client("s3").put_object(Bucket=BUCKET, Key=key, Body=file)
    return key


def replace(path: Path, key: str, version: str | None) -> None:
    """Keep a file only if the stored one is still that version (None: if there is none).

    Raises ClientError (PreconditionFailed) if somebody else was faster; start again from what they wrote.
    """
    with path.open("rb") as file:
        if version is None:
            boto3.client("s3").put_object(Bucket=BUCKET, Key=key, Body=file, IfNoneMatch="*")
        else:
            boto3.client("s3").put_object(Bucket=BUCKET, Key=key, Body=file, IfMatch=version)
