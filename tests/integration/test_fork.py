"""Forks: a new run that keeps what was recorded before a step."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from stepwell import (
    AsyncContext,
    Callback,
    Context,
    EventModel,
    Run,
    RunStatus,
    StepError,
    StepTimeout,
    Stepwell,
    idempotency_key,
)
from stepwell.errors import InvalidEvent, InvalidOption, UnknownRun, UnknownStep
from stepwell.queue import Queue
from stepwell.testing import LocalStepwell
from stepwell.testing.observations import BodyBegan

from .support import Declare, Deploy, play, run_of


class Paid(EventModel, name="order/paid"):
    order: str


class Refunded(EventModel, name="order/refunded"):
    order: str


def forked(local: LocalStepwell, run: Run, step: str, *, wait: str = "0s", **edits: Any) -> Run:
    """The fork of a run, after a while."""
    new = local.client.fork(run.id, step, **edits)
    local.advance(wait)
    return local.client.run(new)


def bodies(local: LocalStepwell, run: Run) -> list[str]:
    """The steps whose bodies were begun in a run, in order."""
    return [began.key for began in local.world.observations.of(BodyBegan) if began.run_id == run.id]


# ---- what is kept


def test_a_fork_runs_the_step_and_what_follows_and_nothing_before(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    def body(ctx: Any) -> Iterator[Any]:
        total = 0
        for n in range(4):
            total += yield ctx.step.run(f"step-{n}", lambda n=n: n * 10)
        return total

    declare(app, body)
    local = deploy(app)
    first = play(local)
    fork = forked(local, first, "step-2")
    assert (fork.status, fork.result) == (RunStatus.COMPLETED, 60)
    assert bodies(local, fork) == ["step-2", "step-3"]
    assert (fork.fork_of, fork.forked_at, fork.replay_of) == (first.id, "step-2", None)
    for key in ("step-0", "step-1"):
        assert fork.steps[key] == first.steps[key]
    assert run_of(local, first.event.id).id == first.id, "the original stays the run of the event"
    assert len(list(local.client.events())) == 1
    assert {run.id for run in local.client.runs()} == {first.id, fork.id}


def test_a_failed_run_goes_on_where_it_failed_with_the_code_of_today(app: Stepwell, deploy: Deploy) -> None:
    works: list[bool] = []

    @app.function(on="go", id="fn", retries=0)
    def fn(ctx: Context[Any]) -> list[Any]:
        before = ctx.step.run("before", lambda: "kept") if not works else ctx.step.run("before", str, "other arguments")

        def broken() -> str:
            if not works:
                raise ValueError("a bug")
            return "mended"

        return [before, ctx.step.run("broken", broken), ctx.step.run("after", lambda: ctx.attempt)]

    local = deploy(app)
    failed = play(local)
    assert failed.status == RunStatus.FAILED
    works.append(True)
    fork = forked(local, failed, "broken")
    assert (fork.status, fork.result) == (RunStatus.COMPLETED, ["kept", "mended", 1])
    assert bodies(local, fork) == ["broken", "after"]


def test_errors_that_were_caught_are_kept_too(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    def body(ctx: Any) -> Iterator[Any]:
        def broken() -> None:
            raise ValueError("as always")

        try:
            yield ctx.step.run("broken", broken)
        except StepError as error:
            said = error.message
        return (yield ctx.step.run("mend", lambda: said))

    declare(app, body, retries=0)
    local = deploy(app)
    fork = forked(local, play(local), "mend")
    assert fork.result == "as always"
    assert bodies(local, fork) == ["mend"]


def test_time_and_chance_fall_as_they_fell_up_to_the_fork(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    def body(ctx: Any) -> Iterator[Any]:
        drawn = [str(ctx.uuid()), ctx.random(), ctx.now().isoformat()]
        first = yield ctx.step.run(f"step-{drawn[0][0]}", str, drawn[0])
        yield ctx.step.sleep("rest", "1h")
        drawn += [str(ctx.uuid()), ctx.now().isoformat()]
        last = yield ctx.step.run("last", lambda: "last")
        return [drawn, first, last]

    declare(app, body)
    local = deploy(app)
    first = play(local, wait="2h")
    local.advance("5d")
    fork = forked(local, first, "last")
    assert fork.result == first.result
    assert bodies(local, fork) == ["last"]
    again = forked(local, fork, "last")
    assert again.result == first.result, "a fork of a fork"
    assert bodies(local, again) == ["last"]
    assert fork.started_at is not None
    assert (fork.started_at - local.now()).total_seconds() == pytest.approx(0, abs=1), "its own start is its own"


def test_children_and_waits_before_the_step_are_kept_as_they_were_resolved(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    child = app.function(on="never", id="child")(lambda ctx: ctx.step.run("work", lambda: "from the child"))
    tokens: list[str] = []

    def ask(callback: Callback) -> None:
        tokens.append(callback.token)

    def body(ctx: Any) -> Iterator[Any]:
        invoked = yield ctx.step.invoke(child)
        yield ctx.step.sleep("rest", "10m")
        paid = yield ctx.step.wait_for_event("paid", event=Paid, match={"data.order": "o-1"}, timeout="1h")
        missed = yield ctx.step.wait_for_event("missed", event="never", timeout="1h")
        answer = yield ctx.step.wait_for_callback("answer", timeout="1h", submit=ask)
        return [invoked, paid.data.order, missed, answer, (yield ctx.step.run("last", lambda: "last"))]

    declare(app, body)
    local = deploy(app)
    event_id = local.send("go")
    local.advance("15m")
    local.client.send(Paid(order="o-1"))
    local.advance("61m")
    local.client.complete_callback(tokens[0], "yes")
    local.run_until_idle()
    first = run_of(local, event_id)
    assert first.result == ["from the child", "o-1", None, "yes", "last"]
    fork = forked(local, first, "last")
    assert fork.result == first.result
    assert bodies(local, fork) == ["last"]
    assert len(tokens) == 1
    assert local.client.count(function="shop/child") == 1


def test_what_was_open_begins_anew(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    tokens: list[str] = []

    def body(ctx: Any) -> Iterator[Any]:
        yield ctx.step.run("before", lambda: 1)
        answer = yield ctx.step.wait_for_callback(
            "answer", timeout="3h", submit=lambda callback: tokens.append(callback.token)
        )
        yield ctx.step.sleep("rest", "1h")
        return answer

    declare(app, body)
    local = deploy(app)
    first = play(local)
    local.advance("1h")
    fork = forked(local, first, "answer")
    assert fork.status == RunStatus.SUSPENDED
    assert len(set(tokens)) == 2, "a token of its own"
    for token, answer in zip(tokens, ("first", "fork"), strict=True):
        local.client.complete_callback(token, answer)
    local.advance("1h")
    assert [local.client.run(run.id).result for run in (first, fork)] == ["first", "fork"], "the old run goes on"


def test_a_callback_that_is_answered_again_is_handed_out_again(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    tokens: list[str] = []

    def body(ctx: Any) -> Iterator[Any]:
        yield ctx.step.run("before", lambda: 1)
        callback = ctx.step.create_callback("answer", timeout="3h")
        callback = (yield callback) if hasattr(callback, "__await__") else callback
        yield ctx.step.run("hand-out", lambda: tokens.append(callback.token))
        return (yield callback.wait())

    declare(app, body)
    local = deploy(app)
    event_id = local.send("go")
    local.advance("1m")
    local.client.complete_callback(tokens[0], "first")
    local.run_until_idle()
    first = run_of(local, event_id)
    assert first.result == "first"
    fork = forked(local, first, "answer", wait="1m")
    assert bodies(local, fork) == ["hand-out"]
    local.client.complete_callback(tokens[1], "second")
    local.run_until_idle()
    assert local.client.run(fork.id).result == "second"
    decided = forked(local, first, "answer", result="by hand")
    assert (decided.result, bodies(local, decided)) == ("by hand", [])


@pytest.mark.parametrize(("handed", "id"), [(range(2), "1"), (range(1, 2), "ok"), (range(3), "a:7")])
def test_a_callback_that_is_repeated_is_handed_out_by_its_own_submit(
    app: Stepwell, declare: Declare, deploy: Deploy, handed: range, id: str
) -> None:
    tokens: list[str] = []

    def body(ctx: Any) -> Iterator[Any]:
        answers = []
        for n in range(handed.stop):
            submit = (lambda callback: tokens.append(callback.token)) if n in handed else None
            try:
                answers.append((yield ctx.step.wait_for_callback(id, timeout="1d", submit=submit)))
            except StepTimeout:
                answers.append(None)
        return answers

    declare(app, body)
    local = deploy(app)
    event_id = local.send("go")
    for n in range(handed.stop - 1):
        local.run_until_idle()
        if n in handed:
            local.client.complete_callback(tokens[-1], "first")
        local.advance("25h" if n not in handed else "1s")
    run = run_of(local, event_id)
    waits = next(key for key, step in run.steps.items() if step.status == "waiting")
    before = len(tokens)
    fork = forked(local, run, waits)
    assert len(tokens) == before + 1, "that of the fork's own callback, and no other"
    local.client.complete_callback(tokens[-1], "last")
    local.run_until_idle()
    assert local.client.run(fork.id).result == [
        *("first" if n in handed else None for n in range(handed.stop - 1)),
        "last",
    ]


def test_a_fork_of_a_run_that_sleeps_sleeps_again(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    def body(ctx: Any) -> Iterator[Any]:
        yield ctx.step.sleep("rest", "2h")

    declare(app, body)
    local = deploy(app)
    first = play(local, wait="1h")
    fork = forked(local, first, "rest", wait="90m")
    assert local.client.run(first.id).status == RunStatus.COMPLETED
    assert fork.status == RunStatus.SUSPENDED
    local.advance("30m")
    assert local.client.run(fork.id).status == RunStatus.COMPLETED


@pytest.mark.parametrize(("item", "again"), [(0, [0, 1, 2, 3]), (2, [2, 3]), (3, [3])])
def test_an_item_of_a_map_is_a_place_to_fork_at(
    app: Stepwell, declare: Declare, deploy: Deploy, item: int, again: list[int]
) -> None:
    def double(n: int) -> int:
        return n * 2

    def body(ctx: Any) -> Iterator[Any]:
        doubled = yield ctx.step.map(double, [1, 2, 3, 4], max_concurrency=1)
        return doubled

    declare(app, body)
    local = deploy(app)
    fork = forked(local, play(local), f"double[{item}]")
    assert fork.result == [2, 4, 6, 8]
    assert bodies(local, fork) == [f"double[{n}]" for n in again]


def test_steps_of_parallel_branches_are_kept_if_they_were_resolved_before(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", id="fn")
    async def fn(ctx: AsyncContext[Any]) -> list[Any]:
        async def branch(name: str, pause: str) -> list[str]:
            first = await ctx.step.run(f"{name}-first", lambda: name)
            await ctx.step.sleep("rest", pause)
            return [first, await ctx.step.run(f"{name}-second", lambda: name.upper())]

        return list(await asyncio.gather(branch("slow", "1h"), branch("quick", "1m")))

    local = deploy(app)
    first = play(local, wait="2h")
    assert first.status == RunStatus.COMPLETED
    keys = list(first.steps)
    slow = next(key for key in keys if key.endswith("slow-second"))
    quick = next(key for key in keys if key.endswith("quick-second"))
    late = forked(local, first, slow)
    assert (late.result, bodies(local, late)) == (first.result, [slow])
    early = forked(local, first, quick, wait="2h")
    assert early.result == first.result
    assert bodies(local, early) == [quick, slow], "the slow sleep was not over when the quick branch went on"
    rests = [step for key, step in early.steps.items() if key.endswith("rest") and "1" in key]
    assert rests[0].ended_at is not None


def test_who_was_first_stays_first(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", id="fn")
    async def fn(ctx: AsyncContext[Any]) -> list[Any]:
        nap = asyncio.create_task(ctx.step.sleep("nap", "10s"))
        paid = asyncio.create_task(ctx.step.wait_for_event("paid", event="paid", timeout="20s"))
        first, _ = await asyncio.wait({nap, paid}, return_when=asyncio.FIRST_COMPLETED)
        winner = "nap" if nap in first else "paid"
        await asyncio.gather(nap, paid)
        await ctx.step.run(f"won-by-{winner}", lambda: None)
        return [winner, await ctx.step.run("last", lambda: "last")]

    local = deploy(app)
    event_id = local.send("go")
    local.advance("5s")
    local.client.send("paid", {})
    local.advance("1m")
    first = run_of(local, event_id)
    assert first.result == ["paid", "last"]
    fork = forked(local, first, "last")
    assert (fork.result, bodies(local, fork)) == (["paid", "last"], ["last"])


def test_a_look_back_goes_back_to_the_beginning_of_the_original(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    def body(ctx: Any) -> Iterator[Any]:
        yield ctx.step.sleep("rest", "1h")
        yield ctx.step.run("middle", lambda: None)
        event = yield ctx.step.wait_for_event("paid", event="paid", timeout="1h", since="run_start")
        return event.data["n"] if event else None

    declare(app, body)
    local = deploy(app)
    event_id = local.send("go")
    local.advance("1m")
    local.client.send("paid", {"n": 7})
    local.advance("2h")
    first = run_of(local, event_id)
    assert first.result == 7
    fork = forked(local, first, "middle", wait="2h")
    assert fork.result == 7


# ---- what is edited


@pytest.fixture
def shop(app: Stepwell, declare_plain: Declare) -> Stepwell:
    """A function of four steps of all kinds."""

    def body(ctx: Any) -> Iterator[Any]:
        data = ctx.event.data
        charge = yield ctx.step.run("charge", lambda amount: {"id": f"ch-{amount}"}, data["amount"])
        yield ctx.step.sleep("rest", "10m")
        paid = yield ctx.step.wait_for_event("paid", event=Paid, match={"data.order": data["order"]}, timeout="1h")
        key = yield ctx.step.run("key", idempotency_key, scope="event")
        return [charge, paid.data.order if paid else None, key, data]

    declare_plain(app, body)
    return app


def paid_order(local: LocalStepwell) -> Run:
    event_id = local.send("go", {"amount": 5, "order": "o-1"})
    local.advance("15m")
    local.client.send(Paid(order="o-1"))
    local.run_until_idle()
    return run_of(local, event_id)


def test_a_fork_with_another_input_keeps_what_was_before(shop: Stepwell, deploy: Deploy) -> None:
    local = deploy(shop)
    first = paid_order(local)
    data = {"amount": 99, "order": "o-2"}
    fork = forked(local, first, "key", input=data)
    assert fork.result == [{"id": "ch-5"}, "o-1", first.result[2], data]
    assert (fork.event.data, fork.event.id, fork.event.ts) == (data, first.event.id, first.event.ts)
    with pytest.raises(InvalidOption, match="'go'"):
        local.client.fork(first.id, "key", input=Paid(order="o-1"))


def test_a_step_with_another_result_counts_as_completed(shop: Stepwell, deploy: Deploy) -> None:
    local = deploy(shop)
    first = paid_order(local)
    fork = forked(local, first, "charge", result={"id": "ch-by-hand"}, wait="2h")
    assert fork.result == [{"id": "ch-by-hand"}, None, first.result[2], first.result[3]]
    assert fork.steps["charge"].status == "completed"
    assert bodies(local, fork) == ["key"]


def test_a_failed_step_gets_a_result_by_hand(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    def body(ctx: Any) -> Iterator[Any]:
        def broken() -> str:
            raise ValueError("no")

        return (yield ctx.step.run("broken", broken)) + "!"

    declare(app, body, retries=0)
    local = deploy(app)
    failed = play(local)
    assert failed.status == RunStatus.FAILED
    fork = forked(local, failed, "broken", result="by hand")
    assert (fork.status, fork.result, bodies(local, fork)) == (RunStatus.COMPLETED, "by hand!", [])


def test_a_wait_is_decided_by_an_event_or_by_its_time_out(shop: Stepwell, deploy: Deploy) -> None:
    local = deploy(shop)
    event_id = local.send("go", {"amount": 5, "order": "o-1"})
    local.advance("15m")
    waiting = run_of(local, event_id)
    assert waiting.status == RunStatus.SUSPENDED
    by_model = forked(local, waiting, "paid", result=Paid(order="o-7"))
    by_name = forked(local, waiting, "paid", result={"name": "order/paid", "data": {"order": "o-8"}})
    out_of_time = forked(local, waiting, "paid", result=None)
    assert [run.result[1] for run in (by_model, by_name, out_of_time)] == ["o-7", "o-8", None]
    with pytest.raises(InvalidOption, match="waits for an event"):
        local.client.fork(waiting.id, "paid", result="paid")
    for other in ({"name": "order/refunded", "data": {"order": "o-7"}}, Refunded(order="o-7")):
        with pytest.raises(InvalidOption, match="waits for 'order/paid', so an event 'order/refunded' cannot be"):
            local.client.fork(waiting.id, "paid", result=other)


def test_a_sleep_is_ended(shop: Stepwell, deploy: Deploy) -> None:
    local = deploy(shop)
    asleep = play(local, {"amount": 5, "order": "o-1"})
    fork = forked(local, asleep, "rest", result=None)
    assert "paid" in fork.steps, "it waits for the event already"
    with pytest.raises(InvalidOption, match="is a sleep"):
        local.client.fork(asleep.id, "rest", result=1)


def test_there_is_no_fork_at_a_step_that_the_run_does_not_have(shop: Stepwell, deploy: Deploy) -> None:
    local = deploy(shop)
    run = paid_order(local)
    with pytest.raises(UnknownStep, match=r"no step 'chrage'\. Its steps: (charge|rest), (charge|rest), paid, key\."):
        local.client.fork(run.id, "chrage")
    with pytest.raises(UnknownRun):
        local.client.fork("shop.01AAAAAAAAAAAAAAAAAAAAAAAA", "charge")
    assert local.client.count() == 1


# ---- where results lie, and what is left of a fork that was cut off


def test_large_results_are_copied_so_that_they_outlive_those_of_the_old_run(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    text = "".join(chr(97 + (n * n) % 26) for n in range(90_001))

    def body(ctx: Any) -> Iterator[Any]:
        made = yield ctx.step.run("make", lambda: [text, *map(str, range(30_000))])
        yield ctx.step.run("middle", lambda: None)
        return len(made[0])

    declare(app, body)
    local = deploy(app)
    first = play(local, {"blob": text})
    new = local.client.fork(first.id, "middle")
    old = [key for key in keys_in_bucket(local) if key.startswith(f"shop/{first.id}/")]
    assert old
    for key in old:
        local.client._ports.payloads._s3().delete_object(Bucket=local.world.aws.resources.bucket, Key=key)
    local.run_until_idle()
    fork = local.client.run(new)
    assert (fork.status, fork.result) == (RunStatus.COMPLETED, 90_001)
    assert fork.steps["make"].result[0] == text
    assert fork.event.data == {"blob": text}


def keys_in_bucket(local: LocalStepwell) -> list[str]:
    listing = local.client._ports.payloads._s3().list_objects_v2(Bucket=local.world.aws.resources.bucket)
    return [entry["Key"] for entry in listing.get("Contents", [])]


@pytest.mark.parametrize("cut", range(5))
def test_a_fork_that_is_cut_off_starts_nothing_and_can_be_repeated(
    app: Stepwell, declare_plain: Declare, deploy: Deploy, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    def body(ctx: Any) -> Iterator[Any]:
        for n in range(60):
            yield ctx.step.run(f"step-{n}", lambda: None)
        return "done"

    declare_plain(app, body)
    local = deploy(app)
    first = play(local)
    allowed = [cut]
    table = local.client._ports.store.table
    client = table.client()

    def counted(call: Any) -> Any:
        def made(*args: Any, **kwargs: Any) -> Any:
            if not allowed[0]:
                raise ConnectionError("cut off")
            allowed[0] -= 1
            return call(*args, **kwargs)

        return made

    with monkeypatch.context() as patch:
        patch.setattr(client, "batch_write_item", counted(client.batch_write_item), raising=False)
        patch.setattr(Queue, "send", counted(Queue.send))
        if cut < 3:
            with pytest.raises(ConnectionError):
                local.client.fork(first.id, "step-50")
        else:
            local.client.fork(first.id, "step-50")
    local.advance("2d")
    assert local.client.count() == (1 if cut < 3 else 2)
    fork = forked(local, first, "step-50")
    assert (fork.result, len(bodies(local, fork))) == ("done", 10)


def test_the_event_that_decides_a_wait_may_bring_its_id_and_times_as_they_are_shown(
    shop: Stepwell, deploy: Deploy
) -> None:
    local = deploy(shop)
    event_id = local.send("go", {"amount": 5, "order": "o-1"})
    local.advance("10m")
    waiting = run_of(local, event_id)
    given = {
        "name": "order/paid",
        "data": {"order": "o-7"},
        "id": "pay-7",
        "ts": "2026-01-01T00:00:05Z",
        "tenant": "acme",
    }
    fork = forked(local, waiting, "paid", result=given)
    told = fork.steps["paid"].result
    assert (told["id"], told["ts"], told["tenant"]) == ("pay-7", 1_767_225_605_000, "acme")
    with pytest.raises(InvalidEvent, match="ISO 8601"):
        local.client.fork(waiting.id, "paid", result={**given, "ts": "soon"})
