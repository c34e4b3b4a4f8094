"""The result of a step is the round-tripped value, rebuilt from its annotation: the first time and on replay alike."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pydantic import BaseModel

from stepwell import Context, RunStatus, Stepwell

from .support import Declare, Deploy, play, run_of
from .typed_steps import CHARGE, PARCEL, TYPED, Charge, Parcel, typed_dict


def test_a_result_has_its_type_the_first_time_and_on_replay(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    seen: dict[str, list[Any]] = {fn.__name__: [] for fn in TYPED}

    def body(ctx: Any) -> Any:
        for fn in TYPED:
            value = yield ctx.step.run(fn)
            seen[fn.__name__].append(value)
        yield ctx.step.sleep("rest", "1h")

    declare(app, body)
    run = play(deploy(app), wait="1h")
    assert run.status == RunStatus.COMPLETED
    for fn in TYPED:
        expected = fn()
        assert [(type(value), value) for value in seen[fn.__name__]] == [(type(expected), expected)] * 2


def test_what_the_function_gets_is_a_copy_so_changing_it_changes_nothing_recorded(
    app: Stepwell, deploy: Deploy
) -> None:
    @app.function(on="go")
    def fn(ctx: Context[Any]) -> list[Any]:
        first = ctx.step.run("items", lambda: [1, 2])
        first.append(3)
        ctx.step.sleep("rest", "1m")
        return first

    run = play(deploy(app), wait="1m")
    assert run.result == [1, 2, 3]
    assert run.steps["items"].result == [1, 2]


def test_without_an_annotation_a_result_is_the_plain_json_it_is_recorded_as(app: Stepwell, deploy: Deploy) -> None:
    seen: list[Any] = []

    @app.function(on="go")
    def fn(ctx: Context[Any]) -> None:
        seen.append(ctx.step.run("model", lambda: CHARGE))
        seen.append(ctx.step.run("tuple", lambda: (1, Decimal("2.5"), {3}, {4: "four"}, b"\xff\x00")))

    assert play(deploy(app)).status == RunStatus.COMPLETED
    assert seen[0] == {"id": "ch_1", "amount": "12.30", "currency": "eur", "raw": "AP8="}
    assert seen[1] == [1, "2.5", [3], {"4": "four"}, "_wA="]


def test_the_result_of_a_function_is_typed_for_whoever_invokes_it(app: Stepwell, deploy: Deploy) -> None:
    seen: list[Any] = []

    @app.function(on="pack/asked")
    def pack(ctx: Context[Any]) -> Parcel:
        return PARCEL

    @app.function(on="go")
    def fn(ctx: Context[Any]) -> None:
        seen.append(ctx.step.invoke(pack))
        seen.append(ctx.step.invoke("shop/pack", id="by-name"))

    local = deploy(app)
    run = play(local)
    assert run.status == RunStatus.COMPLETED
    assert seen == [PARCEL, PARCEL, PARCEL], "the first of them once more, on replay"
    assert run.steps["pack"].result["charge"]["amount"] == "12.30"


def test_the_clients_result_is_plain_json(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go")
    def fn(ctx: Context[Any]) -> Charge:
        return CHARGE

    local = deploy(app)
    event_id = local.send("go")
    local.run_until_idle()
    result = local.client.result(run_of(local, event_id).id)
    assert (result["id"], result["amount"], result["currency"]) == ("ch_1", "12.30", "eur")


def test_bytes_in_a_model_that_are_no_text_are_refused_with_the_way_out(app: Stepwell, deploy: Deploy) -> None:
    class Picture(BaseModel):
        raw: bytes

    @app.function(on="go")
    def fn(ctx: Context[Any]) -> None:
        ctx.step.run("picture", lambda: Picture(raw=b"\xff"))

    run = play(deploy(app))
    assert run.error is not None
    assert run.error.type == "NotSerializable"
    assert 'ser_json_bytes="base64"' in run.error.message


def test_a_typed_dict_result_is_checked_like_any_other(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go")
    def fn(ctx: Context[Any]) -> str:
        return ctx.step.run(typed_dict)["since"].isoformat()

    assert play(deploy(app)).result == "2020-02-29"


def test_a_value_that_does_not_fit_its_annotation_is_refused_when_it_is_recorded(
    app: Stepwell, declare: Declare, deploy: Deploy
) -> None:
    bodies = []

    def wrong() -> int:
        bodies.append(1)
        return "many"  # type: ignore[return-value]

    def body(ctx: Any) -> Any:
        yield ctx.step.run(wrong)

    declare(app, body, retries=5)
    run = play(deploy(app), wait="1d")
    assert run.status == RunStatus.FAILED
    assert run.error is not None
    assert (run.error.type, run.error.step) == ("NotSerializable", "wrong")
    assert "int" in run.error.message
    assert bodies == [1], "the same at every attempt, so it is not tried again"
