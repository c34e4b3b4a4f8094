"""The documentation: its code is copied from tested files, its tables are made from the source, its links lead somewhere."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path
from typing import ClassVar

import pytest

from docs.refresh import REPOSITORY, Block, blocks, is_excerpt, pages, refreshed, regions
from stepwell.dead_letters import MOVED_BY_SQS, UNDELIVERED, UNSAID
from stepwell.errors import StepwellError

SNIPPETS = REPOSITORY / "docs" / "snippets"
TESTED = ("docs/snippets", "docs/kernel.py", "examples", "cdk")
"""Where code in the documentation may come from: each of these is run by tests."""

PROMISE = (
    "An accepted event is never lost: it runs, or it is recorded as skipped with the reason, or it lies in the dead-letter "
    "queue for 14 days with an alarm. A step whose success was recorded never runs again, and its recorded result never "
    "changes. A step may run more than once only if it was interrupted before its result was recorded, and every attempt "
    "carries the same idempotency key. A run reaches exactly one terminal state. No live run is ever without a next cause."
)

_LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
_TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(?:(\w+)::)?(\w+))?`")

each_page = pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(REPOSITORY).as_posix())


def sources() -> list[Path]:
    roots = [REPOSITORY / place for place in TESTED]
    return [file for root in roots for file in ([root] if root.is_file() else sorted(root.rglob("*.py")))]


def origin_of(block: Block) -> str | None:
    """The tested file the block stands in, None if there is none."""
    named = [REPOSITORY / block.file] if block.file else sources()
    for file in named:
        if file in sources() and is_excerpt(block.code, file.read_text("utf-8")):
            return file.relative_to(REPOSITORY).as_posix()
    return None


def anchors(page: str) -> set[str]:
    """What the headings of a page can be linked to by, as GitHub makes it."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", _FENCE.sub("", page), re.M):
        text = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        found.add(next(name for n in range(100) if (name := f"{text}-{n}" if n else text) not in found))
    return found


class TestCode:
    @each_page
    def test_python_is_copied_from_a_tested_file(self, page: Path) -> None:
        found = list(blocks(page.read_text("utf-8")))
        assert [(block.line, block.code) for block in found if origin_of(block) is None] == []

    @each_page
    def test_nothing_would_change_if_it_were_written_anew(self, page: Path) -> None:
        text = page.read_text("utf-8")
        assert refreshed(text) == text, "run: python docs/refresh.py"

    def test_every_region_of_a_snippet_is_shown_somewhere(self) -> None:
        shown = {(block.file, block.region) for page in pages() for block in blocks(page.read_text("utf-8"))}
        marked = {
            (file.relative_to(REPOSITORY).as_posix(), name)
            for file in sources()
            if file.is_relative_to(REPOSITORY / "docs")
            for name in regions(file.read_text("utf-8"))
        }
        assert marked - shown == set()

    def test_every_snippet_is_used_by_a_test(self) -> None:
        tests = "\n".join(file.read_text("utf-8") for file in (REPOSITORY / "tests").rglob("test_*.py"))
        helpers = {"outside"}
        names = {file.stem for file in SNIPPETS.glob("*.py")} - helpers
        assert {name for name in names if not re.search(rf"\b{name}\b", tests)} == set()

    def test_code_from_nowhere_is_found(self) -> None:
        (block,) = blocks("words\n\n```python\nraise SystemExit('made up')\n```\n")
        assert (block.line, origin_of(block)) == (3, None)

    def test_code_that_stands_indented_in_its_file_is_found_there(self) -> None:
        assert is_excerpt("if x:\n    y()\n", "def f():\n    if x:\n        y()\n")
        assert not is_excerpt("if x:\n    z()\n", "def f():\n    if x:\n        y()\n")


class TestLinks:
    @each_page
    def test_links_within_the_repository_lead_somewhere(self, page: Path) -> None:
        wrong = []
        for target in _LINK.findall(_FENCE.sub("", page.read_text("utf-8"))):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            if not file.exists() or (anchor and anchor not in anchors(file.read_text("utf-8"))):
                wrong.append(target)
        assert wrong == []

    @each_page
    def test_tests_that_are_named_exist(self, page: Path) -> None:
        wrong = []
        for file, _, test in _TEST.findall(page.read_text("utf-8")):
            path = REPOSITORY / file
            if not path.is_file():
                wrong.append(file)
            elif test:
                tree = ast.walk(ast.parse(path.read_text("utf-8")))
                defined = {node.name for node in tree if isinstance(node, ast.FunctionDef | ast.ClassDef)}
                wrong += [f"{file}::{test}"] if test not in defined else []
        assert wrong == []


class TestPromise:
    @pytest.mark.parametrize("page", ["README.md", "docs/guarantees.md"])
    def test_it_is_printed_word_for_word_with_what_is_not_exactly_once(self, page: str) -> None:
        text = (REPOSITORY / page).read_text("utf-8")
        assert PROMISE in re.sub(r"\n> ", " ", text)
        assert "What is not exactly once" in text


def error_codes() -> dict[str, str]:
    """Every code of the library, and the class that has it."""
    library = REPOSITORY / "sdk" / "stepwell"
    for file in library.rglob("*.py"):
        parts = file.relative_to(library).with_suffix("").parts
        if parts[0] not in ("testing", "cli") and parts[-1] != "__init__":
            import_module(".".join(["stepwell", *parts]))
    found: dict[str, str] = {}
    todo: list[type[StepwellError]] = [StepwellError]
    while todo:
        kind = todo.pop()
        if kind.__module__.startswith("stepwell."):
            found[kind.code] = kind.__name__
        todo += kind.__subclasses__()
    return found


class TestErrors:
    codes = error_codes()
    sections: ClassVar[dict[str, str]] = dict(
        re.findall(
            r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", (REPOSITORY / "docs" / "errors.md").read_text("utf-8"), re.M | re.S
        )
    )

    def test_every_code_has_a_section_that_names_its_class(self) -> None:
        assert {"invalid-option", "not-json", "step-failed"} <= set(self.codes)
        missing = {code: name for code, name in self.codes.items() if f"`{name}`" not in self.sections.get(code, "")}
        assert missing == {}

    def test_no_section_is_about_a_code_that_does_not_exist(self) -> None:
        codes = {*self.codes, MOVED_BY_SQS, UNDELIVERED, UNSAID}
        assert [name for name in self.sections if re.fullmatch(r"[a-z-]+", name) and name not in codes] == []

    def test_every_code_of_the_command_line_is_explained(self) -> None:
        commands = (REPOSITORY / "sdk" / "stepwell" / "cli").rglob("*.py")
        used = {code for file in commands for code in re.findall(r'Trouble\(\s*"([a-z-]+)"', file.read_text("utf-8"))}
        assert len(used) > 8
        told = self.sections["On the command line"]
        assert [code for code in used if f"`{code}`" not in told and code not in self.sections] == []

    def test_every_section_says_what_to_do(self) -> None:
        assert [code for code in self.codes if code != "stepwell" and "* Do:" not in self.sections[code]] == []
