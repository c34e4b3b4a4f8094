"""The pytest plugin: the fixture `local_stepwell`, and the timelines of its worlds in the report of a test that failed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from stepwell.testing.local import LocalStepwell

_WORLDS = pytest.StashKey[list[Any]]()


@pytest.fixture
def local_stepwell(request: pytest.FixtureRequest) -> Iterator[Callable[..., LocalStepwell]]:
    """Makes local worlds that end with the test: `local = local_stepwell(app)`. Takes what LocalStepwell takes."""
    from stepwell.testing.local import LocalStepwell  # not at import: pytest loads this for every project that has us

    worlds: list[LocalStepwell] = []
    request.node.stash[_WORLDS] = worlds
    with ExitStack() as stack:

        def make(*apps: Any, **options: Any) -> LocalStepwell:
            local = stack.enter_context(LocalStepwell(*apps, **options))
            worlds.append(local)
            return local

        yield make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what happened in the test's worlds to the report of its failure."""
    report = yield
    if report.when == "call" and report.failed:
        worlds: list[Any] = item.stash.get(_WORLDS, [])
        for number, local in enumerate(worlds, 1):
            local.test_failed = True
            report.sections.append((f"local Stepwell {number}", local.timeline()))
    return report
