"""The functions of docs/flow-control.md, run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from docs.snippets import flow
from stepwell import RunStatus
from stepwell.testing import LocalStepwell
from stepwell.testing.invariants import check, concurrency_within


@pytest.fixture
def local() -> Iterator[LocalStepwell]:
    flow.done.clear()
    with LocalStepwell(flow.app) as local:
        yield local


def test_a_tenants_videos_take_turns_and_those_who_pay_go_first(local: LocalStepwell) -> None:
    local.client.pause("flow/transcode")
    for number in range(6):
        local.send(flow.VideoUploaded(video_id=f"v-{number}", tenant="acme", paying=number == 5))
        local.run_until_idle()
        local.advance("1s")
    local.client.resume("flow/transcode")
    local.run_until_idle()
    assert sorted(flow.done) == [f"v-{number}" for number in range(6)]
    assert "v-5" in flow.done[:2]
    check(local.world.observations, [concurrency_within(2)])


def test_the_newest_catalogue_is_the_one_that_is_built(local: LocalStepwell) -> None:
    for version in (1, 2, 3):
        local.send("catalogue/changed", {"shop": "s", "version": version})
        local.advance("10s")
    local.advance("5m")
    assert flow.done == [3]


def test_the_crm_hears_five_at_once_and_then_one_every_two_seconds(local: LocalStepwell) -> None:
    begin = local.now()
    for number in range(8):
        local.send("contact/added", {"account": "a", "email": f"{number}"})
    local.advance("1m")
    runs = list(local.client.runs(function="flow/tell-crm"))
    started = sorted((run.started_at - begin).total_seconds() for run in runs if run.started_at)
    assert started == [0, 0, 0, 0, 0, 2, 4, 6]


def test_a_user_is_warned_once_an_hour(local: LocalStepwell) -> None:
    events = [local.send("login/failed", {"user": "eve"}) for _ in range(3)]
    local.run_until_idle()
    runs = [run for event in events if (run := local.run(event))]
    assert sorted(run.status for run in runs) == [RunStatus.COMPLETED, RunStatus.SKIPPED, RunStatus.SKIPPED]
    assert flow.done == ["eve"]


def test_an_invoice_is_sent_once(local: LocalStepwell) -> None:
    for _ in range(2):
        local.send("invoice/due", {"invoice": "2026-1"})
    local.run_until_idle()
    assert flow.done == ["2026-1"]


def test_a_document_is_indexed_when_its_author_pauses(local: LocalStepwell) -> None:
    for text in ("a", "ab", "abc"):
        local.send("document/edited", {"document": "d", "text": text})
        local.advance("10s")
    assert flow.done == []
    local.advance("30s")
    assert flow.done == ["abc"]


def test_clicks_are_counted_together_and_robots_alone(local: LocalStepwell) -> None:
    for page in ("home", "shop"):
        local.send(flow.Clicked(page=page))
        local.run_until_idle()
        local.advance("1s")
    local.send(flow.Clicked(page="feed", robot=True))
    local.advance("10s")
    assert flow.done == [["feed"], ["home", "shop"]]


def test_a_mailbox_is_not_looked_at_twice_at_a_time(local: LocalStepwell) -> None:
    for mailbox in ("ada", "ada", "bob"):
        local.send("mailbox/changed", {"mailbox": mailbox})
        local.run_until_idle()
    assert flow.done == ["ada", "bob"]
    local.advance("2m")
    local.send("mailbox/changed", {"mailbox": "ada"})
    local.run_until_idle()
    assert flow.done == ["ada", "bob", "ada"]


def test_each_customer_gets_a_bill_of_three_lines_or_of_an_hour(local: LocalStepwell) -> None:
    for number, customer in enumerate("aabaab"):
        local.send("invoice/line", {"customer": customer, "line": f"{customer}{number}"})
        local.run_until_idle()
        local.advance("1s")
    assert flow.done == [["a0", "a1", "a3"]]
    local.advance("1h")
    assert flow.done[1:] == [["b2", "b5"], ["a4"]]
