"""The key that callback tokens are made with: what is stored opens nothing, and a key that is away for a while only delays."""

from __future__ import annotations

import asyncio
import base64
import re
from contextlib import suppress
from dataclasses import replace
from typing import Any

import boto3
import pytest

from stepwell import AsyncContext, Callback, Client, Context, RunStatus, StepError, Stepwell, step
from stepwell.callbacks import callback_key_name
from stepwell.errors import KeyUnavailable, UnknownCallback
from stepwell.ids import digest
from stepwell.testing import Fault, FaultKind, FaultPlan, LocalStepwell
from stepwell.testing.clock import SeededKeys

from .sealing import everything_ever_stored
from .support import Declare, Deploy, cold_start, play, redeploy, run_of


def key_text(*names: str) -> str:
    """Made-up keys as they are kept, the first first."""
    return "\n".join(base64.b64encode(digest(name)).decode() for name in names)


class Keys:
    """Keys in hand of the test; None: they cannot be read."""

    def __init__(self, text: str | None = key_text("one")) -> None:
        self.text = text
        self.reads = 0

    def read(self, app: str) -> str:
        self.reads += 1
        if self.text is None:
            raise KeyUnavailable("The key is locked away.")
        return self.text

    def create(self, app: str, text: str) -> bool:
        return False


def with_keys(local: LocalStepwell, keys: Keys | SeededKeys | None) -> LocalStepwell:
    """The world with these keys; None: with those in Parameter Store."""
    local._keys = keys
    cold_start(local)
    return local


@step(retries=1)
def ask(url: str, *, note: str) -> None:
    raise ConnectionError(f"400 Bad Request for {url}")


def asking(ctx: Context[Any]) -> Any:
    """Hands its token on in every way that the engine itself keeps something of."""
    callback = ctx.step.create_callback("asked", timeout="1d")
    tokens.append(callback.token)
    for size in (0, 10, 20, 30, 40, 50):  # shown arguments are cut somewhere
        with suppress(StepError):
            ctx.step.run(f"ask-{size}", ask, "https://" + "x" * size + callback.token, note=callback.url)
    ctx.step.wait_for_event("never", event="never", match={"data.x": 1}, where=f"'{size}' == 'x'", timeout="1s")
    return callback.wait()


tokens: list[str] = []


@pytest.fixture(autouse=True)
def _no_tokens() -> None:
    tokens.clear()


def test_whoever_reads_all_that_is_stored_finds_no_token_and_can_make_none(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go", id="fn")(asking)
    local = deploy(app)
    event_id = local.send("go", {"large": "".join(chr(65 + (n * n) % 57) for n in range(40_000))})
    local.advance("1h")
    run = run_of(local, event_id)
    assert run.status is RunStatus.SUSPENDED
    assert [each.error.type for each in run.steps.values() if each.error] == ["ConnectionError"] * 6

    token = tokens[0]
    start, _, secret = token.rpartition("~")
    stored = "\n".join(everything_ever_stored(local))
    assert f"{start}~" in stored, "the test looks where tokens would be"
    assert f"{start}~{secret[:1]}" not in stored
    assert secret[:8] not in stored

    # With every number that is stored in place of a key, too.
    found = {bytes.fromhex(number) for number in re.findall(r"\b(?:[0-9a-f]{2}){8,64}\b", stored)}
    assert len(found) > 5
    for number in found:
        for made in (number.hex(), digest("callback", number.hex(), run.id, "asked").hex()):
            with pytest.raises(UnknownCallback):
                local.client.complete_callback(f"{start}~{made[:32]}", "forged")
    local.client.complete_callback(token, "genuine")
    local.run_until_idle()
    assert run_of(local, event_id).result == "genuine"
    assert set(tokens) == {token}, "the same on every replay"


def test_answers_are_checked_without_the_key(app: Stepwell, declare: Declare, deploy: Deploy) -> None:
    def body(ctx: Any) -> Any:
        return (yield ctx.step.wait_for_callback("asked", timeout="1d", heartbeat="2h", submit=hand_out))

    def hand_out(callback: Callback) -> None:
        tokens.append(callback.token)

    declare(app, body)
    local = deploy(app)
    event_id = local.send("go")
    local.run_until_idle()
    nowhere = Keys(None)
    client = Client(replace(local._ports(), open_keyring=lambda: pytest.fail("nobody needs it")))
    with_keys(local, nowhere)
    client.heartbeat_callback(tokens[0])
    reply = local.http("POST", f"/c/{tokens[0]}", body={"ok": True})
    assert (reply.status, nowhere.reads) == (200, 0)
    with_keys(local, SeededKeys(local.world.seed)).run_until_idle()
    assert run_of(local, event_id).result == {"ok": True}


@pytest.mark.parametrize("away", ["before", "while it waits"])
def test_a_run_whose_key_cannot_be_read_is_let_go_and_goes_on_later(
    app: Stepwell, declare: Declare, deploy: Deploy, away: str
) -> None:
    def body(ctx: Any) -> Any:
        callback = ctx.step.create_callback("asked", timeout="1d")
        if hasattr(callback, "__await__"):
            callback = yield callback
        tokens.append(callback.token)
        yield ctx.step.run("told", str, callback.token)
        return (yield callback.wait())

    declare(app, body, retries=0)
    keys = Keys(None if away == "before" else key_text("one"))
    local = with_keys(deploy(app), keys)
    event_id = local.send("go")
    local.run_until_idle()
    if away == "before":
        assert tokens == []
    else:
        keys.text = None
        cold_start(local)
        local.client.complete_callback(tokens[0], "yes")
    local.advance("3h")
    run = run_of(local, event_id)
    assert run.status is RunStatus.SUSPENDED
    assert str(run.reason) == "key-unavailable: The key is locked away."

    keys.text = key_text("one")
    local.advance("20m")
    if away == "before":
        local.client.complete_callback(tokens[0], "yes")
        local.run_until_idle()
    run = run_of(local, event_id)
    assert (run.status, run.result, run.attempt) == (RunStatus.COMPLETED, "yes", 1)
    assert len(set(tokens)) == 1


def test_so_is_one_with_tasks(app: Stepwell, deploy: Deploy) -> None:
    """What ends an invocation is not to be an error among those of a task group."""

    @app.function(on="go", id="fn", retries=0)
    async def fn(ctx: AsyncContext[Any]) -> list[Any]:
        async def one(name: str) -> Any:
            callback = await ctx.step.create_callback(name, timeout="1d")
            tokens.append(callback.token)
            return await callback.wait()

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(name)) for name in ("first", "second")]
        return [task.result() for task in tasks]

    keys = Keys(None)
    local = with_keys(deploy(app), keys)
    event_id = local.send("go")
    local.advance("5h")
    run = run_of(local, event_id)
    assert (run.status, str(run.reason)) == (RunStatus.SUSPENDED, "key-unavailable: The key is locked away.")
    keys.text = key_text("one")
    local.advance("20m")
    for token, answer in zip(dict.fromkeys(tokens), ("a", "b"), strict=True):
        local.client.complete_callback(token, answer)
    local.run_until_idle()
    assert run_of(local, event_id).result == ["a", "b"]


def test_a_key_that_stays_away_fails_its_runs_after_a_day_and_says_why(app: Stepwell, deploy: Deploy) -> None:
    app.function(on="go", id="fn")(lambda ctx: ctx.step.wait_for_callback("asked", timeout="30d"))
    run = play(with_keys(deploy(app), Keys(None)), wait="26h")
    assert run.error is not None
    assert (run.error.type, "locked away" in run.error.message) == ("Undeliverable", True)


class TestAnotherKey:
    """The key is changed while a callback is open."""

    def started(self, app: Stepwell, deploy: Deploy) -> tuple[LocalStepwell, Keys, str]:
        @app.function(on="go", id="fn", retries=0)
        def fn(ctx: Context[Any]) -> Any:
            callback = ctx.step.create_callback("asked", timeout="2d")
            ctx.step.run("told", tokens.append, callback.token)
            first = callback.wait()
            second = ctx.step.wait_for_callback("asked-again", timeout="2d", submit=lambda it: tokens.append(it.token))
            return [first, second]

        keys = Keys()
        local = with_keys(deploy(app), keys)
        event_id = local.send("go")
        local.run_until_idle()
        return local, keys, event_id

    def test_with_the_old_one_kept_behind_it_all_goes_on(self, app: Stepwell, deploy: Deploy) -> None:
        local, keys, event_id = self.started(app, deploy)
        keys.text = key_text("two", "one")  # some workers know it already, others find it when they need it
        local.client.complete_callback(tokens[0], "first")
        local.run_until_idle()
        cold_start(local)
        local.client.complete_callback(tokens[1], "second")
        local.run_until_idle()
        assert run_of(local, event_id).result == ["first", "second"]

    def test_without_it_no_other_token_is_made_until_it_is_back(self, app: Stepwell, deploy: Deploy) -> None:
        local, keys, event_id = self.started(app, deploy)
        keys.text = key_text("two")
        cold_start(local)
        local.client.complete_callback(tokens[0], "first")
        local.run_until_idle()
        assert "no longer has" in str(run_of(local, event_id).reason)
        keys.text = key_text("two", "one")
        local.advance("20m")
        local.client.complete_callback(tokens[1], "second")
        local.run_until_idle()
        assert run_of(local, event_id).result == ["first", "second"]


def test_a_forks_callback_has_a_token_of_its_own(app: Stepwell, deploy: Deploy) -> None:
    @app.function(on="go", id="fn", retries=0)
    def fn(ctx: Context[Any]) -> Any:
        first = ctx.step.create_callback("first", timeout="1d")
        tokens.append(first.token)
        answer = first.wait()
        return [answer, ctx.step.wait_for_callback("second", timeout="1d", submit=lambda it: tokens.append(it.token))]

    local = deploy(app)
    event_id = local.send("go")
    local.run_until_idle()
    local.client.complete_callback(tokens[-1], 1)
    local.run_until_idle()
    original = tokens[-1]
    tokens.clear()
    fork = local.client.fork(run_of(local, event_id).id, "second")
    local.run_until_idle()
    kept, second = tokens
    assert second.startswith(fork)
    assert second != original
    with pytest.raises(UnknownCallback):
        local.client.complete_callback(kept, 2)  # it is answered, by the token of the run it is from
    local.client.complete_callback(second, 2)
    local.run_until_idle()
    assert local.client.run(fork).result == [1, 2]
    assert run_of(local, event_id).status is RunStatus.SUSPENDED


class TestInParameterStore:
    """As deployed: the registrar makes the key, the workers read it."""

    def deployed(self, app: Stepwell, deploy: Deploy, **options: Any) -> LocalStepwell:
        local = with_keys(deploy(app, **options), None)
        redeploy(local, app)
        return local

    def parameters(self, local: LocalStepwell) -> dict[str, Any]:
        ssm, prefix = boto3.client("ssm"), f"/stepwell/{local.world.aws.resources.table}/"
        found = ssm.get_parameters_by_path(Path=prefix, Recursive=True, WithDecryption=True)["Parameters"]
        return {each["Name"]: each for each in found}

    @pytest.fixture
    def waiting(self, app: Stepwell) -> Stepwell:
        def hand_out(callback: Callback) -> None:
            tokens.append(callback.token)

        @app.function(on="go", id="fn", retries=0)
        def fn(ctx: Context[Any]) -> Any:
            return ctx.step.wait_for_callback("asked", timeout="1d", submit=hand_out)

        app.function(on="plain", id="plain")(lambda ctx: ctx.step.run("once", lambda: 1))
        return app

    def calls(self, local: LocalStepwell) -> list[tuple[str, str]]:
        return [(call.label, call.operation) for call in local.world.calls if call.service == "ssm"]

    def test_it_is_made_when_the_app_is_deployed_and_stays_at_every_other_deployment(
        self, waiting: Stepwell, deploy: Deploy
    ) -> None:
        local = self.deployed(waiting, deploy)
        made = self.parameters(local)
        name = callback_key_name(local.world.aws.resources.table, "shop")
        assert set(made) == {name}
        assert made[name]["Type"] == "SecureString"
        assert len(base64.b64decode(made[name]["Value"], validate=True)) == 32
        for kind in ("Update", "Update", "Delete"):
            redeploy(local, waiting, kind)
        assert self.parameters(local) == made

    def test_a_run_waits_across_deployments_and_is_answered(self, waiting: Stepwell, deploy: Deploy) -> None:
        local = self.deployed(waiting, deploy)
        event_id = local.send("go")
        local.run_until_idle()
        redeploy(local, waiting)
        cold_start(local)
        local.client.complete_callback(tokens[0], "yes")
        local.run_until_idle()
        assert run_of(local, event_id).result == "yes"
        assert len(set(tokens)) == 1

    def test_a_worker_asks_once_and_only_for_callbacks(self, waiting: Stepwell, deploy: Deploy) -> None:
        local = self.deployed(waiting, deploy)
        asked = len(self.calls(local))
        play(local, event="plain")
        assert self.calls(local)[asked:] == []
        for _ in range(3):
            play(local)
        assert self.calls(local)[asked:] == [("worker", "GetParameter")]

    def test_a_missing_key_is_named_and_the_next_deployment_makes_it(self, waiting: Stepwell, deploy: Deploy) -> None:
        local = with_keys(deploy(waiting), None)
        event_id = local.send("go")
        local.run_until_idle()
        reason = str(run_of(local, event_id).reason)
        assert reason.startswith("key-unavailable: ")
        assert callback_key_name(local.world.aws.resources.table, "shop") in reason
        redeploy(local, waiting)
        local.advance("1m")
        assert len(tokens) == 1

    def test_an_outage_of_parameter_store_delays_and_fails_nothing(self, waiting: Stepwell, deploy: Deploy) -> None:
        outage = Fault(FaultKind.REFUSED, operation="ssm.GetParameter")
        local = self.deployed(waiting, deploy, plan=FaultPlan([outage]))
        event_id = local.send("go")
        local.run_until_idle()
        assert "ThrottlingException" in str(run_of(local, event_id).reason)
        local.advance("1m")
        local.client.complete_callback(tokens[0], "yes")
        local.run_until_idle()
        run = run_of(local, event_id)
        assert (run.result, run.attempt) == ("yes", 1)
