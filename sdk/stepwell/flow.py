"""Flow control as it is declared: the options of a function, checked, as they stand in the manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stepwell.decisions.routing import name_matches
from stepwell.errors import InvalidOption
from stepwell.expressions import check_expression
from stepwell.policies import (
    Batch,
    Concurrency,
    Debounce,
    RateLimit,
    Singleton,
    Throttle,
    check_policy,
    policy_json,
)

MAX_LIMITS = 2
"""Concurrency limits of one function: each is another item in every transaction."""

_ALONE = ("rate_limit", "idempotency", "singleton", "throttle")
_CONFLICTS: dict[str, tuple[tuple[str, ...], str]] = {
    "batch": (
        ("debounce", *_ALONE),
        "an event that was taken along by a batch has no start of its own to be controlled",
    ),
    "debounce": (_ALONE, "the event that is kept is known only when the others have stopped coming"),
}


def flow_options(
    *,
    concurrency: Concurrency | Sequence[Concurrency] | None = None,
    throttle: Throttle | None = None,
    rate_limit: RateLimit | None = None,
    debounce: Debounce | None = None,
    batch: Batch | None = None,
    priority: str | None = None,
    singleton: Singleton | None = None,
    idempotency: str | None = None,
) -> dict[str, Any]:
    """The options that are given, as plain JSON. Raises InvalidOption for a wrong one, or two that exclude each other."""
    options: dict[str, Any] = {}
    limits = _limits(concurrency)
    if limits:
        options["concurrency"] = [policy_json(limit) for limit in limits]
    kinds = {
        "throttle": (throttle, Throttle),
        "rate_limit": (rate_limit, RateLimit),
        "debounce": (debounce, Debounce),
        "batch": (batch, Batch),
        "singleton": (singleton, Singleton),
    }
    for option, (policy, kind) in kinds.items():
        if check_policy(option, policy, kind) is not None:
            options[option] = policy_json(policy)
    if idempotency is not None:
        options["idempotency"] = {"key": check_expression(idempotency, what="idempotency=")}
    if priority is not None:
        if not limits:
            raise InvalidOption(
                "priority= orders the runs that wait for a slot, so it needs concurrency=. A throttle starts its runs "
                "in the order of their events."
            )
        options["priority"] = check_expression(priority, what="priority=")
    for option, (excluded, why) in _CONFLICTS.items():
        clash = [other for other in excluded if option in options and other in options]
        if clash:
            raise InvalidOption(f"{option}= and {clash[0]}= cannot be combined: {why}.")
    collected = options.get("debounce", {})
    if collected and collected.get("timeout", collected["period"]) < collected["period"]:
        raise InvalidOption("Debounce(timeout=) is shorter than its period, so the period could never pass.")
    return options


def check_ends(options: Mapping[str, Any], ends: Mapping[str, Any], triggers: Sequence[Mapping[str, Any]]) -> None:
    """Refuse early ends by which what a gate collects could never run. Raises InvalidOption."""
    start = ends.get("timeouts", {}).get("start")
    debounce, batch = options.get("debounce"), options.get("batch")
    if debounce is not None and start is not None and start <= debounce["period"]:
        raise InvalidOption(
            "Timeouts(start=) is not longer than the period of Debounce(): every run would be cancelled before no event "
            "has come for so long."
        )
    if batch is not None:
        _check_batch(batch, ends, start, triggers)


def _check_batch(
    batch: Mapping[str, Any], ends: Mapping[str, Any], start: float | None, triggers: Sequence[Mapping[str, Any]]
) -> None:
    """Refuse what would take a batch's other events down with one of them."""
    if start is not None and start <= batch["timeout"]:
        raise InvalidOption(
            "Timeouts(start=) is not longer than Batch(timeout=): a batch that is not full by then would be cancelled "
            "with all its events."
        )
    for rule in ends.get("cancel_on", ()):
        if any(name_matches(trigger.get("event", ""), rule["event"]) for trigger in triggers):
            raise InvalidOption(
                f"CancelOn({rule['event']!r}) names an event that starts the function, with batch=: each event would "
                "cancel the batch that collects the ones before it, and all of these with it."
            )
        values = [value for value in rule.get("match", {}).values() if isinstance(value, str)]
        own = [value for value in values if value.startswith("event.") and value != batch.get("key")]
        if "where" in rule and not _compiles(rule["where"], ("async",)):
            own.append(rule["where"])
        if own:
            raise InvalidOption(
                f"CancelOn({rule['event']!r}) compares {own[0]!r}, which is of one event, with batch=, whose run has "
                "many: it would cancel them all for the first. Batch by that value (key=), or cancel in the function."
            )


def _compiles(source: str, variables: tuple[str, ...]) -> bool:
    try:
        check_expression(source, what="", variables=variables)
    except InvalidOption:
        return False
    return True


def _limits(given: Concurrency | Sequence[Concurrency] | None) -> list[Concurrency]:
    limits: list[Any] = list(given) if isinstance(given, list | tuple) else [] if given is None else [given]
    for limit in limits:
        check_policy("concurrency", limit, Concurrency)
    if len(limits) > MAX_LIMITS:
        raise InvalidOption(f"concurrency= takes at most {MAX_LIMITS} limits, got {len(limits)}.")
    places = [(limit.scope, limit.key) for limit in limits]
    if len(set(places)) < len(places):
        raise InvalidOption("concurrency= has two limits with the same scope and key: the higher one says nothing.")
    return limits
