"""Lambda code without Docker: what goes into a function's zip, and when it has to be packed again.

The asset's hash is computed from what goes in (sources, requirements, lock, platform), not from what comes out. So
an unchanged function costs nothing at the next synthesis, and apps that share code and requirements share one zip.
The price: a requirement without an exact version is not looked up again until something else changes. Pin what you
deploy.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import jsii
from aws_cdk import aws_lambda as lambda_

from stepwell_cdk import packages
from stepwell_cdk.packages import Tree
from stepwell_cdk.platform import Platform
from stepwell_cdk.requirements import Requirements

_RECIPE = 1
"""Part of every hash: raise it when the packing itself changes, so that existing assets are packed anew."""

_ENGINE_SERVICES = ("dynamodb", "lambda", "s3", "sqs", "ssm")
"""The AWS services the engine calls. Descriptions of the other 400 are 25 MB that each cold start would fetch."""

_DOOR_SERVICES = ("secretsmanager",)
"""Those that the webhook door calls besides: where the secrets of its sources may be kept."""

_UNUSED = ("bin", "bazel-project", "cel_expr_python/ext")
"""Scripts, and what comes with the CEL library but is not imported: build leftovers (7 MB), its extensions (36 MB)."""


@dataclass(frozen=True)
class Recipe:
    """All that decides what a function's code directory holds."""

    trees: tuple[Tree, ...]
    requirements: Requirements
    platform: Platform
    services: tuple[str, ...] | None = None
    """The AWS services whose descriptions botocore keeps, by botocore's names; None: all, since user code may call any."""

    def fingerprint(self) -> str:
        """A digest (hexadecimal) that changes when, and only when, the directory would be packed differently."""
        settings = [
            _RECIPE, self.platform.python, self.platform.architecture, self.platform.is_running, self.services,
            self.requirements.lines, packages.LOCK.read_text(encoding="utf-8"),
        ]  # fmt: skip
        digest = hashlib.sha256(json.dumps(settings).encode())
        for tree in self.trees:
            for file in tree.files():
                name = f"{tree.into}/{file.relative_to(tree.source).as_posix()}"
                digest.update(f"\0{name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}".encode())
        return digest.hexdigest()

    def pack(self, target: Path) -> None:
        """Fill the directory ``target``. Raises ``RuntimeError`` for packages that cannot be had or are too large."""
        packages.install(self.requirements, self.platform, target)
        if "cel-expr-python" not in self.requirements.names:
            for name in _UNUSED:
                shutil.rmtree(target / name, ignore_errors=True)
        if self.services is not None:
            for service in (target / "botocore" / "data").iterdir():
                if service.is_dir() and service.name not in self.services:
                    shutil.rmtree(service)
        for tree in self.trees:
            tree.copy_to(target)
        if self.platform.is_running:
            packages.compile_bytecode(target)
        packages.refuse_oversize(target)

    def code(self) -> lambda_.Code:
        """The Lambda code asset: packed when a stack is synthesized, unless this very content was packed before."""
        return lambda_.Code.from_asset(
            str(self.trees[0].source),
            asset_hash=self.fingerprint(),
            asset_hash_type=cdk.AssetHashType.CUSTOM,
            bundling=cdk.BundlingOptions(
                image=cdk.DockerImage.from_registry("stepwell-packs-without-docker"), local=_Local(self)
            ),
        )


@jsii.implements(cdk.ILocalBundling)
class _Local:
    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def try_bundle(self, output_dir: str, *_positional: Any, **_options: Any) -> bool:
        self._recipe.pack(
            Path(output_dir)
        )  # the CDK renames the directory once this returns, so a failure leaves no asset
        return True


def engine_code(platform: Platform) -> lambda_.Code:
    """The code of the engine's Lambdas and the webhook door: the library, the handlers, the pinned dependencies."""
    return Recipe(_library_trees(), Requirements(), platform, services=(*_ENGINE_SERVICES, *_DOOR_SERVICES)).code()


def worker_recipe(
    code: Path,
    platform: Platform,
    *,
    requirements: Path | str | Sequence[str] | None = None,
    into: str = "",
    exclude: Sequence[str] = (),
    services: Sequence[str] | None = None,
) -> Recipe:
    """What a worker's code directory holds: the user's ``code``, what it requires, and the library with its handlers.

    ``into`` is the package directory that ``code`` itself is (``"shop"`` if its modules are imported as
    ``shop.x``); by default the modules and packages inside ``code`` are imported by their own names. ``services`` are
    the AWS services the code calls, if descriptions of all others may go (25 MB). Raises
    ``FileNotFoundError`` if ``code`` is no directory.
    """
    if not code.is_dir():
        raise FileNotFoundError(f"no directory of user code at {code}")
    # Absolute, because the CDK's own process has the working directory that this one had when it began.
    trees = (Tree(code.resolve(), into, tuple(exclude)), *_library_trees())
    kept = None if services is None else tuple(sorted({*_ENGINE_SERVICES, *services}))
    return Recipe(trees, Requirements.read(requirements, platform, code=code), platform, kept)


def _library_trees() -> tuple[Tree, ...]:
    return tuple(Tree(_package(name), name) for name in ("stepwell", "stepwell_lambdas"))


def _package(name: str) -> Path:
    """Where an importable package lies: in a source checkout and in an installed wheel alike."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"{name} is not installed: install stepwell where the stack is synthesized", name=name
        )
    return Path(next(iter(spec.submodule_search_locations)))
