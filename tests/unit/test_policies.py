"""What is declared beside a function: checked when it is written, plain JSON in the manifest."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from stepwell import (
    Backoff,
    Batch,
    CancelOn,
    Concurrency,
    Cron,
    Debounce,
    RateLimit,
    Singleton,
    Throttle,
    Timeouts,
    Trigger,
)
from stepwell.errors import InvalidOption
from stepwell.policies import check_policy, policy_json


@pytest.mark.parametrize(
    ("policy", "plain"),
    [
        (Backoff(), {"initial": 1.0, "factor": 2.0, "maximum": 3600.0, "jitter": True}),
        (Backoff("10s", 3, timedelta(minutes=5), False), {"initial": 10, "factor": 3, "maximum": 300, "jitter": False}),
        (Concurrency(5, key="event.data.email"), {"limit": 5, "key": "event.data.email", "scope": "function"}),
        (Throttle(10, "1m"), {"limit": 10, "period": 60, "burst": 1}),
        (RateLimit(10, 60), {"limit": 10, "period": 60}),
        (Debounce("5s", timeout="1m"), {"period": 5, "timeout": 60}),
        (Batch(10, "5s", where="event.data.x > 1"), {"max_size": 10, "timeout": 5, "where": "event.data.x > 1"}),
        (Singleton("skip"), {"mode": "skip"}),
        (CancelOn("order/deleted", match={"data.id": 1}), {"event": "order/deleted", "match": {"data.id": 1}}),
        (Timeouts(start="1h", finish="2h"), {"start": 3600, "finish": 7200}),
        (Cron("0 9 * * *", tz="Europe/Berlin"), {"expression": "0 9 * * *", "tz": "Europe/Berlin"}),
        (Trigger("order/*", where="true"), {"event": "order/*", "where": "true"}),
    ],
)
def test_a_policy_is_plain_json_with_durations_in_seconds(policy: Any, plain: dict[str, Any]) -> None:
    assert policy_json(policy) == plain


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Backoff(factor=0.5), "Backoff(factor=) must be at least 1, got 0.5."),
        (lambda: Backoff(factor=float("inf")), "Backoff(factor=) must be a finite number, got inf."),
        (lambda: Backoff("soon"), "Backoff(initial=): cannot read 'soon'. Write for example '500ms'"),
        (lambda: Concurrency(0), "Concurrency(limit=) must be at least 1, got 0."),
        (lambda: Concurrency(1, key="event.data."), "Concurrency(key=): 'event.data.' is not a CEL expression: "),
        (lambda: Concurrency(1, scope="env"), "Concurrency(scope=) must be 'function' or 'app', got 'env'."),  # type: ignore[arg-type]
        (lambda: Throttle(1, 0), "Throttle(period=) must be more than zero, got 0."),
        (lambda: Throttle(1, "1 minute"), "Throttle(period=): cannot read '1 minute'."),
        (lambda: RateLimit(0, "1s"), "RateLimit(limit=) must be at least 1, got 0."),
        (lambda: Debounce("0s"), "Debounce(period=) must be more than zero, got '0s'."),
        (lambda: Batch(101, "1s"), "Batch(max_size=) must be at most 100, got 101."),
        (lambda: Batch(0, "1s"), "Batch(max_size=) must be at least 1, got 0."),
        (lambda: Singleton("replace"), "Singleton(mode=) must be 'skip' or 'cancel', got 'replace'."),  # type: ignore[arg-type]
        (lambda: Trigger("a", where="event.("), "Trigger(where=): 'event.(' is not a CEL expression: "),
        (lambda: Timeouts(finish="1x"), "Timeouts(finish=): cannot read '1x'."),
        (lambda: Cron("0 8 * * *", jitter="-1s"), "Cron(jitter=): cannot read '-1s'."),
        (lambda: Cron(5), "Cron(expression=) must be text, got 5."),  # type: ignore[arg-type]
        (lambda: CancelOn("a", match=[1]), "CancelOn(match=) must be a dict, got [1]."),  # type: ignore[arg-type]
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_saying_what_it_takes_and_got(
    make: Callable[[], Any], says: str
) -> None:
    with pytest.raises(InvalidOption) as caught:
        make()
    assert caught.value.message.startswith(says)
    assert "\n" not in caught.value.message
    assert "pydantic" not in caught.value.message


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Singleton(), "Singleton(mode=) is missing ('skip' or 'cancel'); Singleton takes mode=, key=."),  # type: ignore[call-arg]
        (lambda: Throttle(1), "Throttle(period=) is missing; Throttle takes limit=, period=, burst=, key=."),  # type: ignore[call-arg]
        (lambda: Concurrency(max=1), "Concurrency(max=1): there is no max=; Concurrency takes limit=, key=, scope=."),  # type: ignore[call-arg]
        (lambda: Concurrency(1, limit=2), "Concurrency(limit=) is given twice; Concurrency takes "),  # type: ignore[misc]
        (
            lambda: Trigger("a", "true"),
            "Trigger(..., 'true'): too many arguments without a name; Trigger takes event=, ",
        ),  # type: ignore[misc]
    ],
)
def test_arguments_that_are_missing_or_unknown_are_told_with_those_there_are(
    make: Callable[[], Any], says: str
) -> None:
    with pytest.raises(InvalidOption) as caught:
        make()
    assert caught.value.message.startswith(says)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Concurrency("5"),  # type: ignore[arg-type]
        lambda: Concurrency(5.0),  # type: ignore[arg-type]
        lambda: Concurrency(True),
        lambda: Backoff(factor="2"),  # type: ignore[arg-type]
        lambda: Backoff(factor=True),
        lambda: Backoff(jitter="yes"),  # type: ignore[arg-type]
        lambda: Backoff(jitter=1),  # type: ignore[arg-type]
        lambda: Debounce(True),
    ],
)
def test_what_only_resembles_a_value_is_not_taken_for_it(make: Callable[[], Any]) -> None:
    with pytest.raises(InvalidOption):
        make()


def test_a_policy_cannot_be_changed_afterwards() -> None:
    with pytest.raises(AttributeError):
        Backoff().factor = 9  # type: ignore[misc]


def test_an_option_of_the_wrong_kind_is_refused_naming_it() -> None:
    with pytest.raises(InvalidOption, match=r"backoff= takes Backoff\(\.\.\.\), got 5"):
        check_policy("backoff", 5, Backoff)
    assert check_policy("backoff", None, Backoff) is None
