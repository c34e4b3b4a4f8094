"""Where the videos are: in S3, under keys. A step fetches what it needs: the one before it may have run elsewhere."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import boto3
from botocore.exceptions import ClientError

from stepwell import NonRetriableError

BUCKET = os.environ.get("CLIPS_BUCKET", "clips")


class Missing(NonRetriableError):
    """There is no such file, and S3 is never late: looking again would not help."""


@contextmanager
def workspace() -> Iterator[Path]:
    """A directory that is gone when the step is over."""
    with TemporaryDirectory(prefix="clips-") as directory:
        yield Path(directory)


def download(key: str, to: Path) -> Path:
    """Fetch a file; returns where it now is. Raises Missing."""
    try:
        boto3.client("s3").download_file(BUCKET, key, str(to))
    except ClientError as error:
        if error.response["Error"]["Code"] == "404":
            raise Missing(f"there is no {key} in the bucket {BUCKET}") from error
        raise
    return to


def upload(path: Path, key: str) -> str:
    """Keep a file under a key, which is returned."""
    boto3.client("s3").upload_file(str(path), BUCKET, key)
    return key
