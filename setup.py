"""Which packages the wheel holds, and where in the tree each of them lives.

Four import packages stand in four directories whose names differ from theirs (``stepwell_lambdas`` is ``lambdas/``,
and so on). setuptools knows such a mapping (``package_dir``) but its ``find`` cannot search through one, so the
sub-packages are computed here: every directory under a root that holds Python files is a package, and every other
file there is its data. A new sub-package or data file is therefore in the next wheel without being listed anywhere.
All the rest of the project's metadata is in pyproject.toml.
"""

from __future__ import annotations

from pathlib import Path

from setuptools import setup

ROOTS = {
    "stepwell": "sdk/stepwell",
    "stepwell_lambdas": "lambdas",
    "stepwell_cdk": "cdk/stepwell_cdk",
    "stepwell_examples": "examples",
}
NEVER_SHIPPED = {"__pycache__", "node_modules", "cdk.out"}
HERE = Path(__file__).parent


def directories(root: Path) -> list[Path]:
    """``root`` and all directories under it, without caches, build products and hidden ones."""
    found = [root]
    for child in sorted(root.iterdir()):
        if child.is_dir() and child.name not in NEVER_SHIPPED and not child.name.startswith("."):
            found += directories(child)
    return found


packages: list[str] = []
package_data: dict[str, list[str]] = {}
for name, place in ROOTS.items():
    root = HERE / place
    for directory in directories(root):
        if directory == root or any(directory.glob("*.py")):
            packages.append(".".join([name, *directory.relative_to(root).parts]))
        package_data.setdefault(name, []).extend(
            str(file.relative_to(root))
            for file in sorted(directory.iterdir())
            if file.is_file() and file.suffix not in {".py", ".pyc"} and not file.name.startswith(".")
        )

setup(packages=packages, package_dir=ROOTS, package_data=package_data, include_package_data=False)
