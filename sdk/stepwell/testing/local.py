"""`LocalStepwell`: the real consumer, orchestrator, workers and sweeper on a simulated AWS with a virtual clock.

This is the one module of `stepwell.testing` that knows the engine and its Lambdas; the world below it would run any.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

from stepwell.client import Client
from stepwell.clock import from_millis
from stepwell.dead_letters import DeadLetter
from stepwell.door.keys import make_key
from stepwell.durations import Duration, seconds
from stepwell.engine.registration import register
from stepwell.models import AnEvent, SomeEvents
from stepwell.ports import Config, Ports
from stepwell.records import RunStatus
from stepwell.steps import Step
from stepwell.store.layout import RUN_SK
from stepwell.testing.clients import REGION
from stepwell.testing.clock import SeededKeys
from stepwell.testing.door import API_URL, LocalDoor, Reply, body_of
from stepwell.testing.driving import DrivingClient, has_ended
from stepwell.testing.faults import FaultPlan
from stepwell.testing.hooks import UNSET, LocalHooks
from stepwell.testing.lambdas import Handler
from stepwell.testing.mailbox import Chaos
from stepwell.testing.meter import Requests
from stepwell.testing.observations import Sent, told
from stepwell.testing.world import World
from stepwell.views import Run
from stepwell.webhooks import Limit, Webhook
from stepwell_lambdas.consumer import handler as consumer
from stepwell_lambdas.orchestrator import handler as orchestrator
from stepwell_lambdas.sweeper import handler as sweeper
from stepwell_lambdas.worker import handler as worker

if TYPE_CHECKING:
    from stepwell.app import Stepwell
    from stepwell.keyring import KeyStore


class LocalStepwell:
    """A local Stepwell for tests: `with LocalStepwell(app) as local: ...`.

    apps: the apps to deploy. endpoint_url: an AWS emulator to use instead of moto in this process. start: where the
    virtual clock begins (aware; 2026-01-01 UTC unless given). seed: decides every order that real life leaves open; the
    same seed gives the same order. plan: faults to inject. chaos: what SQS and Lambda may do on their own. latency: virtual
    time that each call to AWS takes; the clock stands still within a Lambda unless given. webhooks: the sources that the
    door knows; secrets: theirs, by the place where they are kept (made up where left out).

    Inside the block boto3 sees the same local AWS, and `app.send` and `app.client` of the apps talk to this world. What
    `local` itself looks at is not counted in `local.requests`.
    """

    def __init__(
        self,
        *apps: Stepwell,
        endpoint_url: str | None = None,
        start: datetime | None = None,
        seed: int = 0,
        plan: FaultPlan | None = None,
        chaos: Chaos | None = None,
        latency: Duration = 0,
        webhooks: Sequence[Webhook] = (),
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        if not apps:
            raise TypeError("LocalStepwell needs at least one app: LocalStepwell(app)")
        check_apps(apps)
        self.apps = apps
        self.world = World(
            endpoint_url=endpoint_url,
            start=start,
            seed=seed,
            plan=plan,
            chaos=chaos,
            latency=seconds(latency, what="latency"),
        )
        """The simulated AWS account, for tests of Stepwell itself."""
        self.test_failed = False
        """Whether the test has failed outside of the block's sight, as one with a fixture does."""
        self._hooks = LocalHooks(self.world)
        self._keys: KeyStore | None = SeededKeys(seed)
        """None: those in the Parameter Store of the world's AWS, as deployed."""
        self._door = LocalDoor(self.world, self._ports, webhooks, secrets or {})
        self._bound_before: list[tuple[Stepwell, Callable[[], Client]]] = []

    # ---- the block

    def __enter__(self) -> LocalStepwell:
        self.world.open()
        try:
            self._deploy()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._bound_before:
            app, open_client = self._bound_before.pop()
            app.bind(open_client)
        failed = error is not None or self.test_failed
        self.world.close(failed=failed)
        if not failed:
            self._hooks.check()

    def _deploy(self) -> None:
        made = self.world.aws.resources
        self._config = Config(
            table=made.table,
            queue_url=made.queue_url,
            dlq_url=made.dlq_url,
            bucket=made.bucket,
            orchestrator="stepwell-orchestrator",
            api_url=API_URL,
            region=REGION,
            endpoint_url=self.world.aws.endpoint_url,
        )
        lambdas = self.world.lambdas
        lambdas.add("stepwell-consumer", "consumer", lambda: consumer.make_handler(self._ports()))
        lambdas.add("stepwell-orchestrator", "orchestrator", lambda: orchestrator.make_handler(self._ports()))
        lambdas.add("stepwell-sweeper", "sweeper", lambda: sweeper.make_handler(self._ports()))
        self._backstage = Client(self._ports(counted=False))
        for app in self.apps:
            self._deploy_app(app)
        client = DrivingClient(self._ports(for_client=True), self.world)
        self.client: Client = client.with_middleware(*self.apps[0].middleware.all)
        """A client of this world, with the middleware of the first app. Its `result()` moves the clock as far as it
        takes."""
        self.world.begin()

    def _deploy_app(self, app: Stepwell) -> None:
        default = self._add_worker(app, "default")
        described = json.loads(self.world.lambdas.invoke(default, json.dumps({"describe": True})).payload)
        if "manifest" not in described:
            raise RuntimeError(f"app {app.id!r} cannot be described: {described}")
        manifest = described["manifest"]
        workers = {"default": default.arn}
        for compute in sorted(_computes(app, manifest) - {"default"}):
            workers[compute] = self._add_worker(app, compute).arn
        ports = self._ports(counted=False)
        register(ports, manifest, workers)
        for cron in ports.store.crons.of_app(app.id):
            self.world.table.refresh(cron.key)  # nobody saw it being written, and the sweeper has to come for it
        client = DrivingClient(self._ports(for_client=True), self.world, default_group=app.id)
        self._bound_before.append((app, app.bind(lambda: client)))

    def _add_worker(self, app: Stepwell, compute: str) -> Any:
        def build() -> Handler:
            end = lambda: self.world.crash("because a step ran past its time-out")  # noqa: E731
            return worker.make_handler(self._ports(), app, self._hooks, end_process=end)

        return self.world.lambdas.add(f"stepwell-{app.id}-{compute}", "worker", build)

    def _ports(self, *, counted: bool = True, for_client: bool = False) -> Ports:
        return Ports.build(
            self.world.session(counted=counted, for_client=for_client),
            self._config,
            clock=self.world.clock,
            ids=self.world.ids,
            threads=self.world.turns,
            fresh=self.world.fresh,
            keys=self._keys,
        )

    # ---- events and time

    @overload
    def send(self, event: SomeEvents) -> list[str]: ...
    @overload
    def send(
        self,
        event: AnEvent,
        data: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,
        ts: datetime | None = None,
        tenant: str | None = None,
    ) -> str: ...
    def send(self, event: Any, data: Mapping[str, Any] | None = None, **options: Any) -> str | list[str]:
        """Send an event as `app.send` does; gives its id. It is only enqueued: run_until_idle() or advance() handle it."""
        return self.apps[0].send(event, data, **options)

    def http(
        self,
        method: str,
        url: str,
        *,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Reply:
        """Make a request at the webhook door, through its real handler; `url` is a path, or a callback's whole URL.

        body: bytes or text as they are, anything else as JSON. What the request sends is only enqueued, as by `send`.
        """
        raw, kind = body_of(body)
        return self._door.request(method, url, raw, {**kind, **(headers or {})}, query)

    def webhook(self, name: str, body: Any, *, headers: Mapping[str, str] | None = None) -> Reply:
        """POST a delivery to `/w/<name>`, signed as its provider would, now. The headers given here stand beside those."""
        raw, kind = body_of(body)
        signed = self._door.sign(name, raw, {**kind, **(headers or {})})
        return self._door.request("POST", f"/w/{name}", raw, signed, None)

    def event_key(self, name: str = "test", *, events: Iterable[str] = (), limit: Limit | None = None) -> str:
        """Make an event key, as `stepwell keys create` does: for `local.http("POST", f"/e/{key}", body=...)`."""
        return make_key(self._ports(counted=False), name, events=events, limit=limit)[0]

    def run_until_idle(self) -> None:
        """Handle all that is due now, and all that follows from it. The clock stays where it is."""
        self.world.run_until_idle()

    def advance(self, duration: Duration) -> None:
        """Move the clock by `duration`, doing everything on the way at its time, in order; then run_until_idle()."""
        self.world.advance(seconds(duration, what="advance"))

    def now(self) -> datetime:
        """The virtual time (UTC)."""
        return self.world.clock.datetime()

    # ---- looking

    def run(self, event_id: str, function: str | None = None) -> Run | None:
        """The run that an event started; `function` (its bare id) may be left out when there is one.

        None if the event matched nothing, or nothing of that function. Raises LookupError, saying what there is, for an
        event that was never sent or not handled yet, a function that no app has, or when several runs could be meant.
        """
        known = {name for app in self.apps for name in app.functions}
        if function is not None and function not in known:
            raise LookupError(
                f"no app here has a function {function!r}; there are {', '.join(sorted(known)) or 'none'}"
            )
        runs = self._backstage.runs_of_event(event_id)
        chosen = [run for run in runs if function is None or run.function == function]
        if len(chosen) > 1:
            names = ", ".join(f"{run.function} ({run.status.value})" for run in chosen)
            raise LookupError(f"event {event_id} started {len(chosen)} runs; say which with function=: {names}")
        if chosen:
            app = next(app for app in self.apps if app.id == chosen[0].app)
            return self._backstage.with_middleware(*app.middleware.all).run(chosen[0].id)
        if not runs:
            self._explain_no_run(event_id)
        return None

    def _explain_no_run(self, event_id: str) -> None:
        """Raise LookupError unless the event was sent and handled."""
        sent = dict(self._sent_events())
        if event_id not in sent:
            listed = "".join(f"\n  {name} {known}" for known, name in sent.items())
            raise LookupError(f"no event {event_id!r} was sent here. Sent so far:{listed or ' none'}")
        if not self.world.is_idle():
            raise LookupError(
                f"event {event_id} ({sent[event_id]}) has not been handled yet: call local.run_until_idle() first, or "
                "local.advance(...) if it waits for its time"
            )
        for letter in self.dead_letters():
            if f'"{event_id}"' in letter.body:
                raise LookupError(f"event {event_id} ({sent[event_id]}) is a dead letter: {letter.reason}")

    def _sent_events(self) -> Iterator[tuple[str, str]]:
        for entry in self.world.observations.of(Sent):
            body = json.loads(entry.body) if entry.body.startswith("{") else {}
            if "name" in body and "id" in body:
                yield body["id"], body["name"]

    def has_ended(self, run_id: str) -> bool:
        """Whether the run with this id is over."""
        return has_ended(self.world, run_id)

    def dead_letters(self) -> list[DeadLetter]:
        """What lies in the dead-letter queue. Looking at it takes nothing away."""
        return [self._in_virtual_time(letter) for letter in self._backstage.dead_letters()]

    def _in_virtual_time(self, letter: DeadLetter) -> DeadLetter:
        known = self.world.known(letter.id)
        return letter if known is None else replace(letter, id=known[0], sent_at=from_millis(round(known[1] * 1000)))

    @property
    def queue_url(self) -> str:
        """The main queue, for any AWS client."""
        return self.world.aws.resources.queue_url

    @property
    def requests(self) -> Requests:
        """Billable requests so far, by AWS's rules; subtract an earlier one to see what happened in between."""
        return self.world.requests

    def timeline(self) -> str:
        """What has happened to each run, for people: printed when a test with the `local_stepwell` fixture fails."""
        parts = []
        for (pk, sk), image in self.world.table.items():
            if sk != RUN_SK:
                continue
            run_id, item = pk.removeprefix("RUN#"), image.plain()
            story = "\n".join(told(entry) for entry in self.world.observations.about(run_id))
            parts.append(f"run {run_id} of {item['function']}: {RunStatus(item['status']).value}\n{story}")
        failures = [f"a handler raised {failure!r}" for failure in self.world.failures[-5:]]
        return "\n\n".join(parts + failures) or "no run was created"

    # ---- interfering

    def mock_step(self, name: str, *, returns: Any = UNSET, raises: Any = UNSET, calls: Any = UNSET) -> None:
        """Replace the body of the step with this id: by a value, an exception to raise, or a function to call.

        Give exactly one. The replacement stays for the rest of the block; a `name` stands for all items of a map.
        """
        self._hooks.mock(name, returns=returns, raises=raises, calls=calls)

    def crash_after(self, name: str, times: int = 1) -> None:
        """Let the worker die, this many times, when the body of the step is done and its result not recorded.

        If none has happened by the end of the block, that raises CrashNeverHappened, naming the steps that began.
        """
        self._hooks.crash_after(name, times)

    def crash_before(self, name: str, times: int = 1) -> None:
        """Let the worker die, this many times, when the body of the step is about to begin; see crash_after."""
        self._hooks.crash_before(name, times)

    def crash_sweep(self, event: Any, *, check: Callable[[Run], None], **options: Any) -> int:
        """`stepwell.testing.crash_sweep` for the apps of this world, each time in a fresh one."""
        from stepwell.testing.sweep import crash_sweep

        return crash_sweep(self.apps, event, check=check, **options)


def check_apps(apps: Sequence[Any]) -> None:
    """Raise TypeError for what is no app."""
    from stepwell.app import Stepwell

    for app in apps:
        if not isinstance(app, Stepwell):
            raise TypeError(
                f"LocalStepwell takes apps, such as app = Stepwell('shop'): LocalStepwell(app); got {app!r}"
            )


def _computes(app: Stepwell, manifest: Mapping[str, Any]) -> set[str]:
    """The compute classes that an app uses: what its manifest says, and steps in reach of its functions."""
    found = {function.get("compute", "default") for function in manifest["functions"]} | set(
        manifest.get("computes", ())
    )
    for function in app.functions.values():
        near = vars(function.fn).get("__globals__") or getattr(function.fn, "__globals__", {})
        for value in list(near.values()):
            values = vars(value).values() if isinstance(value, types.ModuleType) else (value,)
            found |= {each.options.compute for each in values if isinstance(each, Step) and each.options.compute}
    return found
