"""Large values: compressed where that saves write units, in S3 beyond that, refused beyond the cap."""

from __future__ import annotations

import random
from typing import Any

import pytest

from stepwell import PayloadTooLarge, RunStatus, Stepwell
from stepwell.payloads import INLINE_RUN, INLINE_STEP
from stepwell.ports import Config

from .support import Declare, Deploy, play, run_of

NOISE = "".join(random.Random(0).choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", k=600_000))
"""Text that compression can do little about."""


@pytest.mark.parametrize(
    ("value", "most"), [("x" * 30_000, 1), ("word " * 2_000, 1), (NOISE[:700], 2), (NOISE[:10_000], 9)]
)
def test_a_result_is_compressed_if_that_saves_write_units(
    app: Stepwell, declare_plain: Declare, deploy: Deploy, value: str, most: int
) -> None:
    seen: list[str] = []

    def body(ctx: Any) -> Any:
        seen.append((yield ctx.step.run("big", lambda: value)))
        yield ctx.step.sleep("rest", "1h")

    declare_plain(app, body)
    local = deploy(app)
    event_id = local.send("go")
    local.run_until_idle()
    run = run_of(local, event_id)
    image = local.world.table.get((f"RUN#{run.id}", "STEP#big"))
    assert image is not None
    assert -(-image.size // 1024) <= most
    assert local.requests.s3 == 0
    local.advance("2h")
    assert seen == [value, value]
    assert run_of(local, event_id).steps["big"].result == value


def test_a_result_too_large_for_an_item_lies_in_s3_and_comes_back(
    app: Stepwell, declare_plain: Declare, deploy: Deploy
) -> None:
    value = NOISE[: 2 * INLINE_STEP]
    seen: list[str] = []

    def body(ctx: Any) -> Any:
        seen.append((yield ctx.step.run("big", lambda: value)))
        yield ctx.step.sleep("rest", "1h")
        return value + "!"

    declare_plain(app, body)
    local = deploy(app)
    run = play(local, wait="2h")
    assert run.status == RunStatus.COMPLETED
    assert seen == [value, value]
    assert run.steps["big"].result == value
    assert run.result == value + "!"
    assert local.client.result(run.id) == value + "!"
    image = local.world.table.get((f"RUN#{run.id}", "STEP#big"))
    assert image is not None
    assert image.size < 1024
    assert image.plain()["result"]["s3"].startswith(f"shop/{run.id}/"), "under the app, so that IAM can fence it"


def test_a_large_result_is_read_from_s3_only_by_later_invocations(
    app: Stepwell, declare_plain: Declare, deploy: Deploy
) -> None:
    seen: list[str] = []

    def body(ctx: Any) -> Any:
        seen.append((yield ctx.step.run("big", lambda: NOISE[: 2 * INLINE_STEP])))
        yield ctx.step.sleep("rest", "1h")

    declare_plain(app, body)
    local = deploy(app)
    local.send("go")
    local.run_until_idle()
    assert (local.requests.calls["s3.PutObject"], local.requests.calls["s3.GetObject"]) == (1, 0)
    local.advance("2h")
    assert local.requests.calls["s3.GetObject"] == 1
    assert seen == [NOISE[: 2 * INLINE_STEP]] * 2


@pytest.mark.parametrize("size", [INLINE_RUN // 2, 2 * INLINE_RUN, 2 * INLINE_STEP, 400_000])
def test_an_event_of_any_size_arrives_and_is_billed_little_at_every_change_of_its_run(
    app: Stepwell, declare_plain: Declare, deploy: Deploy, size: int
) -> None:
    def body(ctx: Any) -> Any:
        for n in range(3):
            yield ctx.step.sleep(f"rest-{n}", "1m")
        return ctx.event.data["pad"] == NOISE[:size]

    declare_plain(app, body)
    local = deploy(app)
    run = play(local, {"pad": NOISE[:size]}, wait="1h")
    assert run.result is True
    assert run.event.data == {"pad": NOISE[:size]}
    image = local.world.table.get((f"RUN#{run.id}", "RUN"))
    assert image is not None
    assert image.size < INLINE_RUN + 1024


def test_large_events_are_sent_in_lists_kept_and_waited_for_as_well(
    app: Stepwell, declare_plain: Declare, deploy: Deploy
) -> None:
    def body(ctx: Any) -> Any:
        event = yield ctx.step.wait_for_event("big", event="big", timeout="1h", match={"data.n": 2})
        yield ctx.step.sleep("rest", "1m")
        return event.data == {"n": 2, "pad": NOISE[:400_000]}

    declare_plain(app, body)
    local = deploy(app)
    event_id = local.send("go")
    local.run_until_idle()
    local.client.send([{"name": "big", "data": {"n": n, "pad": NOISE[: n * 200_000]}} for n in (1, 2)])
    local.advance("5m")
    assert run_of(local, event_id).result is True
    sizes = {event.data["n"]: len(event.data["pad"]) for event in local.client.events(name="big")}
    assert sizes == {1: 200_000, 2: 400_000}


def test_an_event_above_the_cap_is_refused_at_send_naming_it_and_its_size(
    app: Stepwell, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.function(on="go", id="fn")(lambda ctx: None)
    local = deploy(app)
    monkeypatch.setattr(local.client._ports.payloads, "limit", 1000)
    with pytest.raises(PayloadTooLarge, match=r"event 'go' is 1,0\d\d bytes; the limit is 1,000"):
        local.client.send("go", {"pad": "x" * 1000})
    assert local.requests.sqs == 0


def test_a_result_above_the_cap_fails_the_step_once_naming_it_and_its_size(
    app: Stepwell, declare_plain: Declare, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepwell.testing.local.Config", lambda **given: Config(**given, max_payload=1000))
    bodies: list[int] = []

    def body(ctx: Any) -> Any:
        yield ctx.step.run("big", lambda: bodies.append(1) or "x" * 2000)

    declare_plain(app, body)
    app.function(on="other", id="whole")(lambda ctx: "x" * 2000)
    local = deploy(app)
    run = play(local, wait="1h")
    assert run.status == RunStatus.FAILED
    assert run.error is not None
    assert (run.error.type, run.error.step) == ("PayloadTooLarge", "big")
    assert "the result of step 'big' is 2,002 bytes; the limit is 1,000" in run.error.message
    assert bodies == [1]
    whole = play(local, event="other", wait="1h")
    assert whole.error is not None
    assert (whole.error.type, whole.attempt) == ("PayloadTooLarge", 1)
    assert "the result of function 'whole'" in whole.error.message
