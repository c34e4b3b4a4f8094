"""on_failure: a handler hears of every run that failed, once, whoever ended it, with its event and its error."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from stepwell import AsyncContext, Batch, Context, EventModel, Failure, PayloadTooLarge, RunStatus, Stepwell
from stepwell.engine import following
from stepwell.middleware.encryption import Encryption
from stepwell.payloads import MAX_PAYLOAD
from stepwell.testing import Fault, FaultKind, FaultPlan, LocalStepwell

from .sealing import LONG, readable, secret
from .support import Deploy, run_of


class Order(EventModel, name="order/created"):
    order_id: str
    text: str = ""


@pytest.fixture
def failures() -> list[Failure]:
    return []


def end_of(local: LocalStepwell, event_id: str, wait: str = "1h") -> None:
    local.advance(wait)
    run = run_of(local, event_id)
    assert run.status == RunStatus.FAILED, run
    (handler,) = local.client.runs(function="shop/fn.on-failure")
    assert handler.status == RunStatus.COMPLETED, handler


@pytest.mark.parametrize("size", [10, 40_000, 400_000])
def test_the_handler_gets_the_event_that_started_the_run_however_large(
    app: Stepwell, deploy: Deploy, failures: list[Failure], size: int
) -> None:
    @app.function(on=Order, id="fn", retries=0, on_failure=lambda ctx: failures.append(ctx.event.data))
    def fn(ctx: Context[Order]) -> None:
        raise ValueError("no luck")

    local = deploy(app)
    text = "".join(chr(65 + (n * n) % 57) for n in range(size))
    event_id = local.send(Order(order_id="o-1", text=text), tenant="acme")
    end_of(local, event_id)
    (failure,) = failures
    assert (failure.event.id, failure.event.name, failure.event.tenant) == (event_id, "order/created", "acme")
    assert failure.event.data == {"order_id": "o-1", "text": text} == failure.event["data"]
    assert failure.event.ts == run_of(local, event_id).event.ts
    assert (failure.run_id, failure.function) == (run_of(local, event_id).id, "fn")
    assert (failure.error.type, failure.error.message) == ("ValueError", "no luck")
    assert "no luck" in str(failure.error.traceback)
    assert failure.events == [failure.event]


def test_a_run_of_the_largest_event_there_may_be_ends_as_others_do(
    app: Stepwell, deploy: Deploy, failures: list[Failure]
) -> None:
    @app.function(on="never", id="child")
    def child(ctx: Context[Any]) -> None:
        ctx.step.sleep("long", "20d")

    @app.function(on=Order, id="fn", retries=0, on_failure=lambda ctx: failures.append(ctx.event.data))
    async def fn(ctx: AsyncContext[Order]) -> None:
        async def fail() -> None:
            await ctx.step.sleep("a moment", "1m")
            raise ValueError("no luck")

        await asyncio.gather(ctx.step.invoke(child, {}), fail())

    local = deploy(app)
    text = "a" * (MAX_PAYLOAD - len('{"order_id":"o-1","text":""}'))
    event_id = local.send(Order(order_id="o-1", text=text))
    with pytest.raises(PayloadTooLarge):
        local.send(Order(order_id="o-1", text=text + "a"))
    local.run_until_idle()
    assert local.dead_letters() == []
    end_of(local, event_id)
    assert len(failures[0].event.data["text"]) == len(text)
    assert [run.status for run in local.client.runs(function="shop/child")] == [RunStatus.CANCELLED]


def test_one_who_cannot_be_told_of_an_end_does_not_keep_the_others_from_it(
    app: Stepwell, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.function(on="never", id="child")
    def child(ctx: Context[Any]) -> None:
        ctx.step.sleep("long", "20d")

    @app.function(on="go", id="fn", retries=0, on_failure=lambda ctx: None)
    async def fn(ctx: AsyncContext[Any]) -> None:
        async def fail() -> None:
            await ctx.step.sleep("a moment", "1m")
            raise ValueError("no luck")

        await asyncio.gather(ctx.step.invoke(child, {}), fail())

    @app.function(on="stepwell/run.failed", id="listener")
    def listener(ctx: Context[Any]) -> str:
        return str(ctx.event.data["function"])

    def refuse(*_: Any) -> None:
        raise LookupError("a defect")

    monkeypatch.setattr(following, "_start_failure_handler", refuse)
    local = deploy(app)
    local.send("go")
    local.advance("5m")
    assert [run.status for run in local.client.runs(function="shop/child")] == [RunStatus.CANCELLED]
    assert [run.result for run in local.client.runs(function="shop/listener")] == ["fn"]
    assert list(local.client.runs(function="shop/fn.on-failure")) == []
    monkeypatch.undo()
    local.advance("1d")
    assert [run.status for run in local.client.runs(function="shop/fn.on-failure")] == [RunStatus.COMPLETED]


def test_the_error_of_a_step_says_which(app: Stepwell, deploy: Deploy, failures: list[Failure]) -> None:
    @app.function(on="go", id="fn", retries=0, on_failure=lambda ctx: failures.append(ctx.event.data))
    def fn(ctx: Context[Any]) -> None:
        def charge() -> None:
            raise ValueError("declined")

        ctx.step.run("charge", charge)

    local = deploy(app)
    end_of(local, local.send("go"))
    assert (failures[0].error.type, failures[0].error.step) == ("ValueError", "charge")


def test_a_run_that_changed_under_way_is_a_failure_too(app: Stepwell, deploy: Deploy, failures: list[Failure]) -> None:
    asked = iter(range(9))

    @app.function(on="go", id="fn", on_failure=lambda ctx: failures.append(ctx.event.data))
    def fn(ctx: Context[Any]) -> None:
        ctx.step.run("charge", str, next(asked))
        ctx.step.sleep("rest", "1m")

    local = deploy(app)
    end_of(local, local.send("go"))
    assert failures[0].error.type == "NonDeterminism"


def test_so_is_one_whose_worker_always_dies(app: Stepwell, deploy: Deploy, failures: list[Failure]) -> None:
    @app.function(on="go", id="fn", on_failure=lambda ctx: failures.append(ctx.event.data))
    def fn(ctx: Context[Any]) -> None:
        local.world.crash("because it always does")

    local = deploy(app)
    end_of(local, local.send("go", {"n": 1}), "6h")
    assert (failures[0].error.type, failures[0].event.data) == ("NoProgress", {"n": 1})


def test_so_is_one_that_no_code_could_be_found_for(app: Stepwell, deploy: Deploy, failures: list[Failure]) -> None:
    app.function(on="go", id="fn", on_failure=lambda ctx: failures.append(ctx.event.data))(lambda ctx: None)
    local = deploy(app)
    del app.functions["fn"]  # its handler stays
    end_of(local, local.send("go"), "30h")
    assert failures[0].error.type == "Undeliverable"
    assert failures[0].event.name == "go"


def collecting(app: Stepwell, failures: list[Failure], *, fails: bool = True, rest: str | None = None) -> None:
    """A function that fails with a whole batch, and a handler that notes what it is told."""

    def handle(ctx: Context[Failure]) -> None:
        assert len(ctx.events) == 1
        if rest is not None:
            ctx.step.sleep("rest", rest)
        failures.append(ctx.event.data)

    @app.function(on=Order, id="fn", retries=0, batch=Batch(3, "1m"), on_failure=handle)
    def fn(ctx: Context[Order]) -> None:
        if rest is not None:
            ctx.step.sleep("rest", rest)
        raise ValueError(f"no luck with {[event.data.order_id for event in ctx.events]}")


def sent(local: LocalStepwell, *texts: str) -> list[str]:
    """Orders that were sent one after the other; their ids."""
    events = []
    for n, text in enumerate(texts):
        events.append(local.send(Order(order_id=f"o-{n}", text=text), tenant=f"t-{n}"))
        local.run_until_idle()
    return events


@pytest.mark.parametrize("size", [10, 40_000, 400_000])
def test_the_handler_of_a_batch_gets_all_of_its_events_in_their_order(
    app: Stepwell, deploy: Deploy, failures: list[Failure], size: int
) -> None:
    collecting(app, failures)
    local = deploy(app)
    texts = ["".join(chr(65 + (n * n + k) % 57) for n in range(size)) for k in range(3)]
    events = sent(local, *texts)
    end_of(local, events[0])
    (failure,) = failures
    assert [event.id for event in failure.events] == events
    assert [event.data["text"] for event in failure.events] == texts
    assert [event.tenant for event in failure.events] == ["t-0", "t-1", "t-2"]
    assert failure.event == failure.events[0]
    assert failure.events[2].ts > failure.events[0].ts or failure.events[2].id > failure.events[0].id
    assert "o-0', 'o-1', 'o-2" in failure.error.message


@pytest.mark.parametrize("again", ["handler", "replay", "fork"])
def test_what_takes_a_batch_of_large_events_along_again_has_objects_of_its_own(
    app: Stepwell, deploy: Deploy, failures: list[Failure], again: str
) -> None:
    """The bucket deletes by age: shared, they would be gone before what began later."""

    def handle(ctx: Context[Failure]) -> None:
        failures.append(ctx.event.data)

    @app.function(on=Order, id="fn", retries=0, batch=Batch(3, "1m"), on_failure=handle)
    def fn(ctx: Context[Order]) -> None:
        texts = [event.data.text for event in ctx.events]
        ctx.step.run("work", lambda: None)
        raise ValueError(f"no luck with {sum(map(len, texts))}")

    local = deploy(app)
    texts = [Random(k).randbytes(40_000).hex() for k in range(2)]
    events = sent(local, *texts, "small")
    end_of(local, events[0])
    run = run_of(local, events[0])
    if again == "replay":
        local.client.replay(run.id)
    elif again == "fork":
        local.client.fork(run.id, "work")
    local.advance("1h")
    objects = objects_of_members(local)
    assert len(objects) == (2 if again == "handler" else 4), "each run that failed, and each handler"
    for owner, keys in objects.items():
        assert keys, "one of the two that came along is large"
        assert all(key.startswith(f"shop/{owner}/") for key in keys)
    assert [event.data["text"] for event in failures[-1].events] == [*texts, "small"]


def objects_of_members(local: LocalStepwell) -> dict[str, list[str]]:
    """By run the objects of events that it takes along."""
    found: dict[str, list[str]] = {}
    for (pk, sk), image in local.world.table.items():
        if sk.startswith("MEMBER#"):
            event, keys = image.plain()["event"], found.setdefault(pk.removeprefix("RUN#"), [])
            keys += [event["s3"]] if isinstance(event, dict) else []
    return found


def test_one_that_got_no_further_than_its_first_event_has_that_one(
    app: Stepwell, deploy: Deploy, failures: list[Failure]
) -> None:
    collecting(app, failures)
    local = deploy(app)
    (event_id,) = sent(local, "alone")
    end_of(local, event_id)
    assert [event.id for event in failures[0].events] == [event_id]


def test_they_are_there_at_every_call_of_the_handler_and_when_it_is_replayed_or_forked(
    app: Stepwell, deploy: Deploy, failures: list[Failure]
) -> None:
    collecting(app, failures, rest="1h")
    local = deploy(app)
    events = sent(local, "a", "b", "c")
    local.advance("1d")
    (handler,) = local.client.runs(function="shop/fn.on-failure")
    local.client.replay(handler.id)
    local.client.fork(handler.id, "rest")
    local.advance("1d")
    assert [[event.id for event in failure.events] for failure in failures] == [events] * 3


def test_those_of_an_encrypted_batch_are_decrypted_for_it_and_for_nobody_else(
    deploy: Deploy, failures: list[Failure]
) -> None:
    app = Stepwell("shop", middleware=[Encryption(secret())])
    collecting(app, failures)
    local = deploy(app)
    texts = ["sesame", LONG, "sesame again"]
    events = sent(local, *texts)
    end_of(local, events[0])
    assert [event.data["text"] for event in failures[0].events] == texts
    assert readable(local, "sesame") == []


@pytest.mark.parametrize("kind", [FaultKind.CRASH_BEFORE, FaultKind.CRASH_AFTER, FaultKind.UNKNOWN])
@pytest.mark.parametrize("occurrence", range(3))
def test_telling_it_may_be_cut_off_anywhere(
    app: Stepwell, deploy: Deploy, failures: list[Failure], kind: FaultKind, occurrence: int
) -> None:
    def handing(ctx: Context[Failure]) -> None:
        failures.append(ctx.event.data)

    app.function(on=Order, id="fn", retries=0, batch=Batch(3, "1m"), on_failure=handing)(lambda ctx: 1 / 0)
    fault = Fault(kind, operation="dynamodb.PutItem", label="orchestrator", occurrence=occurrence)
    plan = FaultPlan([fault])
    local = deploy(app, plan=plan)
    events = sent(local, "a", "b", "c")
    end_of(local, events[0])
    ((_, call),) = plan.fired
    assert call.params["Item"]["sk"]["S"] in ("MEMBER#0001", "MEMBER#0002", "RUN")
    assert [[event.id for event in failure.events] for failure in failures] == [events]


def test_the_events_of_a_batch_last_as_long_as_its_run(app: Stepwell, deploy: Deploy, failures: list[Failure]) -> None:
    """By default they would expire after two months."""
    collecting(app, failures, rest="300d")
    local = deploy(app)
    events = sent(local, "a", "b", "c")
    for run in ("fn", "fn.on-failure"):
        local.advance("1d")
        (resting,) = local.client.runs(function=f"shop/{run}", status="suspended")
        until = local.now().timestamp() + 299 * 86_400
        lasting = [
            image.plain()["ttl"] - until
            for (pk, sk), image in local.world.table.items()
            if pk == f"RUN#{resting.id}" and sk.startswith("MEMBER#")
        ]
        assert len(lasting) == 2
        assert min(lasting) > 30 * 86_400
        local.advance("300d")
    assert [event.id for event in failures[0].events] == events
