"""The secrets that webhooks are signed with: kept in SSM Parameter Store or in Secrets Manager, read when first needed.

SSM is what we advise: a standard parameter of type SecureString costs nothing to keep, and reading it is free at the
door's rate (one call for each source, instance and five minutes). A secret in Secrets Manager costs 0.40 USD a month.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from botocore.config import Config as ClientConfig
from botocore.exceptions import BotoCoreError, ClientError

from stepwell.clock import Clock
from stepwell.errors import SecretUnavailable
from stepwell.webhooks import SECRETS_MANAGER

logger = logging.getLogger("stepwell")

KNOWN = 300.0
"""Seconds for which a secret that was read is used without looking again: how long a rotation has to wait."""
PAUSE = 15.0
"""Seconds for which AWS is not asked again when it has not answered: asking takes a request up to six."""
_BUSY = frozenset({"ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded"})
"""Answers below 500 that say nothing about the secret, only that it is to be asked for again (AWS common errors)."""


class Secrets(Protocol):
    """Where secrets come from."""

    def get(self, place: str) -> list[str]:
        """The secrets kept at this place, at least one. Raises SecretUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class _Read:
    secrets: list[str]
    until: float
    """When to look again."""


class AwsSecrets:
    """Those of this account. While AWS does not answer, what was read before stays good; what it answers counts at once:
    a secret that was taken away opens nothing any more."""

    def __init__(self, session: Any, clock: Clock, *, region: str | None, endpoint_url: str | None = None) -> None:
        self._session = session
        self._clock = clock
        self._where = {"region_name": region, "endpoint_url": endpoint_url}
        self._clients: dict[str, Any] = {}
        self._read: dict[str, _Read] = {}

    def get(self, place: str) -> list[str]:
        """See Secrets."""
        known = self._read.get(place)
        if known and self._clock.now() < known.until:
            return known.secrets
        try:
            found = lines(self._fetch(place))
        except (BotoCoreError, ClientError) as error:
            if known and _says_nothing(error):
                logger.warning("the secret at %s cannot be read again (%s); the known one is used", place, error)
                self._read[place] = _Read(known.secrets, self._clock.now() + PAUSE)
                return known.secrets
            self._read.pop(place, None)
            raise SecretUnavailable(f"The secret at {place} cannot be read: {error}") from error
        if not found:
            self._read.pop(place, None)
            raise SecretUnavailable(f"The secret at {place} is empty.")
        self._read[place] = _Read(found, self._clock.now() + KNOWN)
        return found

    def _fetch(self, place: str) -> str:
        if place.startswith(SECRETS_MANAGER):
            answer = self._client("secretsmanager").get_secret_value(SecretId=place.removeprefix(SECRETS_MANAGER))
            return str(answer.get("SecretString") or "")
        answer = self._client("ssm").get_parameter(Name=place, WithDecryption=True)
        return str(answer["Parameter"]["Value"])

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            quick = ClientConfig(
                connect_timeout=1, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 2}
            )
            self._clients[service] = self._session.create_client(service, config=quick, **self._where)
        return self._clients[service]


def _says_nothing(error: Exception) -> bool:
    """Whether AWS has not answered: nothing came, it is busy, or out of order itself. That it has no such secret, or that
    the door may not read it, is an answer."""
    if not isinstance(error, ClientError):
        return True
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= 500 or status == 429 or error.response.get("Error", {}).get("Code") in _BUSY


class FixedSecrets:
    """Secrets given beforehand, for tests."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._secrets = secrets

    def get(self, place: str) -> list[str]:
        """See Secrets."""
        found = lines(self._secrets.get(place, ""))
        if not found:
            raise SecretUnavailable(f"There is no secret at {place}.")
        return found


def lines(text: str) -> list[str]:
    """The secrets in a stored text: one a line. An empty one would be known to everybody, and is none."""
    return [line.strip() for line in text.splitlines() if line.strip()]
