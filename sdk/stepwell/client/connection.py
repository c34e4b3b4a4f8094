"""The ground of a client: the ports of one Stepwell, found in the outputs of its stack or in the environment."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any, Self

from stepwell.engine.values import PLAIN, Values
from stepwell.errors import InvalidOption, UnknownRun
from stepwell.finding import Finder
from stepwell.middleware.base import Chain, Middleware
from stepwell.ports import DAY, RETENTION, Config, Ports
from stepwell.records import RunState

OUTPUTS = {"QueueUrl": "queue_url", "DeadLetterQueueUrl": "dlq_url", "TableName": "table", "BucketName": "bucket"}
"""The stack outputs a client needs, and what they are."""


class Connection:
    """A client, as far as it is connected."""

    def __init__(self, ports: Ports, *, default_group: str = "stepwell") -> None:
        self._ports = ports
        self._finder = Finder(ports)
        self._group = default_group
        self._sleep: Callable[[float], None] = time.sleep
        self._values = PLAIN

    @classmethod
    def from_env(cls, *, default_group: str = "stepwell") -> Self:
        """From the environment. Raises InvalidOption naming the variable that is missing."""
        import botocore.session

        return cls(Ports.build(botocore.session.get_session(), Config.from_env()), default_group=default_group)

    @classmethod
    def from_stack(cls, name: str, *, session: Any = None) -> Self:
        """From a deployed CloudFormation stack. `session`: a boto3 session for another region, account or profile.

        Raises InvalidOption if the stack does not exist or is not a Stepwell.
        """
        import boto3
        from botocore.exceptions import ClientError

        session = session or boto3.Session()
        try:
            stack = session.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
        except ClientError as error:
            raise InvalidOption(f"Stack {name!r} cannot be read: {error.response['Error']['Message']}.") from error
        outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
        missing = sorted(set(OUTPUTS) - set(outputs))
        if missing:
            raise InvalidOption(f"Stack {name!r} has no output {', '.join(missing)}, so it is not a Stepwell stack.")
        found = {field: outputs[output] for output, field in OUTPUTS.items()} | {"api_url": outputs.get("ApiUrl")}
        retention = float(outputs["RetentionDays"]) * DAY if "RetentionDays" in outputs else RETENTION
        config = Config(**found, region=session.region_name, retention=retention)
        return cls(Ports.build(session._session, config))

    def with_middleware(self, *middleware: Middleware) -> Self:
        """The same client, sending and reading by way of this middleware, the outermost first.

        `app.client` has the app's. A client without it sends events as they are, and shows what is encrypted as the
        ciphertext it is.
        """
        client = copy.copy(self)
        client._values = Values(Chain(middleware))
        return client

    def _state(self, run: str) -> RunState:
        state = self._ports.store.runs.read(run)
        if state is None:
            raise UnknownRun(f"There is no run {run!r}, or it has expired.")
        return state
