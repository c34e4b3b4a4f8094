"""The writes of which transactions with gates are made: each changes one item, on a condition that `layout` explains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stepwell.codec import canonical, loads
from stepwell.records import RunState
from stepwell.store import layout
from stepwell.store.items import changes
from stepwell.store.table import Item
from stepwell.store.transactions import Write

_KEEP = 30 * 86_400
"""Seconds for which a gate that nobody uses is kept."""


@dataclass(frozen=True, slots=True)
class GateState:
    """A gate as it was read."""

    id: str
    version: int = 0
    held: int = 0
    """Slots taken."""
    waiting: int = 0
    """Runs in its line."""
    memory: Mapping[str, Any] | None = None
    due_at: int | None = None
    """When the sweeper is to look at its line, milliseconds."""


Turn = tuple[GateState, Mapping[str, Any], int]
"""A gate as it was read, what it remembers from now on, and until when it is kept (epoch seconds)."""


def gate_from(item: Item) -> GateState:
    """A gate from its item."""
    return GateState(
        id=item["pk"].removeprefix(layout.GATE_PREFIX),
        version=item.get("v", 0),
        held=item.get("held", 0),
        waiting=item.get("waiting", 0),
        memory=loads(item["memory"]) if "memory" in item else None,
        due_at=int(item["due_sk"]) if "due_sk" in item else None,
    )


def meet(leader: str, completes: int | None, now: int) -> Write:
    """Make sure that a run still takes events; with its last one its time has come."""
    key = (layout.run_pk(leader), layout.RUN_SK)
    if completes is None:
        return Write("ConditionCheck", key, if_=layout.PENDING)
    due_pk, due_sk = layout.due_key(leader, completes)
    set_ = {"wake_at": now, "due_pk": due_pk, "due_sk": due_sk}
    return Write("Update", key, set_=set_, if_=f"{layout.PENDING} AND {layout.NOT_IN_LINE}")


def remember(gate: GateState, memory: Mapping[str, Any], ttl: int) -> Write:
    """What a gate remembers from now on. UNCHANGED, or NEW_GATE."""
    return Write(
        "Update",
        (layout.gate_pk(gate.id), layout.GATE_SK),
        set_={"memory": canonical(dict(memory)), "v": gate.version + 1, "ttl": ttl},
        if_=layout.UNCHANGED if gate.version else layout.NEW_GATE,
        values={":seen": gate.version} if gate.version else {},
    )


def give_back(gate: str, now: int) -> Write:
    """Give a slot back."""
    return Write("Update", (layout.gate_pk(gate), layout.GATE_SK), add={"held": -1}, set_=used(now))


def take_slot(gate: str, limit: int, now: int, *, in_line: bool, ahead: bool = False, freed: bool = False) -> Write:
    """Take a slot; with `freed` it is one that another run gives back by the same write, so the count stays. `ahead`: who
    takes it stands further ahead than all that wait for one."""
    key = (layout.gate_pk(gate), layout.GATE_SK)
    if in_line:
        # The same item cannot be written twice in one transaction: the place in line is given up here, too.
        return Write(
            "Update",
            key,
            add={"held": 1, "waiting": -1},
            set_=used(now),
            if_=layout.HAS_ROOM,
            values={":limit": limit},
        )
    if ahead:
        return Write(
            "Update", key, add={"held": 1}, set_=used(now), if_=layout.HAS_ROOM, values={":limit": limit}
        )  # fmt: skip
    add, limit = ({}, limit + 1) if freed else ({"held": 1}, limit)
    return Write("Update", key, add=add, set_=used(now), if_=layout.FREE, values={":limit": limit, ":none": 0})


def join_line(run: RunState, gate: str, limit: int, now: int, *, freed: bool = False) -> list[Write]:
    """Stand in line; with `freed` another run gives a slot back by the same write, which is not room yet."""
    key = (layout.gate_pk(gate), layout.GATE_SK)
    due_pk, due_sk = layout.due_key(gate, now + layout.LINE_PATIENCE)
    closed = limit <= 0
    place = (key[0], layout.line_sk(run.place, run.id))
    more = {"gates": list(run.gates)} if len(run.gates) > 1 else {}
    return [
        Write(
            "Update",
            key,
            add={"waiting": 1, **({"held": -1} if freed else {})},
            set_=used(now),
            absent={"due_pk": due_pk, "due_sk": due_sk},
            if_=None if closed else layout.NO_ROOM,
            values={} if closed else {":limit": limit + freed, ":none": 0},
        ),
        Write("Put", place, item={"pk": place[0], "sk": place[1], "run": run.id, "function": run.function, **more}),
    ]


def quit_line(run: RunState, gate: str, now: int, *, counted: bool = False) -> list[Write]:
    """Leave a line; `counted` if the count of those who wait is changed by another write."""
    place = layout.line_sk(run.place, run.id)
    return [write for write in strike_place(gate, place, now) if not counted or write.verb == "Delete"]


def strike_place(gate: str, place: str, now: int) -> list[Write]:
    """Take a place out of a line. EXISTING."""
    pk = layout.gate_pk(gate)
    return [
        Write("Delete", (pk, place), if_=layout.EXISTING),
        Write("Update", (pk, layout.GATE_SK), add={"waiting": -1}, set_=used(now)),
    ]


def used(now: int) -> dict[str, Any]:
    """A gate that is used is kept."""
    return {"ttl": now // 1000 + _KEEP}


def change_run(run: RunState, if_: str, fields: Mapping[str, Any]) -> Write:
    """The run changed, on the condition given, and that it holds and waits for what it was seen to."""
    set_, gone, values = changes(run.id, fields)
    condition = f"({if_}) AND {layout.HOLDING if run.held else layout.NOT_HOLDING}"
    if run.line is None:
        condition += f" AND {layout.NOT_IN_LINE}"
    else:
        condition, values = f"{condition} AND {layout.IN_LINE}", {**values, ":line": run.line}
    key = (layout.run_pk(run.id), layout.RUN_SK)
    return Write("Update", key, set_=set_, remove=gone, if_=condition, values=values)
