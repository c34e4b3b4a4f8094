"""The options that say which runs are meant."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from stepwell.finding import Filters

Function = Annotated[
    str | None, typer.Option("--function", "-f", metavar="APP/FUNCTION", help="Only of this function.")
]
Status = Annotated[list[str] | None, typer.Option("--status", "-s", help="Only in this state; repeatable.")]
Since = Annotated[str | None, typer.Option("--since", help="How far back: 24h, 7d, or ISO 8601.")]
Until = Annotated[str | None, typer.Option("--until", help="Not newer than: 1h (ago), or ISO 8601.")]
Before = Annotated[str | None, typer.Option("--before", metavar="RUN", help="Older than this run: the next page.")]
Tag = Annotated[str | None, typer.Option("--tag", metavar="NAME=VALUE", help="Only with this tag.")]
OfEvent = Annotated[str | None, typer.Option("--event", metavar="ID", help="Only what this event has started.")]
Where = Annotated[
    str | None,
    typer.Option("--where", metavar="CEL", help="Only if this holds for the event, such as event.data.amount > 100."),
]
Limit = Annotated[int | None, typer.Option("--limit", "-n", min=1, help="The newest so many at most.")]


@dataclass(frozen=True)
class Chosen:
    """Which runs are meant."""

    filters: Filters
    told: str
    """In the words of the options; empty if none were given."""

    @property
    def given(self) -> bool:
        """Whether anything was said at all."""
        return bool(self.told)

    def or_status(self, *statuses: str) -> Chosen:
        """In these states, unless others were said."""
        return self if self.filters.get("status") else replace(self, filters={**self.filters, "status": list(statuses)})


def chosen(
    *,
    function: str | None,
    status: list[str] | None,
    since: str | None,
    until: str | None,
    before: str | None,
    tag: str | None,
    event: str | None,
    where: str | None,
    limit: int | None,
) -> Chosen:
    """The filters of these options. Raises InvalidOption for a time that is none."""
    from stepwell.cli.words import point_in_time

    now = datetime.now(UTC)
    filters: Filters = {
        "function": function, "status": status or None, "before": before, "tag": tag, "event": event, "where": where,
        "limit": limit,
    }  # fmt: skip
    if since is not None:
        filters["since"] = point_in_time(since, now=now, option="--since")
    if until is not None:
        filters["until"] = point_in_time(until, now=now, option="--until")
    said = {
        "function": function, "status": ",".join(status or ()), "since": since, "until": until, "before": before,
        "tag": tag, "event": event, "where": where, "limit": None if limit is None else str(limit),
    }  # fmt: skip
    return Chosen(filters, ", ".join(f"--{name} {value}" for name, value in said.items() if value))
