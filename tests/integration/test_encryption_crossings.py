"""Encryption where values cross from one run to another: forks, batches, run events, callbacks from outside; and flow
control, tags and cancellation, which look at fields without a key."""

from __future__ import annotations

from typing import Any

import pytest

from stepwell import Batch, Callback, CancelOn, Concurrency, Context, Cron, Run, RunStatus, StepError, Stepwell, Trigger
from stepwell.errors import CallbackOver, InvalidOption
from stepwell.middleware import KeyUnavailable, TamperedValue
from stepwell.middleware.encryption import Encryption
from stepwell.testing import LocalStepwell
from stepwell.testing.observations import BodyBegan

from .sealing import LONG, PLAIN, copy_attribute, encrypted, readable, secret, use
from .support import Declare, Deploy, play, run_of

EDITED = "tahini"


def bodies(local: LocalStepwell, run: Run) -> list[str]:
    """The steps whose bodies were begun in a run, in order."""
    return [began.key for began in local.world.observations.of(BodyBegan) if began.run_id == run.id]


# ---- forks


def every_kind_of_step(app: Stepwell, declare: Declare, told: dict[str, Any]) -> None:
    """A function with a step of each kind, each of which has a secret to keep, and one more to fork at."""

    def body(ctx: Any) -> Any:
        word = ctx.event.data["word"]
        seen = [(yield ctx.step.run("shout", str.upper, word))]
        seen.append(len((yield ctx.step.run("long", lambda: LONG))))
        seen.append((yield ctx.step.invoke(child, {"word": word})))
        try:
            yield ctx.step.invoke(child, {"word": ""}, id="failing child")
        except StepError as error:
            seen.append(error.message)
        seen.append((yield ctx.step.poll("poll", lambda: word, until=lambda value: value == word)))
        try:
            yield ctx.step.run("fails", refuse, word)
        except StepError as error:
            seen.append(error.message)
        paid = yield ctx.step.wait_for_event("paid", event="paid", timeout="1h", match={"data.order": "o-1"})
        seen.append(paid.data["word"])
        seen.append((yield ctx.step.wait_for_event("never", event="never", timeout="1m")) is None)
        callback = yield ctx.step.create_callback("ask", timeout="1h")
        told["token"] = callback.token
        seen.append((yield callback.wait()))
        yield ctx.step.sleep("rest", "1m")
        seen.append((yield ctx.step.run("last", str.title, word)))
        return [*seen, ctx.event.data["word"]]

    def refuse(word: str) -> None:
        raise ValueError(f"no {word}")

    declare(app, body, retries=0)

    @app.function(on="never", id="child", retries=0)
    def child(ctx: Context[Any]) -> str:
        if not ctx.event.data["word"]:
            raise ValueError(f"nothing like {PLAIN}")
        return str(ctx.event.data["word"]).upper()


OUTCOME = [
    PLAIN.upper(),
    len(LONG),
    PLAIN.upper(),
    f"nothing like {PLAIN}",
    PLAIN,
    f"no {PLAIN}",
    PLAIN,
    True,
    {"word": PLAIN},
    PLAIN.title(),
    PLAIN,
]


def played(local: LocalStepwell, told: dict[str, Any]) -> Run:
    """A run of that function, to its end."""
    event_id = local.send("go", {"word": PLAIN, "order": "o-1"})
    local.advance("1m")
    local.client.send("paid", {"word": PLAIN, "order": "o-1"})
    local.advance("2m")
    local.client.complete_callback(told["token"], {"word": PLAIN})
    local.advance("1h")
    run = run_of(local, event_id, "fn")
    assert run.result == OUTCOME
    return run


def test_a_fork_of_an_encrypted_run_reads_all_it_keeps_and_lets_nobody_else(declare: Declare, deploy: Deploy) -> None:
    app, told = encrypted(), dict[str, Any]()
    every_kind_of_step(app, declare, told)
    local = deploy(app)
    first = played(local, told)
    new = local.client.fork(first.id, "last")
    local.run_until_idle()
    fork = local.client.run(new)
    assert (fork.status, fork.result) == (RunStatus.COMPLETED, OUTCOME)
    assert bodies(local, fork) == ["last"]
    for key, step in first.steps.items():
        if key != "last":
            assert (fork.steps[key].result, fork.steps[key].error) == (step.result, step.error), key

    again = local.client.fork(fork.id, "last")  # from a fork: nothing tells any more how the first run had it
    assert local.client.result(again) == OUTCOME
    assert bodies(local, local.client.run(again)) == ["last"]
    assert readable(local, PLAIN) == []


def test_what_a_fork_is_given_instead_is_encrypted_as_well(declare: Declare, deploy: Deploy) -> None:
    app, told = encrypted(), dict[str, Any]()
    every_kind_of_step(app, declare, told)
    local = deploy(app)
    first = played(local, told)
    edits: list[tuple[str, Any, int]] = [
        ("shout", EDITED, 0),
        ("child", EDITED, 2),
        ("poll", EDITED, 4),
        ("paid", {"name": "paid", "data": {"word": EDITED}}, 6),
        ("ask", EDITED, 8),
        ("last", EDITED, 9),
    ]
    for step, given, place in edits:
        new = local.client.fork(first.id, step, result=given, input={"word": EDITED, "order": "o-1"})
        local.advance("1m")
        if place < 6:
            local.client.send("paid", {"word": EDITED, "order": "o-1"})
        local.advance("2m")
        if place < 8:
            local.client.complete_callback(told["token"], EDITED)
        fork = local.client.run(new)
        assert local.client.result(new)[place] == EDITED, step
        assert local.client.result(new)[-1] == EDITED
        assert fork.event.data == {"word": EDITED, "order": "o-1"}
    assert readable(local, PLAIN, EDITED) == []


def test_a_client_without_the_middleware_forks_no_encrypted_run_and_leaves_nothing(
    declare_plain: Declare, deploy: Deploy
) -> None:
    app, told = encrypted(), dict[str, Any]()
    every_kind_of_step(app, declare_plain, told)
    local = deploy(app)
    first, stranger = played(local, told), local.client.with_middleware()
    before = {key for key, _ in local.world.table.items()}
    with pytest.raises(KeyUnavailable, match=r"Step '.+' of run .+ is encrypted for that run, .*with_middleware"):
        stranger.fork(first.id, "last")
    with pytest.raises(KeyUnavailable, match=r"input= would stand in clear"):
        stranger.fork(first.id, "shout", input={"word": EDITED})
    with pytest.raises(KeyUnavailable):
        stranger.fork(first.id, "shout", result=EDITED)
    local.advance("1h")
    assert {key for key, _ in local.world.table.items()} <= before

    whole = stranger.fork(first.id, "shout")  # keeps nothing, so there is nothing to encrypt anew
    local.advance("1m")
    assert local.client.run(whole).steps["shout"].result == PLAIN.upper()


def test_an_answer_that_is_encrypted_is_known_though_nothing_else_is(declare_plain: Declare, deploy: Deploy) -> None:
    app, told = encrypted(), dict[str, Any]()

    def body(ctx: Any) -> Any:
        callback = yield ctx.step.create_callback("ask", timeout="1h")
        told["token"] = callback.token
        answer = callback.wait()
        ctx.step.sleep("rest", "1m")
        return (yield answer)

    declare_plain(app, body)
    local = deploy(app)
    run = play(local, {"order": "o-1"})
    local.client.complete_callback(told["token"], PLAIN)
    local.advance("2m")
    with pytest.raises(KeyUnavailable, match="Step 'ask'"):
        local.client.with_middleware().fork(run.id, "rest")
    assert local.client.result(local.client.fork(run.id, "rest")) == PLAIN


def test_a_fork_is_encrypted_with_the_key_of_today(declare: Declare, deploy: Deploy) -> None:
    app, told = encrypted(secret(1)), dict[str, Any]()
    every_kind_of_step(app, declare, told)
    local = deploy(app)
    first = played(local, told)
    newer = Encryption(secret(2), secret(1), clear=["order"])
    use(app, newer)
    new = local.client.with_middleware(newer).fork(first.id, "last")
    local.run_until_idle()
    of_steps = local.client.with_middleware(Encryption(secret(2))).run(new)
    assert of_steps.result == OUTCOME
    stranger = local.client.with_middleware(Encryption(secret(3)))
    with pytest.raises(KeyUnavailable):
        stranger.fork(first.id, "last")


def test_runs_from_before_encryption_can_be_forked_under_it(declare: Declare, deploy: Deploy) -> None:
    app, told = Stepwell("shop"), dict[str, Any]()
    every_kind_of_step(app, declare, told)
    local = deploy(app)
    first = played(local, told)
    use(app, Encryption(secret(), clear=["order"]))
    new = local.client.with_middleware(*app.middleware.all).fork(first.id, "last")
    assert local.client.with_middleware(*app.middleware.all).result(new) == OUTCOME
    assert set(local.client.run(new).steps["shout"].result) == {"$sealed"}


def test_a_checkpoint_that_somebody_copies_into_another_run_is_still_refused(
    declare_plain: Declare, deploy: Deploy
) -> None:
    app = encrypted()

    def body(ctx: Any) -> Any:
        word = yield ctx.step.run("one", str.upper, ctx.event.data["word"])
        ctx.step.sleep("rest", "1m")
        return word

    declare_plain(app, body)
    local = deploy(app)
    first, other = play(local, {"word": PLAIN}, wait="1h"), play(local, {"word": "other"}, wait="1h")
    copy_attribute(local, "result", (f"RUN#{first.id}", "STEP#one"), (f"RUN#{other.id}", "STEP#one"))
    with pytest.raises(TamperedValue):
        local.client.fork(other.id, "rest")


# ---- flow control, tags, cancellation


def test_a_batch_of_encrypted_events_is_decrypted_event_by_event(deploy: Deploy) -> None:
    app = encrypted(clear=["order", "urgent"])

    @app.function(on="go", id="fn", batch=Batch(3, "1m", key="event.data.order", where="event.data.urgent"))
    def fn(ctx: Context[Any]) -> list[str]:
        assert ctx.events[0] == ctx.event
        words = [event.data["word"] for event in ctx.events]
        ctx.step.sleep("rest", "1m")
        return words

    local = deploy(app)
    sent = [
        local.send("go", {"order": order, "word": f"{PLAIN} {n}", "urgent": True})
        for n, order in enumerate(["o-1", "o-2", "o-1", "o-1"])
    ]
    local.advance("5m")
    assert run_of(local, sent[0]).result == [f"{PLAIN} {n}" for n in (0, 2, 3)]
    assert run_of(local, sent[3]).id == run_of(local, sent[0]).id
    assert run_of(local, sent[1]).result == [f"{PLAIN} 1"]
    assert readable(local, PLAIN) == []


def test_options_that_look_at_a_hidden_field_are_refused_and_at_one_in_clear_they_work(deploy: Deploy) -> None:
    app = encrypted()
    named: dict[str, Any] = {
        "concurrency": lambda field: Concurrency(1, key=f"event.data.{field}"),
        "tags": lambda field: {"order": f"event.data.{field}"},
        "cancel_on": lambda field: CancelOn("stop", match={f"data.{field}": f"event.data.{field}"}),
    }
    for option, of in named.items():
        with pytest.raises(InvalidOption, match=r"looks at data\.word, which Encryption encrypts"):
            app.function(on="go", id="bad", **{option: of("word")})(lambda ctx: None)

    @app.function(on="go", id="fn", **{option: of("order") for option, of in named.items()})
    def fn(ctx: Context[Any]) -> str:
        ctx.step.sleep("rest", "1h")
        return str(ctx.event.data["word"])

    local = deploy(app)
    for order in ("o-1", "o-1", "o-2"):
        local.send("go", {"order": order, "word": PLAIN})
        local.advance("1s")
    newest = list(local.client.runs(tag="order=o-1"))
    assert [run.status for run in newest] == [RunStatus.SUSPENDED, RunStatus.SUSPENDED]
    local.send("stop", {"order": "o-1", "word": PLAIN})
    local.advance("2h")
    assert [run.status for run in local.client.runs(tag="order=o-1")] == [RunStatus.CANCELLED, RunStatus.CANCELLED]
    assert [run.result for run in local.client.runs(tag="order=o-2")] == [PLAIN]
    assert readable(local, PLAIN) == []


def test_a_schedule_of_an_app_that_encrypts_starts_its_runs(deploy: Deploy) -> None:
    app = encrypted()

    @app.function(on=Cron("0 1 * * *"), id="fn", tags={"tick": "event.data.scheduled_at"})
    def fn(ctx: Context[Any]) -> str:
        return f"{PLAIN} at {ctx.event.data['scheduled_at']}"

    local = deploy(app)
    local.advance("90m")
    (run,) = local.client.runs()
    assert run.result == f"{PLAIN} at 2026-01-01T01:00:00+00:00"
    assert local.client.result(local.client.replay(run.id)) == run.result
    assert readable(local, PLAIN) == []


# ---- run events


def announced(app: Stepwell, listener: Stepwell, heard: dict[str, Any]) -> None:
    """A function that completes or fails with a secret, and one that hears of it."""

    @app.function(on="go", id="fn", retries=0)
    def fn(ctx: Context[Any]) -> str:
        if ctx.event.data["order"] == "bad":
            raise ValueError(f"no {ctx.event.data['word']}")
        return str(ctx.event.data["word"]).upper()

    where = "event.data.function == 'fn' && event.data.event.data.order != 'other'"

    @listener.function(on=Trigger("stepwell/run.*", where=where), id="listener", tags={"of": "event.data.run_id"})
    def listen(ctx: Context[Any]) -> Any:
        heard[ctx.event.data["status"]] = ctx.event.data
        ctx.step.sleep("rest", "1m")
        return ctx.event.data["result"]


def test_the_news_of_an_encrypted_run_is_read_by_who_has_the_key_alone(deploy: Deploy) -> None:
    app, heard = encrypted(), dict[str, Any]()
    announced(app, app, heard)
    local = deploy(app)
    good = play(local, {"order": "o-1", "word": PLAIN})
    bad = play(local, {"order": "bad", "word": PLAIN})
    play(local, {"order": "other", "word": PLAIN})
    local.advance("5m")
    assert heard["completed"]["result"] == PLAIN.upper()
    assert heard["completed"]["event"]["data"] == {"order": "o-1", "word": PLAIN}
    assert heard["failed"]["error"]["message"] == f"no {PLAIN}"
    assert (heard["failed"]["error"]["type"], heard["failed"]["result"]) == ("ValueError", None)
    assert [run.result for run in local.client.runs(tag=f"of={good.id}")] == [PLAIN.upper()]
    assert [run.status for run in local.client.runs(tag=f"of={bad.id}")] == [RunStatus.COMPLETED]
    assert len(list(local.client.runs(function="shop/listener"))) == 2
    shown = [event.data["result"] for event in local.client.events(name="stepwell/run.finished")]
    assert shown == [PLAIN.upper()]

    told = next(iter(local.client.runs(tag=f"of={good.id}")))
    edited = local.client.fork(told.id, "rest", input={**told.event.data, "result": EDITED})
    assert local.client.result(edited) == EDITED
    found = {run.id for run in local.client.runs(tag=f"of={good.id}")}
    assert found == {told.id, edited}, "what the engine says itself stays in clear"
    assert readable(local, PLAIN, EDITED) == []


def test_an_app_without_the_key_hears_of_the_run_and_nothing_of_its_values(deploy: Deploy) -> None:
    app, other, heard = encrypted(), Stepwell("other"), dict[str, Any]()
    announced(app, other, heard)
    local = deploy(app, other)
    play(local, {"order": "o-1", "word": PLAIN})
    play(local, {"order": "bad", "word": PLAIN})
    local.advance("5m")
    assert set(heard["completed"]["result"]) == {"$sealed"}
    assert set(heard["completed"]["event"]["data"]) == {"order", "$sealed"}
    error = heard["failed"]["error"]
    assert (error["type"], error["message"]) == ("ValueError", "encrypted; to be read with the app's middleware")
    assert readable(local, PLAIN) == []


def test_a_run_event_can_be_waited_for(declare: Declare, deploy: Deploy) -> None:
    app = encrypted()

    def body(ctx: Any) -> Any:
        child = yield ctx.step.invoke(apart, {"word": PLAIN}, detached=True)
        ended = yield ctx.step.wait_for_event(
            "ended", event="stepwell/run.finished", match={"data.run_id": child}, timeout="1h", since="run_start"
        )
        return [child, ended.data["result"]]

    declare(app, body)

    @app.function(on="never", id="apart")
    def apart(ctx: Context[Any]) -> str:
        ctx.step.sleep("rest", "1m")
        return str(ctx.event.data["word"]).upper()

    app.function(on="stepwell/run.finished", id="listener")(lambda ctx: None)  # only what is listened to is told
    local = deploy(app)
    run = play(local, {"order": "o-1"}, wait="10m")
    (child,) = local.client.runs(function="shop/apart")
    assert run.result == [child.id, PLAIN.upper()]
    assert run.steps["ended"].result["data"]["result"] == PLAIN.upper()
    assert readable(local, PLAIN) == []


# ---- callbacks from outside


def test_the_door_answers_in_clear_and_a_client_says_the_same_in_cipher(declare: Declare, deploy: Deploy) -> None:
    app, told = encrypted(), dict[str, Any]()

    def body(ctx: Any) -> Any:
        answers = []
        for n in range(2):
            callback = yield ctx.step.create_callback(f"ask-{n}", timeout="1h")
            told[f"{n}"] = callback
            answers.append((yield callback.wait()))
        return answers

    declare(app, body)
    local = deploy(app)
    run = play(local, {"order": "o-1"})
    first: Callback[Any] = told["0"]
    assert local.http("POST", first.url, body={"answer": "public"}).status == 200
    local.client.complete_callback(first.token, {"answer": "public"})  # the same, said by another
    with pytest.raises(CallbackOver):
        local.client.complete_callback(first.token, {"answer": PLAIN})
    local.run_until_idle()
    second: Callback[Any] = told["1"]
    local.client.complete_callback(second.token, {"answer": PLAIN})
    assert local.http("POST", second.url, body={"answer": "another"}).status == 410
    local.run_until_idle()
    assert run_of(local, run.event.id).result == [{"answer": "public"}, {"answer": PLAIN}]
    assert readable(local, PLAIN) == []
    assert readable(local, "public") != []


# ---- why a run waits


def test_why_a_run_waits_tells_errors_only_to_who_may_read_them(declare: Declare, deploy: Deploy) -> None:
    app = encrypted()

    def body(ctx: Any) -> Any:
        yield ctx.step.run("one", lambda: refuse())
        if ctx.event.data["order"] == "never":
            yield ctx.step.sleep("rest", "1h")

    def refuse() -> None:
        raise ValueError(f"no {PLAIN}")

    declare(app, body, retries=1)
    local = deploy(app)
    run = play(local, {"order": "o-1", "word": PLAIN})
    clients = [local.client, local.client.with_middleware(), local.client.with_middleware(Encryption(secret(9)))]
    told, stranger, other = [client.why_waiting(run.id) for client in clients]
    assert f"step one failed in attempt 1 (ValueError: no {PLAIN}); attempt 2 at " in told
    assert "step one failed in attempt 1 (ValueError); attempt 2 at " in stranger
    assert other == stranger
    local.advance("1h")
    told, stranger, other = [client.why_waiting(run.id) for client in clients]
    assert f"no {PLAIN}" in told
    assert stranger.startswith("not waiting: failed at ")
    assert PLAIN not in stranger
    assert other == stranger


def test_near_misses_of_encrypted_events_are_told_by_their_fields_in_clear(declare: Declare, deploy: Deploy) -> None:
    app = encrypted()

    def body(ctx: Any) -> Any:
        yield ctx.step.wait_for_event("paid", event="paid", timeout="1h", match={"data.order": "o-1"})

    declare(app, body)
    local = deploy(app)
    run = play(local, {"order": "o-1", "word": PLAIN})
    local.send("paid", {"order": "o-2", "word": PLAIN})
    local.run_until_idle()
    for client in (local.client, local.client.with_middleware()):
        told = client.why_waiting(run.id)
        assert "waiting for paid where data.order = o-1" in told
        assert "1 near miss: other order" in told
        assert PLAIN not in told
