"""botocore clients for worlds: copies of a few that are made once per process, each on a wire of its own.

botocore needs 130 ms to make the clients of a world, and worlds are made by the hundred.
"""

from __future__ import annotations

import copy
import threading
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import botocore.session
from botocore import UNSIGNED
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config as ClientConfig
from botocore.endpoint import Endpoint
from botocore.hooks import first_non_none_response
from botocore.retries.standard import register_retry_handler
from moto.core.models import DEFAULT_ACCOUNT_ID, botocore_stubber

from stepwell.testing import inside
from stepwell.testing.wire import Wire

REGION = "us-east-1"

_account = f"{uuid.uuid4().int % 10**12:012d}"


def account_of(endpoint_url: str | None) -> str:
    """The AWS account that worlds of this process live in.

    On emulators that keep accounts apart, an access key of twelve digits is an account of its own.
    """
    return DEFAULT_ACCOUNT_ID if endpoint_url is None else _account


def backstage_client(service: str, endpoint_url: str | None) -> Any:
    """A client whose calls are the world's own: not counted, not faulted, not seen."""
    base = _base_client(service, endpoint_url, account_of(endpoint_url), None)
    return _copied(base, None, in_process=endpoint_url is None)


class WorldSession(botocore.session.Session):
    """Makes the clients of one world. Clients of the same kind are the same object: they are thread-safe."""

    def __init__(self, wire: Wire | None, endpoint_url: str | None, *, for_client: bool = False) -> None:
        self._account = account_of(endpoint_url)
        self.__dict__.update(_base_session(self._account).__dict__)
        self._wire = wire
        self._for_client = for_client
        self._endpoint_url = endpoint_url
        self._made: dict[Any, Any] = {}

    def create_client(self, service_name: str, *_: Any, config: ClientConfig | None = None, **__: Any) -> Any:
        """A client of this world, whatever region or endpoint is asked for."""
        key = (service_name, _settings(config))
        if key not in self._made:
            base = _base_client(service_name, self._endpoint_url, self._account, config)
            self._made[key] = _copied(
                base, self._wire, in_process=self._endpoint_url is None, for_client=self._for_client
            )
        return self._made[key]


class _WorldEndpoint(Endpoint):
    """Sends attempts through a wire (or, backstage, past it), and never sleeps between them."""

    wire: Wire | None
    in_process: bool
    retries: Mapping[str, Callable[..., Any]]
    _event_emitter: Any

    def make_request(self, operation_model: Any, request_dict: Any) -> Any:
        """One call, with its attempts."""
        answered = super().make_request(operation_model, request_dict)
        if "after-call" in self.retries:
            self.retries["after-call"](context=request_dict["context"], http_response=answered[0])
        return answered

    def _send(self, request: AWSPreparedRequest) -> AWSResponse:
        return self.emulator(request) if self.wire is None else self.wire.send(request, self.emulator)

    def emulator(self, request: AWSPreparedRequest) -> AWSResponse:
        """Hand the request to the emulator."""
        if self.in_process:
            return inside.answer(request, REGION)
        response: AWSResponse = inside.send(self.http_session, request)
        return response

    def _needs_retry(
        self,
        attempts: int,
        operation_model: Any,
        request_dict: Any,
        response: Any = None,
        caught_exception: Exception | None = None,
    ) -> bool:
        # As in botocore, without the sleep: waiting for a simulated service in real time proves nothing.
        service_id = operation_model.service_model.service_id.hyphenize()
        asked: dict[str, Any] = {
            "response": response,
            "endpoint": self,
            "operation": operation_model,
            "attempts": attempts,
            "caught_exception": caught_exception,
            "request_dict": request_dict,
        }
        answers = self._event_emitter.emit(f"needs-retry.{service_id}.{operation_model.name}", **asked)
        delay = first_non_none_response(answers)
        if delay is None and "needs-retry" in self.retries:
            delay = self.retries["needs-retry"](**asked)
        return delay is not None and delay is not False


_base_lock = threading.RLock()
_base_sessions: dict[str, botocore.session.Session] = {}
_base_clients: dict[Any, Any] = {}


def _base_session(account: str) -> botocore.session.Session:
    with _base_lock:
        if account not in _base_sessions:
            session = botocore.session.Session()
            session.set_credentials(account, "testing")
            _base_sessions[account] = session
        return _base_sessions[account]


def _base_client(service: str, endpoint_url: str | None, account: str, config: ClientConfig | None) -> Any:
    key = (service, endpoint_url, account, _settings(config))
    with _base_lock:
        if key not in _base_clients:
            ours = _quick(service) if endpoint_url is None else ClientConfig(s3={"addressing_style": "path"})
            client = _base_session(account).create_client(
                service,
                region_name=REGION,
                endpoint_url=endpoint_url,
                config=config.merge(ours) if config is not None else ours,
            )
            if _retries_as_standard(client):  # each world has a handling of its own, see _Retries
                service_id = client.meta.service_model.service_id.hyphenize()
                client.meta.events.unregister(f"needs-retry.{service_id}", unique_id=f"retry-config-{service_id}")
            # moto answers its way at the end of our own path, where the world counts and faults, not at the beginning.
            stub: Any = botocore_stubber
            client.meta.events.unregister("before-send", stub)
            _base_clients[key] = client
        return _base_clients[key]


def _quick(service: str) -> ClientConfig:
    """Leaves out what moto does not look at, which is a third of the time of a call: user agents and signatures.

    Only of S3 does it want the latter: an unsigned reader is a stranger there, and may not read.
    """
    if service == "s3":
        return ClientConfig(user_agent="stepwell-local")
    return ClientConfig(user_agent="stepwell-local", signature_version=UNSIGNED)


def _settings(config: ClientConfig | None) -> Any:
    if config is None:
        return None
    return tuple((name, repr(getattr(config, name, None))) for name in ClientConfig.OPTION_DEFAULTS)


def _copied(base: Any, wire: Wire | None, *, in_process: bool, for_client: bool = False) -> Any:
    """The same client on another wire, with a state of its own."""
    client = object.__new__(type(base))  # not copy.copy: a client answers to every attribute, __setstate__ too
    client.__dict__.update(base.__dict__)
    client._endpoint = endpoint = copy.copy(base._endpoint)
    endpoint.__class__ = _WorldEndpoint
    endpoint.wire = wire
    endpoint.in_process = in_process
    endpoint.retries = _Retries(base).handlers if _retries_as_standard(base) else {}
    if wire is not None:
        service, make_call = client.meta.service_model.service_name, type(client)._make_api_call

        def api_call(operation: str, params: Mapping[str, Any]) -> Any:
            return wire.call(
                service, operation, params, lambda: make_call(client, operation, params), by_client=for_client
            )

        client._make_api_call = api_call
    return client


def _retries_as_standard(client: Any) -> bool:
    return bool((client.meta.config.retries or {}).get("mode") == "standard")


class _Retries:
    """Stands where the SDK expects a client with which to register its handling of retries, and keeps what it registers.

    So each world has the SDK's full allowance of retries, since one that all shared would make their order matter; and
    clients of many worlds can share all other handlers, of which a copy takes longer than a call.
    """

    def __init__(self, client: Any) -> None:
        self.handlers: dict[str, Callable[..., Any]] = {}
        self.meta = self.events = self
        self.service_model = client.meta.service_model
        stand_in: Any = self
        register_retry_handler(stand_in, client.meta.config.retries.get("total_max_attempts"))

    def register(self, event: str, handler: Callable[..., Any], unique_id: str | None = None) -> None:
        """Keep a handler by what it handles: `needs-retry`, `after-call`."""
        self.handlers[event.partition(".")[0]] = handler
