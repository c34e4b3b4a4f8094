"""One emulator for the whole end-to-end test, with the root app deployed into its empty account by the `cdk` command."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import boto3
import pytest

from stepwell import Client, Run

from . import cdk_cli, emulator
from .cdk_cli import CdkCli

CONTEXT = {"python": "local", "examples": "orders,pricing_sync,debate", "webhooks": "on"}
"""The emulator runs handlers on this machine's own interpreter. The examples with films and sound are left out: what
they need is 100 MB to download and proves nothing more about the deployment."""

PATIENCE = 120.0
"""Seconds within which what must happen by itself has happened. Usually it is one or two."""

T = TypeVar("T")
ENDED = {"completed", "failed", "cancelled", "skipped"}


def eventually(look: Callable[[], T | None], what: str, *, within: float = PATIENCE) -> T:
    """What `look` finds, once it finds something true. The emulator works in real time, so the test has to wait."""
    deadline = time.monotonic() + within
    while True:
        if found := look():
            return found
        assert time.monotonic() < deadline, f"{what}: not within {within:.0f} seconds"
        time.sleep(0.1)


@dataclass
class Cloud:
    """The account after `cdk deploy`, and the people who work with it."""

    aws: dict[str, str]
    cdk: CdkCli
    work: Path
    outputs: dict[str, Any] = field(default_factory=dict)

    @property
    def session(self) -> boto3.Session:
        return boto3.Session(region_name=self.aws["AWS_REGION"])

    @property
    def client(self) -> Client:
        """What a user writes."""
        return Client.from_stack("stepwell", session=self.session)

    @property
    def sqs(self) -> Any:
        return self.session.client("sqs")

    def ended(self, event_id: str, function: str) -> Run:
        """The run of a function that an event started, once it has ended."""

        def look() -> Run | None:
            runs = [run for run in self.client.runs_of_event(event_id) if run.function == function]
            return runs[0] if runs and runs[0].status.value in ENDED else None

        return eventually(look, f"a run of {function} for {event_id} ends")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """An account into which the root app and the probe app are deployed. Environment variables lead there."""
    cdk_cli.installed()
    home, work = tmp_path_factory.mktemp("emulator"), tmp_path_factory.mktemp("deployment")
    with emulator.running(home) as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        cloud = Cloud(running.environment, CdkCli(running.environment, work), work)
        environment = f"aws://{emulator.ACCOUNT}/{emulator.REGION}"
        bootstrapped = cloud.cdk.run("bootstrap", environment, context=CONTEXT)
        assert bootstrapped.code == 0, bootstrapped.output
        cloud.outputs = cloud.cdk.deploy(context=CONTEXT)
        yield cloud
