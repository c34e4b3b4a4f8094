"""What ctx itself offers: time and chance that replay, progress, a logger, keys for the outside world."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from stepwell import Context, RunStatus, Stepwell, idempotency_key
from stepwell.errors import MisplacedStep

from .support import Declare, Deploy, play, run_of


def test_time_and_chance_are_the_same_on_every_replay(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    replays: list[list[Any]] = []

    def watched(ctx: Any) -> Any:
        mine: list[Any] = []
        replays.append(mine)
        for n in range(3):
            mine += [ctx.now(), ctx.uuid(), ctx.random(), ctx.random()]
            yield ctx.step.sleep(f"rest-{n}", "10m")

    declare(app, watched)
    local = deploy(app)
    start = local.now()
    assert play(local, wait="1h").status == RunStatus.COMPLETED
    *earlier, last = replays
    assert len(earlier) == 3
    for each in earlier:
        assert last[: len(each)] == each
    assert [moment - start for moment in last[::4]] == [timedelta(minutes=10 * n) for n in range(3)]
    uuids, chances = last[1::4], last[2::4] + last[3::4]
    assert all(isinstance(each, UUID) and each.version == 4 for each in uuids)
    assert len(set(uuids)) == 3
    assert len(set(chances)) == 6
    assert all(0 <= each < 1 for each in chances)


def test_time_and_chance_cost_no_request_and_differ_between_runs(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go")
    def fn(ctx: Context[Any]) -> list[str]:
        before = local.requests.calls
        found = [str(ctx.uuid()), str(ctx.random()), ctx.now().isoformat()]
        assert local.requests.calls == before
        return found

    local = deploy(app)
    first, second = play(local).result, play(local).result
    assert set(first[:2]).isdisjoint(second[:2])


def test_the_context_says_which_run_and_attempt_it_is(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    def body(ctx: Any) -> Any:
        if False:
            yield
        return [ctx.run_id, ctx.attempt, ctx.max_attempts]

    declare(app, body, retries=4)
    run = play(deploy(app))
    assert run.result == [run.id, 1, 5]


def test_progress_shows_while_the_run_goes_on_and_stays_when_it_ends(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    def body(ctx: Any) -> Any:
        for n in range(50):
            ctx.progress(n, 50, f"clip {n}")
        yield ctx.step.sleep("rest", "1h")
        ctx.progress(50)

    declare(app, body)
    local = deploy(app)
    event_id = local.send("go")
    before = local.requests
    local.run_until_idle()
    progress = run_of(local, event_id).progress
    assert progress is not None
    assert (progress["done"], progress["total"], progress["message"]) == (49, 50, "clip 49")
    assert (local.requests - before).calls["dynamodb.UpdateItem"] <= 3, "at most one write a second"
    local.advance("1h")
    progress = run_of(local, event_id).progress
    assert progress is not None
    assert (progress["done"], progress["total"]) == (50, None)


def test_the_logger_names_the_run_and_is_silent_while_replaying(
    app: Stepwell, declare: Declare, deploy: Deploy, caplog: pytest.LogCaptureFixture
) -> None:
    def body(ctx: Any) -> Any:
        ctx.logger.info("begins")
        yield ctx.step.run("work", lambda: 1)
        ctx.logger.info("worked")
        yield ctx.step.sleep("rest", "1h")
        ctx.logger.info("rested", extra={"order": "o-1"})
        yield ctx.step.sleep("again", "1h")
        ctx.logger.info("ends")

    declare(app, body)
    with caplog.at_level(logging.INFO, "stepwell.function"):
        run = play(deploy(app), wait="3h")
    records = [record for record in caplog.records if record.name == "stepwell.function"]
    assert [record.getMessage() for record in records] == ["begins", "worked", "rested", "ends"]
    assert {getattr(record, "run_id", None) for record in records} == {run.id}
    assert getattr(records[2], "order", None) == "o-1"


# ---- idempotency keys


def keys(app: Stepwell, declare: Declare) -> list[tuple[str, str]]:
    """A function whose two steps note their keys; the first fails once."""
    seen: list[tuple[str, str]] = []

    def note() -> None:
        seen.append((idempotency_key(), idempotency_key("event")))
        if len(seen) == 1:
            raise ValueError("once")

    def body(ctx: Any) -> Any:
        yield ctx.step.run("first", note)
        yield ctx.step.run("second", note)

    declare(app, body)
    return seen


def test_a_key_is_the_same_for_every_attempt_and_another_for_every_step(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    seen = keys(app, declare)
    local = deploy(app)
    local.crash_after("first", times=1)
    play(local, wait="1h")
    assert len(seen) >= 3
    assert len(set(seen[:-1])) == 1
    assert set(seen[-1]).isdisjoint(seen[0])
    assert all(len(key) == 32 for pair in seen for key in pair)


def test_a_replay_has_other_run_keys_and_the_same_event_keys(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    seen = keys(app, declare)
    local = deploy(app)
    run = play(local, wait="1h")
    original = dict(zip(("first", "second"), seen[-2:], strict=True))
    seen.clear()
    seen.append(("", ""))
    local.client.result(local.client.replay(run.id))
    replayed = dict(zip(("first", "second"), seen[1:], strict=True))
    for name in ("first", "second"):
        assert replayed[name][0] != original[name][0]
        assert replayed[name][1] == original[name][1]
    seen.clear()
    seen.append(("", ""))
    play(local, wait="1h")
    assert {key for pair in seen[1:] for key in pair}.isdisjoint(key for pair in original.values() for key in pair)


def test_outside_a_step_there_is_no_key(app: Stepwell, deploy: Deploy) -> None:
    with pytest.raises(MisplacedStep, match="inside the body of a step"):
        idempotency_key()

    @app.function(on="go")
    def fn(ctx: Context[Any]) -> None:
        idempotency_key()

    run = play(deploy(app), wait="1h")
    assert run.error is not None
    assert run.error.type == "MisplacedStep"
