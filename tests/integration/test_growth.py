"""Long runs: loading one takes one paged Query, and nothing of a live run ever expires."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from moto.dynamodb import dynamodb_backends

from stepwell import Context, RunStatus, Stepwell
from stepwell.engine.resolve import shape_of
from stepwell.records import StepState, StepStatus
from stepwell.store.items import step_item
from stepwell.store.table import marshal
from stepwell.testing import LocalStepwell
from stepwell.typed import fingerprint

from .support import Declare, Deploy, play, run_of


def remember(local: LocalStepwell, run_id: str, count: int) -> None:
    """Write the checkpoints of `count` steps as an earlier invocation would have written them."""
    shape = shape_of("run", fingerprint(((), {}))[0])
    items = []
    for n in range(count):
        key = f"work:{n}" if n else "work"
        step = StepState(key, "work", "run", StepStatus.COMPLETED, shape, 1, seq=n + 1, attempts=1, result=f"{n}")
        items.append(marshal(step_item(run_id, step)))
    name = local.world.aws.resources.table
    if local.world.aws.endpoint_url is None:
        # Past DynamoDB's API, which takes moto a minute for so many: what is under test is what comes afterwards.
        table = dynamodb_backends[local.world.aws.account]["us-east-1"].get_table(name)
        for item in items:
            table.put_item(item)
        return
    dynamodb = local.world.session(counted=False).create_client(
        "dynamodb", "us-east-1", endpoint_url=local.world.aws.endpoint_url
    )
    for begin in range(0, count, 25):
        puts = [{"PutRequest": {"Item": item}} for item in items[begin : begin + 25]]
        assert not dynamodb.batch_write_item(RequestItems={name: puts})["UnprocessedItems"]


@pytest.mark.slow
def test_a_run_of_ten_thousand_steps_goes_on_after_one_paged_query(app: Stepwell, deploy: Deploy) -> None:
    bodies: list[int] = []

    @app.function(on="go")
    def fn(ctx: Context[Any]) -> int:
        ctx.step.sleep("rest", "1h")
        return sum(ctx.step.run("work", lambda n=n: bodies.append(n) or n) for n in range(10_000))

    local = deploy(app)
    event_id = local.send("go")
    local.run_until_idle()
    run = run_of(local, event_id)
    remember(local, run.id, 9_990)
    before = local.requests
    local.advance("1h")
    run = run_of(local, event_id)
    assert (run.status, run.result) == (RunStatus.COMPLETED, sum(range(10_000)))
    assert bodies == list(range(9_990, 10_000))
    calls = (local.requests - before).calls
    assert calls["dynamodb.Query"] <= 2 * 8 + 6, "two for each of the sweeper's shards, and some pages of one megabyte"
    assert calls["dynamodb.GetItem"] <= 2
    assert calls["dynamodb.PutItem"] == 10


def test_a_run_of_hundreds_of_steps_in_one_invocation_writes_once_for_each(
    app: Stepwell, declare_plain: Declare, deploy: Deploy
) -> None:
    def body(ctx: Any) -> Any:
        total = 0
        for n in range(200):
            total += yield ctx.step.run("work", lambda n=n: n)
        return total

    declare_plain(app, body)
    local = deploy(app)
    before = local.requests
    assert play(local).result == sum(range(200))
    cost = local.requests - before
    assert cost.calls["dynamodb.PutItem"] == 201
    assert cost.invocations["worker"] == 1
    assert cost.calls["dynamodb.GetItem"] == 0


# ---- retention


def ttl_of(local: LocalStepwell, run_id: str, sk: str) -> datetime | None:
    image = local.world.table.get((f"RUN#{run_id}", sk))
    assert image is not None
    ttl = image.plain().get("ttl")
    return None if ttl is None else datetime.fromtimestamp(ttl, UTC)


@pytest.mark.parametrize("how", ["complete", "fail", "cancel"])
def test_only_a_run_that_has_ended_expires(app: Stepwell, declare_plain: Declare, deploy: Deploy, how: str) -> None:
    def body(ctx: Any) -> Any:
        yield ctx.step.sleep("rest", "1h")
        if how == "fail":
            raise ValueError("no")

    declare_plain(app, body, retries=0)
    local = deploy(app)
    event_id = local.send("go")
    local.run_until_idle()
    run = run_of(local, event_id)
    assert ttl_of(local, run.id, "RUN") is None
    if how == "cancel":
        local.client.cancel(run.id)
    local.advance("2h")
    run = run_of(local, event_id)
    assert run.ended_at is not None
    assert ttl_of(local, run.id, "RUN") == run.ended_at + timedelta(days=30)


def test_no_checkpoint_of_a_run_that_sleeps_longer_than_retention_expires_before_it(
    app: Stepwell, declare_plain: Declare, deploy: Deploy
) -> None:
    def body(ctx: Any) -> Any:
        yield ctx.step.run("before", lambda: 1)
        yield ctx.step.sleep("short", "1d")
        yield ctx.step.sleep("long", "365d")
        yield ctx.step.run("after", lambda: 2)

    declare_plain(app, body)
    local = deploy(app)
    event_id = local.send("go", {"pad": "x" * 5000})
    local.advance("2d")
    run = run_of(local, event_id)
    wakes = local.now() + timedelta(days=364)
    for key in ("before", "short", "long"):
        ttl = ttl_of(local, run.id, f"STEP#{key}")
        assert ttl is not None
        assert ttl >= wakes + timedelta(days=30), key
    event_ttl = ttl_of(local, run.id, "EVENT")
    assert event_ttl is not None
    assert event_ttl >= wakes + timedelta(days=30), "the event of a live run is kept as well"
    local.advance("365d")
    assert run_of(local, event_id).status == RunStatus.COMPLETED
    after = ttl_of(local, run.id, "STEP#after")
    assert after is not None
    assert after >= local.now() + timedelta(days=29)


def test_a_short_run_prolongs_nothing(app: Stepwell, declare_plain: Declare, deploy: Deploy) -> None:
    def body(ctx: Any) -> Any:
        for n in range(3):
            yield ctx.step.run(f"work-{n}", lambda: 1)
        yield ctx.step.sleep("rest", "1d")

    declare_plain(app, body)
    local = deploy(app)
    before = local.requests
    play(local, wait="2d")
    assert (local.requests - before).calls["dynamodb.UpdateItem"] <= 6


def test_what_belongs_to_an_ended_run_expires_with_it(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go")
    def fn(ctx: Context[Any]) -> None:
        ctx.step.run("work", lambda: 1)

    local = deploy(app)
    run = play(local, {"pad": "x" * 5000})
    assert ttl_of(local, run.id, "STEP#work") is not None
    assert ttl_of(local, run.id, "EVENT") is not None, "otherwise large events pile up for ever"
