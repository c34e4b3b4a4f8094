"""Encryption end to end: nothing readable lies anywhere, everything comes back, and keys rotate and fail safely."""

from __future__ import annotations

from typing import Any

import boto3
import pytest

from stepwell import Callback, Context, Failure, RunFailed, RunStatus, StepError, Stepwell, Trigger
from stepwell.middleware import KeyUnavailable, TamperedValue
from stepwell.middleware.encryption import Encryption, KmsKey
from stepwell_lambdas.worker import handler

from .encryption_steps import shout_apart
from .sealing import LONG, PLAIN, copy_attribute, encrypted, readable, secret, use
from .support import Declare, Deploy, invocations_of, only_dead_letter, play, run_of


def every_feature(app: Stepwell, declare: Declare, told: dict[str, Any]) -> None:
    """A function that lets a secret pass through all that is stored."""

    def body(ctx: Any) -> Any:
        word = ctx.event.data["word"]
        seen = [(yield ctx.step.run("shout", str.upper, word))]
        seen.append(len((yield ctx.step.run("long", lambda: LONG))))
        seen.append((yield ctx.step.invoke(child, {"word": word, "order": "o-1"})))
        seen.append((yield ctx.step.invoke(child, {"word": LONG}, id="long child")) == LONG.upper())
        seen += yield ctx.step.map(shout_apart, [word], spread=True)
        yield ctx.step.send_event("tell", "told", {"word": word})
        seen.append((yield ctx.step.poll("poll", lambda: word, until=lambda value: value == word)))
        try:
            yield ctx.step.run("fails", refuse, word)
        except StepError as error:
            seen.append(error.message)
        try:
            yield ctx.step.invoke(failing_child, {"word": word})
        except StepError as error:
            seen.append(error.message)
        paid = yield ctx.step.wait_for_event("paid", event="paid", timeout="1h", match={"data.order": "o-1"})
        seen.append(paid.data["word"])
        callback = yield ctx.step.wait_for_callback("ask", timeout="1h", submit=hand_out)
        seen.append(callback["word"])
        try:
            yield ctx.step.wait_for_callback("ask again", timeout="1h", submit=hand_out)
        except StepError as error:
            seen.append(error.message)
        yield ctx.step.sleep("rest", "1m")
        if ctx.attempt == 1:
            raise OSError(f"once {word}")
        return seen

    def hand_out(callback: Callback) -> None:
        told["token"] = callback.token

    def refuse(word: str) -> None:
        raise ValueError(f"no {word}")

    declare(app, body, on=Trigger("go", where="event.data.order == 'o-1'"), retries=1)

    @app.function(on="never", id="child")
    def child(ctx: Context[Any]) -> str:
        return str(ctx.event.data["word"]).upper()

    @app.function(on="told", id="listener")
    def listener(ctx: Context[Any]) -> Any:
        return ctx.event.data["word"]

    @app.function(on="never", id="failing", retries=0, on_failure=lambda ctx: told.update(failed(ctx)))
    def failing_child(ctx: Context[Any]) -> None:
        raise KeyError(ctx.event.data["word"])


def failed(ctx: Context[Failure]) -> dict[str, Any]:
    failure = ctx.event.data
    assert failure.event is not None
    return {"error": (failure.error.type, failure.error.message), "event": failure.event["data"]}


def test_no_plain_text_is_anywhere_and_all_of_it_comes_back(declare: Declare, deploy: Deploy) -> None:
    app, told = encrypted(), {}
    every_feature(app, declare, told)
    local = deploy(app)
    event_id = local.send("go", {"word": PLAIN, "order": "o-1", "blob": LONG})
    local.advance("1m")
    app.send("paid", {"word": PLAIN, "order": "o-1"})
    local.advance("1m")
    local.client.complete_callback(told["token"], {"word": PLAIN})
    local.client.complete_callback(told["token"], {"word": PLAIN})  # the same again
    local.advance("1m")
    local.client.fail_callback(told["token"], f"not {PLAIN}")
    local.advance("1h")

    run = run_of(local, event_id, "fn")
    shouted = PLAIN.upper()
    assert run.result == [
        shouted,
        len(LONG),
        shouted,
        True,
        shouted,
        PLAIN,
        f"no {PLAIN}",
        f"'{PLAIN}'",
        PLAIN,
        PLAIN,
        f"not {PLAIN}",
    ]
    assert run.event.data == {"word": PLAIN, "order": "o-1", "blob": LONG}
    assert local.client.result(run.id) == run.result
    steps = run.steps
    assert steps["shout"].result == shouted
    assert steps["paid"].result["data"] == {"word": PLAIN, "order": "o-1"}
    assert steps["ask"].result == {"word": PLAIN}
    assert steps["fails"].error is not None
    assert steps["fails"].error.message == f"no {PLAIN}"
    assert PLAIN in str(steps["fails"].error.traceback)
    assert steps["failing"].error is not None
    assert steps["failing"].error.message == f"'{PLAIN}'"
    assert told["error"] == ("KeyError", f"'{PLAIN}'")
    assert told["event"] == {"word": PLAIN}
    seen = {event.name for event in local.client.events() if PLAIN in str(event.data)}
    assert seen == {"go", "paid", "told", "stepwell/run.failed"}
    assert [each.result for each in local.client.runs(function="shop/listener")] == [PLAIN]
    assert local.dead_letters() == []

    assert readable(local, PLAIN) == []
    assert readable(local, "o-1") != [], "the fields in clear are there, so looking finds what there is"


def test_without_encryption_the_same_is_found(declare_plain: Declare, deploy: Deploy) -> None:
    app, told = Stepwell("shop"), {}
    every_feature(app, declare_plain, told)
    local = deploy(app)
    local.send("go", {"word": PLAIN, "order": "o-1"})
    local.advance("1m")
    assert len(readable(local, PLAIN)) > 10


def test_a_client_without_the_middleware_sees_ciphertext_and_kinds_of_errors(declare: Declare, deploy: Deploy) -> None:
    app = encrypted()

    def body(ctx: Any) -> Any:
        yield ctx.step.run("work", lambda: PLAIN)
        raise ValueError(PLAIN)

    declare(app, body, retries=0)
    app.function(on="go", id="good")(lambda ctx: PLAIN)
    local = deploy(app)
    event_id = local.send("go", {"order": "o-1", "word": PLAIN})
    local.run_until_idle()
    stranger = local.client.with_middleware()
    run = stranger.run(run_of(local, event_id, "fn").id)
    assert set(run.event.data) == {"order", "$sealed"}
    assert set(run.steps["work"].result) == {"$sealed"}
    assert run.error is not None
    assert (run.error.type, run.error.message) == ("ValueError", "encrypted; to be read with the app's middleware")
    with pytest.raises(RunFailed, match="ValueError: encrypted"):
        stranger.result(run.id)
    assert set(stranger.result(run_of(local, event_id, "good").id)) == {"$sealed"}
    with pytest.raises(RunFailed, match=f"ValueError: {PLAIN}"):
        local.client.result(run.id)


def test_what_others_send_and_answer_in_clear_is_taken(declare: Declare, deploy: Deploy) -> None:
    app, told = encrypted(), {}

    def body(ctx: Any) -> Any:
        callback = yield ctx.step.create_callback("ask", timeout="1h")
        told["token"] = callback.token
        answer = callback.wait()
        return [ctx.event.data, (yield answer)]

    declare(app, body)
    local = deploy(app)
    event_id = local.client.with_middleware().send("go", {"n": 1})
    local.run_until_idle()
    local.client.with_middleware().complete_callback(told["token"], "fine")
    local.run_until_idle()
    assert run_of(local, event_id).result == [{"n": 1}, "fine"]


def test_the_same_event_sent_twice_is_a_duplicate_though_its_ciphertext_differs(
    declare_plain: Declare, deploy: Deploy
) -> None:
    app = encrypted()
    bodies: list[int] = []

    def body(ctx: Any) -> Any:
        yield ctx.step.run("work", lambda: bodies.append(1))

    declare_plain(app, body)
    local = deploy(app)
    for _ in range(2):
        app.send("go", {"word": PLAIN, "order": "o-1"}, id="twice")
        local.run_until_idle()
    assert (bodies, local.dead_letters()) == ([1], [])
    app.send("go", {"word": PLAIN, "order": "o-2"}, id="twice")
    local.run_until_idle()
    assert only_dead_letter(local).code == "duplicate-event"


def test_a_run_can_be_replayed_by_a_client_that_has_no_key(declare: Declare, deploy: Deploy) -> None:
    app = encrypted()

    def body(ctx: Any) -> Any:
        return (yield ctx.step.run("work", str.upper, ctx.event.data["word"]))

    declare(app, body)
    local = deploy(app)
    run = play(local, {"word": PLAIN, "order": "o-1"})
    again = local.client.with_middleware().replay(run.id)
    assert local.client.result(again) == PLAIN.upper()
    invoked = local.client.invoke("shop/fn", {"word": "other"})
    assert local.client.result(invoked) == "OTHER"
    assert readable(local, PLAIN, "other") == []


def test_arguments_that_change_are_still_found_out(declare: Declare, deploy: Deploy) -> None:
    app = encrypted()
    calls: list[int] = []

    def body(ctx: Any) -> Any:
        calls.append(1)
        yield ctx.step.run("work", str.upper, f"{PLAIN} {len(calls)}")
        yield ctx.step.sleep("rest", "1m")

    declare(app, body)
    local = deploy(app)
    run = play(local, wait="1h")
    assert run.error is not None
    assert run.error.type == "NonDeterminism"
    assert f'run(["{PLAIN} 1"])' in run.error.message
    assert f'run(["{PLAIN} 2"])' in run.error.message
    assert readable(local, PLAIN) == []


@pytest.mark.parametrize("first", [False, True])
def test_encryption_may_be_switched_on_and_keys_rotated_while_runs_are_under_way(
    declare: Declare, deploy: Deploy, first: bool
) -> None:
    app = encrypted(secret(1)) if first else Stepwell("shop")

    def body(ctx: Any) -> Any:
        one = yield ctx.step.run("one", str.upper, ctx.event.data["word"])
        yield ctx.step.sleep("rest", "1h")
        two = yield ctx.step.run("two", str.upper, one + "!")
        yield ctx.step.sleep("rest more", "1h")
        return [one, two]

    declare(app, body)
    local = deploy(app)
    event_id = local.send("go", {"word": PLAIN})
    local.run_until_idle()
    use(app, Encryption(secret(2), secret(1)))
    local.advance("1h")
    use(app, Encryption(secret(3), secret(2), *([secret(1)] if first else [])))
    local.advance("1h")
    assert run_of(local, event_id).result == [PLAIN.upper(), PLAIN.upper() + "!"]


def test_a_run_waits_for_a_missing_key_and_charges_nothing(declare: Declare, deploy: Deploy) -> None:
    app = encrypted(secret(1))
    bodies: list[str] = []

    def body(ctx: Any) -> Any:
        bodies.append(ctx.event.data["word"])
        yield ctx.step.sleep("rest", "1h")
        return ctx.attempt

    declare(app, body, retries=0)
    local = deploy(app)
    event_id = local.send("go", {"word": PLAIN})
    local.run_until_idle()
    use(app, Encryption(secret(2)))
    local.advance("6h")
    run = local.client.run(run_of(local, event_id).id)
    assert run.status == RunStatus.SUSPENDED
    assert run.reason is not None
    assert run.reason.startswith("key-unavailable: A value was encrypted with a key that is not among those given")
    with pytest.raises(KeyUnavailable):
        assert run_of(local, event_id).event
    use(app, Encryption(secret(2), secret(1)))
    local.advance("20m")
    run = run_of(local, event_id)
    assert (run.result, bodies) == (1, [PLAIN, PLAIN])
    assert invocations_of(local, run) > 5


# ---- moved and changed values


def sleeper(app: Stepwell, declare: Declare) -> None:
    def body(ctx: Any) -> Any:
        first = yield ctx.step.run("one", str.upper, ctx.event.data["word"])
        second = yield ctx.step.run("two", str.lower, ctx.event.data["word"])
        yield ctx.step.sleep("rest", "1h")
        try:
            yield ctx.step.run("again", lambda: first + second)
        except StepError:
            return "caught"
        return first + second

    declare(app, body)


@pytest.mark.parametrize(("to", "step"), [("other", "STEP#one"), ("same", "STEP#two")])
def test_a_result_moved_to_another_run_or_step_fails_the_run_that_meets_it(
    declare: Declare, deploy: Deploy, to: str, step: str
) -> None:
    app = encrypted()
    sleeper(app, declare)
    local = deploy(app)
    one, other = local.send("go", {"word": PLAIN}), local.send("go", {"word": "honest"})
    local.run_until_idle()
    source, target = run_of(local, one), run_of(local, other if to == "other" else one)
    copy_attribute(local, "result", (f"RUN#{source.id}", "STEP#one"), (f"RUN#{target.id}", step))
    local.advance("2h")
    run = local.client.run(target.id)
    assert run.error is not None
    assert (run.status, run.error.type, run.attempt) == (RunStatus.FAILED, "TamperedValue", 1)
    assert "it was changed, or was encrypted for another place" in run.error.message
    with pytest.raises(TamperedValue):
        assert run.steps


def test_a_worker_that_fails_tells_nobody_what_it_worked_on(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Lambda writes the text of an error into its log, and into the record that comes back by the queue."""
    app = encrypted()

    @app.function(on="go", id="fn")
    def fn(ctx: Context[Any]) -> None: ...

    def execute(*_: Any, **__: Any) -> str:
        raise RuntimeError(f"a defect that concerns {PLAIN}")

    monkeypatch.setattr(handler, "execute", execute)
    local = deploy(app)
    event_id = local.send("go", {"text": PLAIN})
    local.advance("10m")
    reason = run_of(local, event_id).reason or ""
    assert reason.startswith("no worker: RuntimeError, raised at ")
    assert reason.endswith("in execute")
    assert readable(local, PLAIN) == []
    assert PLAIN not in caplog.text.lower()


def test_a_function_cannot_go_on_past_a_tampered_value(deploy: Deploy) -> None:
    app = encrypted()

    @app.function(on="go", id="fn")
    def fn(ctx: Context[Any]) -> str:
        try:
            ctx.step.run("one", str.upper, "a")
            ctx.step.run("two", str.upper, "b")
        except Exception:
            return "went on"
        ctx.step.sleep("rest", "1h")
        return "fine"

    local = deploy(app)
    event_id = local.send("go")
    local.run_until_idle()
    pk = f"RUN#{run_of(local, event_id).id}"
    copy_attribute(local, "result", (pk, "STEP#one"), (pk, "STEP#two"))
    local.advance("2h")
    run = run_of(local, event_id)
    assert run.error is not None
    assert (run.status, run.error.type) == (RunStatus.FAILED, "TamperedValue")


def test_event_data_sent_under_another_id_is_refused(declare: Declare, deploy: Deploy) -> None:
    app = encrypted()
    sleeper(app, declare)
    local = deploy(app)
    local.send("go", {"word": PLAIN})
    local.run_until_idle()
    (kept,) = list(local.client.with_middleware().events(name="go"))
    moved = local.client.with_middleware().send("go", kept.data)
    local.run_until_idle()
    run = run_of(local, moved)
    assert run.error is not None
    assert (run.status, run.error.type, run.attempt) == (RunStatus.FAILED, "TamperedValue", 1)


# ---- expressions


def test_a_wait_that_matches_by_a_hidden_field_is_refused_naming_it(declare: Declare, deploy: Deploy) -> None:
    app = encrypted()

    def body(ctx: Any) -> Any:
        yield ctx.step.wait_for_event("paid", event="paid", timeout="1h", match={"data.word": PLAIN})

    declare(app, body)
    run = play(deploy(app))
    assert run.error is not None
    assert (run.error.type, run.attempt) == ("InvalidOption", 1)
    assert "looks at data.word, which Encryption encrypts" in run.error.message


# ---- KMS


def in_kms() -> str:
    return str(boto3.client("kms").create_key()["KeyMetadata"]["KeyId"])


@pytest.fixture
def kms_only_on_moto(endpoint: str | None) -> None:
    if endpoint is not None:
        pytest.skip("clients for KMS are made by boto3's defaults, which only moto answers")


@pytest.mark.usefixtures("kms_only_on_moto")
def test_kms_is_asked_for_one_key_and_a_disabled_key_holds_runs_up(declare: Declare, deploy: Deploy) -> None:
    made: dict[str, str] = {}
    app = Stepwell("shop", middleware=[Encryption(LateKey(made, "first"))])
    sleeper(app, declare)
    local = deploy(app)
    made["first"] = in_kms()
    event_id = local.send("go", {"word": PLAIN})
    local.run_until_idle()
    assert readable(local, PLAIN) == []

    made["second"] = in_kms()
    use(app, Encryption(LateKey(made, "second")))
    local.advance("2h")
    run = local.client.run(run_of(local, event_id).id)
    assert run.status == RunStatus.SUSPENDED
    assert run.reason is not None
    assert run.reason.startswith("key-unavailable: KMS key ")

    use(app, Encryption(LateKey(made, "second"), LateKey(made, "first")))
    local.advance("20m")
    assert run_of(local, event_id).result == PLAIN.upper() + PLAIN


class LateKey:
    """A KMS key that is created in the local world, after the app was declared."""

    def __init__(self, made: dict[str, str], name: str) -> None:
        self._made = made
        self._name = name

    def _key(self) -> KmsKey:
        return KmsKey(self._made[self._name], client=lambda: boto3.client("kms"))

    def new(self) -> tuple[bytes, bytes]:
        return self._key().new()

    def unwrap(self, wrapped: bytes) -> bytes | None:
        return self._key().unwrap(wrapped)


def test_a_step_with_a_small_result_still_costs_one_write_unit(declare_plain: Declare, deploy: Deploy) -> None:
    app = encrypted()

    def body(ctx: Any) -> Any:
        for n in range(5):
            yield ctx.step.run(f"charge-{n}", lambda n=n: {"id": f"ch_{n}", "amount": 4200, "note": "x" * 100})

    declare_plain(app, body)
    local = deploy(app)
    play(local, {"word": PLAIN})
    assert local.requests.write_units <= 11


def test_an_event_of_an_app_with_another_key_does_not_hide_the_others(deploy: Deploy) -> None:
    ours, theirs = encrypted(), encrypted(secret(9), id="theirs")
    local = deploy(ours, theirs)
    ours.send("go", {"order": "o-1", "word": PLAIN})
    theirs.send("go", {"order": "o-2", "word": PLAIN})
    local.run_until_idle()

    shown = {event.data["order"]: event.data for event in local.client.events()}

    assert shown["o-1"] == {"order": "o-1", "word": PLAIN}
    assert set(shown["o-2"]) == {"order", "$sealed"}
