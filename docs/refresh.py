"""Keep the documentation true: code in it is copied from files that are tested, tables are made from the source.

A fenced python block stands below a comment that says where it comes from:

    <!-- docs/snippets/onboarding.py: app -->      the lines between `# [app]` and `# [end]` of that file
    <!-- docs/kernel.py -->                        some lines of that file, copied as they are

What is made from the source stands between `<!-- generated: conditions -->` and `<!-- end -->`. `python docs/refresh.py`
writes all of it anew; tests/unit/test_docs.py fails while that would change anything.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]

_BLOCK = re.compile(
    r"(?:^<!-- (?P<file>[\w./-]+\.py)(?:: (?P<region>[\w-]+))? -->\n)?^```python\n(?P<code>.*?)^```$", re.M | re.S
)
_GENERATED = re.compile(r"(^<!-- generated: (?P<what>[\w-]+) -->\n)(?P<text>.*?)(^<!-- end -->$)", re.M | re.S)
_REGION = re.compile(r"^ *# \[(?P<name>[\w-]+)\]\n(?P<code>.*?)^ *# \[end\]\n", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced python block of a page."""

    line: int
    file: str | None
    """Where its comment says it comes from."""
    region: str | None
    code: str


def pages() -> list[Path]:
    """The README and every page below docs/."""
    return [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]


def blocks(page: str) -> Iterator[Block]:
    """The python blocks of a page."""
    for found in _BLOCK.finditer(page):
        line = page.count("\n", 0, found.start("code"))
        yield Block(line, found["file"], found["region"], found["code"])


def regions(source: str) -> dict[str, str]:
    """The marked regions of a file, without the indentation they share."""
    return {found["name"]: textwrap.dedent(found["code"]).strip("\n") + "\n" for found in _REGION.finditer(source)}


def is_excerpt(code: str, source: str) -> bool:
    """Whether the code is a run of whole lines of the source, up to the indentation they share."""
    wanted = code.strip("\n").split("\n")
    lines = source.split("\n")
    for start in range(len(lines) - len(wanted) + 1):
        piece = textwrap.dedent("\n".join(lines[start : start + len(wanted)]))
        if piece.strip("\n") == "\n".join(wanted):
            return True
    return False


def refreshed(page: str) -> str:
    """The page with every marked region and every generated part as it is in the source now.

    Raises KeyError for a region or a generated part that does not exist.
    """

    def block(found: re.Match[str]) -> str:
        if found["file"] is None or found["region"] is None:
            return found[0]
        code = regions((REPOSITORY / found["file"]).read_text("utf-8"))[found["region"]]
        return f"<!-- {found['file']}: {found['region']} -->\n```python\n{code}```"

    def part(found: re.Match[str]) -> str:
        return found[1] + GENERATED[found["what"]]() + found[4]

    return _GENERATED.sub(part, _BLOCK.sub(block, page))


# ---- what is made from the source ----------------------------------------------------------------------------------------


def items() -> str:
    """The items of the table, as the store's own header lists them."""
    from stepwell.store import layout

    header = inspect.getdoc(layout) or ""
    rows = re.findall(r"^    .*$", header.split("\n\n")[2], re.M)
    return "```text\n" + textwrap.dedent("\n".join(rows)) + "\n```\n"


def conditions() -> str:
    """Every condition of the store: its name, its expression, what it is for."""
    from stepwell.store import layout

    header = (inspect.getdoc(layout) or "").split("Conditions\n----------\n")[1]
    told = re.findall(r"^    ([A-Z_]+) +(.+?)(?=\n    [A-Z_]+ |\n\n|\Z)", header, re.M | re.S)
    rows = [
        f"| `{name}` | `{getattr(layout, name)}` | {' '.join(text.split())} |\n"
        for name, text in ((name, text[0].upper() + text[1:]) for name, text in told)
    ]
    return "| name | condition | why |\n|---|---|---|\n" + "".join(rows)


def transitions() -> str:
    """Which state of a run may follow which."""
    from stepwell.records import TRANSITIONS

    rows = [
        f"| `{before.value}` | {', '.join(f'`{each.value}`' for each in type(before) if each in after) or 'nothing'} |\n"
        for before, after in TRANSITIONS.items()
    ]
    return "| from | to |\n|---|---|\n" + "".join(rows)


def cost_items() -> str:
    """What a million runs of five steps cost, line by line."""
    from stepwell.cli.cost import price, quantity
    from stepwell.cli.pricing.bill import WORK, run_items, total
    from stepwell.cli.pricing.counts import Shape
    from stepwell.cli.pricing.peers import usd
    from stepwell.cli.pricing.prices import load

    items = run_items(Shape(), load())
    rows = [
        f"| {each.name} | {quantity(each.quantity)} {each.unit} | {price(each)} | {usd(each.usd)} |\n" for each in items
    ]
    rows.append(f"| **together** | | | **{usd(total(items))}** |\n")
    rows.append(f"| without the steps' own work | | | {usd(total(items, without=WORK))} |\n")
    return f"| {load().date:%Y-%m-%d}, {load().region} | quantity | price | USD |\n|---|---:|---:|---:|\n" + "".join(
        rows
    )


def cost_compared() -> str:
    """The same runs elsewhere, each sum shown."""
    from stepwell.cli.cost import times
    from stepwell.cli.pricing.bill import run_items, total
    from stepwell.cli.pricing.counts import Shape
    from stepwell.cli.pricing.peers import compare, usd
    from stepwell.cli.pricing.prices import load

    ours = total(run_items(Shape(), load()))
    rows = [f"| Stepwell | {usd(ours)} | | the table above |\n"]
    rows += [
        f"| {peer.name} | {usd(peer.usd)} | {times(peer.usd, ours)} | {peer.arithmetic} |\n"
        for peer in compare(Shape(), load())
    ]
    return "| | USD | times as much | arithmetic |\n|---|---:|---:|---|\n" + "".join(rows)


def cost_shapes() -> str:
    """What one change of the shape does to the sum."""
    from stepwell.cli.pricing.bill import run_items, total
    from stepwell.cli.pricing.counts import Shape, count
    from stepwell.cli.pricing.peers import usd
    from stepwell.cli.pricing.prices import load

    shapes = {
        "five steps of 100 ms, 1 GB, half a KB each": Shape(),
        "with 128 MB instead of 1 GB": Shape(memory_mb=128),
        "steps that take a second": Shape(step_ms=1000),
        "twenty steps": Shape(steps=20),
        "events that arrive ten at a time": Shape(batch=10),
        "results of 3 KB": Shape(result_kb=3),
        "results of 100 KB, in S3": Shape(result_kb=100),
        "an event of 8 KB": Shape(event_kb=8),
        "a sleep of five minutes": Shape(sleeps=1, sleep_seconds=300),
        "a sleep of a day": Shape(sleeps=1, sleep_seconds=86_400),
        "a wait for an event": Shape(waits=1),
        "kept for a year": Shape(retention_days=365),
    }
    rows = [
        f"| {name} | {count(shape).write_units:g} | {usd(total(run_items(shape, load())))} |\n"
        for name, shape in shapes.items()
    ]
    return "| a million runs of | write units a run | USD |\n|---|---:|---:|\n" + "".join(rows)


def cost_fixed() -> str:
    """What a deployment costs in a month in which nothing happens."""
    from stepwell.cli.pricing.bill import fixed_items, total
    from stepwell.cli.pricing.peers import usd
    from stepwell.cli.pricing.prices import load

    items = fixed_items(load())
    rows = [f"| {each.name} | {usd(each.usd)} |\n" for each in items]
    return "| a month | USD |\n|---|---:|\n" + "".join(rows) + f"| **together** | **{usd(total(items))}** |\n"


GENERATED: dict[str, Callable[[], str]] = {
    "items": items,
    "conditions": conditions,
    "transitions": transitions,
    "cost-items": cost_items,
    "cost-compared": cost_compared,
    "cost-shapes": cost_shapes,
    "cost-fixed": cost_fixed,
}


def main() -> None:
    """Write all pages anew."""
    for page in pages():
        before = page.read_text("utf-8")
        after = refreshed(before)
        if after != before:
            page.write_text(after, "utf-8")
            sys.stdout.write(f"{page.relative_to(REPOSITORY)} has changed\n")


if __name__ == "__main__":
    main()
