"""The price sync: a long loop that goes on where it broke off."""

import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from stepwell import Run, RunStatus
from stepwell.testing import LocalStepwell
from stepwell_examples.pricing_sync import demo, fakes
from stepwell_examples.pricing_sync.app import PriceListPublished, app

SMALL = PriceListPublished(version="2026-11-22", skus=3_000)  # 60 batches


@pytest.fixture
def local() -> Iterator[LocalStepwell]:
    with LocalStepwell(app) as world:
        fakes.reset(clock=world.now)
        yield world
    fakes.reset()


def run_of(local: LocalStepwell, event_id: str) -> Run:
    run = local.run(event_id)
    assert run is not None
    return run


def requests_by_batch() -> Counter[int]:
    """How often the API was asked for each batch, the first being 1."""
    return Counter((int(request.first_sku.removeprefix("SKU-")) - 1) // 50 + 1 for request in fakes.price_api.requests)


def test_every_price_arrives_with_one_step_a_batch(local: LocalStepwell) -> None:
    event_id = local.send(SMALL)
    local.run_until_idle()
    run = run_of(local, event_id)
    assert run.status == RunStatus.COMPLETED
    assert run.result == {"skus": 3_000, "batches": 60, "changed": 3_000}
    assert len(run.steps) == 60
    assert fakes.price_api.prices == fakes.price_list.page("2026-11-22", 1, 3_000)


def test_an_outage_at_batch_15_repeats_batch_15_and_nothing_else(local: LocalStepwell) -> None:
    fakes.price_api.break_at(request=15, lasts=timedelta(minutes=2))
    event_id = local.send(SMALL)
    local.run_until_idle()
    assert run_of(local, event_id).status == RunStatus.SUSPENDED
    assert len(fakes.price_api.prices) == 14 * 50

    local.advance("15m")
    run = run_of(local, event_id)
    assert run.status == RunStatus.COMPLETED
    asked = requests_by_batch()
    assert asked.pop(15) == run.steps["batch-15"].attempts > 2
    assert set(asked.values()) == {1}
    assert len(asked) == 59
    assert run.result == {"skus": 3_000, "batches": 60, "changed": 3_000}


def test_an_outage_longer_than_the_retries_fails_the_sync_and_pushes_nothing_past_it(local: LocalStepwell) -> None:
    fakes.price_api.break_at(request=15, lasts=timedelta(hours=8))
    event_id = local.send(SMALL)
    local.advance("7h")
    run = run_of(local, event_id)
    assert run.status == RunStatus.FAILED
    assert run.error is not None
    assert (run.error.type, run.error.step) == ("PriceApiDown", "batch-15")
    assert requests_by_batch() == Counter(dict.fromkeys(range(1, 15), 1) | {15: 9})
    assert len(fakes.price_api.prices) == 14 * 50


def test_a_sync_that_failed_is_forked_at_batch_15_and_pushes_nothing_before_it_again(local: LocalStepwell) -> None:
    fakes.price_api.break_at(request=15, lasts=timedelta(hours=8))
    event_id = local.send(SMALL)
    local.advance("9h")
    failed = run_of(local, event_id)
    assert failed.status == RunStatus.FAILED

    fork = local.client.fork(failed.id, "batch-15")
    assert local.client.result(fork) == {"skus": 3_000, "batches": 60, "changed": 3_000}
    assert requests_by_batch() == Counter(dict.fromkeys(range(1, 61), 1) | {15: 10})
    assert {run.status for run in local.client.runs(tag="version=2026-11-22")} == {"failed", "completed"}


def test_a_batch_that_was_pushed_by_hand_is_left_out(local: LocalStepwell) -> None:
    fakes.price_api.break_at(request=15, lasts=timedelta(hours=8))
    event_id = local.send(SMALL)
    local.advance("9h")
    failed = run_of(local, event_id)
    fork = local.client.fork(failed.id, "batch-15", result=50)
    assert local.client.result(fork)["changed"] == 3_000
    assert requests_by_batch()[15] == 9, "the attempts of the run that failed"


def test_a_worker_that_dies_in_the_middle_counts_no_change_twice_and_misses_none(local: LocalStepwell) -> None:
    local.crash_after("batch-30")
    event_id = local.send(SMALL)
    local.advance("10m")
    run = run_of(local, event_id)
    assert run.status == RunStatus.COMPLETED
    assert run.result["changed"] == 3_000
    assert requests_by_batch() == Counter({batch: 2 if batch == 30 else 1 for batch in range(1, 61)})


def test_progress_shows_how_far_the_sync_has_come(local: LocalStepwell) -> None:
    fakes.price_api.break_at(request=15, lasts=timedelta(minutes=2))
    event_id = local.send(SMALL)
    local.run_until_idle()
    progress = run_of(local, event_id).progress
    assert progress is not None
    assert (progress["done"], progress["total"]) == (14, 60)


def test_the_next_version_counts_only_the_prices_that_changed(local: LocalStepwell) -> None:
    local.send(SMALL)
    local.run_until_idle()
    event_id = local.send(PriceListPublished(version="2026-11-23", skus=3_000))
    local.run_until_idle()
    before, after = (fakes.price_list.page(version, 1, 3_000) for version in ("2026-11-22", "2026-11-23"))
    assert run_of(local, event_id).result["changed"] == len(after.items() - before.items()) > 0
    assert fakes.price_api.prices == after


def test_a_last_batch_may_be_short(local: LocalStepwell) -> None:
    event_id = local.send(PriceListPublished(version="v1", skus=101))
    local.run_until_idle()
    assert run_of(local, event_id).result["batches"] == 3
    assert [request.size for request in fakes.price_api.requests] == [50, 50, 1]


def test_every_night_at_ten_in_paris_the_list_of_the_day_is_published_and_synced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fakes.price_list, "skus", 120)
    paris = ZoneInfo("Europe/Paris")
    with LocalStepwell(app, start=datetime(2026, 10, 24, 12, tzinfo=paris)) as local:
        fakes.reset(clock=local.now)
        local.advance("3d")
        nights = sorted(local.client.runs(function="pricing/publish-prices"), key=lambda run: run.created_at)
        assert [(run.started_at or run.created_at).astimezone(paris).isoformat() for run in nights] == [
            "2026-10-24T22:00:00+02:00",
            "2026-10-25T22:00:00+01:00",  # winter time has begun: 25 hours later
            "2026-10-26T22:00:00+01:00",
        ]
        versions = [run.result for run in nights]
        assert versions == ["2026-10-24", "2026-10-25", "2026-10-26"]
        synced = list(local.client.runs(function="pricing/sync-prices"))
        assert sorted(run.event.data["version"] for run in synced) == versions
        assert {(run.status, run.result["batches"]) for run in synced} == {(RunStatus.COMPLETED, 3)}
        assert fakes.price_api.prices == fakes.price_list.page("2026-10-26", 1, 120)
    fakes.reset()


@pytest.mark.slow
def test_the_demo_syncs_ninety_thousand_prices(local: LocalStepwell) -> None:
    assert demo.play(local, lambda sentence: None) == []


def test_what_the_readme_shows_runs(capsys: pytest.CaptureFixture[str]) -> None:
    readme = Path(demo.__file__).with_name("README.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    exec(code, {})
    assert capsys.readouterr().out.startswith("completed {'skus': 3000, 'batches': 60, 'changed': 3000} ")


# ---- the fakes keep their promises -----------------------------------------------------------------------------------


def test_the_api_breaks_down_at_the_request_it_was_told_and_recovers_in_time() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    fakes.reset(clock=lambda: now)
    fakes.price_api.break_at(request=2, lasts=timedelta(seconds=30))
    assert fakes.price_api.update({"a": 1}, idempotency_key="1") == 1
    for _ in range(2):
        with pytest.raises(fakes.PriceApiDown):
            fakes.price_api.update({"b": 1}, idempotency_key="2")
    now += timedelta(seconds=30)
    assert fakes.price_api.update({"b": 1}, idempotency_key="2") == 1
    assert [request.status for request in fakes.price_api.requests] == [200, 503, 503, 200]


def test_the_api_answers_a_repeated_request_as_it_did_the_first_time() -> None:
    fakes.reset()
    assert fakes.price_api.update({"a": 1, "b": 2}, idempotency_key="1") == 2
    assert fakes.price_api.update({"a": 1, "b": 2}, idempotency_key="1") == 2
    assert fakes.price_api.update({"a": 1, "b": 3}, idempotency_key="2") == 1


def test_the_api_refuses_more_than_fifty_prices_at_once() -> None:
    fakes.reset()
    with pytest.raises(ValueError, match="allowed are 50"):
        fakes.price_api.update(fakes.price_list.page("v1", 1, 51), idempotency_key="1")
