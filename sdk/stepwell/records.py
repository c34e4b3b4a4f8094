"""What is kept: frozen records, the states they pass through, and which state may follow which.

`RunState` and `StepState` are the items of the table as values. `Run` and `StepRecord`, what users see of them, are in
`stepwell.views`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from stepwell.errors import ErrorInfo

Stored = str | bytes | Mapping[str, Any]
"""A stored value: JSON text, the same compressed, or a reference `{"s3": key, "size": bytes}`."""


class RunStatus(StrEnum):
    """The states of a run."""

    SCHEDULED = "scheduled"
    """Accepted; waits for its time, a slot or a limit before it starts."""
    QUEUED = "queued"
    """A worker has been asked to take it."""
    RUNNING = "running"
    """A worker holds its lease."""
    SUSPENDED = "suspended"
    """Sleeps, waits, or waits for a retry; no worker is involved."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    """Refused by flow control before it started; `reason` says why."""

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can follow."""
        return not TRANSITIONS[self]


LIVE = frozenset({RunStatus.SCHEDULED, RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.SUSPENDED})

TRANSITIONS: Mapping[RunStatus, frozenset[RunStatus]] = {
    RunStatus.SCHEDULED: frozenset({RunStatus.QUEUED, RunStatus.CANCELLED, RunStatus.FAILED, RunStatus.SKIPPED}),
    RunStatus.QUEUED: LIVE | {RunStatus.CANCELLED, RunStatus.FAILED},
    RunStatus.RUNNING: frozenset(
        {RunStatus.QUEUED, RunStatus.SUSPENDED, RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED}
    ),
    RunStatus.SUSPENDED: frozenset({RunStatus.QUEUED, RunStatus.CANCELLED, RunStatus.FAILED}),
    RunStatus.COMPLETED: frozenset(),
    RunStatus.FAILED: frozenset(),
    RunStatus.CANCELLED: frozenset(),
    RunStatus.SKIPPED: frozenset(),
}
"""Which state may follow which. QUEUED follows QUEUED when a dispatch is repeated, a resting state follows it when no
worker could be reached."""

TERMINAL = frozenset(RunStatus) - LIVE


class StepStatus(StrEnum):
    """The states of a step. The first three are open: a result may still be recorded."""

    STARTED = "started"
    """A start mark: the body of this attempt has begun."""
    RETRYING = "retrying"
    """The last attempt failed; the next is due at retry_at."""
    WAITING = "waiting"
    """A sleep, an event, a callback or a child run is awaited."""
    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"

    @property
    def is_open(self) -> bool:
        """Whether a result may still be recorded."""
        return self in OPEN_STEPS


OPEN_STEPS = frozenset({StepStatus.STARTED, StepStatus.RETRYING, StepStatus.WAITING})


@dataclass(frozen=True, slots=True)
class Lease:
    """Who executes a run now."""

    holder: str
    """The Lambda request id, a slash, and random text: one invocation may be delivered twice under one request id."""
    until: int
    """Milliseconds; past it the holder is certainly dead, since Lambda ends it 30 s earlier."""


@dataclass(frozen=True, slots=True)
class Parent:
    """The step of another run that waits for this one."""

    run: str
    step: str
    id: str
    kind: str
    shape: str
    """Id, kind and fingerprint of that step, for the case that its record is written after this run has ended."""


@dataclass(frozen=True, slots=True)
class Fork:
    """Where a run branched off from another one. It has that one's checkpoints from before the step."""

    run: str
    step: str
    started: int
    """When that run was first started, milliseconds: its function began to tell the time there."""
    chance: str
    """The seed that run drew from: up to the fork, chance has to fall as it fell."""


@dataclass(frozen=True, slots=True)
class RunState:
    """The run item."""

    id: str
    app: str
    function: str
    status: RunStatus
    created: int
    """When its event was received, milliseconds."""
    seed: str
    """128 random bits in hex; the source of ctx.random and ctx.uuid."""
    event_id: str
    event_name: str
    event_digest: str
    """Of the event's data, to tell a duplicate from another event with the same id."""
    event: Stored | None = None
    """The envelope, if it is small; otherwise it is in an item beside the run."""
    compute: str = "default"
    epoch: int = 0
    """How often the run was claimed. Every write of a holder is conditional on its own epoch."""
    attempt: int = 1
    """Of the function's body."""
    wakes: int = 0
    """How often something happened that the holder may not have seen."""
    wake_at: int | None = None
    due_at: int | None = None
    due_sk: str | None = field(default=None, compare=False)
    """How due_at stood in the index when the run was read: earlier releases spelled it otherwise for some."""
    lease: Lease | None = None
    started: int | None = None
    ended: int | None = None
    crashes: int = 0
    """Invocations cut off since the last new checkpoint."""
    progressed: int = 0
    """Checkpoints and marks counted when the last crash was looked at."""
    stalls: int = 0
    """Hand-overs without a new checkpoint, in a row."""
    misfires: int = 0
    """Dispatches in a row that reached no worker."""
    owes: tuple[str, ...] = ()
    """Followers not delivered yet: `parent`, `on_failure`, `children`, `event`."""
    result: Stored | None = None
    error: ErrorInfo | None = None
    reason: str | None = None
    parent: Parent | None = None
    child: bool = False
    """Another run has started it without waiting for it: a detached child, a handler of failures; or it is a replay or
    fork of such a run, or of one that was waited for."""
    call: str | None = None
    """For a step that runs as a child run: the step, as `module:name`."""
    progress: Mapping[str, Any] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    replay_of: str | None = None
    gates: tuple[str, ...] = ()
    """The gates whose slots it needs while it executes; fixed when it is created."""
    held: bool = False
    """Whether it holds those slots."""
    line: str | None = None
    """The gate in whose line it waits."""
    priority: int = 0
    """Milliseconds by which it stands further ahead in a line."""
    unasked: bool = False
    """Whether it has yet to ask its throttle, which it does when it comes to starting."""
    turn: int | None = None
    """When its throttle lets it start, milliseconds, if it has its turn there."""
    batch: bool = False
    """Whether it takes other events along with its own."""
    taken_by: str | None = None
    """The run that took its event along, in a batch. It stands for this one in lists, and its event was not skipped."""
    memories: tuple[str, ...] = ()
    """The gates that remember it as the one live run, or the last tick, and must not forget it while it lives."""
    fork: Fork | None = None
    on_failure: bool = False
    """Whether its function has a handler for failures."""
    start_within: int | None = None
    """Milliseconds from its acceptance in which it has to start, or is cancelled (timeouts.start)."""
    finish_within: int | None = None
    """Milliseconds from its first start in which it has to finish, or is cancelled (timeouts.finish)."""
    guards: tuple[str, ...] = ()
    """Where the events that cancel it are waited for (cancel_on): number and key of each of its guards."""
    announces: tuple[str, ...] = ()
    """Those of its ends that somebody listens to, as statuses: they are followed by a run event."""
    quiet: bool = False
    """A run event is among its ancestors: its end is no event, and neither is that of the runs it invokes."""

    @property
    def started_by_run(self) -> bool:
        """Whether another run started it, or what it repeats: if that one is done anew, so is this."""
        return self.parent is not None or self.child

    @property
    def place(self) -> int:
        """Its rank in a line: when it was accepted, less its priority."""
        return self.created - self.priority

    @property
    def is_live(self) -> bool:
        """Whether it has not ended."""
        return not self.status.is_terminal


@dataclass(frozen=True, slots=True)
class StepState:
    """A step item: a checkpoint."""

    key: str
    """The step's identity: `branch/id`, `:n` for its repeats, `id[i]` for the items of a map."""
    id: str
    kind: str
    """run, sleep, wait_for_event, callback, poll, invoke, send_event."""
    status: StepStatus
    shape: str
    """Fingerprint of kind and arguments. Empty in a fork's kept steps, which stand whatever the arguments are now."""
    epoch: int
    """The epoch of the invocation that wrote it; 0 if written from outside."""
    seq: int | None = None
    """The place of this resolution in the order in which the function saw them."""
    attempts: int = 0
    """Bodies begun that are known of."""
    started: int | None = None
    ended: int | None = None
    until: int | None = None
    """When a wait is out of time, or a sleep over."""
    retry_at: int | None = None
    failures: int = 0
    """Of a poll: checks in a row that raised."""
    result: Stored | None = None
    error: ErrorInfo | None = None
    saw: Mapping[str, int] = field(default_factory=dict)
    """Resolutions from outside that the function had seen by then, with their places in the order."""
    beat: int | None = None
    """Milliseconds between heartbeats of a callback."""
    beat_by: int | None = None
    """When the next heartbeat is due."""
    proof: str | None = None
    """Of a callback: the SHA-256 of the secret in its token. Not in a fork's kept steps: that token was another run's."""
    submit: str | None = None
    """Of a callback: the key of the step that hands it out, if it has a `submit=`."""
    begun: int | None = None
    """Of a callback: the place of the last resolution that there was when it was created. Who hands it out comes later."""
    child: str | None = None
    by: str | None = None
    """What resolved a wait from outside: an event key, a child run."""
    args: str | None = None
    """The beginning of the arguments, to show what changed."""
    ttl: int = 0
    """Epoch seconds. Always past the run's next wake-up, see the retention rule in the store."""
