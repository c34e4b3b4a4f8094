"""The order of the house: floors, sizes, what the wheel holds, what starts fast, what the repository never holds."""

from __future__ import annotations

import ast
import json
import re
import runpy
import socket
import subprocess
import sys
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = {
    "stepwell": REPOSITORY / "sdk" / "stepwell",
    "stepwell_lambdas": REPOSITORY / "lambdas",
    "stepwell_cdk": REPOSITORY / "cdk" / "stepwell_cdk",
    "stepwell_examples": REPOSITORY / "examples",
}

# Every module (or sub-package) of sdk/stepwell stands on a floor. It may import from its own floor and those below.
FLOORS: dict[str, float] = {
    # 1: the vocabulary
    "errors": 1,
    "clock": 1,
    "ids": 1,
    "durations": 1,
    "codec": 1,
    "events": 1,
    "native": 1,
    "callbacks": 1,
    "signatures": 1,
    "webhooks": 1,
    "records": 1,
    "expressions": 1,
    "policies": 1,
    "schedules": 1,
    "threads": 1,
    # 2: ports and their AWS adapters
    "store": 2,
    "queue": 2,
    "payloads": 2,
    "invoker": 2,
    "keyring": 2,
    "ports": 2,
    "middleware": 2,
    # 3: decisions, pure
    "decisions": 3,
    # 4: the engine
    "engine": 4,
    # 5: what users touch
    "typed": 5,
    "models": 5,
    "sources": 5,
    "door": 5,
    "dead_letters": 5,
    "views": 5,
    "again": 5,
    "finding": 5,
    "waiting": 5,
    "steps": 5,
    "providing": 5,
    "remote": 5,
    "planning": 5,
    "endings": 5,
    "verbs": 5,
    "context": 5,
    "flow": 5,
    "app": 5,
    "client": 5,
    # 6: what people run
    "testing": 6,
    "cli": 6,
}
# The public face (stepwell/__init__.py) stands on top of floor 5, and so do the handlers: only floor 6 is above them.
PUBLIC_FACE = 5.5
OUTSIDE_FLOORS = {"stepwell_lambdas": 5.5, "stepwell_examples": 6.0, "stepwell_cdk": 6.0}

MODULE_LINES = 500
PUBLIC_NAMES = 45


def python_files(root: Path) -> list[Path]:
    """Every Python file under ``root``, hidden directories and build products left out."""
    return [
        path
        for path in sorted(root.rglob("*.py"))
        if not any(part.startswith(".") or part in {"cdk.out", "node_modules"} for part in path.relative_to(root).parts)
    ]


def imports(path: Path, package: str, root: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of everything ``path`` imports, inside functions and for type checking too.

    ``from a.b import c`` yields ``a.b.c``: whether ``c`` is a module or a name is for the caller to see.
    """
    here = [package, *path.relative_to(root).parent.parts]
    for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = here[: len(here) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def stepwell_module(name: str, sdk: Path) -> str | None:
    """Which module of stepwell the dotted ``name`` means: ``""`` for the public face, None for something outside."""
    first, _, rest = name.partition(".")
    if first != "stepwell":
        return None
    module = rest.partition(".")[0]
    exists = (sdk / f"{module}.py").is_file() or (sdk / module).is_dir()
    return module if module and (module in FLOORS or exists) else ""


def floor_of(name: str, sdk: Path) -> float | None:
    """The floor the dotted ``name`` stands on; None for what is not ours."""
    module = stepwell_module(name, sdk)
    if module is None:
        return OUTSIDE_FLOORS.get(name.partition(".")[0])
    if module == "":
        return PUBLIC_FACE
    return FLOORS.get(module, 99)


def climbing_imports(sdk: Path) -> list[str]:
    """What is wrong with the floors of the stepwell package at ``sdk``, one sentence each."""
    wrong = []
    for path in python_files(sdk):
        shown = path.relative_to(sdk)
        module = shown.parts[0].removesuffix(".py")
        if module == "__init__":
            floor = PUBLIC_FACE
        elif module in FLOORS:
            floor = FLOORS[module]
        else:
            wrong.append(f"{shown}: unknown module {module!r}; give it its floor in FLOORS in tests/unit/test_house.py")
            continue
        for line, name in imports(path, "stepwell", sdk):
            target = floor_of(name, sdk)
            if target is not None and target > floor:
                wrong.append(f"{shown}:{line}: floor {floor:g} imports {name}, which stands on floor {target:g}")
    return wrong


def forbidden_imports(package: str, allowed: set[float], *, root: Path | None = None) -> list[str]:
    """Where ``package`` imports from stepwell outside of the ``allowed`` floors."""
    root = root or PACKAGES[package]
    wrong = []
    for path in python_files(root):
        for line, name in imports(path, package, root):
            if name.partition(".")[0] == package:
                continue
            floor = floor_of(name, PACKAGES["stepwell"])
            if floor is not None and floor not in allowed:
                wrong.append(f"{path.relative_to(root)}:{line}: {package} imports {name} (floor {floor:g})")
    return wrong


def repository_files() -> list[Path]:
    """Every file that is, or would be, in the repository: what git tracks, and what it would add."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=REPOSITORY,
        capture_output=True,
        check=False,
    )
    if listing.returncode == 0:
        return [path for name in listing.stdout.decode().split("\0") if name and (path := REPOSITORY / name).is_file()]
    # An unpacked archive has no git: then everything outside of hidden and generated directories.
    generated = {"build", "dist", "cdk.out", "node_modules", "__pycache__"}
    return [
        path
        for path in sorted(REPOSITORY.rglob("*"))
        if path.is_file()
        and not any(
            part in generated or part.startswith(".") or part.endswith(".egg-info")
            for part in path.relative_to(REPOSITORY).parts[:-1]
        )
    ]


# Written in pieces, because this file is searched too.
REGISTRY_HOSTS = [
    "py" + "pi.org",
    "python" + "hosted.org",
    "registry." + "npmjs.org",
    "registry." + "yarnpkg.com",
    "--index" + "-url",
    "--extra-index" + "-url",
    "--find" + "-links",
]
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:work|root|home/\w+|Users/\w+)" + r"/")
LOCK_FILES = re.compile(
    r"(?:package-lock\.json|npm-shrinkwrap\.json|yarn\.lock|pnpm-lock\.yaml|uv\.lock|poetry\.lock|pdm\.lock|Pipfile\.lock)"
)


def foreign_matter(path: str, text: str) -> list[str]:
    """What stands in the file ``path`` with content ``text`` that belongs to one machine and not to the project."""
    wrong = [f"{path}: is a lock file"] if LOCK_FILES.fullmatch(path.rpartition("/")[2]) else []
    for number, line in enumerate(text.splitlines(), 1):
        wrong += [f"{path}:{number}: names a package registry ({host})" for host in REGISTRY_HOSTS if host in line]
        if found := MACHINE_PATH.search(line):
            wrong.append(f"{path}:{number}: has a path of one machine ({found.group()}...)")
    return wrong


class TestFloors:
    def test_imports_of_the_library_only_point_down(self) -> None:
        assert python_files(PACKAGES["stepwell"]), "the library has no modules"
        assert climbing_imports(PACKAGES["stepwell"]) == []

    def test_the_handlers_import_nothing_that_stands_above_them(self) -> None:
        assert forbidden_imports("stepwell_lambdas", {1, 2, 3, 4, 5, PUBLIC_FACE}) == []

    def test_the_constructs_know_nothing_of_decisions_and_engine(self) -> None:
        assert forbidden_imports("stepwell_cdk", {1, 2, 5, PUBLIC_FACE}) == []

    def test_the_examples_use_only_what_is_public(self) -> None:
        wrong = [
            f"{path.relative_to(root)}:{line}: imports {name}"
            for root in [PACKAGES["stepwell_examples"]]
            for path in python_files(root)
            for line, name in imports(path, "stepwell_examples", root)
            if (module := stepwell_module(name, PACKAGES["stepwell"])) is not None and module not in {"", "testing"}
        ]
        assert wrong == []

    @pytest.mark.parametrize(
        ("file", "source", "complaint"),
        [
            (
                "store/runs.py",
                "from ..engine import journal",
                "store/runs.py:1: floor 2 imports stepwell.engine.journal",
            ),
            ("errors.py", "import stepwell.app", "errors.py:1: floor 1 imports stepwell.app"),
            (
                "ports.py",
                "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from stepwell.client import Client",
                "ports.py:3",
            ),
            (
                "engine/x.py",
                "def f():\n    from stepwell import Stepwell",
                "engine/x.py:2: floor 4 imports stepwell.Stepwell",
            ),
            ("client.py", "import stepwell_lambdas.worker.handler", "client.py:1: floor 5 imports stepwell_lambdas"),
            ("__init__.py", "from .testing import LocalStepwell", "__init__.py:1: floor 5.5 imports stepwell.testing"),
            ("utils.py", "", "unknown module 'utils'; give it its floor in FLOORS in tests/unit/test_house.py"),
            ("app.py", "from .utils import x", "app.py:1: floor 5 imports stepwell.utils.x"),
        ],
    )
    def test_an_import_that_climbs_is_found(self, tmp_path: Path, file: str, source: str, complaint: str) -> None:
        for name in ("engine", "store"):
            (tmp_path / name).mkdir()
        (tmp_path / "utils.py").touch()
        (tmp_path / file).write_text(source)

        assert any(complaint in wrong for wrong in climbing_imports(tmp_path))

    @pytest.mark.parametrize(
        ("file", "source"),
        [
            (
                "store/runs.py",
                "from . import table\nfrom ..records import Run\nfrom stepwell import errors\nimport json",
            ),
            ("store/table.py", "from stepwell.queue import Queue"),
            ("__init__.py", "from .app import Stepwell"),
            ("testing.py", "from stepwell import Stepwell\nfrom stepwell_lambdas.consumer import handler"),
        ],
    )
    def test_an_import_that_stays_level_or_goes_down_is_let_pass(self, tmp_path: Path, file: str, source: str) -> None:
        (tmp_path / "store").mkdir()
        (tmp_path / file).write_text(source)

        assert climbing_imports(tmp_path) == []

    def test_a_handler_that_imports_the_test_kit_is_found(self, tmp_path: Path) -> None:
        (tmp_path / "handler.py").write_text(
            "from stepwell.ports import Ports\nfrom stepwell.testing import LocalStepwell"
        )

        assert forbidden_imports("stepwell_lambdas", {1, 2, 3, 4, 5, PUBLIC_FACE}, root=tmp_path) == [
            "handler.py:2: stepwell_lambdas imports stepwell.testing.LocalStepwell (floor 6)"
        ]


class TestSizes:
    def test_no_module_is_longer_than_its_limit(self) -> None:
        lengths = {
            str(path.relative_to(REPOSITORY)): len(path.read_text("utf-8").splitlines())
            for root in PACKAGES.values()
            for path in python_files(root)
        }
        assert {name: lines for name, lines in lengths.items() if lines > MODULE_LINES} == {}

    def test_the_public_face_is_small_and_every_name_of_it_imports(self) -> None:
        import stepwell

        assert len(set(stepwell.__all__)) == len(stepwell.__all__) <= PUBLIC_NAMES
        assert [name for name in stepwell.__all__ if not hasattr(stepwell, name)] == []


class TestRepository:
    def test_no_file_belongs_to_one_machine_or_names_a_registry(self) -> None:
        wrong = []
        for path in repository_files():
            try:
                text = path.read_text("utf-8")
            except UnicodeDecodeError:
                text = ""  # a picture or a sound; its name is still looked at
            wrong += foreign_matter(path.relative_to(REPOSITORY).as_posix(), text)
        assert wrong == []

    @pytest.mark.parametrize(
        ("path", "text"),
        [
            ("docs/a.md", "pip install -i https://" + "py" + "pi.org/simple"),
            ("Makefile", "npm --registry https://registry." + "npmjs.org/"),
            ("sdk/stepwell/a.py", 'HOME = "/' + 'root/.cache"'),
            ("bench/a.py", "open('/" + "work/data')"),
            ("ui/package-lock.json", "{}"),
            ("uv.lock", ""),
        ],
    )
    def test_foreign_matter_is_found(self, path: str, text: str) -> None:
        assert len(foreign_matter(path, text)) == 1

    @pytest.mark.parametrize(
        "text", ["network/work/a", "/var/task/app.py", "http://127.0.0.1:4566/", "./work/x", "~/root/"]
    )
    def test_what_only_looks_like_it_is_let_pass(self, text: str) -> None:
        assert foreign_matter("docs/a.md", text) == []

    def test_every_declared_dependency_is_pinned(self) -> None:
        def normal(name: str) -> str:
            return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=;!~ ]", name, maxsplit=1)[0]).lower()

        project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
        declared = {normal(line) for group in project["optional-dependencies"].values() for line in group}
        declared |= {normal(line) for line in project["dependencies"]}
        lines = (REPOSITORY / "constraints.txt").read_text("utf-8").splitlines()
        pinned = {normal(line) for line in lines if re.match(r"[A-Za-z0-9._-]+==[\w.]+", line)}

        assert declared - pinned - {"stepwell"} == set()


class TestWheel:
    @pytest.fixture
    def built(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        """What setup.py tells setuptools."""
        told: dict[str, Any] = {}
        setuptools = types.ModuleType("setuptools")
        setuptools.setup = told.update  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "setuptools", setuptools)
        runpy.run_path(str(REPOSITORY / "setup.py"))
        return told

    def test_every_module_is_in_it(self, built: dict[str, Any]) -> None:
        modules = {
            ".".join([package, *path.relative_to(root).parent.parts])
            for package, root in PACKAGES.items()
            for path in python_files(root)
        }
        assert modules
        assert modules - set(built["packages"]) == set()

    def test_every_directory_of_modules_is_a_package_by_name(self) -> None:
        directories = {path.parent for root in PACKAGES.values() for path in python_files(root)}
        assert [str(place) for place in sorted(directories) if not (place / "__init__.py").is_file()] == []

    def test_type_markers_and_the_data_of_the_examples_are_in_it(self, built: dict[str, Any]) -> None:
        data = {(package, file) for package, files in built["package_data"].items() for file in files}
        beside = {
            ("stepwell_examples", path.relative_to(root).as_posix())
            for root in [PACKAGES["stepwell_examples"]]
            for path in root.rglob("*")
            if path.is_file() and path.suffix not in {".py", ".pyc"}
        }
        typed = {(package, "py.typed") for package in ("stepwell", "stepwell_lambdas", "stepwell_cdk")}
        assert (beside | typed) - data == set()


class TestColdStart:
    """A Lambda's first call pays for every import, so the handlers that run no user code stay free of heavy ones."""

    @pytest.mark.parametrize("handler", ["consumer", "orchestrator", "sweeper", "api"])
    def test_importing_the_handler_loads_nothing_heavy_and_makes_no_client(self, handler: str) -> None:
        program = f"""
import gc, json, sys
import stepwell_lambdas.{handler}.handler
heavy = {{"pydantic", "boto3", "moto", "ministack", "aws_cdk", "jsii", "rich", "typer"}}
heavy |= {{"cronsim", "zoneinfo", "cryptography", "opentelemetry"}}
base = getattr(sys.modules.get("botocore.client"), "BaseClient", ())
clients = [type(thing).__name__ for thing in gc.get_objects() if base and isinstance(thing, base)]
print(json.dumps([sorted(heavy & set(sys.modules)), clients]))
"""
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

        assert run.returncode == 0, run.stderr
        assert json.loads(run.stdout) == [[], []]

    def test_an_app_without_a_schedule_does_not_pay_for_a_calendar(self) -> None:
        program = """
import sys
import stepwell_lambdas.worker.handler
from stepwell import Cron, Stepwell
app = Stepwell("shop")
app.function(on="go", id="fn")(lambda ctx: None)
before = "cronsim" in sys.modules
app.function(on=Cron("0 8 * * *"), id="daily")(lambda ctx: None)
print(before, "cronsim" in sys.modules)
"""
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

        assert (run.stdout, run.stderr) == ("False True\n", "")

    def test_an_app_without_callbacks_pays_neither_for_their_keys_nor_for_a_client_to_read_them(self) -> None:
        program = """
import os, sys
import stepwell_lambdas.worker.handler
from stepwell.ports import Ports
os.environ |= {"STEPWELL_TABLE": "table", "STEPWELL_QUEUE_URL": "queue", "AWS_REGION": "us-east-1"}
ports = Ports.from_env()
ports.store, ports.queue, ports.payloads, ports.invoker
before = "stepwell.keyring" in sys.modules
ports.keyring
from botocore.client import BaseClient
import gc
print(before, "stepwell.keyring" in sys.modules, [each for each in gc.get_objects() if isinstance(each, BaseClient)])
"""
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

        assert (run.stdout, run.stderr) == ("False True []\n", "")

    def test_a_worker_loads_the_client_when_its_functions_first_use_one(self) -> None:
        program = """
import os, sys
import stepwell_lambdas.worker.handler
from stepwell import Stepwell
app = Stepwell("shop")
app.function(on="go", id="fn")(lambda ctx: None)
before = "stepwell.client" in sys.modules
os.environ |= {"STEPWELL_TABLE": "table", "STEPWELL_QUEUE_URL": "queue"}
app.client
print(before, "stepwell.client" in sys.modules)
"""
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

        assert (run.stdout, run.stderr) == ("False True\n", "")

    @pytest.mark.parametrize(
        ("module", "loaded"),
        [
            ("stepwell_lambdas.worker.handler", []),
            ("stepwell.middleware", []),
            ("stepwell.middleware.encryption", ["cryptography"]),
            ("stepwell.middleware.otel", ["opentelemetry"]),
        ],
    )
    def test_a_middleware_is_loaded_only_by_whoever_uses_it(self, module: str, loaded: list[str]) -> None:
        program = f"import sys, {module}; print(sorted({{'cryptography', 'opentelemetry'}} & set(sys.modules)))"
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

        assert (run.stdout.strip(), run.stderr) == (str(loaded), "")


class TestTestsThemselves:
    def test_no_test_reaches_beyond_this_machine(self) -> None:
        with socket.socket() as unbound, pytest.raises(BaseException, match=r"192\.0\.2\.1"):
            unbound.connect(("192.0.2.1", 80))  # an address reserved for documentation
