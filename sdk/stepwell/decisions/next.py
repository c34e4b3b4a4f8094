"""What a live run needs now. One function serves wake-ups, the sweeper and crash records alike."""

from __future__ import annotations

from enum import Enum, auto

from stepwell.decisions.deadlines import deadline, out_of_time
from stepwell.records import RunState, RunStatus

DISPATCH_DEADLINE = 90_000
"""Milliseconds from asking a worker until asking again: Lambda drops an asynchronous event after 60 s."""
GRACE = 60_000
"""Milliseconds after a posted wake-up until the sweeper looks whether it arrived."""
PATIENCE = 3_600_000
"""Milliseconds after which the sweeper looks again at the latest."""
POSTABLE = 900_000
"""Milliseconds; SQS delays a message by 15 minutes at most (AWS SQS quotas)."""
LEAD = 600_000
"""Milliseconds before a far wake-up at which the sweeper posts it."""


class Next(Enum):
    """What to do about a run."""

    NOTHING = auto()
    """Something else will happen by itself: an invocation is on its way, or a lease is held."""
    QUEUE = auto()
    """Its time has come: queue it and ask a worker."""
    ASK_AGAIN = auto()
    """The worker that was asked has not come."""
    RECLAIM = auto()
    """Its holder is dead."""
    POST = auto()
    """Its time comes within what the queue can delay: post the wake-up."""
    TIME_OUT = auto()
    """It is out of time: end it."""
    DELIVER = auto()
    """It has ended, and others have to be told."""


def decide(run: RunState, now: int, *, missed: int | None = None) -> Next:
    """What the run needs at `now` (milliseconds).

    `missed` is the epoch of a dispatch that the sweeper found overdue; by moving due_at the sweeper has hidden that
    from whoever looks next.
    """
    if run.status.is_terminal:
        return Next.DELIVER if run.owes else Next.NOTHING
    if out_of_time(run, now):
        return Next.TIME_OUT
    if run.status is RunStatus.QUEUED:
        overdue = missed == run.epoch or (run.due_at is not None and run.due_at <= now)
        return Next.ASK_AGAIN if overdue else Next.NOTHING
    if run.status is RunStatus.RUNNING:
        return Next.RECLAIM if run.lease is None or run.lease.until < now else Next.NOTHING
    if run.wake_at is None or run.wake_at <= now:
        return Next.QUEUE
    return Next.POST if run.wake_at - now <= POSTABLE else Next.NOTHING


def look_again(run: RunState, needed: Next, now: int) -> int:
    """When the sweeper is to look again at a run about which it has just asked somebody to do what it needs.

    A minute later; and if that does not help, as when a fault of ours keeps the run from being handled, ever more rarely:
    after an eighth of the time that it has stood still, at most an hour.
    """
    since = {
        Next.DELIVER: run.ended,
        Next.TIME_OUT: deadline(run),
        Next.QUEUE: run.wake_at,
        Next.RECLAIM: run.lease.until if run.lease else None,
    }.get(needed)
    stood = now - (now if since is None else since)
    return now + min(max(stood // 8, GRACE), PATIENCE)


def rest(wake_at: int, now: int) -> tuple[int, float | None]:
    """When the sweeper is to look at a run that rests until `wake_at`, and the delay in seconds of the wake-up to post.

    None: too far away, the sweeper posts it in time.
    """
    gap = wake_at - now
    if gap <= POSTABLE:
        return max(wake_at, now) + GRACE, max(gap / 1000, 1.0)
    return wake_at - LEAD, None
