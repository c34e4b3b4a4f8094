"""What becomes of an event, by what the gates remember. Values in, values out.

`admit` asks the buckets of a flow in a fixed order, and the first that refuses decides:

    idempotency -> rate limit -> singleton -> debounce | batch -> throttle

Whatever they remember is written in one transaction with the run, so it is counted exactly once per event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from stepwell.decisions.flow import Bucket, Flow, Memory
from stepwell.durations import spoken
from stepwell.records import RunState, RunStatus

IDEMPOTENCY_PERIOD = 86_400_000
"""Milliseconds for which an idempotency key is remembered."""
SHOWN = 200
"""Characters of a key's value in a reason: it stands in the run's item, which holds 400 KB (DynamoDB quotas)."""
LOG = 64
"""Entries a rate limit's memory is kept to."""
LATE = 5_000
"""Milliseconds by which a start may come after its turn at the throttle, as messages come when they come."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of an event."""

    status: RunStatus
    """QUEUED: may start now, as far as the buckets are concerned. SCHEDULED: at `wake_at`. SKIPPED: not at all."""
    wake_at: int | None = None
    reason: str | None = None
    remembers: tuple[tuple[str, Memory, int | None], ...] = ()
    """What gates remember from now on: gate, memory, and until when it matters (milliseconds; None: while the run lives)."""
    cancels: str | None = None
    """A live run that ends, because this one comes in its place."""
    inherits: bool = False
    """Whether it starts when that run would have, which must never have started."""
    replaces: str | None = None
    """A run that has not started and never will, for which this one comes."""
    because: str | None = None
    """The reason of that run from then on."""
    joins: str | None = None
    """The run that takes this event along with its own."""
    place: int = 0
    """Which of its events this one is, for a run that takes several."""
    completes: bool = False
    """Whether that run has all its events now and may start."""
    turn: int | None = None
    """When its throttle lets it start (milliseconds), if it has taken its turn there."""
    ahead: int | None = None
    """The place in a line that it takes over, if that is further ahead than its own."""


def mentioned(flow: Flow, memories: Mapping[str, Memory]) -> set[str]:
    """The runs that gates remember, whose state decides."""
    return {
        memories[bucket.gate]["run"]
        for bucket in flow.buckets
        if bucket.kind in ("singleton", "debounce", "batch", "last_tick") and memories.get(bucket.gate, {}).get("run")
    }


def handed_on(flow: Flow, memories: Mapping[str, Memory], runs: Mapping[str, RunState]) -> tuple[str, ...]:
    """The gates whose slots become free with the run that this one comes in place of."""
    for bucket in flow.buckets:
        other = runs.get(memories.get(bucket.gate, {}).get("run", ""))
        if bucket.kind == "singleton" and bucket.policy["mode"] == "cancel" and other is not None:
            return other.gates if other.is_live and other.held else ()
    return ()


def admit(
    flow: Flow,
    memories: Mapping[str, Memory],
    runs: Mapping[str, RunState],
    *,
    run: str,
    now: int,
    received: int,
    not_before: int,
    ends: int | None = None,
) -> Verdict:
    """What becomes of an event for which `run` would be made.

    now: milliseconds, when it is decided. received: when the event was, of a tick its time. not_before: the event's own
    time, if that lies in the future. ends: when it is out of time for starting.
    """
    verdict = Verdict(RunStatus.QUEUED, wake_at=max(now, not_before))
    remembers: list[tuple[str, Memory, int | None]] = []
    cancels: str | None = None
    inherits = False
    for bucket in flow.buckets:
        memory = memories.get(bucket.gate, {})
        if bucket.kind == "idempotency":
            if memory.get("until", 0) > now:
                return _skip(f"idempotency: run {memory['run']} was started{_of(bucket)} less than 24 hours ago")
            until = now + IDEMPOTENCY_PERIOD
            remembers.append((bucket.gate, {"run": run, "until": until}, until))
        elif bucket.kind == "rate_limit":
            if verdict.replaces is not None:
                continue  # it takes over the place of the tick before, which was counted
            log = rate_log(memory.get("log", ()), bucket.policy, now)
            if log is None:
                return _skip(f"rate limit: {_per(bucket.policy)}{_of(bucket)}")
            remembers.append((bucket.gate, {"log": log}, now + _millis(bucket.policy["period"])))
        elif bucket.kind == "singleton":
            other = runs.get(memory.get("run", ""))
            if other is not None and other.is_live and other.id != verdict.replaces:
                if bucket.policy["mode"] == "skip":
                    return _skip(f"singleton: run {other.id} has not ended{_of(bucket)}")
                if received < memory.get("received", 0):
                    return _skip(f"singleton: run {other.id} is of a later event{_of(bucket)}")
                cancels = other.id
                verdict = replace(verdict, ahead=other.place if other.line is not None else None)
            remembers.append((bucket.gate, {"run": run, "received": received}, None))
        elif bucket.kind == "debounce":
            verdict = debounced(bucket, memory, runs, run=run, now=now, received=received)
        elif bucket.kind == "batch":
            verdict = batched(bucket, memory, runs, run=run, now=now)
        elif bucket.kind == "last_tick":
            other = runs.get(memory.get("run", ""))
            if other is not None and _is_pending(other):
                if received < memory.get("received", 0):  # the queue keeps no order
                    return _skip(f"paused: run {other.id} has a later tick")
                verdict = replace(verdict, replaces=other.id, because=f"paused: run {run} has a later tick")
            remembers.append((bucket.gate, {"run": run, "received": received}, None))
        elif bucket.kind == "throttle":
            before = runs.get(cancels or "")
            inherits = before is not None and _waits_for_throttle(before) and _same_key(flow, "singleton", "throttle")
            turn: int | None
            if before is not None and inherits:
                # Each taking a new turn, the ones that come would keep the start moving away from them.
                starts = turn = max(now, before.turn or now)
            else:
                starts, remembered, until = throttled(memory, bucket.policy, now)
                turn = starts if ends is None or starts < ends else None
                if turn is not None:  # one that cannot start in time takes no turn from those behind it
                    remembers.append((bucket.gate, remembered, until))
            verdict = replace(verdict, wake_at=starts, turn=turn, reason=throttling(bucket))
    at = max(verdict.wake_at or now, not_before)
    status = RunStatus.SCHEDULED if verdict.status is RunStatus.QUEUED and at > now else verdict.status
    return replace(
        verdict,
        status=status,
        wake_at=at if status is RunStatus.SCHEDULED else None,
        reason=None if status is RunStatus.QUEUED else verdict.reason,
        remembers=(*remembers, *verdict.remembers),
        cancels=cancels,
        inherits=inherits,
    )


def throttling(bucket: Bucket) -> str:
    """The reason of a run that waits for its throttle."""
    return f"throttle: {_per(bucket.policy)}{_of(bucket)}"


def _waits_for_throttle(run: RunState) -> bool:
    """Whether a run has its turn with the throttle and waits for nothing else."""
    return _is_pending(run) and run.line is None and not run.unasked and run.turn is not None


def _is_pending(run: RunState) -> bool:
    """Whether a run has yet to start, and rests."""
    return run.status is RunStatus.SCHEDULED and not run.epoch


def _same_key(flow: Flow, *kinds: str) -> bool:
    return len({bucket.policy.get("key") for bucket in flow.buckets if bucket.kind in kinds}) == 1


def _skip(reason: str) -> Verdict:
    return Verdict(RunStatus.SKIPPED, reason=reason)


def throttled(memory: Memory, policy: Mapping[str, Any], now: int, *, late: bool = False) -> tuple[int, Memory, int]:
    """When the next start may be, what to remember, and until when: the generic cell rate algorithm (ITU-T I.371).

    One start every period / limit, rounded up to a microsecond; after a pause, `burst` of them at once. `tat_us` is the
    theoretical arrival time of the next one, in microseconds; `late_us` that of those which have missed their turn.
    They keep to the rate among themselves: behind all that have a turn yet, they would be the last though they came first.
    """
    name, interval = "late_us" if late else "tat_us", _interval(policy)
    arrival = max(now * 1000, memory.get(name, 0))
    starts = -(-(arrival - (policy.get("burst", 1) - 1) * interval) // 1000)
    remembered = {**memory, name: arrival + interval}
    return max(now, starts), remembered, max(remembered.values()) // 1000


def has_missed(turn: int | None, policy: Mapping[str, Any], now: int) -> bool:
    """Whether a turn at a throttle is over: by an outage, say, after which many would start at once."""
    return turn is not None and now > turn + max(LATE, _interval(policy) // 1000)


def _interval(policy: Mapping[str, Any]) -> int:
    """Microseconds from one start to the next."""
    interval: int = -(-round(policy["period"] * 1_000_000) // policy["limit"])
    return interval


def rate_log(log: Any, policy: Mapping[str, Any], now: int) -> list[list[int]] | None:
    """The starts of the last period with this one, None if it would be one too many.

    In no period, wherever it begins, are there more than `limit`. Starts are remembered one by one up to 64; beyond
    that as 64 stretches of time, each forgotten as a whole when the last of its starts is a period ago, so a place may
    become free up to 1/64 of the period late, never early.
    """
    period, limit = _millis(policy["period"]), policy["limit"]
    grain = 1 if limit <= LOG else max(1, period // LOG)
    kept = [[last, count] for last, count in log if last + period > now]
    if sum(count for _, count in kept) >= limit:
        return None
    if kept and kept[-1][0] // grain == now // grain:
        return [*kept[:-1], [max(kept[-1][0], now), kept[-1][1] + 1]]
    return [*kept, [now, 1]]


def debounced(
    bucket: Bucket, memory: Memory, runs: Mapping[str, RunState], *, run: str, now: int, received: int
) -> Verdict:
    """The last event wins: it starts when none came for a period, and at the latest `timeout` after the first."""
    if received < memory.get("latest", 0):  # whether that one waits yet or has started
        return _skip(f"debounce: run {memory['run']} has a later event{_of(bucket)}")
    waiting = runs.get(memory.get("run", ""))
    open_ = waiting is not None and _is_pending(waiting)
    first = memory["first"] if open_ else now
    at = now + _millis(bucket.policy["period"])
    if bucket.policy.get("timeout") is not None:
        at = max(now, min(at, first + _millis(bucket.policy["timeout"])))
    remembered = {"run": run, "first": first, "latest": received}
    ahead = None
    if waiting is not None and open_:
        # Its own place, or a line that never empties would keep the last event for ever.
        ahead = waiting.place if waiting.line is not None else memory.get("ahead")
    if ahead is not None:
        remembered["ahead"] = ahead
    # Out of time, it goes at once: the next event would come before the one who calls it, and take it away again.
    return Verdict(
        RunStatus.SCHEDULED if at > now else RunStatus.QUEUED,
        wake_at=at,
        reason=f"debounce: starts when no later event comes{_of(bucket)}",
        remembers=((bucket.gate, remembered, at),),
        replaces=memory["run"] if open_ else None,
        because=f"debounce: run {run} has a later event",
        ahead=ahead,
    )


def batched(bucket: Bucket, memory: Memory, runs: Mapping[str, RunState], *, run: str, now: int) -> Verdict:
    """The first event makes a run that starts when it is full, or `timeout` later; the others are taken along."""
    leader = runs.get(memory.get("run", ""))
    size = bucket.policy["max_size"]
    if leader is not None and _is_pending(leader) and memory["count"] < size:
        # One that stands in a line has had its time: being full changes nothing about when its turn comes.
        count = memory["count"] + 1
        remembered = {**memory, "count": count}
        return Verdict(
            RunStatus.SKIPPED,
            reason=f"batch: taken along by run {leader.id}",
            remembers=((bucket.gate, remembered, memory["until"]),),
            joins=leader.id,
            place=count - 1,
            completes=count == size and leader.line is None,
        )
    until = now + _millis(bucket.policy["timeout"])
    remembered = {"run": run, "count": 1, "until": until}
    if size == 1:
        return Verdict(RunStatus.QUEUED, wake_at=now, remembers=((bucket.gate, remembered, until),))
    why = f"batch: collects up to {size} events{_of(bucket)}"
    return Verdict(RunStatus.SCHEDULED, wake_at=until, reason=why, remembers=((bucket.gate, remembered, until),))


def _per(policy: Mapping[str, Any]) -> str:
    return f"at most {policy['limit']} start in {spoken(policy['period'])}"


def _of(bucket: Bucket) -> str:
    if "key" not in bucket.policy:
        return ""
    return f" for {short(bucket.key)}"


def short(text: str) -> str:
    """The beginning of a value, for people."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _millis(seconds: float) -> int:
    return max(1, round(seconds * 1000))
