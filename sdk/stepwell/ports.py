"""Everything of the outside world the engine needs, in one value, built once per cold start."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.config import Config as ClientConfig

from stepwell.clock import Clock, SystemClock
from stepwell.errors import InvalidOption
from stepwell.ids import Ids, SystemIds
from stepwell.invoker import Invoker
from stepwell.payloads import MAX_PAYLOAD, Payloads
from stepwell.queue import Queue
from stepwell.threads import SystemThreads, Threads

if TYPE_CHECKING:
    from stepwell.keyring import Keyring, KeyStore
    from stepwell.store import Store

DAY = 86_400.0
RETENTION = 30 * DAY
"""Seconds an ended run and an event are kept."""
TRUSTED = 1.0
"""Seconds for which a holder believes that a run it has read is still its own."""
_USER_AGENT = f"Stepwell Botocore/{botocore.__version__} Python/{platform.python_version()}"
"""Who calls, in CloudTrail. Left alone, botocore composes such a text anew for every request, a fifth of its time."""


@dataclass(frozen=True, slots=True)
class Config:
    """Where everything is."""

    table: str
    queue_url: str
    dlq_url: str | None = None
    bucket: str | None = None
    orchestrator: str | None = None
    api_url: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    retention: float = RETENTION
    """Seconds."""
    max_payload: int = MAX_PAYLOAD
    """Bytes."""
    kms_key: str | None = None
    """The customer's key, for whoever makes callback keys."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Config:
        """From STEPWELL_TABLE, STEPWELL_QUEUE_URL and friends. Raises InvalidOption naming the variable that is missing."""
        env = os.environ if environ is None else environ
        for name in ("STEPWELL_TABLE", "STEPWELL_QUEUE_URL"):
            if not env.get(name):
                raise InvalidOption(
                    f"{name} is not set. Inside Lambda the deployment sets it; elsewhere use Client.from_stack('name'), "
                    "or set STEPWELL_TABLE, STEPWELL_QUEUE_URL and STEPWELL_BUCKET from the stack's outputs."
                )
        return cls(
            table=env["STEPWELL_TABLE"],
            queue_url=env["STEPWELL_QUEUE_URL"],
            dlq_url=env.get("STEPWELL_DLQ_URL") or None,
            bucket=env.get("STEPWELL_BUCKET") or None,
            orchestrator=env.get("STEPWELL_ORCHESTRATOR") or None,
            api_url=env.get("STEPWELL_API_URL") or None,
            region=env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or None,
            endpoint_url=env.get("AWS_ENDPOINT_URL") or None,
            retention=float(env.get("STEPWELL_RETENTION_DAYS", RETENTION / DAY)) * DAY,
            max_payload=int(env.get("STEPWELL_MAX_PAYLOAD", MAX_PAYLOAD)),
            kms_key=env.get("STEPWELL_KMS_KEY") or None,
        )


@dataclass(frozen=True)
class Ports:
    """The ports, with their AWS adapters behind them."""

    clock: Clock
    ids: Ids
    threads: Threads
    open_store: Callable[[], Store]
    """Makes the store, which is imported when it is first used: the consumer, on whose cold start events wait, never does."""
    queue: Queue
    payloads: Payloads
    invoker: Invoker
    config: Config
    fresh: Callable[[str, float], bool]
    """Whether a run seen at that time (clock seconds) may still be trusted to be the caller's own."""
    open_keyring: Callable[[], Keyring]
    """Makes the keyring, likewise: only workers whose functions make callbacks need one, and the registrar."""

    @cached_property
    def store(self) -> Store:
        """All that is remembered."""
        return self.open_store()

    @cached_property
    def keyring(self) -> Keyring:
        """The callback keys of apps."""
        return self.open_keyring()

    def now(self) -> int:
        """Milliseconds since the epoch."""
        return round(self.clock.now() * 1000)

    @classmethod
    def build(
        cls,
        session: Any,
        config: Config,
        *,
        clock: Clock | None = None,
        ids: Ids | None = None,
        threads: Threads | None = None,
        fresh: Callable[[str, float], bool] | None = None,
        keys: KeyStore | None = None,
    ) -> Ports:
        """Wire the ports over a botocore session. Clients are made when first used: S3's alone takes 50 ms."""
        time = clock or SystemClock()
        clients = _Clients(session, config)
        payloads = Payloads(lambda: clients.s3, config.bucket, limit=config.max_payload)

        def open_store() -> Store:
            from stepwell.store import Store
            from stepwell.store.table import Table

            return Store(Table(lambda: clients.dynamodb, config.table), payloads, retention=config.retention)

        def open_keyring() -> Keyring:
            from stepwell.keyring import Keyring, ParameterStore

            kept = ParameterStore(lambda: clients.ssm, config.table, kms_key=config.kms_key) if keys is None else keys
            return Keyring(kept)

        return cls(
            clock=time,
            ids=ids or SystemIds(),
            threads=threads or SystemThreads(),
            open_store=open_store,
            queue=Queue(lambda: clients.sqs, config.queue_url, config.dlq_url),
            payloads=payloads,
            invoker=Invoker(lambda: clients.starting, lambda: clients.calling),
            config=config,
            fresh=fresh or (lambda _, seen: time.now() - seen < TRUSTED),
            open_keyring=open_keyring,
        )

    @classmethod
    def from_env(cls) -> Ports:
        """The ports of a Lambda, from its environment."""
        return cls.build(botocore.session.get_session(), Config.from_env())


class _Clients:
    """The botocore clients, each made once. botocore, not boto3: its import is 30 ms shorter."""

    def __init__(self, session: Any, config: Config) -> None:
        self._session = session
        self._config = config
        self._lock = threading.Lock()

    def _client(self, service: str, *, read_timeout: int = 10, attempts: int = 5) -> Any:
        settings = ClientConfig(
            connect_timeout=2,
            read_timeout=read_timeout,
            retries={"mode": "standard", "total_max_attempts": attempts},
            parameter_validation=False,
            max_pool_connections=32,
            user_agent=_USER_AGENT,
        )
        with self._lock:
            return self._session.create_client(
                service, region_name=self._config.region, endpoint_url=self._config.endpoint_url, config=settings
            )

    @cached_property
    def dynamodb(self) -> Any:
        return self._client("dynamodb")

    @cached_property
    def sqs(self) -> Any:
        return self._client("sqs")

    @cached_property
    def s3(self) -> Any:
        return self._client("s3", read_timeout=60)

    @cached_property
    def ssm(self) -> Any:
        return self._client("ssm")

    @cached_property
    def starting(self) -> Any:
        return self._client("lambda")

    @cached_property
    def calling(self) -> Any:
        # A synchronous invocation is never repeated by the SDK, and waits longer than the invoked function may run:
        # otherwise one batch would be handled twice at once.
        return self._client("lambda", read_timeout=180, attempts=1)
