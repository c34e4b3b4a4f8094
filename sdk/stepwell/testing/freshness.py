"""Whether what an invocation knows of a run is still true.

In production a holder re-reads its run before a step body if it last saw it over a second ago. Here time stands still
while it works, and we know better: what it saw is out of date exactly if somebody else has written the run since. So a
cancel shows at once, and nobody is charged for reading what has not changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepwell.store.layout import RUN_SK
from stepwell.testing.calls import Call
from stepwell.testing.invocations import Invocation, current_invocation
from stepwell.testing.shadow import Key


class Freshness:
    """Who has seen which version of which run."""

    def __init__(self) -> None:
        self._version: dict[str, int] = {}
        self._seen: dict[tuple[Invocation | None, str], int] = {}

    def fresh(self, run_id: str, seen_at: float) -> bool:
        """What `Ports.fresh` asks: may the current invocation still trust what it knows of this run?"""
        return self._seen.get((current_invocation(), run_id)) == self._version.get(run_id, 0)

    def wrote(self, key: Key, by: Invocation | None, *, showed_all: bool) -> None:
        """Somebody has written an item. `showed_all` says that the answer held all of it."""
        if key[1] != RUN_SK:
            return
        run_id = key[0].removeprefix("RUN#")
        before = self._version.get(run_id, 0)
        self._version[run_id] = before + 1
        # A write whose answer shows nothing tells its writer nothing about writes of others before it.
        if showed_all or self._seen.get((by, run_id), 0) == before:
            self._seen[by, run_id] = before + 1

    def passed(self, call: Call, status: int, answer: Any) -> None:
        """A call was answered, and may have shown runs to its caller."""
        if call.operation == "GetItem":
            self._saw(call.params["Key"], call.invocation)
        elif call.operation == "Query" and "IndexName" not in call.params:
            for item in answer().get("Items", []):
                self._saw(item, call.invocation)
        elif call.operation == "BatchGetItem" and status == 200:
            for items in answer().get("Responses", {}).values():
                for item in items:
                    self._saw(item, call.invocation)
        elif status != 200 and call.operation in ("UpdateItem", "PutItem"):
            shown = answer().get("Item")
            if shown is not None:
                self._saw(shown, call.invocation)

    def _saw(self, attributes: Mapping[str, Any], by: Invocation | None) -> None:
        if attributes["sk"]["S"] == RUN_SK:
            run_id = attributes["pk"]["S"].removeprefix("RUN#")
            self._seen[by, run_id] = self._version.get(run_id, 0)
