"""When an event was received first, and when it takes effect: what tells a duplicate from news, and decides what it meets.

An id stands for one event. Whoever sends it again, and whenever that comes, it is the event that was accepted first: it
meets who was there then, and nobody who came later. So the first acceptance is kept wherever that makes a difference:
under an id that its sender chose always; under one that was made only if somebody may wait for the event or be cancelled
by it, in its item of the log, whose key follows from the id. The time in a made id is that of its sender's clock. It says
under which id a run is filed, and nothing else.

An event dated ahead starts runs at once, which are scheduled. Everybody else it meets when it takes effect: then the
orchestrator is asked by a message that names the item of the log. SQS holds a message for 15 minutes at most; before
that the item itself stands in the index, and the sweeper posts the message. The item is written first and the message
posted after it, so a redelivery repeats what was cut off; and it leaves the index after that, so it is posted at least once.

By the time of its effect it is listed from its acceptance on, too. A wait that begins after that time and before the message
is handled is none of those the message is about, and has to find the event when it looks back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from stepwell.codec import JSON
from stepwell.decisions.next import rest
from stepwell.engine.due import Action
from stepwell.errors import DuplicateEvent
from stepwell.events import Envelope
from stepwell.ids import event_key, event_millis
from stepwell.ports import Ports
from stepwell.queue import effect
from stepwell.store.due import Key
from stepwell.store.events import AT_ONCE, KeptEvent, effect_of, received_ulid
from stepwell.store.guards import MARK


@dataclass(frozen=True, slots=True)
class Receipt:
    """What counts of the time of an event, all in milliseconds."""

    received: int
    """Under which its runs are filed: the time in a made id, else when the queue received it first."""
    sent: int
    """When the queue received it first."""
    effect: int
    """When it takes effect: whom it meets is decided by that."""
    before: int | None = None
    """From when on it has met those who waited, if that was before now: who began to wait later is none of its business."""
    dated: bool = False
    """Whether it takes, or took, effect only some time after it was accepted."""
    functions: Collection[str] | None = None
    """The only ones it may start, `app/function`: a function that was deployed later may not. None: all it matches."""

    def after_run(self, created: int) -> Receipt:
        """The same, now that a run which holds this event turns out to exist since then. It was accepted by that time, and
        if one run held it and nobody waited for it yet, nothing else has been kept of that. (A dated one is always kept.)"""
        if self.dated or (self.before is not None and self.before <= created):
            return self
        return replace(self, before=created, effect=min(self.effect, created))

    def is_ahead(self, now: int) -> bool:
        """Whether it has yet to take effect. Only a dated event has: one that seems to come from the future otherwise does so
        because this clock is behind that of the queue."""
        return self.dated and self.effect > now + AT_ONCE

    def cursor(self) -> dict[str, JSON]:
        """For a message that goes on with the event."""
        return {"came": self.effect, "before": self.before, "dated": self.dated}


def receive(
    ports: Ports,
    event: Envelope,
    sent: int,
    matched: Mapping[str, str],
    undecided: Collection[str],
    *,
    waited: Collection[str],
    cursor: Mapping[str, Any],
) -> Receipt:
    """Find out when the event was received first, and keep it where that is to be known later.

    The functions it `matched`, each with the run it is to start (for a made id), and the paths under which it is `waited` for
    say where. `cursor` if this goes on with an event that was received by an earlier message. Raises DuplicateEvent if
    another event had this id, with other data.
    """
    carried = event_millis(event.id)
    if "came" in cursor and (carried is not None or "place" in cursor):
        came: int = cursor["came"]
        dated = cursor.get("dated", came > sent + AT_ONCE)  # not said by what an earlier release has posted
        return Receipt(sent if carried is None else carried, sent, came, cursor.get("before"), dated)
    mine = KeptEvent(sent, event.digest(), (*matched, *undecided), ports.now(), effect_of(event, sent))
    several = len(matched) + len(undecided) > 1
    first: KeptEvent | None = None
    if carried is None and (matched or waited or mine.dated):
        first = ports.store.events.keep(event, mine)
    elif carried is not None and matched and several and not cursor:
        mine = _of_runs(ports, matched, mine)
    stands = first or mine
    awaited = not all(path.startswith(MARK) for path in waited)
    listed = awaited or stands.dated or not matched or (carried is not None and (waited or several))
    if listed and not cursor:
        logged = _log(ports, event, stands)
        if carried is not None:
            first, stands = logged, logged or mine
    if first is not None and first.digest not in ("", mine.digest):
        raise DuplicateEvent(other_data(event))
    before = stands.lasts if first is not None or stands.dated else None
    received = stands.received if carried is None else carried
    return Receipt(received, stands.received, stands.effect, before, stands.dated, _only(stands))


def _of_runs(ports: Ports, matched: Mapping[str, str], mine: KeptEvent) -> KeptEvent:
    """What is to be kept of an event with a made id that matches several functions, in case nothing is kept of it yet.

    If it has started runs by now, it matched one function alone when it was accepted first: the others were deployed since,
    and it is none of their business. Asked before that is kept: cut off in between, the next delivery would not know.
    """
    there = ports.store.runs.read_many(matched.values())
    started = tuple(name for name, run in matched.items() if run in there)
    return replace(mine, functions=started) if started else mine


def _only(kept: KeptEvent) -> Collection[str] | None:
    """The functions that the event may start. None if that was not kept: of what earlier releases logged."""
    return kept.functions if kept.digest else None


def other_data(event: Envelope) -> str:
    """What is said of a second event with the id of a first one."""
    return (
        f"An event {event.name!r} with id {event.id!r} and other data was accepted before. An id stands for one event: "
        "use another id, or send the same data."
    )


# ---- dated events


def _log(ports: Ports, event: Envelope, kept: KeptEvent) -> KeptEvent | None:
    """List the event, and see to it that it takes effect at its time if that is ahead. Gives what was listed first."""
    now, key = ports.now(), event_key(event.name, event.id)
    ulid = received_ulid(event.id, kept.received, key)
    due, delay = rest(kept.effect, now)
    ahead = kept.dated and kept.effect > now + AT_ONCE
    first = ports.store.events.log(event, ulid, kept, due=due if ahead and delay is None else None)
    stands = first or kept
    if stands.dated:  # by whom it was accepted first may not have come to that
        ports.store.events.log_effect(event, key, stands.effect)
    if stands.dated and ahead and delay is not None:
        ports.queue.send(effect(f"{ulid}#{event.name}", delay=delay))
    return first


def overdue_effects(ports: Ports, keys: Sequence[Key], now: int) -> list[Action]:
    """In the sweeper: have the dated events whose time comes soon take effect then."""
    actions = []
    for key, due_at, at in ports.store.events.due(keys):
        if due_at > now:
            continue  # the index was behind
        move: Callable[[], object] = partial(ports.store.events.posted, key, due_at)
        actions.append(Action(move, (effect(key[1], delay=max(0, at - now) / 1000),)))
    return actions
