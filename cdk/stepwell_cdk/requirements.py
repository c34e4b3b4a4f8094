"""What a user's code needs, read from requirements.txt or pyproject.toml, made ready for another platform's pip.

Two things must be done before the lines may be handed to pip. Markers are judged here, for the Lambda platform,
because ``pip install --python-version`` judges them for the machine it runs on (it would leave out a package wanted
``; sys_platform == "linux"`` when packed on a Mac). And ``stepwell`` itself is taken out: the worker gets the very
library that synthesizes the stack, so that the engine and its workers never differ in version. What its extras for
workers need (``stepwell[encryption]``) stays.
"""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from stepwell_cdk.platform import Platform

_INCLUDE = re.compile(r"^(?:-r|--requirement)[ =]\s*(?P<file>\S+)$")
_HASH = re.compile(r"\s--hash[ =]\S+")
_COMMENT = re.compile(r"(^|\s)#.*$")
_LIBRARY = "stepwell"
_EXTRAS = frozenset({"encryption", "otel"})
"""The extras of stepwell that are of use in a worker; the others are for machines of developers."""


@dataclass(frozen=True)
class Requirements:
    """Requirement lines for pip, and the canonical names of the packages they ask for."""

    lines: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()
    hashed: bool = False
    """Whether lines carry ``--hash``. pip then wants one for every package, so the file must be complete."""

    @classmethod
    def read(
        cls, source: Path | str | Sequence[str] | None, platform: Platform, *, code: Path | None = None
    ) -> Requirements:
        """The requirements in ``source``: a requirements.txt, a pyproject.toml, or the lines themselves.

        ``None`` looks for requirements.txt, then pyproject.toml, in ``code``; with neither, nothing is needed.
        Raises ``ValueError`` naming the file and line that cannot be read, ``FileNotFoundError`` for a missing file.
        """
        if source is None:
            found = [code / name for name in ("requirements.txt", "pyproject.toml")] if code is not None else []
            source = next((file for file in found if file.is_file()), ())
        if isinstance(source, (str, Path)):
            path = Path(source)
            lines = _of_pyproject(path) if path.suffix == ".toml" else _of_file(path)
        else:
            lines = ((line, "the given requirements") for line in source)
        return _judged(lines, platform)


def _of_pyproject(path: Path) -> Iterator[tuple[str, str]]:
    project = tomllib.loads(path.read_text(encoding="utf-8")).get("project", {})
    yield from ((line, str(path)) for line in project.get("dependencies", ()))


def _of_file(path: Path) -> Iterator[tuple[str, str]]:
    """The logical lines of a requirements file, files it includes among them; comments and blank lines left out."""
    text = re.sub(r"\\\r?\n", " ", path.read_text(encoding="utf-8"))
    for number, raw in enumerate(text.splitlines(), start=1):
        line = _COMMENT.sub("", raw).strip()
        if include := _INCLUDE.match(line):
            yield from _of_file(path.parent / include["file"])
        elif line:
            yield line, f"{path}, line {number}"


def _judged(lines: Iterable[tuple[str, str]], platform: Platform) -> Requirements:
    kept: list[str] = []
    names: set[str] = set()
    hashed = False
    for line, place in lines:
        if line.startswith("-"):
            if line.startswith(("-e", "--editable")):
                raise ValueError(f"{place}: an editable package cannot be packed for Lambda: {line}")
            kept.append(line)
            continue
        try:
            wanted = Requirement(_HASH.sub("", line))
        except InvalidRequirement as error:
            raise ValueError(f"{place}: not a requirement ({error}): {line}") from error
        if wanted.marker and not wanted.marker.evaluate(platform.markers):
            continue
        if canonicalize_name(wanted.name) == _LIBRARY:
            for needed in _of_extras(wanted.extras & _EXTRAS):
                kept.append(str(needed))
                names.add(canonicalize_name(needed.name))
            continue
        wanted.marker = None
        hashes = "".join(_HASH.findall(line))
        hashed = hashed or bool(hashes)
        kept.append(f"{wanted}{hashes}")
        names.add(canonicalize_name(wanted.name))
    return Requirements(tuple(kept), frozenset(names), hashed)


def _of_extras(extras: Iterable[str]) -> Iterator[Requirement]:
    """What these extras of the installed stepwell add to it."""
    lines = importlib.metadata.requires(_LIBRARY) or []
    for extra in sorted(extras):
        for each in map(Requirement, lines):
            if each.marker and each.marker.evaluate({"extra": extra}) and not each.marker.evaluate({"extra": ""}):
                each.marker = None
                yield each
