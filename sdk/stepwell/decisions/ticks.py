"""Which ticks of a schedule are posted now, and which one comes next."""

from __future__ import annotations

from stepwell.schedules import Schedule

LEAD = 120_000
"""Milliseconds before a tick at which the sweeper begins to look for it. It comes every minute, so it posts a tick at least
a minute ahead, and one sweep that fails costs nothing."""


def due_at(schedule: Schedule, tick: int, owner: str) -> int:
    """When the sweeper is to look at a schedule whose next tick is `tick`."""
    return schedule.fires(tick, owner) - LEAD


def ticks_to_post(schedule: Schedule, tick: int, now: int, owner: str) -> tuple[list[int], int]:
    """The ticks to post at `now`, and the first one after them; `tick` is the first that nobody has posted yet.

    Ticks whose time has passed were missed, because no sweeper ran. Only the last of them is made good: whoever
    was away for a week does not get seven reports.
    """
    if schedule.fires(tick, owner) <= now:
        tick = max(tick, _last_missed(schedule, now, owner))
    posted = []
    while schedule.fires(tick, owner) - LEAD <= now:
        posted.append(tick)
        tick = schedule.after(tick)
    return posted, tick


def _last_missed(schedule: Schedule, now: int, owner: str) -> int:
    last = schedule.last(now) or 0
    if schedule.fires(last, owner) > now:
        last = (
            schedule.last(last - 1) or 0
        )  # jitter keeps the latest one waiting; the one before it never waits so long
    return last
