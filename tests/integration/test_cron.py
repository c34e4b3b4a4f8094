"""Functions that a schedule starts: at its times, once each, whatever is lost, doubled, deployed or down meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import boto3
import pytest

from stepwell import Context, Cron, EventModel, Failure, RunStatus, Stepwell
from stepwell.store.layout import DUE_SHARDS
from stepwell.testing import Chaos, Fault, FaultKind, FaultPlan, LocalStepwell
from stepwell.testing.observations import Sent, Wrote

from .support import Deploy, redeploy, run_of

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
Began = list[str]
"""When the function was called, in UTC."""


class Published(EventModel, name="prices/published"):
    version: str


def clocked(app: Stepwell, on: Any, *, id: str = "fn", **options: Any) -> Began:
    """Declare a function that notes when it is called; what its event says must fit."""
    began: Began = []

    def fn(ctx: Context[Any]) -> str:
        began.append(app.client._ports.clock.datetime().strftime("%d %H:%M:%S"))
        return ctx.event.name

    app.functions.pop(id, None)
    app.function(on=on, id=id, **options)(fn)
    return began


def ticks_of(local: LocalStepwell) -> list[dict[str, Any]]:
    """The bodies of the ticks that were posted."""
    bodies = (json.loads(sent.body) for sent in local.world.observations.of(Sent) if not sent.dead_letter)
    return [body for body in bodies if body.get("stepwell") == "tick"]


def outage(local: LocalStepwell, hours: float) -> None:
    """Time goes by, and no sweeper comes."""
    local.world.clock.advance(hours * 3600)


def all_completed(local: LocalStepwell) -> list[str]:
    """When the runs were due that completed, oldest first. There must be no others."""
    runs = list(local.client.runs())
    assert {run.status for run in runs} <= {RunStatus.COMPLETED}
    return sorted(run.event.data["scheduled_at"] for run in runs)


# ---- at its times


def test_every_tick_on_the_way_fires_in_order_at_its_time(app: Stepwell, deploy: Deploy) -> None:
    began = clocked(app, Cron("0 8,20 * * *", tz="Europe/Paris"))
    local = deploy(app)
    local.advance("3d")
    assert began == [f"0{day} {hour}:00:00" for day in (1, 2, 3) for hour in ("07", "19")]
    assert len(all_completed(local)) == 6


def test_a_schedule_of_every_minute_misses_none(app: Stepwell, deploy: Deploy) -> None:
    began = clocked(app, Cron("* * * * *"))
    local = deploy(app, start=NEW_YEAR + timedelta(seconds=30))
    local.advance("10m")
    assert began == [f"01 00:{minute:02}:00" for minute in range(1, 11)]


def test_several_schedules_and_events_start_one_function(app: Stepwell, deploy: Deploy) -> None:
    began = clocked(app, ["go", Cron("0 6 * * *"), Cron("0 12 * * *"), Cron("0 12 * * *", tz="Asia/Tokyo")])
    local = deploy(app)
    event_id = local.send("go")
    local.advance("1d")
    assert began == ["01 00:00:00", "01 03:00:00", "01 06:00:00", "01 12:00:00"]
    assert run_of(local, event_id).event.name == "go"


def test_two_schedules_of_a_function_that_meet_start_a_run_each(app: Stepwell, deploy: Deploy) -> None:
    began = clocked(app, [Cron("0 6 * * *"), Cron("0 */6 * * *")])
    local = deploy(app)
    local.advance("7h")
    assert began == ["01 06:00:00", "01 06:00:00"]


def test_the_event_says_which_schedule_and_which_tick(app: Stepwell, deploy: Deploy) -> None:
    app.function(on=Cron("30  2 * * *", tz="Europe/Paris"), id="fn")(
        lambda ctx: [ctx.event.name, ctx.event.data, ctx.event.ts.isoformat(), ctx.event.tenant]
    )
    local = deploy(app)
    local.advance("1d")
    [run] = local.client.runs(function="shop/fn")
    tick = {"cron": "30 2 * * *", "tz": "Europe/Paris", "scheduled_at": "2026-01-01T02:30:00+01:00"}
    assert run.result == ["stepwell/cron.tick", tick, "2026-01-01T01:30:00+00:00", None]
    assert run_of(local, run.event.id).id == run.id
    assert [event.id for event in local.client.events()] == [run.event.id]


def test_the_tick_of_a_function_with_typed_events_is_plain(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on=[Published, Cron("0 2 * * *")])
    def sync(ctx: Context[Any]) -> str:
        return ctx.event.data.version if isinstance(ctx.event.data, Published) else ctx.event.data["scheduled_at"]

    local = deploy(app)
    event_id = local.send(Published(version="v1"))
    invoked = local.client.invoke("shop/sync", {"version": "v2"})
    local.advance("1d")
    assert run_of(local, event_id).result == "v1"
    assert local.client.result(invoked) == "v2"
    assert {run.result for run in local.client.runs()} == {"v1", "v2", "2026-01-01T02:00:00+00:00"}


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        (datetime(2026, 3, 29), ["29 00:30:00", "29 01:00:00", "29 01:30:00"]),  # 01:30, then 02:30 skipped, 03:30
        (datetime(2026, 10, 25), ["24 23:30:00", "25 00:30:00", "25 02:30:00"]),  # 02:30 comes twice
    ],
)
def test_over_a_change_of_clocks_each_local_time_fires_once(
    app: Stepwell, deploy: Deploy, day: datetime, expected: list[str]
) -> None:
    paris = ZoneInfo("Europe/Paris")
    began = clocked(app, Cron("30 1-3 * * *", tz="Europe/Paris"))
    local = deploy(app, start=day.replace(tzinfo=paris))
    local.advance("6h")
    assert began == expected


def test_jitter_delays_each_tick_as_much_as_any_repetition_would(deploy: Deploy) -> None:
    delays = []
    for chaos in (None, Chaos(duplicate=1.0)):
        app = Stepwell("shop")
        clocked(app, Cron("0 * * * *", jitter="20m"))
        local = deploy(app, chaos=chaos)
        local.advance("6h")
        runs = sorted(local.client.runs(), key=lambda run: run.event.ts)
        delays.append([(run.started_at or NEW_YEAR) - run.event.ts for run in runs])
    assert delays[0] == delays[1]
    assert len(set(delays[0])) > 3
    assert timedelta() <= min(delays[0]) <= max(delays[0]) < timedelta(minutes=20)


def test_a_schedule_runs_with_retries_and_a_failure_handler_and_can_be_replayed(app: Stepwell, deploy: Deploy) -> None:
    failures: list[Any] = []

    def give_up(ctx: Context[Failure]) -> None:
        failures.append((ctx.event.data.event or {})["data"]["scheduled_at"])

    @app.function(on=Cron("0 2 * * *"), retries=1, on_failure=give_up)
    def fails(ctx: Context[Any]) -> None:
        raise RuntimeError("no luck")

    local = deploy(app)
    local.advance("12h")
    [run] = local.client.runs(function="shop/fails")
    assert (run.status, run.attempt) == (RunStatus.FAILED, 2)
    again = local.client.replay(run.id)
    local.run_until_idle()
    assert local.client.run(again).event == run.event
    local.advance("1m")
    assert failures == ["2026-01-01T02:00:00+00:00"] * 2


# ---- once each


@pytest.mark.parametrize("seed", range(5))
def test_messages_and_invocations_that_come_twice_and_late_start_nothing_twice(
    app: Stepwell, deploy: Deploy, seed: int
) -> None:
    clocked(app, [Cron("*/20 * * * *"), Cron("0 3 * * *", tz="Europe/Paris", jitter="5m")])
    local = deploy(app, seed=seed, chaos=Chaos(duplicate=0.5, delay=0.3, reorder=True, lose=0.2))
    local.advance("5h")
    local.advance("10m")
    expected = [NEW_YEAR + timedelta(minutes=20 * n) for n in range(1, 16)]
    assert all_completed(local) == sorted([*(each.isoformat() for each in expected), "2026-01-01T03:00:00+01:00"])


def test_a_tick_delivered_again_hours_later_finds_its_run(app: Stepwell, deploy: Deploy) -> None:
    began = clocked(app, Cron("0 6 * * *"))
    local = deploy(app)
    local.advance("7h")
    [tick] = ticks_of(local)
    boto3.client("sqs").send_message(QueueUrl=local.queue_url, MessageBody=json.dumps(tick))
    local.advance("3h")
    assert began == ["01 06:00:00"]
    assert local.dead_letters() == []


@pytest.mark.parametrize("seed", range(10))
def test_two_sweepers_at_once_post_a_tick_twice_at_most_and_run_it_once(
    app: Stepwell, deploy: Deploy, seed: int
) -> None:
    began = clocked(app, Cron("0 */6 * * *"))
    local = deploy(app, seed=seed)
    local.advance("5h57m")
    local.world.clock.advance(90)
    local.world._sweep()
    local.world._sweep()
    local.run_until_idle()
    posted = len(ticks_of(local))
    assert posted in (1, 2)
    local.advance("11h")
    assert began == ["01 06:00:00", "01 12:00:00"]
    assert len(ticks_of(local)) == posted + 1


def test_a_sweeper_that_dies_between_posting_and_moving_on_doubles_nothing(app: Stepwell, deploy: Deploy) -> None:
    began = clocked(app, Cron("0 6 * * *"))
    plan = FaultPlan([Fault(FaultKind.CRASH_BEFORE, operation="dynamodb.UpdateItem", label="sweeper")])
    local = deploy(app, plan=plan)
    local.advance("2d")
    assert began == ["01 06:00:00", "02 06:00:00"]
    assert len(ticks_of(local)) == 3


def test_one_sweep_that_fails_makes_no_tick_late(app: Stepwell, deploy: Deploy) -> None:
    began = clocked(app, Cron("*/5 * * * *"))
    plan = FaultPlan([Fault(FaultKind.REFUSED, operation="dynamodb.Query", label="sweeper", occurrence=12)])
    local = deploy(app, plan=plan)
    local.advance("21m")
    assert any(isinstance(failure, Exception) for failure in local.world.failures)
    assert began == [f"01 00:{minute:02}:00" for minute in (5, 10, 15, 20)]


# ---- after an outage


def test_after_an_outage_only_the_last_missed_tick_runs_and_then_all_goes_on(app: Stepwell, deploy: Deploy) -> None:
    began = clocked(app, Cron("0 * * * *"))
    local = deploy(app)
    local.advance("90m")
    outage(local, 5)
    local.advance("2h")
    assert began == ["01 01:00:00", "01 06:30:00", "01 07:00:00", "01 08:00:00"]
    made_good = all_completed(local)[1]
    assert made_good == "2026-01-01T06:00:00+00:00"


def test_a_tick_that_was_posted_before_the_outage_runs_and_is_not_made_good_again(
    app: Stepwell, deploy: Deploy
) -> None:
    began = clocked(app, Cron("0 6 * * *"))
    local = deploy(app)
    local.advance("5h59m")  # posted
    outage(local, 5)
    local.advance("1h")
    assert began == ["01 10:59:00"], "the message came late, and was the only one"
    assert all_completed(local) == ["2026-01-01T06:00:00+00:00"]


def test_an_outage_without_a_tick_in_it_changes_nothing(app: Stepwell, deploy: Deploy) -> None:
    began = clocked(app, Cron("0 6 * * *"))
    local = deploy(app)
    local.advance("1h")
    outage(local, 3)
    local.advance("3h")
    assert began == ["01 06:00:00"]


# ---- deployments


@pytest.mark.parametrize("before", ["3h", "5h57m", "5h58m", "5h59m30s", "6h", "6h1m"])
def test_a_deployment_that_leaves_the_schedule_alone_neither_skips_nor_doubles(
    app: Stepwell, deploy: Deploy, before: str
) -> None:
    began = clocked(app, Cron("0 */6 * * *"))
    local = deploy(app)
    local.advance(before)
    redeploy(local, app)
    redeploy(local, app)
    local.advance("10h")
    assert began == ["01 06:00:00", "01 12:00:00"]


def test_a_tick_that_was_missed_when_the_deployment_came_is_made_good_after_it(app: Stepwell, deploy: Deploy) -> None:
    began = clocked(app, Cron("0 6 * * *"))
    local = deploy(app)
    local.advance("1h")
    outage(local, 7)
    redeploy(local, app)
    local.advance("1h")
    assert began == ["01 08:00:00"]


def test_a_changed_schedule_takes_effect_at_once_and_a_posted_tick_of_the_old_one_is_ignored(
    app: Stepwell, deploy: Deploy
) -> None:
    began = clocked(app, Cron("0 6 * * *"))
    local = deploy(app)
    local.advance("5h59m")
    assert len(ticks_of(local)) == 1
    changed = clocked(app, Cron("0 9 * * *"))
    redeploy(local, app)
    local.advance("1d")
    assert (began, changed) == ([], ["01 09:00:00"])
    assert local.dead_letters() == []


def test_a_changed_schedule_whose_next_tick_is_the_same_runs_it_once(app: Stepwell, deploy: Deploy) -> None:
    clocked(app, Cron("0 6 * * *"))
    local = deploy(app)
    local.advance("5h59m")
    began = clocked(app, Cron("0 6-8 * * *"))
    redeploy(local, app)
    local.advance("2h")
    assert began == ["01 06:00:00", "01 07:00:00"]


def test_other_jitter_is_the_same_schedule(app: Stepwell, deploy: Deploy) -> None:
    clocked(app, Cron("0 6 * * *", jitter="30m"))
    local = deploy(app)
    local.advance("5h")
    outage(local, 4)  # the tick is missed: a new schedule would begin tomorrow
    began = clocked(app, Cron("0 6 * * *"))
    redeploy(local, app)
    local.advance("1d")
    assert began == ["01 09:00:00", "02 06:00:00"]
    clocked(app, Cron("0 6 * * *", jitter="10m"))
    redeploy(local, app)
    local.advance("1d")
    assert len(all_completed(local)) == 3


def test_a_function_that_is_gone_stops_and_one_that_is_back_begins_with_its_next_tick(
    app: Stepwell, deploy: Deploy
) -> None:
    clocked(app, "go", id="other")
    began = clocked(app, Cron("0 6 * * *"))
    local = deploy(app)
    local.advance("1d")
    del app.functions["fn"]
    redeploy(local, app)
    assert schedules(local) == []
    local.advance("2d")
    assert began == ["01 06:00:00"]
    again = clocked(app, Cron("0 6 * * *"))
    redeploy(local, app)
    local.advance("1d")
    assert again == ["04 06:00:00"]


def test_an_app_that_is_removed_stops_even_with_a_tick_on_its_way(app: Stepwell, deploy: Deploy) -> None:
    began = clocked(app, [Cron("0 6 * * *"), Cron("30 6 * * *")])
    local = deploy(app)
    local.advance("5h59m")
    redeploy(local, app, "Delete")
    local.advance("2d")
    assert (began, schedules(local)) == ([], [])
    assert local.world.next_at() is None


@pytest.mark.parametrize(
    ("crash", "occurrence"),
    [
        ("dynamodb.UpdateItem", 0),  # the version moves: the manifest counts
        ("dynamodb.Query", 0),
        ("dynamodb.PutItem", 1),  # a new schedule
        ("dynamodb.UpdateItem", 1),  # another jitter
        ("dynamodb.DeleteItem", 0),
    ],
)
@pytest.mark.parametrize("kind", [FaultKind.CRASH_BEFORE, FaultKind.CRASH_AFTER])
def test_a_registration_that_was_cut_off_and_comes_again_leaves_what_the_manifest_says(
    app: Stepwell, deploy: Deploy, crash: str, occurrence: int, kind: FaultKind
) -> None:
    clocked(app, [Cron("0 6 * * *"), Cron("0 7 * * *"), Cron("0 9 * * *", jitter="1m")])
    local = deploy(app, plan=FaultPlan([Fault(kind, operation=crash, occurrence=occurrence, label="registrar")]))
    local.advance("5h59m")
    began = clocked(app, [Cron("0 7 * * *"), Cron("0 8 * * *"), Cron("0 9 * * *")])
    with pytest.raises(AssertionError):
        redeploy(local, app)
    local.advance("1m")
    redeploy(local, app)
    assert schedules(local) == ["0 7 * * *", "0 8 * * *", "0 9 * * *"]
    local.advance("1d")
    assert began == ["01 07:00:00", "01 08:00:00", "01 09:00:00"]


def test_of_two_registrations_at_once_the_later_write_does_not_put_a_schedule_back(
    app: Stepwell, deploy: Deploy
) -> None:
    clocked(app, Cron("0 6 * * *"))
    local = deploy(app)
    crons = local._backstage._ports.store.crons
    [as_the_other_one_saw_it] = crons.of_app("shop")
    local.advance("1d")
    [moved_on] = crons.of_app("shop")
    assert crons.create(as_the_other_one_saw_it) is False
    assert crons.move(as_the_other_one_saw_it, seen=as_the_other_one_saw_it.due_at) is False
    assert crons.of_app("shop") == [moved_on] != [as_the_other_one_saw_it]


def schedules(local: LocalStepwell) -> list[str]:
    """The schedules that stand in the table."""
    return sorted(image.plain()["cron"] for (pk, _), image in local.world.table.items() if pk.startswith("CRON#"))


# ---- among other things that are due


def test_runs_are_listed_and_swept_beside_schedules(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go")
    def sleeper(ctx: Context[Any]) -> None:
        ctx.step.sleep("long", "5h")

    began = clocked(app, Cron("0 * * * *"))
    local = deploy(app)
    event_id = local.send("go")
    local.run_until_idle()
    assert [run.function for run in local.client.runs(status="suspended")] == ["sleeper"]
    store, far = local._backstage._ports.store, 1 << 48
    standing = {key for shard in range(DUE_SHARDS) for key, _ in store.due.until(shard, far)}
    assert standing == {"CRON#shop", f"RUN#{run_of(local, event_id).id}"}
    for listed in (lambda shard: store.runs.live(shard, now=far), lambda shard: store.runs.due(shard, far)):
        assert [run for shard in range(DUE_SHARDS) for run in listed(shard)] == [run_of(local, event_id).id]
    local.advance("6h")
    run = run_of(local, event_id)
    assert run.ended_at == NEW_YEAR + timedelta(hours=5)
    assert len(began) == 6


def test_a_schedule_that_cannot_be_followed_any_more_holds_up_nothing_else(app: Stepwell, deploy: Deploy) -> None:
    began = clocked(app, [Cron("0 6 * * *"), Cron("0 6 * * *", tz="Europe/Paris")])
    local = deploy(app)
    broken = plant(local, lambda item: {**item, "sk": "old#x", "tz": "Mars/Olympus", "cron": "0 5 * * *"})
    local.advance("7h")
    assert began == ["01 05:00:00", "01 06:00:00"]
    assert local.world.table.get(broken) is not None


def test_what_this_version_does_not_know_is_left_alone(app: Stepwell, deploy: Deploy) -> None:
    began = clocked(app, Cron("0 6 * * *"))
    local = deploy(app)
    unknown = plant(local, lambda item: {**item, "pk": "LATER#shop"})
    local.advance("7h")
    assert began == ["01 06:00:00"]
    assert [write for write in local.world.observations.of(Wrote) if (write.pk, write.sk) == unknown] == []


def plant(local: LocalStepwell, change: Callable[[dict[str, Any]], dict[str, Any]]) -> tuple[str, str]:
    """Put a changed copy of a schedule into the table, due in the same shard."""
    [cron, *_] = local._backstage._ports.store.crons.of_app("shop")
    table = local._backstage._ports.store.table
    item = change(table.get(*cron.key) or {})
    table.put(item)
    local.world.table.refresh((item["pk"], item["sk"]))
    return item["pk"], item["sk"]


def test_a_tick_costs_three_write_units_beside_its_run(app: Stepwell, deploy: Deploy) -> None:
    clocked(app, ["go", Cron("0 6 * * *")])
    local = deploy(app)
    before = local.requests
    local.send("go")
    local.run_until_idle()
    by_event = local.requests - before
    before = local.requests
    local.advance("7h")
    by_tick = local.requests - before
    assert by_tick.write_units - by_event.write_units == 3  # the item, and its two places in the index
    assert by_tick.sqs == by_event.sqs == 3
