"""What is due, in the order in which it is looked at."""

from __future__ import annotations

from typing import Any

from stepwell.store import layout
from stepwell.store.due import due_by


class Index:
    """Keys of one partition, as the table gives a range of them."""

    def __init__(self, *due: tuple[str, int, bool]) -> None:
        keys = [(layout.due_key("r", ms, owing=owing)[1], name) for name, ms, owing in due]
        self.keys = [{"pk": f"RUN#{name}", "sk": "RUN", "due_sk": sk} for sk, name in sorted(keys)]
        self.read: list[str] = []

    def query_index(self, pk: str, *, between: tuple[str, str]) -> Any:
        assert pk == "DUE#3"
        for key in self.keys:
            if between[0] <= key["due_sk"] <= between[1]:
                self.read.append(key["pk"])
                yield key


def test_the_most_overdue_comes_first_whether_it_lives_or_has_ended_and_owes_that() -> None:
    index = Index(("a", 50, True), ("b", 10, False), ("c", 60, False), ("d", 5, True), ("e", 70, True))
    assert [key["pk"] for key in due_by(index, 3, 60)] == ["RUN#d", "RUN#b", "RUN#a", "RUN#c"]  # type: ignore[arg-type]


def test_what_is_not_due_yet_is_left_alone() -> None:
    index = Index(("a", 50, True), ("b", 50, False))
    assert list(due_by(index, 3, 49)) == []  # type: ignore[arg-type]
    assert index.read == []


def test_no_more_is_read_than_is_looked_at() -> None:
    index = Index(*((f"owing-{ms}", ms, True) for ms in range(50)), *((f"live-{ms}", ms, False) for ms in range(50)))
    due = due_by(index, 3, 60)  # type: ignore[arg-type]
    assert [next(due)["pk"] for _ in range(4)] == ["RUN#owing-0", "RUN#live-0", "RUN#owing-1", "RUN#live-1"]
    assert len(index.read) <= 6
