"""The pytest plugin: a fixture, and the story of the run in the report of a failure."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

pytest_plugins = ["pytester"]

TESTS = """
    from stepwell import Stepwell

    app = Stepwell("shop")

    @app.function(on="order/created")
    def process(ctx):
        return ctx.step.run("charge", lambda: 42)

    def test_good(local_stepwell):
        local = local_stepwell(app)
        event_id = local.send("order/created", {})
        local.run_until_idle()
        assert local.run(event_id).result == 42

    def test_bad(local_stepwell):
        local = local_stepwell(app)
        event_id = local.send("order/created", {})
        local.run_until_idle()
        assert local.run(event_id).result == 43

    def test_world_is_closed():
        assert app._client is None
"""


def run(pytester: Any) -> Any:
    pytester.makepyfile(TESTS)
    installed = entry_points(group="pytest11", name="stepwell")
    return pytester.runpytest_inprocess(
        "-p", "no:cacheprovider", *(() if installed else ("-p", "stepwell.testing.plugin"))
    )


def test_the_fixture_makes_worlds_that_end_with_the_test(pytester: Any) -> None:
    run(pytester).assert_outcomes(passed=2, failed=1)


def test_a_failing_test_shows_what_its_runs_did(pytester: Any) -> None:
    result = run(pytester)
    result.stdout.fnmatch_lines(["*local Stepwell 1*", "run shop.* of process: completed", "*body of charge began*"])
