"""The webhook door's Lambda: HTTP in by its Function URL, events and answers out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import botocore.session

from stepwell.door.http import Refusal, Request, Response
from stepwell.door.secrets import AwsSecrets, Secrets
from stepwell.door.serve import Door
from stepwell.ports import Config, Ports
from stepwell.webhooks import Webhook, webhooks_of
from stepwell_lambdas.lazy import Handler, lazily

MAX_BODY = 1_048_576
"""Bytes of a request's body, unless STEPWELL_MAX_BODY says otherwise. A Function URL takes 6 MB (AWS Lambda quotas)."""


def make_handler(
    ports: Ports, webhooks: Mapping[str, Webhook], secrets: Secrets, *, max_body: int = MAX_BODY
) -> Handler:
    """The handler over these ports, for these sources."""
    door = Door(ports, webhooks, secrets)

    def handler(event: Any, context: Any) -> dict[str, Any]:
        try:
            request = Request.from_lambda(event, limit=max_body)
        except Refusal as refusal:
            return Response.of(refusal).for_lambda()
        return door.serve(request).for_lambda()

    return handler


def _build() -> Handler:
    session, config = botocore.session.get_session(), Config.from_env()
    ports = Ports.build(session, config)
    secrets = AwsSecrets(session, ports.clock, region=config.region, endpoint_url=config.endpoint_url)
    webhooks = webhooks_of(os.environ.get("STEPWELL_WEBHOOKS", ""))
    return make_handler(ports, webhooks, secrets, max_body=int(os.environ.get("STEPWELL_MAX_BODY", MAX_BODY)))


handler = lazily(_build)
