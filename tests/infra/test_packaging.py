"""Packing Lambda code without Docker: what is required, which packages come along, what is copied, when it is done again.

pip runs for real, on a directory of made-up wheels and without an index. The end-to-end test packs with the real ones.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import aws_cdk as cdk
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from stepwell_cdk import Platform, StepwellApp, packages
from stepwell_cdk.app_id import read_app_id
from stepwell_cdk.bundling import Recipe, worker_recipe
from stepwell_cdk.packages import Tree
from stepwell_cdk.requirements import Requirements

from .conftest import QUICK, platform_with

ROOT = Path(__file__).resolve().parents[2]
ARM = Platform()
INTEL = Platform("3.12", "x86_64")


def wheel(place: Path, name: str, version: str, tag: str = "py3-none-any", requires: str = "") -> None:
    """A made-up package, importable by its name."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    with zipfile.ZipFile(place / f"{module}-{version}-{tag}.whl", "w") as made:
        made.writestr(f"{module}/__init__.py", f"VERSION = {version!r}\nTAG = {tag!r}\n")
        made.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        made.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n")
        made.writestr(f"{info}/RECORD", "")


@pytest.fixture
def wheelhouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything of the lock as a made-up wheel; pip sees nothing else."""
    place = tmp_path / "wheels"
    place.mkdir()
    for line in locked().values():
        name, _, version = line.partition("==")
        wheel(place, name, version)
    for variable in ("PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(place))
    return place


def locked() -> dict[str, str]:
    lines = [line for line in packages.LOCK.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    return {canonicalize_name(Requirement(line).name): line for line in lines}


def installed(target: Path) -> dict[str, str]:
    return {canonicalize_name(it.name): it.version for it in metadata.distributions(path=[str(target)])}


class TestPlatform:
    def test_wheels_are_asked_for_by_every_tag_that_loads_on_amazon_linux(self) -> None:
        assert ARM.wheel_tags[0] == "manylinux_2_34_aarch64"
        assert {"manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"} <= set(ARM.wheel_tags)
        assert all(tag.endswith("_x86_64") for tag in INTEL.wheel_tags)

    @pytest.mark.parametrize("python", ["2.7", "3.10", "3", "3.x", "4.0"])
    def test_a_python_that_stepwell_does_not_run_on_is_refused(self, python: str) -> None:
        with pytest.raises(ValueError, match=re.escape(python)):
            Platform(python)

    def test_a_processor_that_lambda_does_not_have_is_refused(self) -> None:
        with pytest.raises(ValueError, match="riscv"):
            Platform(architecture="riscv")


class TestRequirements:
    def lines(self, text: str, tmp_path: Path, platform: Platform = ARM) -> tuple[str, ...]:
        (tmp_path / "requirements.txt").write_text(text)
        return Requirements.read(None, platform, code=tmp_path).lines

    def test_a_requirements_file_is_found_beside_the_code(self, tmp_path: Path) -> None:
        assert self.lines("requests==2.32.0\n", tmp_path) == ("requests==2.32.0",)

    def test_a_project_file_serves_where_there_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["requests>=2", "stepwell[cdk]"]\n')
        assert Requirements.read(None, ARM, code=tmp_path).lines == ("requests>=2",)

    def test_code_may_need_nothing(self, tmp_path: Path) -> None:
        assert Requirements.read(None, ARM, code=tmp_path) == Requirements()

    def test_comments_blank_lines_continuations_and_included_files_are_understood(self, tmp_path: Path) -> None:
        (tmp_path / "base.txt").write_text("six==1.17.0\n")
        text = "# what we need\n\n-r base.txt\nrequests \\\n  ==2.32.0  # for the shop\n--prefer-binary\n"
        assert self.lines(text, tmp_path) == ("six==1.17.0", "requests==2.32.0", "--prefer-binary")

    def test_stepwell_itself_is_left_out_since_the_deploying_version_is_packed(self, tmp_path: Path) -> None:
        assert self.lines("stepwell==0.0.1\nStepwell[cdk]\nsix\n", tmp_path) == ("six",)

    def test_markers_are_judged_for_lambda_and_not_for_this_machine(self, tmp_path: Path) -> None:
        text = (
            'a; sys_platform == "linux"\nb; sys_platform == "win32"\nc; python_version >= "3.13"\n'
            'd; python_version < "3.13"\ne; platform_machine == "aarch64"\n'
        )
        assert self.lines(text, tmp_path) == ("a", "c", "e")
        assert self.lines(text, tmp_path, INTEL) == ("a", "d")

    def test_hashes_stay_with_their_lines(self, tmp_path: Path) -> None:
        text = "six==1.17.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
        (tmp_path / "requirements.txt").write_text(text)
        found = Requirements.read(None, ARM, code=tmp_path)
        assert found.lines == ("six==1.17.0 --hash=sha256:aa --hash=sha256:bb",)
        assert found.hashed

    @pytest.mark.parametrize("line", ["-e ../mine", "not a requirement", "six=1"])
    def test_what_cannot_be_packed_is_refused_with_its_place(self, tmp_path: Path, line: str) -> None:
        with pytest.raises(ValueError, match=r"requirements\.txt, line 2"):
            self.lines(f"six\n{line}\n", tmp_path)

    def test_lines_may_be_given_directly(self) -> None:
        assert Requirements.read(["boto3==1.40.0", "stepwell"], ARM).names == {"boto3"}

    def test_but_what_its_extras_for_workers_need_is_not(self) -> None:
        assert Requirements.read(["stepwell[encryption,otel,testing]>=0.1"], ARM).names == {
            "cryptography",
            "opentelemetry-api",
        }


class TestLock:
    def test_it_holds_what_the_project_needs_in_versions_the_project_accepts(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        for line in project["dependencies"]:
            needed = Requirement(line)
            (pin,) = Requirement(locked()[canonicalize_name(needed.name)]).specifier
            assert pin.operator == "=="
            assert needed.specifier.contains(pin.version)

    def test_it_is_what_the_tests_run_with(self) -> None:
        for name, line in locked().items():
            assert line.partition("==")[2] == metadata.version(name)

    def test_it_is_complete(self) -> None:
        """Nothing that a locked package needs on Lambda is missing: the lock is installed without its dependencies."""
        for name in locked():
            for line in metadata.requires(name) or ():
                needed = Requirement(line)
                if needed.marker is None or needed.marker.evaluate({**ARM.markers, "extra": ""}):
                    assert canonicalize_name(needed.name) in locked(), f"{name} needs {line}"


class TestInstall:
    def test_without_requirements_exactly_the_lock_is_packed(self, wheelhouse: Path, tmp_path: Path) -> None:
        packages.install(Requirements(), ARM, tmp_path / "out")
        assert installed(tmp_path / "out") == {n: line.partition("==")[2] for n, line in locked().items()}

    def test_a_package_the_user_names_is_theirs_to_choose(self, wheelhouse: Path, tmp_path: Path) -> None:
        wheel(wheelhouse, "pydantic", "2.1.0")
        wheel(wheelhouse, "requests", "2.32.0", requires="urllib3>=1")
        wheel(wheelhouse, "urllib3", "9.0.0")
        packages.install(Requirements.read(["pydantic==2.1.0", "requests"], ARM), ARM, tmp_path / "out")
        found = installed(tmp_path / "out")
        assert found["pydantic"] == "2.1.0"
        assert found["requests"] == "2.32.0"
        assert found["urllib3"] == locked()["urllib3"].partition("==")[2]  # nobody named it: as it is tested

    def test_a_choice_the_library_does_not_work_with_is_refused(self, wheelhouse: Path, tmp_path: Path) -> None:
        wheel(wheelhouse, "pydantic", "1.10.0")
        with pytest.raises(RuntimeError, match=r"pydantic>=2.*1\.10\.0"):
            packages.install(Requirements.read(["pydantic==1.10.0"], ARM), ARM, tmp_path / "out")

    def test_wheels_are_those_of_the_lambda_platform(self, wheelhouse: Path, tmp_path: Path) -> None:
        for tag in ("cp314-cp314-manylinux_2_28_aarch64", "cp312-cp312-manylinux_2_17_x86_64"):
            wheel(wheelhouse, "fast", "1.0", tag)
        wanted = Requirements.read(["fast"], ARM)
        for platform, expected in [(ARM, "aarch64"), (INTEL, "x86_64")]:
            out = tmp_path / expected
            packages.install(wanted, platform, out)
            assert expected in (out / "fast" / "__init__.py").read_text()

    def test_a_package_without_a_wheel_for_it_is_named(self, wheelhouse: Path, tmp_path: Path) -> None:
        wheel(wheelhouse, "fast", "1.0", "cp314-cp314-macosx_11_0_arm64")
        with pytest.raises(RuntimeError, match=r"(?s)Python 3\.14 on arm64.*fast"):
            packages.install(Requirements.read(["fast"], ARM), ARM, tmp_path / "out")


class TestTree:
    def test_caches_hidden_files_and_what_is_excluded_stay_at_home(self, tmp_path: Path) -> None:
        source = tmp_path / "shop"
        for name in ("app.py", ".env", "__pycache__/app.pyc", ".git/HEAD", "data/prices.csv", "tests/test_app.py"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_text("x")
        tree = Tree(source, "inside", exclude=("tests",))
        tree.copy_to(tmp_path / "out")
        copied = {
            path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()
        }
        assert copied == {"inside/app.py", "inside/data/prices.csv"}
        assert {f"inside/{path.relative_to(source).as_posix()}" for path in tree.files()} == copied


class TestFingerprint:
    @pytest.fixture
    def code(self, tmp_path: Path) -> Path:
        place = tmp_path / "code"
        place.mkdir()
        (place / "app.py").write_text('from stepwell import Stepwell\napp = Stepwell("shop")\n')
        return place

    def test_it_changes_with_whatever_changes_the_zip(self, code: Path) -> None:
        def current(**options: object) -> str:
            settings = {"requirements": [], "platform": ARM, **options}
            return worker_recipe(code, settings.pop("platform"), **settings).fingerprint()  # type: ignore[arg-type]

        first = current()
        assert current() == first
        others = [
            current(platform=INTEL),
            current(requirements=["six"]),
            current(into="shop"),
            current(services=["ses"]),
        ]
        (code / "app.py").write_text('from stepwell import Stepwell\napp = Stepwell("shop")  # changed\n')
        others.append(current())
        (code / "more.py").write_text("")
        others.append(current())
        assert len({first, *others}) == 1 + len(others)

    def test_it_does_not_change_with_what_is_not_packed(self, code: Path) -> None:
        first = worker_recipe(code, ARM).fingerprint()
        (code / "__pycache__").mkdir()
        (code / "__pycache__" / "app.pyc").write_text("x")
        (code / ".env").write_text("SECRET=1")
        assert worker_recipe(code, ARM).fingerprint() == first

    def test_an_unchanged_app_is_not_packed_again(
        self, code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        packed: list[Path] = []

        def pack(recipe: Recipe, target: Path) -> None:
            packed.append(target)
            (target / "app.py").write_text("")

        monkeypatch.setattr(Recipe, "pack", pack)
        for _ in range(2):
            app = cdk.App(outdir=str(tmp_path / "cdk.out"), context=QUICK)
            stack, stepwell = platform_with(app)
            for id in ("First", "Second"):
                StepwellApp(stack, id, stepwell=stepwell, code=code, app="app:app", app_id=id.lower())
            app.synth()
        assert len(packed) == 1

    def test_a_packing_that_failed_is_not_taken_for_a_finished_one(
        self, code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def pack(recipe: Recipe, target: Path) -> None:
            (target / "half.py").write_text("")
            raise RuntimeError("no such package")

        monkeypatch.setattr(Recipe, "pack", pack)
        stack, stepwell = platform_with(cdk.App(outdir=str(tmp_path / "cdk.out"), context=QUICK))
        with pytest.raises(RuntimeError, match="no such package"):
            StepwellApp(stack, "Shop", stepwell=stepwell, code=code, app="app:app")
        assert [
            it.name for it in (tmp_path / "cdk.out").glob("asset.*") if not it.name.endswith(("-building", "-error"))
        ] == []


class TestPacking:
    def test_a_worker_holds_the_app_the_library_and_their_packages_and_imports(
        self, wheelhouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        code = tmp_path / "code"
        code.mkdir()
        (code / "app.py").write_text("import six\nANSWER = six.VERSION\n")
        (wheelhouse / "botocore-1.43.106-py3-none-any.whl").unlink()
        with zipfile.ZipFile(wheelhouse / "botocore-1.43.106-py3-none-any.whl", "w") as made:
            made.writestr("botocore/data/sqs/service.json", "{}")
            made.writestr("botocore/data/ssm/service.json", "{}")
            made.writestr("botocore/data/ec2/service.json", "{}")
            made.writestr(
                "botocore-1.43.106.dist-info/METADATA", "Metadata-Version: 2.1\nName: botocore\nVersion: 1.43.106\n"
            )
            made.writestr("botocore-1.43.106.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            made.writestr("botocore-1.43.106.dist-info/RECORD", "")
        out = tmp_path / "out"
        out.mkdir()
        recipe = worker_recipe(code, Platform.local(), into="shop", services=["sqs"])
        recipe.pack(out)

        assert (out / "stepwell" / "ports.py").is_file()
        assert (out / "stepwell_lambdas" / "worker" / "handler.py").is_file()
        assert not (out / "bin").exists()
        # What the engine calls stays, callback keys included, whatever the code itself calls.
        assert {it.name for it in (out / "botocore" / "data").iterdir()} == {"sqs", "ssm"}
        assert list(out.glob("shop/__pycache__/app.*.pyc"))  # compiled ahead: Lambda cannot keep what it compiles
        script = "import shop.app; print(shop.app.ANSWER, shop.app.__cached__)"
        done = subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(out)!r}); {script}"],
                              capture_output=True, text=True, check=True)  # fmt: skip
        assert done.stdout.startswith("1.17.0")

    def test_more_than_lambda_takes_is_refused_with_the_largest_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(packages, "LAMBDA_LIMIT", 1000)
        (tmp_path / "big").mkdir()
        (tmp_path / "big" / "model.bin").write_bytes(b"x" * 900)
        packages.refuse_oversize(tmp_path)
        (tmp_path / "small.py").write_bytes(b"x" * 200)
        with pytest.raises(RuntimeError, match=r"largest: big .*small\.py"):
            packages.refuse_oversize(tmp_path)


class TestAppId:
    def read(self, tmp_path: Path, source: str, app: str = "app:app", into: str = "") -> str:
        (tmp_path / "app.py").write_text(source)
        return read_app_id(tmp_path, app, into=into)

    @pytest.mark.parametrize(
        "source",
        [
            'app = Stepwell("shop")',
            'app: Stepwell = Stepwell("shop")',
            'app = stepwell.Stepwell(id="shop")',
            'other = Stepwell("crm")\napp = Stepwell("shop", middleware=[])',
        ],
    )
    def test_it_is_read_from_the_source_without_running_it(self, tmp_path: Path, source: str) -> None:
        assert self.read(tmp_path, f"raise SystemExit\n{source}\n") == "shop"

    @pytest.mark.parametrize("source", ["app = make()", "app = Stepwell(NAME)", "other = Stepwell('shop')", ""])
    def test_what_cannot_be_read_is_asked_for(self, tmp_path: Path, source: str) -> None:
        with pytest.raises(ValueError, match="app_id="):
            self.read(tmp_path, source)

    def test_modules_and_packages_are_found_where_the_worker_will_import_them(self, tmp_path: Path) -> None:
        source = 'app = Stepwell("shop")\n'
        assert self.read(tmp_path, source, "shop.app:app", into="shop") == "shop"
        (tmp_path / "pkg").mkdir()
        (tmp_path / "pkg" / "__init__.py").write_text(source)
        assert read_app_id(tmp_path, "pkg:app") == "shop"

    @pytest.mark.parametrize(("app", "into"), [("nowhere:app", ""), ("app:app", "shop"), ("app", ""), (":app", "")])
    def test_a_path_that_leads_nowhere_is_refused(self, tmp_path: Path, app: str, into: str) -> None:
        with pytest.raises(ValueError, match=re.escape(app)):
            self.read(tmp_path, 'app = Stepwell("shop")', app, into)

    def test_the_examples_are_deployed_under_the_ids_they_have(self) -> None:
        for name in ("orders", "pricing_sync", "debate", "clips", "sermons"):
            module = f"stepwell_examples.{name}.app"
            read = read_app_id(ROOT / "examples", f"{module}:app", into="stepwell_examples")
            assert f'Stepwell("{read}")' in (ROOT / "examples" / name / "app.py").read_text(encoding="utf-8")
