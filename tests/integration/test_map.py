"""ctx.step.map: one step for each item."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stepwell import RunStatus, StepError, Stepwell

from . import remote_steps
from .support import Declare, Deploy, invocations_of, play, run_of


def double(n: int) -> int:
    return 2 * n


def odd_fails(n: int) -> int:
    if n % 2:
        raise ValueError(f"{n} is odd")
    return n


def test_the_results_stand_in_the_order_of_the_items(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    def body(ctx: Any) -> Any:
        first = yield ctx.step.map(double, (n for n in (3, 1, 2)))
        none = yield ctx.step.map(double, [], id="none")
        again = yield ctx.step.map(double, [5])
        yield ctx.step.sleep("rest", "1h")
        return [first, none, again]

    declare(app, body)
    run = play(deploy(app), wait="1h")
    assert run.result == [[6, 2, 4], [], [10]]
    assert set(run.steps) == {"double[0]", "double[1]", "double[2]", "double:1[0]", "rest"}
    assert run.steps["double[2]"].result == 4


def test_items_run_side_by_side_but_not_more_than_allowed(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    inside: list[int] = []
    most: dict[str, int] = {}

    def stay(what: str) -> None:
        inside.append(1)
        most[what] = max(most.get(what, 0), len(inside))
        for _ in range(20):
            local.world.turns.pause()  # lets the others begin
        inside.pop()

    def body(ctx: Any) -> Any:
        yield ctx.step.map(stay, ["one"] * 3, id="one", max_concurrency=1)
        yield ctx.step.map(stay, ["narrow"] * 8, id="narrow", max_concurrency=2)
        yield ctx.step.map(stay, ["wide"] * 24, id="wide")

    declare(app, body)
    local = deploy(app)
    assert play(local).status == RunStatus.COMPLETED
    assert (most["one"], most["narrow"]) == (1, 2)
    assert 2 < most["wide"] <= 10, "ten at once unless told otherwise"


def test_so_many_failures_are_tolerated_and_stand_in_their_places(
    app: Stepwell, deploy: Deploy, declare: Declare
) -> None:
    def body(ctx: Any) -> Any:
        items, tolerated = range(ctx.event.data["items"]), ctx.event.data["tolerated"]
        found = yield ctx.step.map(odd_fails, items, tolerated_failures=tolerated)
        return [f"{type(each).__name__} {each.message}" if isinstance(each, StepError) else each for each in found]

    declare(app, body, retries=0)
    local = deploy(app)
    cases = [(0, 2, False), (1, 2, True), (1, 4, False), (2, 4, True), (0.5, 4, True), (0.49, 4, False), (1.0, 5, True)]
    sent = local.client.send(
        [{"name": "go", "data": {"tolerated": tolerated, "items": items}} for tolerated, items, _ in cases]
    )
    local.run_until_idle()
    for event_id, (tolerated, items, completes) in zip(sent, cases, strict=True):
        run = run_of(local, event_id)
        if completes:
            assert run.result == [f"StepError {n} is odd" if n % 2 else n for n in range(items)], tolerated
        else:
            assert run.status == RunStatus.FAILED, tolerated
            assert run.error is not None
            assert run.error.message.endswith("is odd")
            assert str(run.error.step).startswith("odd_fails[")


def test_items_are_retried_each_for_itself(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    seen: dict[int, int] = {}

    def flaky(n: int) -> int:
        seen[n] = seen.get(n, 0) + 1
        if seen[n] <= n:
            raise ValueError("again")
        return n

    def body(ctx: Any) -> Any:
        return (yield ctx.step.map(flaky, range(4)))

    declare(app, body, retries=3)
    run = play(deploy(app), wait="1h")
    assert run.result == [0, 1, 2, 3]
    assert {key: step.attempts for key, step in run.steps.items()} == {f"flaky[{n}]": n + 1 for n in range(4)}


@pytest.mark.parametrize("options", [{"max_concurrency": 0}, {"tolerated_failures": -1}, {"tolerated_failures": 1.5}])
def test_options_that_make_no_sense_fail_the_run_saying_so(
    app: Stepwell, declare: Declare, deploy: Deploy, options: dict[str, Any]
) -> None:
    def body(ctx: Any) -> Any:
        return (yield ctx.step.map(double, [1], **options))

    declare(app, body)
    run = play(deploy(app), wait="1h")
    assert run.status == RunStatus.FAILED
    assert run.error is not None
    assert run.error.type == "InvalidOption"
    assert next(iter(options)) in run.error.message


# ---- in workers of their own


def test_spread_items_each_get_a_worker_invocation_and_typed_arguments_and_results(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    def body(ctx: Any) -> Any:
        boxes = [remote_steps.Box(width=n) for n in (1, 2, 3)]
        grown = yield ctx.step.map(remote_steps.grow, boxes, spread=True)
        return [box.width for box in grown]

    declare(app, body)
    local = deploy(app)
    run = play(local)
    assert run.result == [11, 12, 13]
    assert [local.client.run(str(step.child)).parent_id for step in run.steps.values()] == [run.id] * 3
    assert local.requests.invocations["worker"] - invocations_of(local, run) == 3


def test_a_spread_item_that_fails_is_retried_and_then_an_error_of_the_map(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    def body(ctx: Any) -> Any:
        found = yield ctx.step.map(remote_steps.reject_odd, range(3), spread=True, tolerated_failures=1)
        return [each.message if isinstance(each, StepError) else each for each in found]

    declare(app, body)
    local = deploy(app)
    run = play(local, wait="1h")
    assert run.result == [0, "1 is odd", 2]
    assert local.client.run(str(run.steps["reject_odd[1]"].child)).steps["reject_odd[1]"].attempts == 2


@pytest.mark.parametrize("fn", [lambda n: n, double], ids=["lambda", "no step"])
def test_spread_needs_a_step_that_another_worker_can_find(
    app: Stepwell, declare: Declare, deploy: Deploy, fn: Callable[[int], int]
) -> None:
    def body(ctx: Any) -> Any:
        return (yield ctx.step.map(fn, [1], id="m", spread=True))

    declare(app, body)
    run = play(deploy(app), wait="1h")
    assert run.error is not None
    assert run.error.type == "InvalidOption"
    assert "top level of an importable module" in run.error.message


def test_a_step_of_another_compute_class_runs_in_a_worker_of_that_class(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    def body(ctx: Any) -> Any:
        here = yield ctx.step.run(remote_steps.where)
        there = yield ctx.step.run("there", remote_steps.where_large, 7, note="x")
        both = yield ctx.step.map(remote_steps.where_large, [1, 2])
        return [here, there, *both]

    declare(app, body)
    app.function(on="never", id="large-one", compute="large")(remote_steps.where)
    run = play(deploy(app))
    assert run.status == RunStatus.COMPLETED
    default, large = "stepwell-shop-default", "stepwell-shop-large"
    assert run.result == [default, f"{large} 7 x", f"{large} 1 ", f"{large} 2 "]
