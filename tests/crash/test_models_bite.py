"""The models of `gate_models` refuse gates that decide otherwise: a model that accepts anything would prove nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from stepwell.decisions import verdicts
from stepwell.engine import admission, lines
from stepwell.records import RunStatus
from stepwell.store import gates, layout
from tests.crash import gate_models
from tests.crash.sweeping import DEPTH
from tests.crash.test_random_flows import run_flow

SEEDS = 12
"""After so many flows a gate that is wrong has to be found out."""

Patch = pytest.MonkeyPatch


def one_slot_more(patch: Patch) -> None:
    slots_of = lines.slots_of
    for module in (admission, lines):
        patch.setattr(module, "slots_of", lambda entry, run: [(gate, n + 1) for gate, n in slots_of(entry, run)])


def last_in_first_out(patch: Patch) -> None:
    line_sk = layout.line_sk
    patch.setattr(layout, "line_sk", lambda place, run: line_sk((1 << 44) - place, run))


def past_the_line(patch: Patch) -> None:
    patch.setattr(layout, "FREE", "(" + layout.HAS_ROOM + " OR #waiting > :none) AND " + layout.HAS_ROOM)
    patch.setattr(
        admission,
        "_line",
        lambda slots, states, freed: next(
            ((gate, limit) for gate, limit in slots if gate in states and states[gate].held >= limit), None
        ),
    )


def deaf_to_pauses(patch: Patch) -> None:
    for module in (admission, lines):
        patch.setattr(module, "slots_of", lambda entry, run: [])


def bunches_of_four(patch: Patch) -> None:
    throttled = verdicts.throttled

    def bunched(memory: Any, policy: Any, now: int) -> Any:
        starts, remembered, until = throttled(memory, policy, now)
        bunch = round(policy["period"] * 4000)
        return (starts if starts <= now else -(-starts // bunch) * bunch), remembered, until

    patch.setattr(verdicts, "throttled", bunched)


def twice_the_pause(patch: Patch) -> None:
    throttled = verdicts.throttled
    patch.setattr(
        verdicts,
        "throttled",
        lambda memory, policy, now: throttled(memory, {**policy, "period": 2 * policy["period"]}, now),
    )


def one_more_than_the_rate(patch: Patch) -> None:
    rate_log = verdicts.rate_log
    patch.setattr(
        verdicts, "rate_log", lambda log, policy, now: rate_log(log, {**policy, "limit": policy["limit"] + 1}, now)
    )


def decides(kind: str, wrongly: Callable[[Any, dict[str, Any]], Any]) -> Callable[[Patch], None]:
    """A gate of this kind whose verdict is changed."""

    def mutate(patch: Patch) -> None:
        admit = verdicts.admit

        def mutant(flow: Any, memories: Any, runs: Any, **given: Any) -> Any:
            verdict = admit(flow, memories, runs, **given)
            mine = any(bucket.kind == kind for bucket in flow.buckets)
            return wrongly(verdict, given) if mine else verdict

        patch.setattr(admission, "admit", mutant)

    mutate.__qualname__ = wrongly.__name__
    return mutate


def skips_all(verdict: Any, given: Any) -> Any:
    return verdicts._skip("mutant")


def skips_none(verdict: Any, given: Any) -> Any:
    return replace(verdict, status=RunStatus.QUEUED) if verdict.joins is None else verdict


def cancels_none(verdict: Any, given: Any) -> Any:
    return replace(verdict, cancels=None)


def starts_at_once(verdict: Any, given: Any) -> Any:
    if verdict.status is not RunStatus.SCHEDULED:
        return verdict
    return replace(verdict, status=RunStatus.QUEUED, wake_at=None)


def starts_late(verdict: Any, given: Any) -> Any:
    return replace(verdict, wake_at=(verdict.wake_at or given["now"]) + 5_000)


def in_another_order(patch: Patch) -> None:
    members = gates.Gates.members
    patch.setattr(gates.Gates, "members", lambda self, run: iter(list(members(self, run))[::-1]))


MUTANTS: list[tuple[Callable[..., Any], Callable[[Patch], None]]] = [
    (gate_models.slots, one_slot_more),
    (gate_models.slots, last_in_first_out),
    (gate_models.slots, past_the_line),
    (gate_models.pausing, deaf_to_pauses),
    (gate_models.pausing, last_in_first_out),
    (gate_models.throttle, bunches_of_four),
    (gate_models.throttle, twice_the_pause),
    (gate_models.rate_limit, one_more_than_the_rate),
    (gate_models.rate_limit, decides("rate_limit", skips_all)),
    (gate_models.idempotency, decides("idempotency", skips_all)),
    (gate_models.idempotency, decides("idempotency", skips_none)),
    (gate_models.singleton, decides("singleton", skips_all)),
    (gate_models.singleton, decides("singleton", skips_none)),
    (gate_models.singleton, decides("singleton", cancels_none)),
    (gate_models.debounce, decides("debounce", starts_at_once)),
    (gate_models.debounce, decides("debounce", starts_late)),
    (gate_models.batch, decides("batch", starts_at_once)),
    (gate_models.batch, in_another_order),
]


TRIED = MUTANTS[::4] if DEPTH == "sample" else MUTANTS


@pytest.mark.parametrize(
    ("kind", "mutate"), TRIED, ids=[f"{kind.__name__} {mutate.__qualname__}" for kind, mutate in TRIED]
)
def test_a_gate_that_decides_otherwise_is_found_out(
    kind: Callable[..., Any], mutate: Callable[[Patch], None], monkeypatch: Patch
) -> None:
    mutate(monkeypatch)
    for seed in range(SEEDS):
        try:
            run_flow(kind, seed)
        except Exception:
            return
    raise AssertionError(f"{SEEDS} flows of a wrong gate fitted the model")
