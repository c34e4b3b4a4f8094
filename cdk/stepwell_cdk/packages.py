"""Filling a directory with what a Lambda function imports: third-party packages by pip, and source trees copied as
they are.

No Docker: pip downloads wheels of the Lambda platform (``--platform``, ``--only-binary``), whatever machine it runs
on. A package that publishes no wheel for it is refused by pip with its name, at synthesis and not at the first call
in AWS.
"""

from __future__ import annotations

import compileall
import py_compile
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from stepwell_cdk.platform import Platform
from stepwell_cdk.requirements import Requirements

LOCK = Path(__file__).with_name("engine-requirements.txt")
"""The library's own dependencies, every one of them pinned, so that two deployments of one version are alike."""

LAMBDA_LIMIT = 250 * 1024 * 1024
"""Lambda refuses a function whose unpacked zip is larger, in bytes."""

NEVER_PACKED = (
    "__pycache__", "*.pyc", ".*", "*.egg-info", "node_modules", "cdk.out", "venv",
)  # fmt: skip
"""Caches, build products, and hidden files: ``.env`` and ``.git`` must never reach Lambda."""


@dataclass(frozen=True)
class Tree:
    """A directory of source, and the package directory it is put under (``""``: beside the third-party packages)."""

    source: Path
    into: str = ""
    exclude: tuple[str, ...] = ()
    """Name patterns left out, besides ``NEVER_PACKED``."""

    def copy_to(self, target: Path) -> None:
        """Copy the tree into the package directory ``target``."""
        ignored = shutil.ignore_patterns(*NEVER_PACKED, *self.exclude)
        shutil.copytree(self.source, target / self.into, dirs_exist_ok=True, ignore=ignored)

    def files(self) -> list[Path]:
        """The files that are copied, sorted; used for telling whether anything changed."""
        ignored = shutil.ignore_patterns(*NEVER_PACKED, *self.exclude)

        def walk(directory: Path) -> list[Path]:
            names = sorted(child.name for child in directory.iterdir())
            found: list[Path] = []
            for name in sorted(set(names) - ignored(str(directory), names)):
                child = directory / name
                found += walk(child) if child.is_dir() else [child]
            return found

        return walk(self.source)


def install(requirements: Requirements, platform: Platform, target: Path) -> None:
    """Install ``requirements`` and the library's own dependencies into ``target``.

    What the user asks for wins: a package they name is resolved by their line, everything else the library needs
    comes from the lock. Raises ``RuntimeError`` with pip's words if a package cannot be had for the platform, or if
    the user's choice of a package is one that the library does not work with.
    """
    lock = _pins()
    if requirements.lines:
        with tempfile.TemporaryDirectory() as scratch:
            wanted = Path(scratch, "requirements.txt")
            wanted.write_text("\n".join(requirements.lines) + "\n", encoding="utf-8")
            options = ["-r", str(wanted)]
            if not requirements.hashed:
                # Constraints keep what the user's packages bring along at the versions the library is tested with. A
                # file with hashes pins everything itself, and pip would want hashes of the constraints as well.
                kept = Path(scratch, "constraints.txt")
                kept.write_text("\n".join(pin for name, pin in lock.items() if name not in requirements.names), "utf-8")
                options += ["-c", str(kept)]
            _pip(options, platform, target)
    present = {canonicalize_name(found.name) for found in metadata.distributions(path=[str(target)])}
    if missing := [pin for name, pin in lock.items() if name not in present]:
        # --no-deps: the lock is complete, and pip would judge the markers inside packages for this machine, not for
        # Lambda.
        _pip(["--no-deps", *missing], platform, target)
    _refuse_unfit(target)


def compile_bytecode(target: Path) -> None:
    """Compile ``target`` ahead: Lambda's code directory is read-only, so each cold start would compile everything anew.

    Hash-based files that are never checked again make the result independent of file times.
    """
    compileall.compile_dir(
        str(target), quiet=2, stripdir=str(target), prependdir="/var/task",
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )  # fmt: skip


def refuse_oversize(target: Path) -> None:
    """Raise ``RuntimeError`` naming the largest packages if ``target`` is more than Lambda takes."""
    sizes = {child.name: _size(child) for child in target.iterdir()}
    if (total := sum(sizes.values())) > LAMBDA_LIMIT:
        largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:5]
        listed = ", ".join(f"{name} {sizes[name] / 1e6:.0f} MB" for name in largest)
        raise RuntimeError(
            f"the code is {total / 1e6:.0f} MB unpacked, Lambda takes {LAMBDA_LIMIT / 1e6:.0f} MB; largest: {listed}. "
            "Leave out what the functions do not import, or split the app by what its functions need."
        )


def _pins() -> dict[str, str]:
    lines = [line.strip() for line in LOCK.read_text(encoding="utf-8").splitlines()]
    return {canonicalize_name(Requirement(line).name): line for line in lines if line and not line.startswith("#")}


def _pip(options: Sequence[str], platform: Platform, target: Path) -> None:
    quiet = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-warn-conflicts", "--no-compile"]
    tags = [f"--platform={tag}" for tag in platform.wheel_tags]
    foreign = ["--implementation=cp", f"--python-version={platform.python}", "--only-binary=:all:", *tags]
    command = [sys.executable, "-m", "pip", "install", *quiet, "--target", str(target), *foreign, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        where = f"Python {platform.python} on {platform.architecture}"
        raise RuntimeError(f"pip could not get the packages for {where}:\n{done.stderr.strip()}")


def _refuse_unfit(target: Path) -> None:
    packed = {canonicalize_name(found.name): found.version for found in metadata.distributions(path=[str(target)])}
    for line in metadata.requires("stepwell") or ():
        needed = Requirement(line)
        if needed.marker is not None:
            continue  # an extra: nothing that runs in Lambda
        version = packed.get(canonicalize_name(needed.name))
        if version is None or not needed.specifier.contains(version, prereleases=True):
            raise RuntimeError(
                f"stepwell needs {needed}, but {version or 'no such package'} was packed: change the requirements"
            )


def _size(path: Path) -> int:
    return (
        path.stat().st_size
        if path.is_file()
        else sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    )
