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
    "make",
    [
        lambda: Backoff(factor=0.5),
        lambda: Backoff("soon"),
        lambda: Concurrency(0),
        lambda: Concurrency(1, key="event.data."),
        lambda: Concurrency(1, scope="world"),  # type: ignore[arg-type]
        lambda: Throttle(1, 0),
        lambda: RateLimit(0, "1s"),
        lambda: Debounce("0s"),
        lambda: Batch(101, "1s"),
        lambda: Batch(0, "1s"),
        lambda: Singleton("maybe"),  # type: ignore[arg-type]
        lambda: Trigger("a", where="event.("),
        lambda: Cron("0 8 * * *", jitter="-1s"),
        lambda: Cron(5),  # type: ignore[arg-type]
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_where_it_is_written(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError):
        make()


def test_a_policy_cannot_be_changed_afterwards() -> None:
    with pytest.raises(AttributeError):
        Backoff().factor = 9  # type: ignore[misc]


def test_an_option_of_the_wrong_kind_is_refused_naming_it() -> None:
    with pytest.raises(InvalidOption, match=r"backoff= takes Backoff\(\.\.\.\), got 5"):
        check_policy("backoff", 5, Backoff)
    assert check_policy("backoff", None, Backoff) is None
