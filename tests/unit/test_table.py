"""The table's verbs over many items: what DynamoDB leaves over is asked for again, in its own time."""

from __future__ import annotations

from typing import Any

from stepwell.store.table import Table, marshal


class Throttled:
    """Takes `share` items of each request, and nothing of the first `refusals` requests."""

    def __init__(self, share: int, refusals: int = 0) -> None:
        self.share = share
        self.refusals = refusals
        self.items: dict[str, dict[str, Any]] = {}

    def _taken(self, asked: list[Any]) -> int:
        if self.refusals > 0:
            self.refusals -= 1
            return 0
        return min(self.share, len(asked))

    def batch_write_item(self, *, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803
        ((table, asked),) = RequestItems.items()
        assert 0 < len(asked) <= 25
        taken = self._taken(asked)
        for request in asked[:taken]:
            item = request["PutRequest"]["Item"]
            self.items[item["pk"]["S"]] = item
        return {"UnprocessedItems": {table: asked[taken:]} if asked[taken:] else {}}

    def batch_get_item(self, *, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803
        ((table, request),) = RequestItems.items()
        asked = request["Keys"]
        assert 0 < len(asked) <= 100
        taken = self._taken(asked)
        found = [self.items[key["pk"]["S"]] for key in asked[:taken] if key["pk"]["S"] in self.items]
        left = {table: {"Keys": asked[taken:]}} if asked[taken:] else {}
        return {"Responses": {table: found}, "UnprocessedKeys": left}


ITEMS = [{"pk": f"k-{n}", "sk": "s", "n": n} for n in range(60)]


def test_what_was_left_over_is_written_after_a_pause_that_grows() -> None:
    client, pauses = Throttled(share=20, refusals=3), list[int]()
    Table(lambda: client, "table", pause=pauses.append).put_many(ITEMS)
    assert len(client.items) == 60
    assert pauses == list(range(len(pauses)))
    assert len(pauses) >= 3


def test_what_was_left_over_is_read_again_after_a_pause_only_if_nothing_came() -> None:
    client, pauses = Throttled(share=20), list[int]()
    client.items = {item["pk"]: marshal(item) for item in ITEMS}
    table = Table(lambda: client, "table", pause=pauses.append)
    keys = [(item["pk"], item["sk"]) for item in ITEMS] + [("absent", "s")]
    assert sorted(table.batch_get(keys), key=lambda item: int(item["n"])) == ITEMS
    assert pauses == [], "the answer was only full"
    client.refusals = 4
    assert len(table.batch_get(keys)) == 60
    assert pauses == [0, 1, 2, 3]
