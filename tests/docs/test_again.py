"""The examples of docs/again.md, run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from docs.snippets import again
from stepwell.testing import LocalStepwell


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalStepwell]:
    monkeypatch.setattr(again, "rates", {"de": 19})
    with LocalStepwell(again.app) as local:
        for order, country in (("o-1", "at"), ("o-2", "de"), ("o-3", "fr")):
            local.send(again.InvoiceWanted(order_id=order, amount=5, country=country))
        local.run_until_idle()
        yield local


def test_runs_are_found_by_their_order_and_say_what_they_wait_for(
    local: LocalStepwell, capsys: pytest.CaptureFixture[str]
) -> None:
    [run] = again.find("o-1")
    assert (run.status, dict(run.tags)) == ("failed", {"order": "o-1", "abroad": "true"})
    assert (
        "waiting for invoice/accepted where data.order_id = o-2 until 2026-01-31 00:00 UTC" in capsys.readouterr().out
    )


def test_a_fork_keeps_the_charge(local: LocalStepwell) -> None:
    again.rates["at"] = 20
    mended, by_hand, moved = again.fork(again.find("o-1")[0].id)
    local.run_until_idle()
    local.client.send("invoice/accepted", {"order_id": "o-1"})
    local.run_until_idle()
    for fork, rate in ((mended, 20), (by_hand, 20), (moved, 19)):
        assert local.client.result(fork) == {"charge": "ch-o-1-5", "rate": rate, "accepted": True}


def test_all_that_failed_is_replayed_once(local: LocalStepwell, capsys: pytest.CaptureFixture[str]) -> None:
    again.rates.update(at=20, fr=21)
    assert again.again() == 2
    local.run_until_idle()
    assert again.again() == 0
    assert capsys.readouterr().out.splitlines() == [
        "asked for replays of 2 of 2 runs",
        "asked for replays of 0 of 2 runs",
    ]
    assert again.stop() == 2


def test_runs_and_events_are_searched_by_content(local: LocalStepwell) -> None:
    event_id = local.send(again.InvoiceWanted(order_id="o-9", amount=500, country="at"))
    local.run_until_idle()
    dear, events = again.search(event_id)
    assert [run.tags["order"] for run in dear] == ["o-9"]
    assert [event.data["country"] for event in events] == ["at"]


def test_one_id_invokes_one_run(local: LocalStepwell) -> None:
    run = again.invoke("o-5")
    local.run_until_idle()
    assert again.invoke("o-5") == run
    assert local.client.count(tag="order=o-5") == 1


def test_what_a_condition_means_is_replayed_once(local: LocalStepwell) -> None:
    again.rates.update(at=20, fr=21)
    assert again.again_by_content() == 2
    local.run_until_idle()
    assert again.again_by_content() == 0
    assert again.stop() == 2
