"""Gates in the table: the counters of slots and their lines, and what buckets remember.

A run and a gate that have to agree are written in one transaction. So the run's own item is what holds a slot: there is
no list of holders that could name a dead one. What each condition means stands in `layout`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from stepwell.records import RunState, RunStatus, Stored
from stepwell.store import layout
from stepwell.store.gate_writes import (
    GateState,
    Turn,
    change_run,
    gate_from,
    give_back,
    join_line,
    meet,
    quit_line,
    remember,
    strike_place,
    take_slot,
    used,
)
from stepwell.store.items import changes, run_from, run_item
from stepwell.store.runs import LostRun
from stepwell.store.table import Lost, Table
from stepwell.store.transactions import Refused, Transactions, Write

_LONGEST_PAUSE = 4


@dataclass(frozen=True, slots=True)
class Entry:
    """All that is written when an event is admitted, besides its run."""

    remembers: Sequence[Turn] = ()
    """What gates remember from now on."""
    takes: Sequence[tuple[str, int]] = ()
    """Slots the run holds from its beginning: gate and limit."""
    waits: tuple[str, int] | None = None
    """The gate in whose line it waits, and its limit."""
    skips: tuple[str, Mapping[str, Any]] | None = None
    """A scheduled run that never starts because of this one, and its attributes from then on."""
    cancels: tuple[RunState, Mapping[str, Any], bool] | None = None
    """A live run as it was read, that ends because of this one, its attributes from then on, and whether it must not have
    started. Its slots come free, for this one if it needs them."""
    joins: tuple[str, int] | None = None
    """The scheduled run that takes this event along, and which of its events it is."""
    event: Stored | None = None
    """The event, for the run it joins."""
    event_ttl: int = 0
    """Until when it is kept there, epoch seconds."""
    event_tags: Mapping[str, str] = field(default_factory=dict)
    """Its tags, under which that run is filed."""
    completes: int | None = None
    """If the run it joins has all its events with this one: when it is to be looked at (due), milliseconds."""
    ttl: int | None = None
    """For a run that has ended before it began: when it may be removed, epoch seconds."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a line."""

    sk: str
    run: str
    function: str | None
    """Of the run; None where an earlier release has put it in."""
    gates: tuple[str, ...]
    """Those whose slots the run needs, if there are several."""


class Moved(Exception):
    """A gate, or a run that matters, is no longer as it was read: decide again."""


class Full(Exception):
    """A gate has no room, or others are in line before: nothing was written."""

    def __init__(self, gate: str, limit: int) -> None:
        super().__init__(f"gate {gate} is full")
        self.gate = gate
        self.limit = limit


class Room(Exception):
    """The gate has room after all: there is no line to stand in."""


class Gates:
    """Every verb is one request."""

    def __init__(self, table: Table, transactions: Transactions) -> None:
        self._table = table
        self._transactions = transactions

    # ---- reading

    def read(self, gates: Iterable[str], run: str | None = None) -> tuple[dict[str, GateState], RunState | None]:
        """The gates as they are, and with them a run if it exists; strongly consistent."""
        keys = [(layout.gate_pk(gate), layout.GATE_SK) for gate in gates]
        if run is not None:
            keys.append((layout.run_pk(run), layout.RUN_SK))
        found: dict[str, GateState] = {}
        existing = None
        for item in self._table.batch_get(keys) if keys else []:
            if item["sk"] == layout.RUN_SK:
                existing = run_from(item)
            else:
                gate = gate_from(item)
                found[gate.id] = gate
        return found, existing

    def line(self, gate: str, *, after: str = "", first_page: int = 25) -> Iterator[Place]:
        """The places in a line, the first first, or those behind the place `after`."""
        pk, prefix = layout.gate_pk(gate), layout.LINE_PREFIX
        for item in self._table.query(pk, prefix=prefix, after=after, first_page=first_page):
            yield Place(item["sk"], item["run"], item.get("function"), tuple(item.get("gates", ())))

    def members(self, run: str) -> Iterator[Stored]:
        """The events that a run takes along besides its own, in their order."""
        for item in self._table.query(layout.run_pk(run), prefix=layout.MEMBER_PREFIX):
            yield item["event"]

    def member_tags(self, run: str) -> Iterator[dict[str, str]]:
        """The tags of the events that a run has taken along, as far as they have any."""
        for item in self._table.query(layout.run_pk(run), prefix=layout.MEMBER_PREFIX):
            if "tags" in item:
                yield item["tags"]

    # ---- writing

    def keep_members(self, run: str, events: Sequence[Stored], *, ttl: int) -> None:
        """Put events beside a run that is to be. Unconditional: repeated, it writes the same again."""
        for place, event in enumerate(events, start=1):
            self._table.put({"pk": layout.run_pk(run), "sk": layout.member_sk(place), "event": event, "ttl": ttl})

    def admit(self, run: RunState, entry: Entry, *, now: int) -> RunState | None:
        """Create a run with all that its gates remember of it, at once.

        Returns None if the run is new, else the one that is already there. Raises Full if a slot is not free, Room if
        the line to wait in is not needed, Moved if anything else is no longer as it was read.
        """
        item = run_item(run) | ({"ttl": entry.ttl} if entry.ttl is not None else {})
        writes = [Write("Put", (layout.run_pk(run.id), layout.RUN_SK), item=item, if_=layout.CREATE)]
        writes += [remember(gate, memory, ttl) for gate, memory, ttl in entry.remembers]
        if entry.skips is not None:
            skipped, fields = entry.skips
            set_, remove, _ = changes(skipped, fields)
            key = (layout.run_pk(skipped), layout.RUN_SK)
            writes.append(Write("Update", key, set_=set_, remove=remove, if_=layout.PENDING))
        if entry.joins is not None:
            leader, place = entry.joins
            member = (layout.run_pk(leader), layout.member_sk(place))
            writes.append(meet(leader, entry.completes, now))
            item = {"pk": member[0], "sk": member[1], "event": entry.event, "ttl": entry.event_ttl}
            item |= {"tags": dict(entry.event_tags)} if entry.event_tags else {}
            writes.append(Write("Put", member, item=item))
        freed: tuple[str, ...] = ()
        if entry.cancels is not None:
            other, fields, unstarted = entry.cancels
            freed = other.gates if other.held else ()
            if_ = layout.PENDING if unstarted else layout.LIVE
            writes.append(change_run(other, if_, {**fields, "held": None, "line": None}))
        slots = len(writes)
        writes += [take_slot(gate, limit, now, in_line=False, freed=gate in freed) for gate, limit in entry.takes]
        if entry.waits is not None:
            writes += join_line(run, *entry.waits, now, freed=entry.waits[0] in freed)
        met = {write.key for write in writes}
        writes += [write for gate in freed if (write := give_back(gate, now)).key not in met]
        try:
            self._transactions.write(*writes)
        except Refused as refused:
            if refused.index == 0:
                return run_from(refused.item or {})
            if refused.index < slots:
                raise Moved from None
            if entry.waits is not None:
                raise Room from None
            raise Full(*entry.takes[refused.index - slots]) from None
        return None

    def pause(self, turn: int) -> None:
        """Let those go first who write the same gates just now; for a moment, from the third turn on."""
        if turn >= 2:
            self._table.pause(min(turn - 2, _LONGEST_PAUSE))

    def take(
        self,
        run: RunState,
        slots: Sequence[tuple[str, int]],
        if_: str,
        *,
        due: int,
        now: int,
        throttle: Turn | None = None,
        **values: Any,
    ) -> None:
        """Queue a resting run, with all the slots (gate and limit) it has yet to get, leaving the line it stands in; and
        with what its `throttle` remembers of it, if it takes its turn now.

        Raises LostRun if the run is no longer so, Full naming the first gate without room, Moved if the throttle is no
        longer as it was read. Who does not come from a gate's line finds no room there while others are in it; unless it
        has been in it, and waits in the line of a gate that is asked after it: those that are in it now came later.
        """
        closed = next((gate for gate, limit in slots if limit <= 0), None)
        if closed is not None:
            raise Full(closed, 0)
        fields = {"status": RunStatus.QUEUED.value, "due": due, "wake_at": None, "line": None, "reason": None}
        writes = [change_run(run, if_, {**fields, **({"held": True} if run.gates else {}), **values})]
        order = [gate for gate, _ in slots]
        asked = order[: order.index(run.line)] if run.line in order else []
        writes += [take_slot(gate, limit, now, in_line=gate == run.line, ahead=gate in asked) for gate, limit in slots]
        if run.line is not None:
            writes += quit_line(run, run.line, now, counted=run.line in {gate for gate, _ in slots})
        if throttle is not None:
            writes.append(remember(*throttle))
        try:
            self._transactions.write(*writes)
        except Refused as refused:
            if 1 <= refused.index <= len(slots):
                raise Full(*slots[refused.index - 1]) from None
            if throttle is not None and refused.index == len(writes) - 1:
                raise Moved from None
            raise LostRun(run_from(refused.item) if refused.index == 0 and refused.item else run) from None

    def wait(
        self, run: RunState, gate: str, limit: int, if_: str, *, due: int, wake_at: int | None, now: int, **values: Any
    ) -> None:
        """Put a resting run into the line of a gate, out of the one it stands in. Raises LostRun, or Room.

        `wake_at` is when it is out of time, if it may not wait for ever.
        """
        writes = [
            change_run(run, if_, {"line": gate, "due": due, "wake_at": wake_at, **values}),
            *join_line(run, gate, limit, now),
        ]
        if run.line is not None:
            writes += quit_line(run, run.line, now)
        try:
            self._transactions.write(*writes)
        except Refused as refused:
            if refused.index == 0:
                raise LostRun.to(refused.item) from None
            if refused.index == 1:
                raise Room from None
            raise LostRun(run) from None

    def put_off(self, run: RunState, if_: str, turn: Turn | None, fields: Mapping[str, Any], *, now: int) -> None:
        """Change a resting run, out of the line it stands in, together with the turn it takes at its throttle for later,
        if it takes one.

        Raises LostRun, or Moved if the throttle is no longer as it was read.
        """
        writes = [change_run(run, if_, {**fields, "line": None}), *([] if turn is None else [remember(*turn)])]
        if run.line is not None:
            writes += quit_line(run, run.line, now)
        try:
            self._transactions.write(*writes)
        except Refused as refused:
            if refused.index == 1 and turn is not None:
                raise Moved from None
            raise LostRun(run_from(refused.item) if refused.index == 0 and refused.item else run) from None

    def leave(self, run: RunState, if_: str, fields: Mapping[str, Any], *, now: int) -> None:
        """Change a run that stops executing, or waiting in line, and give back what it holds. Raises LostRun.

        The run must hold what `run` says it holds: the loser looks again, or a slot would be given back twice or never.
        Its place in a line stays behind, and is struck out by whoever comes upon it.
        """
        back = [give_back(gate, now) for gate in (run.gates if run.held else ())]
        try:
            self._transactions.write(change_run(run, if_, {**fields, "held": None, "line": None}), *back)
        except Refused as refused:
            raise LostRun.to(refused.item) from None

    def waiting(self, gate: str) -> int:
        """How many runs stand in the line of a gate; strongly consistent."""
        item = self._table.get(layout.gate_pk(gate), layout.GATE_SK)
        return gate_from(item).waiting if item else 0

    def strike(self, gate: str, place: str, *, now: int) -> None:
        """Take a place out of a line whose run waits there no longer. Repeating it is harmless."""
        try:
            self._transactions.write(*strike_place(gate, place, now))
        except Refused:
            return

    def prolong(self, gate: str, ttl: int) -> None:
        """Keep a gate until `ttl` (epoch seconds). EXISTING."""
        key = (layout.gate_pk(gate), layout.GATE_SK)
        with suppress(Lost):
            self._table.update(*key, set_={"ttl": ttl}, if_=layout.EXISTING, returning="NONE")

    def hasten(self, gate: str, *, now: int) -> None:
        """Have the gate looked at within a minute, if anybody stands in its line. WATCHED."""
        key = (layout.gate_pk(gate), layout.GATE_SK)
        due_pk, due_sk = layout.due_key(gate, now)
        with suppress(Lost):
            self._table.update(*key, set_={"due_pk": due_pk, "due_sk": due_sk}, if_=layout.WATCHED, returning="NONE")

    def postpone(self, gate: GateState, *, due: int, now: int) -> None:
        """Look at the gate again at `due`, or not at all if its line is empty. SEEN_DUE; a loser does nothing."""
        key = (layout.gate_pk(gate.id), layout.GATE_SK)
        due_pk, due_sk = layout.due_key(gate.id, due)
        seen = f"{gate.due_at:015d}"
        try:
            if gate.waiting > 0:
                set_ = {"due_pk": due_pk, "due_sk": due_sk, **used(now)}
                values: dict[str, Any] = {":seen_due": seen}
                self._table.update(*key, set_=set_, if_=layout.SEEN_DUE, values=values, returning="NONE")
            else:
                gone, values = ("due_pk", "due_sk"), {":none": 0, ":seen_due": seen}
                self._table.update(*key, remove=gone, if_=layout.EMPTY_LINE, values=values, returning="NONE")
        except Lost:
            return
