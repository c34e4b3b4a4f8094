"""What mypy understands of code that uses Stepwell: the modules of `sentences`, checked with --strict in one run.

Every line stands as a user would write it. A line marked `# E: code` is an error, of this kind; every other line is none,
and what an `assert_type` says is so: a signature that became Any would not pass it. The sentences are only read.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mypy import api

from tests.unit.test_house import PACKAGES, REPOSITORY

SENTENCES = sorted(Path(__file__).with_name("sentences").glob("*.py"))
_MARK = re.compile(r"# E: ([\w-]+)$")
_ERROR = re.compile(r"(?P<file>[^:]+):(?P<line>\d+): error: .*\[(?P<code>[\w-]+)\]$")

Errors = dict[int, set[str]]
"""Kinds of errors by line."""


def marked(source: str) -> Errors:
    """The errors that a module is to have."""
    found = ((number, _MARK.search(line)) for number, line in enumerate(source.splitlines(), 1))
    return {number: {mark[1]} for number, mark in found if mark}


def differences(expected: Errors, found: Errors) -> Iterator[str]:
    """Where a module has other errors than it is to have. mypy may have more to say of a line than its mark."""
    for line in sorted(expected.keys() | found.keys()):
        wanted, got = expected.get(line, set()), found.get(line, set())
        if not wanted <= got or (got and not wanted):
            yield f"line {line}: {', '.join(sorted(wanted)) or 'no error'} expected, {', '.join(sorted(got)) or 'none'} found"


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Errors]:
    """What mypy finds, by module."""
    links = tmp_path_factory.mktemp("packages")
    for name, root in PACKAGES.items():
        (links / name).symlink_to(root)
    options = ["--strict", "--no-pretty", "--hide-error-context", "--namespace-packages", "--explicit-package-bases"]
    options += ["--follow-imports=silent", "--python-executable", sys.executable, f"--cache-dir={os.devnull}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPOSITORY)
        patch.setenv("MYPYPATH", str(links))
        told, trouble, _ = api.run([*options, *(str(path.relative_to(REPOSITORY)) for path in SENTENCES)])
    assert trouble == ""
    by_module: dict[str, Errors] = {}
    for line in told.splitlines():
        if found := _ERROR.match(line):
            module = by_module.setdefault(Path(found["file"]).stem, {})
            module.setdefault(int(found["line"]), set()).add(found["code"])
    assert by_module, told
    return by_module


@pytest.mark.slow
@pytest.mark.parametrize("path", SENTENCES, ids=lambda path: path.stem)
def test_mypy_understands_every_sentence(path: Path, errors: dict[str, Errors]) -> None:
    assert list(differences(marked(path.read_text("utf-8")), errors.get(path.stem, {}))) == []


def test_a_sentence_that_means_something_else_is_found() -> None:
    source = "fine()\nwrong()  # E: arg-type\nmore()  # E: call-arg\n"

    assert marked(source) == {2: {"arg-type"}, 3: {"call-arg"}}
    assert list(differences(marked(source), {2: {"arg-type", "misc"}, 3: {"call-arg"}})) == []
    assert list(differences(marked(source), {1: {"misc"}, 2: {"attr-defined"}})) == [
        "line 1: no error expected, misc found",
        "line 2: arg-type expected, attr-defined found",
        "line 3: call-arg expected, none found",
    ]
