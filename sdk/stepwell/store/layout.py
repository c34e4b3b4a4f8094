"""The table: every item, every key, every condition. Read this file to know what Stepwell stores and why no race loses.

One table, keys `pk` and `sk`, one index `due` (keys only), `ttl` for cleaning up.

    item     pk                             sk                    what
    -------- ------------------------------ --------------------- ------------------------------------------------------
    run      RUN#<run>                      RUN                   status, epoch, lease, wakes, wake_at, owes, result ...
    step     RUN#<run>                      STEP#<key>            one checkpoint
    input    RUN#<run>                      EVENT                 the run's event, if too large for the run item
    event    EVENT#<id>                     <name>                an event whose id its sender chose and that matched
    log      EVENTS#<day>#<shard>           <ULID>#<name>         an event that is not in one run item alone, by its time
    waiter   WAIT#<app>#<name>#<path>=<v>   <run>#<step>          a step that waits for an event
    guard    WAIT#<app>#<name>#<path>=<v>   <run>#!cancel.<n>     a run that such an event cancels
    came     CAME#<app>#<name>#<path>=<v>   <ms>#<event key>      an event that came for guards (and #<run>: met no run)
    paths    PATHS#<app>#<name>             PATHS                 which paths are waited on, for events of this name
    app      APP                            APP#<app>             the registered manifest and the workers' ARNs
    version  APP                            VERSION               a counter, moved by every registration
    paused   APP                            PAUSED#<app>/<function>  its starts wait
    tag      TAG#<app>#<name>=<value>       <run>                 a run under a business key, its own or (taken) an event's
    member   RUN#<run>                      MEMBER#<n>            an event that a batch takes along
    gate     GATE#<app>#<function>#<kind>#<key>  GATE             a counter of slots, or what a bucket remembers
    place    GATE#... (the same)            LINE#<rank>#<run>     a run that waits in the gate's line
    cron     CRON#<app>                     <function>#<tz>#<cron> a schedule: its next tick and its jitter
    key      KEYS                           KEY#<hash>            an event key of the webhook door, by its SHA-256
    rate     RATE#<subject>                 <window>              requests to the door in a window of time, counted
    again    AGAIN#<app>#<event>            <operation>           the run as which a bulk operation replays an event
    asked    ASKED#<app>#<function>#<hash>  ASKED                 the run as which a function is invoked under an id

Run ids begin with the app id and a dot, so one `dynamodb:LeadingKeys` condition fences the worker of an app:
`RUN#<app>.*`, `WAIT#<app>#*`, `PATHS#<app>#*`, `GATE#<app>#*`, `TAG#<app>#*`.

**The index `due`** (`due_pk`, `due_sk`) holds a run under `DUE#<shard>` / due_at while it lives, and under
`DONE#<app>/<function>#<end>#<shard>` / run id once it has ended. The sweeper reads the first, lists of runs both. It is
eventually consistent, so whoever finds a run in it reads the run itself before acting.

A run that has ended and still owes its end to somebody stands under `DUE#<shard>`, too, and its due_at begins with `!`: ahead
of all that lives. So a list of runs that have ended finds it, by reading those few alone; and the sweeper gets all that is due
with two Queries a shard, one for those and one for all else.

An end is a status, or `taken` for the run of an event that a batch took along: lists of runs have the batch's run in its
stead, lists of events read it. Run ids sort by time, so a list of any stretch of time takes one range of each partition, 4
shards for a function and an end, no matter how old the deployment is. Such a partition holds as many runs as are kept; in
an index it may be of any size, and it takes 1,000 ends a second.

Whatever else has a time at which the sweeper is to look at it stands under `DUE#<shard>` as well, told apart by the
prefix of its pk. A **schedule** stands there from its registration until it is removed, due two minutes before the
next tick that nobody has posted. The sweeper posts the tick as a delayed message and then moves the item to the
following one (SEEN_DUE), so a tick may be posted twice and never not at all; its run's id follows from app, function,
schedule and tick, so it runs once. Registration creates the items of new schedules (CREATE), leaves those alone that
stay as they are, and deletes the rest. An item is only the clock: whether a tick counts is decided by the manifest
when it comes.

A **dated event** stands there, by its item of the log, from its acceptance until shortly before it takes effect, if that is
further away than a message can be delayed. The sweeper posts the message and then takes the item out of the index (SEEN_DUE).
Its time decides whom it meets, and not when that message is handled. For waits that look back it is listed once more, by that
time (`took_effect`). That is written at its acceptance as well: a wait that begins after its time and before the message is
handled has to find it there. Until that time nobody reads it there, and lists of events never do.

**What an event costs.** An event with a generated id that matches one function is folded into that run's item: two
writes with the index. One that matches nothing is one log item. One whose id the sender chose gets an item under that
id too, because its duplicate may come days later and must find out when the first one was received.

**The first acceptance** of an event decides whom it meets: who waited then, and runs that were accepted by then. So it is
written before any run is, and only once (CREATE): when the queue received it (`received`), when it was handled
(`accepted`), when it takes effect if that is later (`effect`), and the digest of its data. It stands in the item under the id
if its sender chose that. For a generated id it stands in the log, whose key follows from the id, as soon as somebody may wait
for the event or be cancelled by it; where nobody may, and one run holds the event, that run tells since when. So one that
matches several functions and is not kept yet is looked for in their runs first: if one is there, the others have been deployed
since, and are not started. It is kept for the retention, counted from the acceptance or the effect, whichever is later.

**Retention.** A run item gets its ttl when it ends. A step, and what else lies beside a run, gets one when it is written,
far past the run's next wake-up. So do the run's tags, its guards, and the gates that remember it. A run that rests into a
later month of its life, wherever it waits, has all of these prolonged first (`engine/keeping`). So nothing that belongs to
a live run ever expires, and TTL decides nothing.

**The door.** A key is written once (CREATE) and revoked by deleting it. A counter of requests only grows (an atomic
addition without a condition) and gets its ttl, some hours past its window, with every addition: nothing is decided by a
counter that is gone.

**Callbacks.** The record of one holds the `proof` of its token, a SHA-256, from its creation on: a token is handed out only
after that. The key that makes tokens is not stored here, nor in the bucket (`keyring`), so nothing that is makes one. It
names the step that hands it out (`submit`), and the place that the order of resolutions had come to when it was created
(`begun`): a fork in which it begins anew has to hand its new token out again, by whatever came after that.

**Apps.** What is registered of an app stands in one item, whatever its size: the bucket deletes by age.

**Tags.** A run's tags are filed before the run itself, so there is no run that its tags do not lead to; a tag without a
run is passed over. Filing again only ever prolongs (LONGER): a duplicate of its event, which knows nothing of the run's
rest, must not cut it short. The run of an event that a batch takes along is not filed. Its tags lead to the batch's run,
marked `taken` since that run itself does not have them, and are filed after the write by which it joins: what is marked is
true. If that is cut off, the event is delivered again and files them. So a list by a tag has each batch once, under its own
run's id, wherever the ids of its events lie. They stand in the `member`, too, for when all that belongs to the run is
prolonged.

**Forks.** A fork's kept checkpoints are written before its run item, under an id nobody knows yet. Cut off in between,
they start nothing and expire. They have no shape (a step is found by its key and kind, whatever its arguments are now)
and the epoch 0, as if written from outside.

**Bulk replays.** Which run is to be the replay is noted before it is asked for (CREATE), under function and event. Whoever
repeats the operation meets that, and asks for the same run again, or for nothing if it exists. A replay has the event of
its original, so an operation that comes across both replays them once. One that is not there may have expired, and would
begin anew among its old checkpoints. Within the retention from the note on it cannot have: it is on its way, or was never
asked for. After that it counts as done, and before it, should somebody's clock be off, by the checkpoints it has left. The
note is kept for a month beyond the retention.

**Invoked under an id.** Which run it is to be, and the digest of its data, is noted before it is asked for (CREATE). Who
gives the id again meets that, and asks for the same run if it is not there yet. A run that is gone but has left checkpoints
behind has expired before them, and is not asked for again: it would begin among them. Then another run is noted (STANDS).
The note is kept for a year beyond the retention.

Conditions
----------
All writes that race are one conditional write; whoever loses reads the winner from the refusal (ALL_OLD) and goes on
from there. An SDK that lost the answer to a write that took effect repeats it and is refused by its own first write:
so every loser first looks whether the winner is itself.

    CREATE          the item does not exist. A duplicate event meets its own run here, and its first acceptance.
    EXISTING        the item exists: what is gone is not made anew.
    CLAIM           the run is queued and nobody has claimed it since this dispatch was sent (same epoch). Of two
                    deliveries of one dispatch one wins; a delayed one, of an older epoch, never does.
    HELD            the writer is still the holder: running, and the epoch is its own. A zombie, cancelled or superseded
                    holder can write nothing to the run.
    SUSPEND         HELD, and nothing has woken the run since the holder last looked (same wakes). Otherwise the wake-up
                    would be slept over: the holder looks again instead.

                        holder   claim(wakes=4)  load steps ........ suspend IF wakes=4  -> refused, looks again
                        event                           resolve step, wakes=5

    ASLEEP          suspended: something it waits for has happened, so it is queued.
    ASLEEP_UNGATED  the same, of a run that needs no slots: one that does is queued together with its gates.
    RESTING         suspended or scheduled: it may get its slots, or a place in a line.
    RESTING_AND_DUE suspended or scheduled, and its wake_at has come: an early or old wake-up does nothing.
    QUEUED          queued, and not claimed since it was read: a dispatch is repeated, or counted as failed, once.
    RUNNING         a wake-up meets a running holder and only counts itself.
    BREAK           running under the named holder's lease: a crash record frees only the run its Lambda held.
    EXPIRED         running under the lease that was seen, which is over.
    LIVE            not ended: cancelling wins or loses against finishing in this one write.
    UNSTARTED       live, and not claimed since it was seen: out of time for starting, unless a worker was faster.
    ENDED           ended: its followers have been delivered.
    OPEN            the step is absent or open. The first result recorded is the result.
    AWAITED         OPEN, and of a wait: resolving from outside (event, callback, child, time-out) is one conditional
                    write on the step item, so exactly one of them wins.
    ANSWERABLE      a callback that is open, in time, and whose heartbeat is not overdue: the earlier of answer and
                    time-out stands, whenever somebody looks.
    UNBEATEN        the callback is open and no heartbeat has come since the holder looked.
    SEEN_DUE        due_at is what the sweeper saw: of two sweepers one moves it. (Of a run, a schedule, a gate or
                    a dated event.)
    LONGER          the tag is not filed, or would expire earlier.
    STANDS          the note names the run that was read: of two who ask for another run one does.

Gates
-----
A gate with slots counts how many are `held` and how many runs are `waiting` in its line; its function may be `*`, for a
limit of the whole app, and `pause` is a gate of no slots while the function is paused. A gate of a bucket has a `memory`
and a version. A run that needs slots names their gates in `gates`, and has `held` while it is queued or running, or steps
of it are run elsewhere, and `line` while it stands in a line. Both change only together with the gate, in one transaction,
so at every instant

    held    of a gate  =  the number of run items with `held` that name it
    waiting of a gate  =  the number of places in its line

and whatever frees a dead worker's run (its crash record, its lease) frees or keeps its slot with it. Nothing else has to
find out who is alive.

A run is `unasked` while it has yet to ask its throttle: it takes effect later, or stands in a line. It asks when it could
start; its `turn` is written together with its slots, or with the time for which it has to wait. One whose turn is long
over asks once more: of the gate's memory `tat_us` is the time of the next turn, and `late_us` that of the next one who
has missed his.

A place says the function of its run, so that those whose turn it is not are gone past without being read.

A run that another one makes way for ends in the transaction that makes that other: of a singleton there is always one. Its
slots come free by the same write, and pass to the newcomer if nobody waits for them.

    UNCHANGED       the gate's memory is the one that was read. Of two events that decide at once, one decides again.
    NEW_GATE        the same, for a gate that nobody has used yet.
    FREE            a slot is free and nobody waits for it: a newcomer may have it.
    HAS_ROOM        a slot is free: the first in line may have it.
    NO_ROOM         not FREE: only then does a run stand in line. So whoever waits, waits for somebody who will go; and who
                    goes, looks whether anybody waits, and posts a drain.

                        run A    give slot back (held=0) .. reads waiting: 1 -> drain
                        run B    FREE? no .......... stands in line IF NO_ROOM (before held=0), or else tries again

    HOLDING         the run has its slots: they are given back once.
    NOT_HOLDING     it has none: they are taken once.
    IN_LINE         it stands at the place where the writer saw it: a place is given up once.
    NOT_IN_LINE     it stands in no line: it gets one place.
    PENDING         scheduled, and never claimed: a debounced run may be replaced, a batch joined.
    EMPTY_LINE      nobody waits any more: the gate leaves the index.
    WATCHED         the gate stands in the index: somebody waits.

A gate with a line stands in the index `due`, so that a drain that was lost is posted again by the sweeper; that of a
paused function only once a day, and soon after it is resumed.
"""

from __future__ import annotations

from stepwell.clock import from_millis
from stepwell.codec import canonical
from stepwell.ids import digest, shard_of, ulid_millis
from stepwell.records import RunState, RunStatus, StepStatus

DUE_SHARDS = 8
"""1,000 index writes a second each; the sweeper queries all of them every minute."""
DONE_SHARDS = 4
LOG_SHARDS = 8

CREATE = "attribute_not_exists(pk)"
EXISTING = "attribute_exists(pk)"
CLAIM = "#status = :queued AND #epoch = :seen"
HELD = "#status = :running AND #epoch = :epoch"
SUSPEND = HELD + " AND #wakes = :wakes"
ASLEEP = "#status = :suspended"
RESTING_AND_DUE = "#status IN (:suspended, :scheduled) AND #wake_at <= :now"
QUEUED = "#status = :queued AND #epoch = :seen"
RUNNING = "#status = :running"
BREAK = "#status = :running AND #holder = :holder"
EXPIRED = "#status = :running AND #epoch = :seen AND #lease_until < :now"
LIVE = "#status IN (:scheduled, :queued, :running, :suspended)"
UNSTARTED = LIVE + " AND #epoch = :seen"
ENDED = "#status IN (:completed, :failed, :cancelled, :skipped)"
OPEN = "attribute_not_exists(pk) OR #status IN (:step_started, :step_retrying, :step_waiting)"
AWAITED = "attribute_not_exists(pk) OR #status = :step_waiting"
ANSWERABLE = "#status = :step_waiting AND #until > :now AND (attribute_not_exists(#beat_by) OR #beat_by > :now)"
UNBEATEN = "#status = :step_waiting AND #beat_by = :beaten"
SEEN_DUE = "#due_sk = :seen_due"
ASLEEP_UNGATED = ASLEEP + " AND attribute_not_exists(#gates)"
RESTING = "#status IN (:suspended, :scheduled)"
PENDING = "#status = :scheduled AND attribute_not_exists(#started)"
UNCHANGED = "#v = :seen"
NEW_GATE = "attribute_not_exists(#v)"
HAS_ROOM = "(attribute_not_exists(#held) OR #held < :limit)"
FREE = HAS_ROOM + " AND (attribute_not_exists(#waiting) OR #waiting <= :none)"
NO_ROOM = "#held >= :limit OR #waiting > :none"
HOLDING = "attribute_exists(#held)"
NOT_HOLDING = "attribute_not_exists(#held)"
IN_LINE = "#line = :line"
NOT_IN_LINE = "attribute_not_exists(#line)"
WATCHED = "attribute_exists(#due_sk)"
EMPTY_LINE = "#due_sk = :seen_due AND (attribute_not_exists(#waiting) OR #waiting <= :none)"
LONGER = "attribute_not_exists(pk) OR #ttl < :ttl"
STANDS = "#run = :seen_run"

STATUS_VALUES: dict[str, str] = {
    **{f":{status.value}": status.value for status in RunStatus},
    **{f":step_{status.value}": status.value for status in StepStatus},
}
"""The values conditions may name; the table sends only those that a condition uses."""


def run_pk(run: str) -> str:
    """The partition of a run: its item, its steps, its input."""
    return f"RUN#{run}"


RUN_SK = "RUN"
INPUT_SK = "EVENT"
STEP_PREFIX = "STEP#"
LAST = "\U0010ffff"
"""Stands after everything else that a sort key may go on with."""


def step_sk(key: str) -> str:
    """The sort key of a step. Keys longer than DynamoDB's 1,024 bytes are cut and hashed."""
    sk = STEP_PREFIX + key
    return sk if len(sk.encode()) <= 900 else sk[:200] + "~" + digest(key).hex()


def event_pk(event_id: str) -> str:
    """The partition of the events with an id their senders chose."""
    return f"EVENT#{event_id}"


def log_pk(ulid: str, shard: int | None = None) -> str:
    """The partition of the log for the day and shard of this ULID, or for its day and the given shard."""
    return f"EVENTS#{day_of(ulid_millis(ulid) or 0)}#{shard_of(ulid, LOG_SHARDS) if shard is None else shard}"


def place(name: str, path: str, value: object) -> str:
    """Where events `name` whose `path` is `value` are waited for."""
    text = canonical(value)
    return f"{name}#{path}={text if len(text) <= 200 else digest(text).hex()}"


def waiter_pk(app: str, name: str, path: str, value: object) -> str:
    """The partition of the steps of `app` that wait for events `name` whose `path` is `value`."""
    return waiter_key(app, place(name, path, value))


def waiter_key(app: str, place: str) -> str:
    """The partition of the steps of `app` that wait at this place."""
    return f"WAIT#{app}#{place}"


def came_pk(app: str, name: str, path: str, value: object) -> str:
    """The partition of the notes of events `name` whose `path` is `value`, for runs of `app` that they may cancel."""
    return f"CAME#{app}#{place(name, path, value)}"


def paths_pk(app: str, name: str) -> str:
    """Which paths of events `name` the functions of `app` wait on."""
    return f"PATHS#{app}#{name}"


PATHS_SK = "PATHS"
ANY = "*"
"""The path of a waiter that has no value to match by."""

APP_PK = "APP"
VERSION_SK = "VERSION"


def app_sk(app: str) -> str:
    """The sort key of an app's manifest."""
    return f"APP#{app}"


PAUSED_PREFIX = "PAUSED#"


def paused_sk(app: str, function: str) -> str:
    """The sort key of a paused function."""
    return f"{PAUSED_PREFIX}{app}/{function}"


def tag_pk(app: str, name: str, value: str) -> str:
    """The partition of the runs of `app` with this tag."""
    return f"TAG#{app}#{name}={value}"


GATE_PREFIX = "GATE#"
GATE_SK = "GATE"
LINE_PREFIX = "LINE#"
MEMBER_PREFIX = "MEMBER#"
LINE_PATIENCE = 60_000
"""Milliseconds after which the sweeper looks at a line that should have moved."""


def gate_pk(gate: str) -> str:
    """The partition of a gate and its line."""
    return GATE_PREFIX + gate


def line_sk(place: int, run: str) -> str:
    """A place in a line: by rank, then by the run's age."""
    return f"{LINE_PREFIX}{max(0, place):015d}#{run}"


def member_sk(place: int) -> str:
    """The sort key of an event that a batch takes along."""
    return f"{MEMBER_PREFIX}{place:04d}"


def cron_pk(app: str) -> str:
    """The partition of the schedules of `app`."""
    return f"CRON#{app}"


def cron_sk(function: str, expression: str, tz: str) -> str:
    """The sort key of one schedule of a function: what is changed of it makes it another one, except for the jitter."""
    return f"{function}#{tz}#{expression}"


OWING = "!"
"""Before the due_at of a run that has ended and owes its end to somebody."""


def due_key(owner: str, due_ms: int, *, owing: bool = False) -> tuple[str, str]:
    """Where a live run, one that has ended (`owing`), or whatever else the sweeper is to look at, stands in the index;
    `owner` spreads the load."""
    return due_pk(shard_of(owner, DUE_SHARDS)), f"{OWING if owing else ''}{due_ms:015d}"


def due_pk(shard: int) -> str:
    """One partition of what is due in the index."""
    return f"DUE#{shard}"


def due_millis(due_sk: str) -> int:
    """When something that stands there is due, milliseconds."""
    return int(due_sk.removeprefix(OWING))


KEYS_PK = "KEYS"
KEY_PREFIX = "KEY#"


def key_sk(hash: str) -> str:
    """The sort key of an event key with this hash."""
    return KEY_PREFIX + hash


def rate_key(subject: str, window: int) -> tuple[str, str]:
    """Where the requests of somebody are counted for the window that begins at this time (milliseconds)."""
    return f"RATE#{subject}", f"{window:015d}"


def again_pk(app: str, function: str, *event: str) -> str:
    """The partition of the bulk operations that have replayed a function for an event (name, id, digest of data)."""
    return f"AGAIN#{app}#{digest(function, *event).hex()[:32]}"


TAKEN = "taken"
"""The end, in the index, of the run of an event that a batch took along."""


ASKED_SK = "ASKED"


def asked_pk(app: str, function: str, chosen: str) -> str:
    """The partition of the run as which a function is invoked under an id of the caller's own."""
    return f"ASKED#{app}#{function}#{digest('asked', chosen).hex()[:32]}"


def done_key(run: RunState, status: RunStatus) -> tuple[str, str]:
    """Where a run stands in the index once it has ended so."""
    end = TAKEN if run.taken_by is not None else status.value
    return done_pk(run.app, run.function, end, shard_of(run.id, DONE_SHARDS)), run.id


def done_pk(app: str, function: str, end: str, shard: int) -> str:
    """One partition of ended runs in the index."""
    return f"DONE#{app}/{function}#{end}#{shard}"


def day_of(ms: int) -> str:
    """The UTC day of a time, as 2026-11-22."""
    return from_millis(ms).date().isoformat()
