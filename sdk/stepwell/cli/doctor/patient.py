"""What the checks look at and what they say."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from stepwell.errors import StepwellError
from stepwell.ports import Ports


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    UNKNOWN = "unknown"
    """It could not be looked at, most often for lack of a permission. No problem in itself."""
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    what: str
    """What was found, and what it means."""
    advice: str = ""
    """What to do; empty if nothing is."""


def ok(what: str) -> Finding:
    """All is well."""
    return Finding(Level.OK, what)


def warning(what: str, advice: str) -> Finding:
    """It works, but should be looked at."""
    return Finding(Level.WARNING, what, advice)


def problem(what: str, advice: str) -> Finding:
    """Something does not work, or will not when it is needed."""
    return Finding(Level.PROBLEM, what, advice)


def unknown(what: str, advice: str = "") -> Finding:
    """It could not be looked at."""
    return Finding(Level.UNKNOWN, f"could not check: {what}", advice)


@dataclass(frozen=True)
class Patient:
    """A deployment, and the ways to look at it."""

    stack: str | None
    """None: only what the environment names is known, which is queue, table and bucket."""
    outputs: Mapping[str, str]
    ports: Ports
    clients: Callable[[str], Any]
    """AWS clients by service."""

    @cached_property
    def now(self) -> float:
        """Epoch seconds, the same for all checks."""
        return time.time()

    @cached_property
    def consumer_timeout(self) -> int:
        """The time-out of the consumer, seconds. Raises ClientError."""
        configuration = self.clients("lambda").get_function_configuration(FunctionName=self.outputs["ConsumerName"])
        return int(configuration["Timeout"])

    def queue_attributes(self, url: str) -> Mapping[str, str]:
        """All attributes of a queue. Raises ClientError."""
        found: Mapping[str, str] = (
            self.clients("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"]).get("Attributes", {})
        )
        return found


Check = Callable[[Patient], Iterator[Finding]]


def examine(check: Check, patient: Patient) -> list[Finding]:
    """What a check finds. One that is denied a call, or whose call fails, keeps what it had found and says so."""
    found: list[Finding] = []
    try:
        for finding in check(patient):
            found.append(finding)
    except ClientError as error:
        found.append(_failed(error))
    except (BotoCoreError, StepwellError) as error:
        found.append(unknown(f"{type(error).__name__}: {error}"))
    return found


def is_denied(error: ClientError) -> bool:
    """Whether it is about a permission, whatever the service calls it."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return "AccessDenied" in code or code in {"UnauthorizedOperation", "AuthorizationError", "403"} or status == 403


def _failed(error: ClientError) -> Finding:
    if is_denied(error):
        return unknown(
            f"{error.operation_name} is denied",
            "The credentials in use lack that permission; whoever may look at the stack's resources can run this.",
        )
    told = error.response.get("Error", {})
    what = f"{error.operation_name} failed with {told.get('Code', 'an error')}: {told.get('Message', '')}".strip()
    if "NotFound" in what or "NonExistent" in what or "NoSuch" in what or "DoesNotExist" in what:
        return problem(what, "Something was deleted, or region and account are others. Deploy the stack again.")
    return unknown(what, "If it stays so, AWS itself may have trouble: look at its health dashboard.")
