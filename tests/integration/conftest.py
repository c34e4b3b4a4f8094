"""Worlds for the integration tests. In each of them the promises that hold everywhere are checked at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from bench.ministack import ministack
from stepwell import Stepwell
from stepwell.app import Function
from stepwell.testing import LocalStepwell
from stepwell.testing.invariants import check

from .support import FACES, Body, Declare, Deploy


@pytest.fixture
def app() -> Stepwell:
    """An app without functions yet."""
    return Stepwell("shop")


@pytest.fixture(params=sorted(FACES))
def declare(request: pytest.FixtureRequest) -> Declare:
    """Declares functions; a test that asks for it is run with `def` and with `async def` functions."""
    face = FACES[request.param]

    def declare(app: Stepwell, body: Body, *, on: Any = "go", id: str = "fn", **options: Any) -> Function:
        return app.function(on=on, id=id, **options)(face(body))

    return declare


@pytest.fixture
def declare_plain() -> Declare:
    """Declares `def` functions, for what both faces share and one shows as well as two."""

    def declare(app: Stepwell, body: Body, *, on: Any = "go", id: str = "fn", **options: Any) -> Function:
        return app.function(on=on, id=id, **options)(FACES["sync"](body))

    return declare


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str | None]:
    """The AWS the worlds run on: moto in this process, or with TEST_EMULATOR=1 an emulator on loopback.

    The two were written independently, and each accepts things that the other refuses: an expression proven on one
    alone is unproven.
    """
    if os.environ.get("TEST_EMULATOR") != "1":
        yield None
        return
    with ministack() as url:
        yield url


@pytest.fixture
def deploy(endpoint: str | None) -> Iterator[Deploy]:
    """Opens worlds that stay open for the test."""
    worlds: list[LocalStepwell] = []
    with ExitStack() as stack:

        def deploy(*apps: Stepwell, **options: Any) -> LocalStepwell:
            options.setdefault("endpoint_url", endpoint)
            worlds.append(stack.enter_context(LocalStepwell(*apps, **options)))
            return worlds[-1]

        yield deploy
        for world in worlds:
            check(world.world.observations)
