"""What stands between an event and its run: the policies of a function, resolved for an event. Values in, values out.

A function's policies and an event make a `Flow`: the *slots* its run needs while it executes, and the *buckets* and
*collectors* that decide once, when the event is accepted. A bucket remembers something in its gate (a time, some
counts, a run); what follows from that is in `verdicts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from stepwell.codec import JSON, canonical
from stepwell.events import CRON_TICK
from stepwell.expressions import expression
from stepwell.ids import digest

MAX_PRIORITY = 600
"""Seconds by which `priority` may move a run in a line, either way."""
UNLIMITED = 1 << 31
"""The limit of a gate whose policy is gone from the code: its slots are still counted, so that the count stays right."""

_PAUSE = "#pause#"

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


# ---- what stands between -----------------------------------------------------------------------------------------------


def resolve(app: str, entry: Mapping[str, Any], scope: Mapping[str, JSON], *, triggered: bool) -> Flow:
    """The gates of an event for a function of the manifest.

    `triggered`: an event or a schedule started it. A run that was asked for by name (invoke, replay) is never dropped,
    collected or merged; it only waits for its slots and its throttle. Ticks of a schedule are not collected either: each
    is a start of its own.
    """
    options: Mapping[str, Any] = entry.get("flow") or {}
    function = entry["id"]
    slots = tuple(_slot(app, function, policy, scope) for policy in options.get("concurrency", ()))
    buckets = []
    tick = scope.get("name") == CRON_TICK
    if triggered and tick and entry.get("paused"):
        schedule = [scope["data"].get(name) for name in ("cron", "tz")]
        buckets.append(Bucket("last_tick", _gate(app, function, "tick", None, schedule), {}, ""))
    for kind in ("idempotency", "rate_limit", "singleton", "debounce", "batch", "throttle"):
        policy = options.get(kind)
        if policy is None or not (triggered or kind == "throttle") or (tick and kind in ("debounce", "batch")):
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


def limits_of(entries: Iterable[Mapping[str, Any]], gate: str) -> set[int]:
    """The limits that these functions of a gate's app put on it. Those that share it each go by their own number."""
    place = gate.split("#")[1]
    return {policy["limit"] for entry in entries if place in ("*", entry["id"]) and (policy := _policy(gate, entry))}


def policy_of(gate: str, entry: Mapping[str, Any], scope: Mapping[str, JSON]) -> tuple[Mapping[str, Any], JSON]:
    """The concurrency limit that a gate stands for, and the value of its key for this event."""
    policy = _policy(gate, entry) or {}
    return policy, _value(policy.get("key"), scope)[1]


def _policy(gate: str, entry: Mapping[str, Any]) -> Mapping[str, Any] | None:
    policies = (entry.get("flow") or {}).get("concurrency", ())
    return next((policy for policy in policies if _kind(policy) == gate.split("#")[2]), None)


def pause_gate(app: str, function: str) -> str:
    """The gate in whose line the starts of a paused function wait: one without a single slot."""
    return f"{app}#{function}{_PAUSE}"


def is_pause(gate: str) -> bool:
    """Whether the gate is that of a function's pauses."""
    return gate.endswith(_PAUSE)


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


def asked_now(flow: Flow, *, later: bool, waits: bool) -> Flow:
    """The gates that are asked when an event is accepted.

    Its throttle is not, if the event takes effect later or the run waits in a line (`waits`): a turn taken now would be
    for a time at which nothing starts, and hold up what comes before. The run asks when it comes to starting. What takes
    effect later is not collected either.
    """
    left_out = {"throttle"} if later or waits else set()
    left_out |= {"debounce", "batch"} if later else set()
    return replace(flow, buckets=tuple(bucket for bucket in flow.buckets if bucket.kind not in left_out))
