"""A simulated AWS account in which Stepwell's own handlers run: SQS to Lambda, Lambda to Lambda, and time.

The test drives it. While it does, its thread takes turns like all others: whenever the turn comes to it, it starts what
is due (batches for the consumer, workers that were invoked), and when nothing is left to do, the world is idle.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from random import Random
from typing import Any

from stepwell.testing.accountant import Accountant
from stepwell.testing.agenda import Agenda
from stepwell.testing.aws import LocalAws
from stepwell.testing.calls import Call
from stepwell.testing.clients import REGION, WorldSession
from stepwell.testing.clock import SeededIds, VirtualClock
from stepwell.testing.faults import FaultPlan
from stepwell.testing.freshness import Freshness
from stepwell.testing.invocations import Invocation, current_invocation
from stepwell.testing.lambdas import Function, Lambdas, Outcome, Queued
from stepwell.testing.livelock import Livelock
from stepwell.testing.mailbox import Chaos, Mailbox, Record, failed_ids
from stepwell.testing.meter import Meter, Requests
from stepwell.testing.observations import Began, BodyBegan, BodyEnded, Crashed, Ended, Observations, Sent, Wrote
from stepwell.testing.schedule import EveryMinute
from stepwell.testing.shadow import Shadow
from stepwell.testing.turns import Turns
from stepwell.testing.wire import Wire

CONCURRENCY = 32
"""Workers that run at the same time; more wait. Enough for any race, few enough for a small machine."""
CONSUMERS = 20
"""Batches of the queue that are handled at the same time, as many as a stack has by default (`consumer_concurrency`)."""
JOIN = 0.2
"""Real seconds that threads get to end when the world ends. What is left then sleeps in a step that was cut off; it is
dead, and acts on nothing when it wakes."""


class WorldNeverIdle(AssertionError):
    """The world goes on for ever at one moment of virtual time; the message says what keeps it busy."""


class LeakedThreads(AssertionError):
    """A handler returned while threads it had started were still running: Lambda would freeze them mid-work."""


class World:
    """One simulated account, from `open` to `close`. Not thread-safe: one test drives it."""

    def __init__(
        self,
        *,
        endpoint_url: str | None = None,
        start: datetime | None = None,
        seed: int = 0,
        plan: FaultPlan | None = None,
        chaos: Chaos | None = None,
        latency: float = 0,
    ) -> None:
        self.seed = seed
        self.latency = latency
        """Virtual seconds that a call to AWS takes whoever makes it in a Lambda."""
        self.clock = VirtualClock(start)
        self.ids = SeededIds(Random(f"ids {seed}"))
        self.turns = Turns(Random(f"turns {seed}"))
        self.plan = plan or FaultPlan()
        self.chaos = chaos or Chaos()
        self.observations = Observations()
        self.agenda = Agenda()
        self.aws = LocalAws(endpoint_url)
        self.failures: list[BaseException] = []
        """What handlers have raised. They are redelivered, never raised to the test."""
        self._random = Random(f"world {seed}")
        self._meter = Meter()
        self._before = Requests()
        self._shadow = Shadow(self.aws.read_item)
        self._freshness = Freshness()
        self._wire = Wire(self.turns, self.plan, self._crashed)
        self.lambdas = Lambdas(
            self.turns, self.clock, Random(f"lambda {seed}"), account=self.aws.account, region=REGION
        )
        self._mailbox = Mailbox(self.aws, self.clock, self.agenda, Random(f"sqs {seed}"), self.chaos)
        self._running: set[object] = set()
        self._batches: deque[list[Record]] = deque()  # received, for the next consumer that is free
        self._consuming = 0
        self._live: set[Invocation] = set()
        self._sessions: dict[tuple[bool, bool], WorldSession] = {}
        self._livelock = Livelock()
        self._broken: BaseException | None = None
        self._schedule = EveryMinute(self.clock.now(), account=self.aws.account, region=REGION)
        self._connect()

    def _connect(self) -> None:
        self._wire.watchers.append(self)
        self._wire.interceptors.update({"lambda": self.lambdas, "sqs": self._mailbox})
        self.lambdas.wire = self._wire
        self.lambdas.on_queued = self._stir
        self.lambdas.on_begin = self._began
        self.lambdas.on_end = self._ended
        self._mailbox.on_arrival = self._stir
        self.aws.on_outside_message = self._mailbox.stir
        self._mailbox.on_send = self._sent

    # ---- life

    def open(self) -> World:
        """Create its resources and make the environment point to them."""
        self.aws.open()
        self._accountant = Accountant(self._meter, self._shadow, self.aws.resources.table)
        return self

    def close(self, *, failed: bool = False) -> None:
        """End it. Raises LeakedThreads if a handler left threads behind, unless the test has `failed` anyway."""
        for invocation in list(self._live):
            self.turns.doom(invocation)
        left = self.turns.join(JOIN)
        self.aws.close()
        if self.lambdas.leaks and not failed:
            raise LeakedThreads("; ".join(self.lambdas.leaks) + (f". Still alive: {', '.join(left)}" if left else ""))

    # ---- what handlers are built with

    def session(self, *, counted: bool = True, for_client: bool = False) -> WorldSession:
        """A botocore session for `Ports.build`: of a Lambda, or for a Client.

        Calls of an uncounted one are the test's own: nobody sees them. All Lambdas of a world share one session, since its
        clients bear it and making them takes longer than most tests use them.
        """
        kind = (counted, for_client)
        if kind not in self._sessions:
            self._sessions[kind] = self.aws.session(self._wire if counted else None, for_client=for_client)
        return self._sessions[kind]

    def fresh(self, run_id: str, seen_at: float) -> bool:
        """For `Ports.build`: false exactly if somebody else has written the run since the caller last saw it."""
        return self._freshness.fresh(run_id, seen_at)

    def begin(self) -> None:
        """From here on it counts: what was needed to set the world up is forgotten."""
        self._before = self._meter.total
        self.observations.clear()

    @property
    def requests(self) -> Requests:
        """Billable requests so far."""
        return self._meter.total - self._before

    @property
    def calls(self) -> Sequence[Call]:
        """All calls to AWS that simulated Lambdas have made, in order; a fault plan counts by them."""
        return self._wire.calls

    @property
    def table(self) -> Shadow:
        """What the table holds."""
        return self._shadow

    def observe(self, kind: type[BodyBegan] | type[BodyEnded], run_id: str, key: str, name: str) -> None:
        """Note the beginning or the end of the body of a step."""
        self.observations.append(kind(self.clock.now(), current_invocation(), run_id, key, name))

    def known(self, message_id: str) -> tuple[str, float] | None:
        """The id under which the world knows a message of the emulator, and when it was sent, in virtual time."""
        return self._mailbox.known(message_id)

    def is_idle(self) -> bool:
        """Whether all that is due now has been handled."""
        at = self.agenda.next_at()
        due = at is not None and at <= self.clock.now()
        return not (due or self._running or self._batches or self.lambdas.queued or self._mailbox.stirred)

    def crash(self, why: str) -> None:
        """Kill the invocation on whose behalf the caller runs. Does not return if there is one."""
        invocation = current_invocation()
        if invocation is not None:
            self._wire.crash(invocation, why)

    # ---- driving

    def run_until_idle(self) -> None:
        """Handle all that is due now, and what follows from it, without moving the clock."""
        with self.turns.driving():
            self._work()

    def advance(self, seconds: float) -> None:
        """Move the clock, doing on the way everything at its time; then `run_until_idle`."""
        target = self.clock.now() + seconds
        with self.turns.driving():
            self._work()
            while (at := self.next_at()) is not None and at <= target:
                self._go_to(at)
            self._move_clock(target)
            self._work()

    def next_at(self) -> float | None:
        """When something will happen next if nobody does anything, or None if nothing ever will."""
        times = [time for time in (self.agenda.next_at(), self._next_sweep()) if time is not None]
        return max(min(times), self.clock.now()) if times else None

    def step(self) -> bool:
        """Move the clock to the next thing that happens and handle it; False if nothing is left to happen."""
        with self.turns.driving():
            self._work()
            at = self.next_at()
            if at is None:
                return False
            self._go_to(at)
            return True

    def _go_to(self, at: float) -> None:
        if at > self.clock.now():
            self._move_clock(at)
        sweep = self._next_sweep()
        if sweep is not None and sweep <= at:
            self._sweep()
        self._work()

    def _move_clock(self, at: float) -> None:
        self.clock.set(max(at, self.clock.now()))  # it moves by itself where calls take time
        self._livelock.time_moved(len(self._shadow.due))
        self._expire()

    def _expire(self) -> None:
        """Delete what has expired, at the first moment at which DynamoDB may: who needs it then has not kept it."""
        table = self.aws.resources.table
        for pk, sk in self._shadow.expired(self.clock.now()):
            self.aws.backstage("dynamodb").delete_item(TableName=table, Key={"pk": {"S": pk}, "sk": {"S": sk}})
            before = self._shadow.delete((pk, sk))
            self.observations.append(Wrote(self.clock.now(), None, pk, sk, before, None))

    def _next_sweep(self) -> float | None:
        if self.lambdas.labelled("sweeper") is None:
            return None
        return self._schedule.next_at(self.clock.now(), self._shadow.due.values())

    def _work(self) -> None:
        while True:
            self.agenda.run_due(self.clock.now())
            self._start_what_is_due()
            if self._running:
                self.turns.wait_until(self._something_to_do)
            elif not self._mailbox_has_more():
                return
            if self._broken is not None:
                self._stop()
                raise self._broken

    def _stop(self) -> None:
        """Kill everything that runs, so that nothing goes on behind the back of a test that has failed."""
        self.lambdas.queued.clear()
        self._batches.clear()
        for invocation in list(self._live):
            self.turns.doom(invocation)
        self.turns.wait_until(lambda: not self._running, timeout=5)

    def _something_to_do(self) -> bool:
        if self._broken is not None or not self._running:
            return True
        if self._mailbox.stirred or (self._batches and self._consuming < CONSUMERS):
            return True
        return bool(self.lambdas.queued) and len(self._running) < CONCURRENCY

    def _mailbox_has_more(self) -> bool:
        """Whether anything is left, messages included that came past us: any AWS client may send to an emulator."""
        if self.lambdas.queued or self._mailbox.stirred:
            return True
        if self.aws.endpoint_url is not None:
            self._receive()
        return bool(self._batches)

    def _start_what_is_due(self) -> None:
        if self._mailbox.stirred:
            self._receive()
        while self._batches and self._consuming < CONSUMERS:
            self._consuming += 1
            self._start("consumer", partial(self._consume, self._batches.popleft()))
        while self.lambdas.queued and len(self._running) < CONCURRENCY:
            queued = self.lambdas.queued.popleft()
            if self._happens(self.chaos.lose):
                continue
            if self._happens(self.chaos.duplicate):
                self._start(f"{queued.function.label} again", partial(self._invoke_queued, queued))
            self._start(queued.function.label, partial(self._invoke_queued, queued))

    def _receive(self) -> None:
        for batch in self._mailbox.receive():
            self._meter.sqs(sum(len(record["body"].encode()) for record in batch))
            self._batches.append(batch)

    def _start(self, name: str, target: Callable[[], None]) -> None:
        token = object()

        def run() -> None:
            try:
                target()
            except Exception as error:  # a defect of the world itself: handlers' errors do not come this far
                self._broken = error
            finally:
                self._running.discard(token)
                self.turns.wake(None)

        self._running.add(token)
        self.turns.start(run, name=name, group=None)

    # ---- invocations

    def _consume(self, batch: list[Record]) -> None:
        consumer = self._function("consumer")
        try:
            outcome = self.lambdas.invoke(consumer, json.dumps({"Records": batch}))
        finally:
            self._consuming -= 1
        everything = {record["messageId"] for record in batch}
        failed = everything if outcome.failed else failed_ids(json.loads(outcome.payload), batch)
        if self._mailbox.settle(batch, failed):
            self._meter.sqs()

    def _invoke_queued(self, queued: Queued) -> None:
        outcome = self.lambdas.invoke(queued.function, queued.payload, queued.request_id)
        if outcome.failed:
            record = json.dumps(self.lambdas.failure_record(queued, outcome))
            self._meter.sqs(len(record.encode()))
            self._mailbox.put(record, outcome.invocation)

    def _sweep(self) -> None:
        event = json.dumps(self._schedule.event(self.clock.datetime(), self.lambdas.request_id()))
        sweeper = self._function("sweeper")
        self._start("sweeper", lambda: self._outcome(self.lambdas.invoke(sweeper, event)))

    def _outcome(self, outcome: Outcome) -> None:
        """The schedule does not mind how its target ended: it comes again in a minute."""

    def _function(self, label: str) -> Function:
        function = self.lambdas.labelled(label)
        if function is None:
            raise LookupError(f"this world has no {label}")
        return function

    # ---- what the parts report

    def saw(self, call: Call, status: int, answer: Callable[[], Any]) -> None:
        """A call took effect (or was refused by the service)."""
        if self.latency and call.invocation is not None:
            self.clock.advance(self.latency)
        for key, before, after in self._accountant.account(call, status, answer):
            showed_all = call.params.get("ReturnValues") == "ALL_NEW"
            by = None if call.by_client else call.invocation
            self._freshness.wrote(key, by, showed_all=showed_all)
            self.observations.append(Wrote(self.clock.now(), call.invocation, *key, before, after))
        if call.service == "dynamodb" and not call.by_client:
            self._freshness.passed(call, status, answer)

    def _sent(self, by: Invocation | None, queue_url: str, body: str, delay: float) -> None:
        if by is None:
            self._livelock.given()
        dead = queue_url == self.aws.resources.dlq_url
        self.observations.append(Sent(self.clock.now(), by, body, delay, dead))

    def _began(self, invocation: Invocation, event: Any) -> None:
        self._live.add(invocation)
        self._meter.invocation(invocation.label)
        self.observations.append(Began(self.clock.now(), invocation, event))
        subject = invocation.run_id or invocation.label
        one_too_many = self._livelock.began(subject, serves_all=invocation.run_id is None)
        if one_too_many and self._broken is None:
            self._broken = WorldNeverIdle(self._why_busy(subject))

    def _ended(self, invocation: Invocation, outcome: Outcome, error: BaseException | None) -> None:
        self._live.discard(invocation)
        if isinstance(error, Exception):
            self.failures.append(error)
        self.observations.append(Ended(self.clock.now(), invocation, error))

    def _crashed(self, invocation: Invocation, why: str) -> None:
        self.observations.append(Crashed(self.clock.now(), invocation, why))

    def _stir(self) -> None:
        self.turns.wake(None)

    def _happens(self, probability: float) -> bool:
        return probability > 0 and self._random.random() < probability

    def _why_busy(self, subject: str) -> str:
        failures = "".join(f"\n  a handler raised {error!r}" for error in self.failures[-3:])
        return f"{self.clock.datetime().isoformat()}: {self._livelock.why(subject)}{failures}"
