"""The demo: what it shows, what it proves, and that it admits it when something is wrong."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from stepwell import Context, Failure, Stepwell, step
from stepwell.cli.demo import catalogue
from stepwell.cli.demo.catalogue import Crash, Pipeline
from stepwell.cli.demo.closing import closing, performance_shape
from stepwell.cli.demo.performance import Performance, perform
from stepwell.cli.demo.proof import prove
from stepwell.cli.demo.stages import LiveStage, PlainStage, SilentStage, stage_for
from stepwell.cli.root import cli
from stepwell.cli.timeline.lanes import Outcome, RunLane
from stepwell.cli.timeline.story import Story
from stepwell.records import RunStatus, StepStatus
from stepwell.testing import LocalStepwell
from stepwell.testing.observations import BodyBegan

PLAY = Callable[[LocalStepwell, Callable[[str], None]], list[str]]


def small_app() -> Stepwell:
    app = Stepwell("small")
    failures = iter([True, True, False])

    @step(retries=3)
    def flaky() -> str:
        if next(failures, False):
            raise ConnectionError("not yet")
        return "there"

    @app.function(on="go")
    def fn(ctx: Context[Any]) -> str:
        ctx.step.run("first", str, "a")
        ctx.step.run("second", str, "b")
        ctx.step.sleep("rest", "2d")
        ctx.step.run(flaky)
        sys.stdout.write("a pipeline may print\n")
        return "done"

    return app


def go(local: LocalStepwell, say: Callable[[str], None]) -> list[str]:
    say("It goes.")
    local.send("go", {})
    local.advance("3d")
    return []


SECOND = Crash("second")


def performed(play: PLAY = go, crash: Crash | None = SECOND, app: Stepwell | None = None) -> Performance:
    pipeline = Pipeline("small", "a small one", [app or small_app()], play, crash)
    return perform(pipeline, seed=0, stage=SilentStage())


def only_run(performance: Performance) -> RunLane:
    [run] = performance.runs
    return run


# ---- what it sees ----------------------------------------------------------------------------------------------------


def test_a_killed_worker_a_retry_and_a_sleep_are_on_the_timeline() -> None:
    performance = performed()
    run = only_run(performance)

    assert performance.problems == []
    assert run.status is RunStatus.COMPLETED
    ends = {key: [stretch.outcome for stretch in lane.stretches] for key, lane in run.steps.items()}
    assert ends == {
        "first": [Outcome.RECORDED],
        "second": [Outcome.CUT_OFF, Outcome.RECORDED],
        "rest": [Outcome.WAITED],
        "flaky": [Outcome.RETRIED, Outcome.RETRIED, Outcome.RECORDED],
    }
    assert {lane.status for lane in run.steps.values()} == {StepStatus.COMPLETED}
    slept = run.steps["rest"].stretches[0]
    assert slept.end is not None
    assert slept.end - slept.begin == pytest.approx(2 * 86_400, abs=5)


def test_the_kill_is_told_with_who_took_over_and_how_much_was_kept() -> None:
    [kill] = performed().kills
    assert "after the body of second" in kill.why
    assert kill.kept == 1
    assert kill.resumed_by is not None
    assert kill.resumed_by.startswith("worker #")
    assert kill.resumed_by != kill.worker


def test_the_proof_accounts_for_every_body() -> None:
    proof = performed().proof
    assert proof is not None
    assert (proof.bodies, proof.recorded, proof.retried, proof.cut_off, proof.unexplained) == (6, 3, 2, 1, 0)
    assert proof.ran_again == proof.broken == ()


def test_time_and_requests_are_measured_and_the_same_seed_gives_the_same() -> None:
    first, second = performed(), performed()
    assert first.virtual_seconds == pytest.approx(3 * 86_400)
    assert 0 < first.real_seconds < 60
    assert first.requests == second.requests
    assert first.requests.write_units > 0
    assert first.requests.invocations["worker"] == 5  # start, after the crash, after the sleep, two retries


# ---- what it admits --------------------------------------------------------------------------------------------------


def test_a_finished_step_that_ran_again_is_found() -> None:
    with LocalStepwell(small_app()) as local:
        go(local, print)
        trace = local.world.observations
        began = next(trace.of(BodyBegan))
        trace.append(began)  # as if the engine had done it
        assert prove(Story(), trace).ran_again == (
            f"I3: run {began.run_id}: the body of first began again after its result was recorded",
        )


def test_without_a_kill_nothing_is_proved() -> None:
    assert performed(crash=None).problems == ["no worker was killed, so nothing was proved about crashes"]
    assert performed(crash=Crash("no-such-step")).problems == [
        "no worker was killed, so nothing was proved about crashes"
    ]


def test_what_the_play_complains_about_is_a_problem() -> None:
    assert performed(lambda local, say: [*go(local, say), "the film is missing"]).problems == ["the film is missing"]


def test_a_run_that_is_left_unfinished_is_a_problem() -> None:
    def impatient(local: LocalStepwell, say: Callable[[str], None]) -> list[str]:
        local.send("go", {})
        local.advance("1d")
        return []

    [problem] = performed(impatient).problems
    assert problem.startswith("fn (small.")
    assert problem.endswith("was left suspended")


def test_a_play_that_breaks_off_is_a_problem_and_no_traceback() -> None:
    def broken(local: LocalStepwell, say: Callable[[str], None]) -> list[str]:
        go(local, say)
        raise RuntimeError("out of film")

    assert performed(broken).problems == ["the play broke off: RuntimeError: out of film"]


@pytest.mark.parametrize("handled", [True, False])
def test_a_failed_run_is_a_problem_unless_a_handler_took_care_of_it(handled: bool) -> None:
    app = Stepwell("failing")

    def handler(ctx: Context[Failure]) -> None:
        ctx.step.run("tell", str)

    @app.function(on="go", retries=0, on_failure=handler if handled else None)
    def fn(ctx: Context[Any]) -> None:
        ctx.step.run("first", str)
        raise ValueError("no good")

    problems = performed(crash=Crash("first"), app=app).problems
    if handled:
        assert problems == []
    else:
        [problem] = problems
        assert problem.endswith("ended as failed: ValueError: no good")


# ---- where it is seen ------------------------------------------------------------------------------------------------


def test_lines_tell_the_story_where_there_is_no_terminal() -> None:
    console = Console(file=io.StringIO(), width=160)
    pipeline = Pipeline("small", "a small one", [small_app()], go, SECOND)
    performance = perform(pipeline, seed=0, stage=PlainStage(console))
    closing(console, [performance])
    out = console.file.getvalue()  # type: ignore[attr-defined]

    for line in (
        "small  a small one",
        "→ It goes.",
        "day 1, 00:00:00  fn starts",
        "KILLED after the body of second, before its result was recorded",
        "day 1, 00:00:00  fn second began again",
        "day 3, 00:00:00  fn flaky retrying: ConnectionError: not yet",
        "slept 2d",
        "worker killed; ran again",
        "and the one step finished by then did not run again",
        "no finished step ran again: 6 step bodies began = 3 recorded + 2 failed and tried again + 1 lost with the worker",
        "1 pipeline, 1 run: all ended as they should. 3d of virtual time",
        "dead-letter queue stepwell-",
    ):
        assert line in out
    assert "\x1b" not in out


def test_the_timeline_moves_on_a_terminal_and_pauses_do_not_count() -> None:
    console = Console(file=io.StringIO(), width=110, height=30, force_terminal=True, color_system="truecolor")
    pauses: list[float] = []
    stage = LiveStage(console, pause=pauses.append)
    pipeline = Pipeline("small", "a small one", [small_app()], go, SECOND)
    performance = perform(pipeline, seed=0, stage=stage)
    out = console.file.getvalue()  # type: ignore[attr-defined]

    assert performance.problems == []
    assert len(pauses) == 1
    assert "of virtual time" in out
    assert "worker killed; ran again" in out
    assert "\x1b[" in out


def test_the_stage_fits_where_it_plays(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True)
    monkeypatch.delenv("CI", raising=False)
    assert isinstance(stage_for(terminal, silent=False), LiveStage)
    assert isinstance(stage_for(Console(file=io.StringIO()), silent=False), PlainStage)
    assert isinstance(stage_for(terminal, silent=True), SilentStage)
    monkeypatch.setenv("CI", "true")
    assert isinstance(stage_for(terminal, silent=False), PlainStage)


def test_of_thousands_of_steps_only_some_are_told() -> None:
    console = Console(file=io.StringIO(), width=100)
    stage = PlainStage(console)
    for number in range(1, 1801):
        stage.hear(f"fn batch-{number} completed", 0)
    stage.hear("fn batch-7 retrying: Down: 503", 0)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert 12 < len(lines) < 60
    assert "retrying" in lines[-1]


def test_a_performance_as_json_says_everything_in_plain_types() -> None:
    shape = json.loads(json.dumps(performance_shape(performed())))
    assert shape["ok"] is True
    assert shape["proof"]["cut_off"] == 1
    assert {each["key"]: each["bodies"] for each in shape["runs"][0]["steps"]} == {
        "first": 1,
        "second": 2,
        "rest": 0,
        "flaky": 3,
    }


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_demo_plays_the_orders_and_ends_well() -> None:
    result = CliRunner().invoke(cli, ["demo", "orders"])
    assert result.exit_code == 0, result.output
    assert "charged 1 time" in result.stdout
    assert "no finished step ran again" in result.stdout
    assert "all ended as they should" in result.stdout


def test_the_demo_as_json_prints_json_and_nothing_else() -> None:
    result = CliRunner().invoke(cli, ["demo", "orders", "--json", "--seed", "7"])
    assert result.exit_code == 0, result.output
    [orders] = json.loads(result.stdout)
    assert orders["pipeline"] == "orders"
    assert {run["status"] for run in orders["runs"]} == {"completed"}
    assert orders["kills"]
    assert orders["proof"]["ran_again"] == []


def test_a_demo_that_does_not_end_well_exits_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline("small", "a small one", [small_app()], lambda local, say: ["nothing was sent"], None)
    monkeypatch.setattr(catalogue, "load", lambda name: pipeline)
    result = CliRunner().invoke(cli, ["demo", "small"])
    assert result.exit_code == 1
    assert "nothing was sent" in result.stdout
    assert "small did not end as it should" in result.stdout


def test_an_unknown_pipeline_is_refused_with_those_there_are() -> None:
    result = CliRunner().invoke(cli, ["demo", "films"])
    assert result.exit_code == 1
    assert "There is no pipeline 'films'" in result.output
    assert "clips, debate, orders, pricing_sync, sermons" in result.output


def test_a_default_pipeline_whose_package_is_missing_is_left_out_and_a_named_one_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(name: str) -> Pipeline:
        if name == "sermons":
            raise catalogue.CannotPlay("missing-package", "sermons works with the package pocketsphinx")
        return Pipeline(name, "a small one", [small_app()], go, SECOND)

    monkeypatch.setattr(catalogue, "load", load)
    result = CliRunner().invoke(cli, ["demo"])
    assert result.exit_code == 0, result.output
    assert "sermons is left out: sermons works with the package pocketsphinx" in result.stdout
    assert CliRunner().invoke(cli, ["demo", "sermons"]).exit_code == 1


@pytest.mark.parametrize("name", catalogue.names())
def test_every_pipeline_can_be_loaded_and_has_a_title(name: str) -> None:
    pipeline = catalogue.load(name)
    assert pipeline.name == name
    assert pipeline.title.endswith((".", "again"))
    assert pipeline.apps


@pytest.mark.slow
def test_steps_in_workers_of_their_own_are_drawn_where_they_were_asked_for() -> None:
    result = CliRunner().invoke(cli, ["demo", "clips", "--json"])
    assert result.exit_code == 0, result.output
    [clips] = json.loads(result.stdout)
    bodies = {step["key"]: step["bodies"] for run in clips["runs"] for step in run["steps"]}
    assert {run["function"] for run in clips["runs"]} == {"identify-clips", "process-clips"}
    assert bodies["find_clips"] == 2
    assert bodies["cut_clip[1]"] == 1
