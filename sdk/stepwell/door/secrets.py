"""The secrets that webhooks are signed with: kept in SSM Parameter Store or in Secrets Manager, read when first needed.

SSM is what we advise: a standard parameter of type SecureString costs nothing to keep, and reading it is free at the
door's rate (one call for each source, instance and five minutes). A secret in Secrets Manager costs 0.40 USD a month.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Protocol

from botocore.config import Config as ClientConfig
from botocore.exceptions import BotoCoreError, ClientError

from stepwell.clock import Clock
from stepwell.errors import SecretUnavailable
from stepwell.webhooks import SECRETS_MANAGER

logger = logging.getLogger("stepwell")

KNOWN = 300.0
"""Seconds for which a secret that was read is used without looking again: how long a rotation has to wait."""


class Secrets(Protocol):
    """Where secrets come from."""

    def get(self, place: str) -> list[str]:
        """The secrets kept at this place, at least one. Raises SecretUnavailable."""
        ...


class AwsSecrets:
    """Those of this account. If AWS does not answer, what was read before stays good."""

    def __init__(self, session: Any, clock: Clock, *, region: str | None, endpoint_url: str | None = None) -> None:
        self._session = session
        self._clock = clock
        self._where = {"region_name": region, "endpoint_url": endpoint_url}
        self._clients: dict[str, Any] = {}
        self._read: dict[str, tuple[float, list[str]]] = {}

    def get(self, place: str) -> list[str]:
        """See Secrets."""
        read_at, known = self._read.get(place, (0.0, []))
        if known and self._clock.now() - read_at < KNOWN:
            return known
        try:
            found = lines(self._fetch(place))
        except (BotoCoreError, ClientError) as error:
            if known:
                logger.warning("the secret at %s cannot be read again (%s); the known one is used", place, error)
                return known
            raise SecretUnavailable(f"The secret at {place} cannot be read: {error}") from error
        if not found:
            raise SecretUnavailable(f"The secret at {place} is empty.")
        self._read[place] = (self._clock.now(), found)
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
