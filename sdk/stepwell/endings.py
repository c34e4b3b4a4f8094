"""What ends a run before its time, as it is declared: `cancel_on=` and `timeouts=`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stepwell.codec import JSON
from stepwell.decisions.listening import check_heard
from stepwell.errors import InvalidOption
from stepwell.expressions import check_expression
from stepwell.models import name_of
from stepwell.planning.waits import plain_match
from stepwell.policies import CancelOn, Timeouts, check_policy, policy_json

MAX_RULES = 10
"""Of one function. Each costs two write units and a read unit for every run."""


def endings(cancel_on: Any, timeouts: Any) -> dict[str, JSON]:
    """What the manifest says of a function's early ends; nothing if nothing is declared. Raises InvalidOption."""
    declared: dict[str, JSON] = {}
    rules = _rules(cancel_on)
    if rules:
        declared["cancel_on"] = rules
    if check_policy("timeouts", timeouts, Timeouts) is not None:
        declared["timeouts"] = policy_json(timeouts)
        if not declared["timeouts"]:
            raise InvalidOption('timeouts=Timeouts() limits nothing: give start=, such as "10m", finish=, or both.')
    return declared


def _rules(cancel_on: Any) -> list[dict[str, JSON]]:
    given = [cancel_on] if isinstance(cancel_on, CancelOn) else cancel_on
    if given is None:
        return []
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise InvalidOption(f"cancel_on= takes CancelOn(...) or a list of them, got {cancel_on!r}.")
    if len(given) > MAX_RULES:
        raise InvalidOption(f"cancel_on= takes at most {MAX_RULES} rules, got {len(given)}.")
    return [_rule(check_policy("cancel_on", each, CancelOn)) for each in given]


def _rule(rule: CancelOn | None) -> dict[str, JSON]:
    if rule is None:
        raise InvalidOption("cancel_on= takes CancelOn(...) or a list of them, got None.")
    name = name_of(rule.event)
    if not name or "*" in name:
        raise InvalidOption(f"CancelOn({name!r}): name one event; there are no wildcards here, use several rules.")
    check_heard(name, what=f"CancelOn({name!r})")
    declared: dict[str, JSON] = {"event": name}
    if rule.match is not None:
        declared["match"] = _match(name, rule.match)
    options = {"where": rule.where, "timeout": rule.timeout}
    return declared | {option: value for option, value in options.items() if value is not None}


def _match(name: str, given: Mapping[str, Any]) -> dict[str, JSON]:
    """Paths into the incoming event and values; text that begins with `event.` is CEL over the run's own event."""
    match = plain_match(given)
    if not match:
        raise InvalidOption(
            f"CancelOn({name!r}, match={{}}) compares nothing; leave match= out to take every such event."
        )
    for path, value in match.items():
        if isinstance(value, str) and value.startswith("event."):
            check_expression(value, what=f"match[{path!r}]")
    return match
