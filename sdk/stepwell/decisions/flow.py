"""Flow control, decided: what stands between an event and its run, and what each gate says. Values in, values out.

A function's policies and an event make a `Flow`: the *slots* its run needs while it executes, and the *buckets* and
*collectors* that decide once, when the event is accepted. A bucket remembers something in its gate (a time, some
counts, a run); `admit` asks them in a fixed order, and the first that refuses decides:

    idempotency -> rate limit -> singleton -> debounce | batch -> throttle

Whatever they remember is written in one transaction with the run, so it is counted exactly once per event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from stepwell.codec import JSON, canonical
from stepwell.durations import spoken
from stepwell.events import CRON_TICK
from stepwell.expressions import expression
from stepwell.ids import digest
from stepwell.records import RunState, RunStatus

MAX_PRIORITY = 600
"""Seconds by which `priority` may move a run in a line, either way."""
IDEMPOTENCY_PERIOD = 86_400_000
"""Milliseconds for which an idempotency key is remembered."""
UNLIMITED = 1 << 31
"""The limit of a gate whose policy is gone from the code: its slots are still counted, so that the count stays right."""
SHOWN = 200
"""Characters of a key's value in a reason: it stands in the run's item, which holds 400 KB (DynamoDB quotas)."""
LOG = 64
"""Entries a rate limit's memory is kept to."""

Memory = Mapping[str, Any]
"""What a gate remembers: plain JSON."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One of a limited number, held by a run while it executes."""

    gate: str
    limit: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """A policy, resolved for one event."""

    kind: str
    gate: str
    policy: Mapping[str, Any]
    key: str
    """The value of its key as JSON text, for people."""


@dataclass(frozen=True, slots=True)
class Flow:
    """All that stands between an event and its run."""

    slots: tuple[Slot, ...] = ()
    buckets: tuple[Bucket, ...] = ()
    priority: int = 0
    """Milliseconds by which the run stands further ahead in a line."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of an event."""

    status: RunStatus
    """QUEUED: may start now, as far as the buckets are concerned. SCHEDULED: at `wake_at`. SKIPPED: not at all."""
    wake_at: int | None = None
    reason: str | None = None
    remembers: tuple[tuple[str, Memory, int], ...] = ()
    """What gates remember from now on: gate, memory, and until when it matters (milliseconds)."""
    cancels: str | None = None
    """A run to cancel first, for which this one comes."""
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


# ---- what stands between -----------------------------------------------------------------------------------------------


def resolve(app: str, entry: Mapping[str, Any], scope: Mapping[str, JSON], *, triggered: bool) -> Flow:
    """The gates of an event for a function of the manifest.

    `triggered`: an event or a schedule started it. A run that was asked for by name (invoke, replay) is never dropped,
    collected or merged; it only waits for its slots and its throttle.
    """
    options: Mapping[str, Any] = entry.get("flow") or {}
    function = entry["id"]
    slots = tuple(_slot(app, function, policy, scope) for policy in options.get("concurrency", ()))
    buckets = []
    if triggered and entry.get("paused") and scope.get("name") == CRON_TICK:
        schedule = [scope["data"].get(name) for name in ("cron", "tz")]
        buckets.append(Bucket("last_tick", _gate(app, function, "tick", None, schedule), {}, ""))
    for kind in ("idempotency", "rate_limit", "singleton", "debounce", "batch", "throttle"):
        policy = options.get(kind)
        if policy is None or not (triggered or kind == "throttle"):
            continue
        if "where" in policy and not expression(policy["where"]).holds(dict(scope)):
            continue
        known, value = _value(policy.get("key"), scope)
        if kind == "idempotency" and not known:
            continue  # without a key there is nothing to be the same as
        buckets.append(Bucket(kind, _gate(app, function, kind, policy.get("key"), value), policy, canonical(value)))
    return Flow(slots, tuple(buckets), _priority(options.get("priority"), scope))


def slot_limits(entry: Mapping[str, Any], gates: tuple[str, ...]) -> list[Slot]:
    """The slots a run needs by today's policies. A limit that is gone from the code holds nobody back any more."""
    found = []
    for gate in gates:
        mine = _policy(gate, entry)
        found.append(Slot(gate, mine["limit"] if mine else UNLIMITED))
    return found


def policy_of(gate: str, entry: Mapping[str, Any], scope: Mapping[str, JSON]) -> tuple[Mapping[str, Any], JSON]:
    """The concurrency limit that a gate stands for, and the value of its key for this event."""
    policy = _policy(gate, entry) or {}
    return policy, _value(policy.get("key"), scope)[1]


def _policy(gate: str, entry: Mapping[str, Any]) -> Mapping[str, Any] | None:
    policies = (entry.get("flow") or {}).get("concurrency", ())
    return next((policy for policy in policies if _kind(policy) == gate.split("#")[2]), None)


def pause_gate(app: str, function: str) -> str:
    """The gate in whose line the starts of a paused function wait: one without a single slot."""
    return f"{app}#{function}#pause#"


def _slot(app: str, function: str, policy: Mapping[str, Any], scope: Mapping[str, JSON]) -> Slot:
    _, value = _value(policy.get("key"), scope)
    place = "*" if policy.get("scope") == "app" else function
    return Slot(_gate(app, place, _kind(policy), None, value), policy["limit"])


def _kind(policy: Mapping[str, Any]) -> str:
    """A limit is the same limit as long as its scope and its key are: its number may change from deploy to deploy."""
    return "slots-" + digest(policy.get("scope", "function"), policy.get("key") or "").hex()[:8]


def _gate(app: str, place: str, kind: str, key: str | None, value: JSON) -> str:
    return f"{app}#{place}#{kind}#{digest(key or '', canonical(value)).hex()[:20]}"


def _value(key: str | None, scope: Mapping[str, JSON]) -> tuple[bool, JSON]:
    """The value of a key. An event for which it cannot be evaluated belongs with all others of that sort."""
    if key is None:
        return True, None
    try:
        return True, expression(key).value(dict(scope))
    except ValueError:
        return False, None


def _priority(source: str | None, scope: Mapping[str, JSON]) -> int:
    known, value = _value(source, scope)
    if source is None or not known or isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    if value != value:  # not a number
        return 0
    return round(max(-MAX_PRIORITY, min(MAX_PRIORITY, value)) * 1000)


def asked_now(flow: Flow, *, later: bool, paused: bool) -> tuple[Flow, bool]:
    """The gates that are asked when an event is accepted, and whether the throttle is to be asked when its run starts.

    That is when the event takes effect later, or its function is paused: a turn taken now would be for a time at which
    nothing starts, and hold up what comes before. What takes effect later is not collected either.
    """
    left_out = {"throttle"} if later or paused else set()
    left_out |= {"debounce", "batch"} if later else set()
    kept = tuple(bucket for bucket in flow.buckets if bucket.kind not in left_out)
    return replace(flow, buckets=kept), "throttle" in left_out and any(b.kind == "throttle" for b in flow.buckets)


# ---- what the gates say --------------------------------------------------------------------------------------------------


def mentioned(flow: Flow, memories: Mapping[str, Memory]) -> set[str]:
    """The runs that gates remember, whose state decides."""
    return {
        memories[bucket.gate]["run"]
        for bucket in flow.buckets
        if bucket.kind in ("singleton", "debounce", "batch", "last_tick") and memories.get(bucket.gate, {}).get("run")
    }


def admit(
    flow: Flow,
    memories: Mapping[str, Memory],
    runs: Mapping[str, RunState],
    *,
    run: str,
    now: int,
    received: int,
    not_before: int,
) -> Verdict:
    """What becomes of an event for which `run` would be made.

    now: milliseconds, when it is decided. received: when the event was. not_before: the event's own time, if that lies
    in the future.
    """
    verdict = Verdict(RunStatus.QUEUED, wake_at=max(now, not_before))
    remembers: list[tuple[str, Memory, int]] = []
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
            remembers.append((bucket.gate, {"run": run, "received": received}, now + 365 * 86_400_000))
        elif bucket.kind == "debounce":
            verdict = debounced(bucket, memory, runs, run=run, now=now, received=received)
        elif bucket.kind == "batch":
            verdict = batched(bucket, memory, runs, run=run, now=now)
        elif bucket.kind == "last_tick":
            earlier = runs.get(memory.get("run", ""))
            if earlier is not None and earlier.status is RunStatus.SCHEDULED and not earlier.epoch:
                verdict = replace(verdict, replaces=earlier.id, because=f"paused: run {run} has a later tick")
            remembers.append((bucket.gate, {"run": run}, now + 365 * 86_400_000))
        elif bucket.kind == "throttle":
            before = runs.get(cancels or "")
            inherits = before is not None and _waits_for_throttle(before) and _same_key(flow, "singleton", "throttle")
            if before is not None and inherits:
                # Each taking a new turn, the ones that come would keep the start moving away from them.
                starts = max(now, before.wake_at or now)
            else:
                starts, tat = throttled(memory.get("tat"), bucket.policy, now)
                remembers.append((bucket.gate, {"tat": tat}, tat))
            verdict = replace(verdict, wake_at=starts, reason=throttling(bucket))
    at = max(verdict.wake_at or now, not_before)
    status = RunStatus.SCHEDULED if verdict.status is RunStatus.QUEUED and at > now else verdict.status
    return Verdict(
        status,
        wake_at=at if status is RunStatus.SCHEDULED else None,
        reason=None if status is RunStatus.QUEUED else verdict.reason,
        remembers=(*remembers, *verdict.remembers),
        cancels=cancels,
        inherits=inherits,
        replaces=verdict.replaces,
        because=verdict.because,
        joins=verdict.joins,
        place=verdict.place,
        completes=verdict.completes,
    )


def throttling(bucket: Bucket) -> str:
    """The reason of a run that waits for its throttle."""
    return f"throttle: {_per(bucket.policy)}{_of(bucket)}"


def _waits_for_throttle(run: RunState) -> bool:
    """Whether a run has its turn with the throttle and waits for nothing else."""
    resting = run.status is RunStatus.SCHEDULED and not run.epoch and run.line is None
    return resting and not run.unasked and run.start_within is None


def _same_key(flow: Flow, *kinds: str) -> bool:
    return len({bucket.policy.get("key") for bucket in flow.buckets if bucket.kind in kinds}) == 1


def _skip(reason: str) -> Verdict:
    return Verdict(RunStatus.SKIPPED, reason=reason)


def throttled(tat: int | None, policy: Mapping[str, Any], now: int) -> tuple[int, int]:
    """When the next start may be, and what to remember: the generic cell rate algorithm (ITU-T I.371).

    One start every period / limit; after a pause, `burst` of them at once. `tat` is the theoretical arrival time.
    """
    interval = -(-_millis(policy["period"]) // policy["limit"])
    arrival = max(now, tat or 0)
    starts = max(now, arrival - (policy.get("burst", 1) - 1) * interval)
    return starts, arrival + interval


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
    waiting = runs.get(memory.get("run", ""))
    open_ = waiting is not None and waiting.status is RunStatus.SCHEDULED and not waiting.epoch
    if open_ and received < memory["latest"]:
        return _skip(f"debounce: run {memory['run']} has a later event{_of(bucket)}")
    first = memory["first"] if open_ else now
    at = now + _millis(bucket.policy["period"])
    if bucket.policy.get("timeout") is not None:
        at = max(now, min(at, first + _millis(bucket.policy["timeout"])))
    remembered = {"run": run, "first": first, "latest": received}
    return Verdict(
        RunStatus.SCHEDULED,
        wake_at=at,
        reason=f"debounce: starts when no later event comes{_of(bucket)}",
        remembers=((bucket.gate, remembered, at),),
        replaces=memory["run"] if open_ else None,
        because=f"debounce: run {run} has a later event",
    )


def batched(bucket: Bucket, memory: Memory, runs: Mapping[str, RunState], *, run: str, now: int) -> Verdict:
    """The first event makes a run that starts when it is full, or `timeout` later; the others are taken along."""
    leader = runs.get(memory.get("run", ""))
    size = bucket.policy["max_size"]
    if leader is not None and leader.status is RunStatus.SCHEDULED and not leader.epoch and memory["count"] < size:
        count = memory["count"] + 1
        remembered = {**memory, "count": count}
        return Verdict(
            RunStatus.SKIPPED,
            reason=f"batch: taken along by run {leader.id}",
            remembers=((bucket.gate, remembered, memory["until"]),),
            joins=leader.id,
            place=count - 1,
            completes=count == size,
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
    return f" for {bucket.key}" if len(bucket.key) <= SHOWN else f" for {bucket.key[:SHOWN]}..."


def _millis(seconds: float) -> int:
    return max(1, round(seconds * 1000))
