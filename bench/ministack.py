"""An AWS emulator in a process of its own, on the loopback interface, for as long as a bench takes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import botocore.session

from stepwell.ports import Config
from stepwell.store.table import TABLE_SPEC

REGION = "us-east-1"
VISIBILITY = 120
"""Seconds for which a received message is hidden."""


@contextmanager
def ministack() -> Iterator[str]:
    """Start ministack on a free port; its URL. It is stopped at the end, whatever happens."""
    port = _free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "MINISTACK_HOST": "127.0.0.1",
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
    }
    command = Path(sys.executable).with_name("ministack")
    server = subprocess.Popen(
        [str(command)], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        url = f"http://127.0.0.1:{port}"
        _await(server, f"{url}/_ministack/health")
        yield url
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def session() -> Any:
    """A session with invented credentials: no bench ever touches a real account."""
    made = botocore.session.Session()
    made.set_credentials("test", "test")
    made.set_config_variable("region", REGION)
    return made


def create_resources(url: str, name: str) -> Config:
    """A table and the two queues, and where they are."""
    made = session()
    dynamodb = made.create_client("dynamodb", endpoint_url=url)
    sqs = made.create_client("sqs", endpoint_url=url)
    dynamodb.create_table(TableName=name, **TABLE_SPEC)
    dlq_url = sqs.create_queue(QueueName=f"{name}-dlq")["QueueUrl"]
    attributes = {"VisibilityTimeout": str(VISIBILITY)}
    queue_url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    return Config(
        table=name,
        queue_url=queue_url,
        dlq_url=dlq_url,
        orchestrator="orchestrator",
        region=REGION,
        endpoint_url=url,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await(server: subprocess.Popen[bytes], url: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"ministack ended with {server.returncode} before it was up")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except urllib.error.HTTPError:
            return  # it answers: it is up
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"ministack did not answer within {seconds:g} s")
