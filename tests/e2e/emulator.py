"""AWS on this machine: ministack in a process of its own, on a free port of the loopback interface, with IAM enforced.

TLS is on because queues and buckets refuse requests without it, also the CDK's own asset bucket.
"""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ACCOUNT, REGION = "000000000000", "us-east-1"
PATIENCE = 60.0
"""Seconds until it must answer."""

_FOREIGN = ("AWS_", "STEPWELL_", "MINISTACK_")
_TRUST = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS")


@dataclass(frozen=True)
class Emulator:
    """A running emulator."""

    port: int
    home: Path
    """Its certificate, and the unpacked functions."""

    @property
    def certificate(self) -> Path:
        return self.home / "ministack-tls" / "server.crt"

    @property
    def environment(self) -> dict[str, str]:
        """What AWS clients need in their environment to talk to it."""
        return {
            "AWS_ENDPOINT_URL": f"https://127.0.0.1:{self.port}",
            "AWS_CA_BUNDLE": str(self.certificate),
            "NODE_EXTRA_CA_CERTS": str(self.certificate),
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def answers(self) -> bool:
        """Whether it is up."""
        if not self.certificate.exists():
            return False
        trusted = ssl.create_default_context(cafile=str(self.certificate))
        try:
            with urllib.request.urlopen(f"https://127.0.0.1:{self.port}/_ministack/health", timeout=2, context=trusted):
                return True
        except (OSError, urllib.error.URLError):
            return False


@contextmanager
def running(home: Path) -> Iterator[Emulator]:
    """An emulator that is gone, with all its functions' processes, when the block is left."""
    emulator = Emulator(_free_port(), home)
    environment = {
        **_clean(os.environ),
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(emulator.port),
        "MINISTACK_HOST": "127.0.0.1",
        "AUTH": "true",
        "USE_SSL": "1",
        "TMPDIR": str(home),
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
    }
    with (home / "emulator.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("serve.py"))],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=home,
            start_new_session=True,  # a group of its own, so that its functions' processes end with it
        )
        try:
            deadline = time.monotonic() + PATIENCE
            while not emulator.answers():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the emulator did not start:\n{(home / 'emulator.log').read_text()[-3000:]}")
                time.sleep(0.1)
            yield emulator
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _clean(environment: Mapping[str, str]) -> dict[str, str]:
    """Without anything that says where AWS is or whom to trust: functions would inherit it."""
    return {k: v for k, v in environment.items() if not k.startswith(_FOREIGN) and k not in _TRUST}
