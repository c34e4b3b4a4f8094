"""Schedules from registration to run: written down, posted by the sweeper, started by the orchestrator.

A tick may be posted twice, come late, or come after its schedule is gone. It starts the run that its app, function,
schedule and time name, once, if the manifest still has that schedule when it comes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from stepwell.codec import JSON
from stepwell.decisions.ticks import due_at, ticks_to_post
from stepwell.engine.due import Action
from stepwell.engine.starting import start_run
from stepwell.errors import StepwellError
from stepwell.events import CRON_TICK, Envelope
from stepwell.ids import derived_ulid, event_id_of, event_key, run_id
from stepwell.ports import Ports
from stepwell.queue import Message
from stepwell.schedules import Schedule
from stepwell.store.apps import entry_of
from stepwell.store.crons import CronState
from stepwell.store.due import Key

logger = logging.getLogger("stepwell")


# ---- at registration


def schedule_functions(ports: Ports, manifest: Mapping[str, Any]) -> None:
    """Make the schedules of an app those of its manifest.

    One that stays as it is keeps its place, so that a deployment neither skips nor doubles a tick, not even one that is
    due just now or was missed. A new one begins with its next tick.
    """
    app = manifest["app"]
    standing = {cron.key: cron for cron in ports.store.crons.of_app(app)}
    for function, schedule in _declared(manifest["functions"]):
        new = _state(app, function, schedule, schedule.after(ports.now()))
        old = standing.pop(new.key, None)
        if old is None:
            ports.store.crons.create(new)
        elif old.schedule != schedule:
            _change_jitter(ports, old, schedule)
    for removed in standing.values():
        ports.store.crons.remove(removed)


def unschedule(ports: Ports, app: str) -> None:
    """Remove all schedules of an app."""
    for cron in ports.store.crons.of_app(app):
        ports.store.crons.remove(cron)


def _declared(functions: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, Schedule]]:
    for entry in functions:
        for trigger in entry["triggers"]:
            if "cron" in trigger:
                yield entry["id"], Schedule.from_json(trigger)


def _state(app: str, function: str, schedule: Schedule, tick: int) -> CronState:
    new = CronState(app, function, schedule, tick, 0)
    return replace(new, due_at=due_at(schedule, tick, new.owner))


def _change_jitter(ports: Ports, old: CronState, schedule: Schedule) -> None:
    """The same ticks, with other delays. The sweeper may be moving the item on at this moment; then once more."""
    for _ in range(5):
        if ports.store.crons.move(_state(old.app, old.function, schedule, old.tick), seen=old.due_at):
            return
        found = ports.store.crons.read_many([old.key])
        if not found or found[0].schedule == schedule:
            return
        old = found[0]
    raise RuntimeError(f"Schedule {old.key} changes too fast to be changed; register the app again.")


# ---- in the sweeper


def overdue_schedules(ports: Ports, keys: Sequence[Key], now: int) -> list[Action]:
    """Post the next ticks of schedules as delayed messages, and let each schedule stand at the tick after them."""
    actions = []
    for cron in ports.store.crons.read_many(keys):
        if cron.due_at > now:
            continue  # the index was behind
        try:
            ticks, following = ticks_to_post(cron.schedule, cron.tick, now, cron.owner)
        except StepwellError:  # a zone that is gone from the data, say: the others must not suffer for it
            logger.exception("the schedule %s of %s cannot be followed", cron.schedule, cron.owner)
            continue
        messages = tuple(_message(cron, tick, now) for tick in ticks)
        moved = _state(cron.app, cron.function, cron.schedule, following)
        actions.append(Action(partial(ports.store.crons.move, moved, seen=cron.due_at), messages))
    return actions


def _message(cron: CronState, tick: int, now: int) -> Message:
    schedule = cron.schedule
    body: dict[str, JSON] = {"stepwell": "tick", "app": cron.app, "function": cron.function, "at": tick}
    body |= {"cron": schedule.expression, "tz": schedule.tz}
    return Message(body, delay=max(0, schedule.fires(tick, cron.owner) - now) / 1000)


# ---- in the orchestrator


def start_tick(ports: Ports, record: Mapping[str, JSON], *, again: bool) -> None:
    """Start the run of a tick, unless its schedule is no longer declared. Repeated, it finds the run that is there."""
    app, function, tick = record["app"], record["function"], record["at"]
    entry = entry_of(ports.store.apps.current()[0], app, function)
    declared = [schedule for _, schedule in _declared([entry] if entry is not None else ())]
    found = [each for each in declared if (each.expression, each.tz) == (record["cron"], record["tz"])]
    if not found:
        logger.info("a tick of a schedule that %s/%s no longer has: %s", app, function, record["cron"])
        return
    event = tick_event(app, function, found[0], tick)
    start_run(
        ports,
        app,
        function,
        run_id(app, function, tick, event_key(event.name, event.id)),
        event,
        entry=entry,
        triggered=True,
        again=again,
    )


def tick_event(app: str, function: str, schedule: Schedule, tick: int) -> Envelope:
    """The event of a tick: always the same, with an id that carries the tick's time."""
    event_id = event_id_of(derived_ulid(tick, "tick", app, function, schedule.expression, schedule.tz))
    data: dict[str, JSON] = {"cron": schedule.expression, "tz": schedule.tz, "scheduled_at": schedule.local(tick)}
    return Envelope(event_id, CRON_TICK, data, tick)
