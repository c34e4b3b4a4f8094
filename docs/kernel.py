"""Durable execution in one file: events, memoised steps, retries, sleeps, waits, crashes and resumption.

This is not Stepwell. It is the idea of Stepwell, over SQLite. Three rules carry it:

1. A step is recorded once. Whoever finds a record returns it instead of running the step.
2. A function that has to wait is not kept waiting: it is thrown out, and later called again from the top.
3. Every live run has a `due`: the moment at which somebody looks at it, if nothing happens before.
"""

import json
import sqlite3
import time
import uuid
from collections.abc import Callable
from typing import Any

LEASE = 60.0  # seconds after which a worker that has not let go of its run is taken for dead

SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    id TEXT PRIMARY KEY, function TEXT, event TEXT, status TEXT, due REAL,
    epoch INT DEFAULT 0, wakes INT DEFAULT 0, result TEXT);
CREATE TABLE IF NOT EXISTS steps (
    run TEXT, id TEXT, status TEXT, due REAL, attempts INT, event TEXT, match TEXT, value TEXT,
    PRIMARY KEY (run, id));
"""


class Suspended(BaseException):
    """Leaves a function that has to wait. Not an Exception, so `except Exception` lets it pass."""


class StepFailed(Exception):
    """A step has used up its attempts."""


class Kernel:
    """Runs functions. Several kernels may share a file: whoever claims a run first has it."""

    def __init__(self, path: str, now: Callable[[], float] = time.time) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.row_factory = sqlite3.Row
        self.db.executescript(SCHEMA)
        self.now = now
        self.functions: dict[str, tuple[str, Callable[..., Any]]] = {}

    def function(self, on: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declare a function that starts on events of this name."""

        def declare(fn: Callable[..., Any]) -> Callable[..., Any]:
            self.functions[fn.__name__] = on, fn
            return fn

        return declare

    # [send]
    def send(self, name: str, data: dict[str, Any], id: str | None = None) -> str:
        """Start a run of every function that listens, and wake the runs that wait for this."""
        id = id or uuid.uuid4().hex
        create = "INSERT OR IGNORE INTO runs (id, function, event, status, due) VALUES (?, ?, ?, 'suspended', ?)"
        for function, (on, _) in self.functions.items():
            if on == name:  # the run's id follows from the event's: a duplicate meets its own run
                self.db.execute(create, (f"{function}:{id}", function, json.dumps(data), self.now()))
        waiting = "SELECT * FROM steps WHERE status = 'open' AND event = ? AND due > ?"
        for step in self.db.execute(waiting, (name, self.now())).fetchall():
            if all(data.get(key) == value for key, value in json.loads(step["match"]).items()):
                self.close(step["run"], step["id"], "done", data)
                wake = "UPDATE runs SET wakes = wakes + 1, due = CASE status WHEN 'suspended' THEN ? ELSE due END"
                self.db.execute(wake + " WHERE id = ?", (self.now(), step["run"]))
        return id

    # [end]

    # [close]
    def close(self, run: str, step: str, status: str, value: Any) -> Any:
        """Record how a step ended, unless that is recorded already; the record that stands."""
        self.db.execute("INSERT OR IGNORE INTO steps (run, id, status) VALUES (?, ?, 'open')", (run, step))
        change = "UPDATE steps SET status = ?, value = ? WHERE run = ? AND id = ? AND status = 'open'"
        self.db.execute(change, (status, json.dumps(value), run, step))
        return self.find(run, step)

    # [end]

    def find(self, run: str, step: str) -> Any:
        return self.db.execute("SELECT * FROM steps WHERE run = ? AND id = ?", (run, step)).fetchone()

    # [work]
    def work(self) -> None:
        """Do all that is due now."""
        due = "SELECT * FROM runs WHERE due <= ? ORDER BY due"
        claim = "UPDATE runs SET status = 'running', epoch = epoch + 1, due = ? WHERE id = ? AND epoch = ?"
        while run := self.db.execute(due, (self.now(),)).fetchone():
            if self.db.execute(claim, (self.now() + LEASE, run["id"], run["epoch"])).rowcount:
                self.call(run)  # otherwise another worker was faster

    def call(self, run: sqlite3.Row) -> None:
        """Call the function once. If the process dies in here, the lease ends and the run is due again."""
        status, result, due = "completed", None, None
        try:
            result = self.functions[run["function"]][1](Context(self, run["id"], json.loads(run["event"])))
        except Suspended as suspended:
            status, due = "suspended", suspended.args[0]
        except Exception as error:
            status, result = "failed", str(error)
        let_go = "UPDATE runs SET status = ?, result = ?, due = ? WHERE id = ? AND epoch = ?"
        self.db.execute(let_go, (status, json.dumps(result), due, run["id"], run["epoch"] + 1))
        if due is not None:  # something may have woken the run while it was running: then it is due at once
            woken = "UPDATE runs SET due = ? WHERE id = ? AND status = 'suspended' AND wakes <> ?"
            self.db.execute(woken, (self.now(), run["id"], run["wakes"]))

    # [end]


class Context:
    """What a function is given."""

    def __init__(self, kernel: Kernel, run: str, event: dict[str, Any]) -> None:
        self.kernel, self.run, self.event = kernel, run, event

    # [step]
    def step(self, id: str, fn: Callable[..., Any], *args: Any, retries: int = 3) -> Any:
        """Run `fn` once and remember what it returned; then return what is remembered."""
        record = self.kernel.find(self.run, id)
        if record is None or record["status"] == "open":
            record = self.attempt(id, fn, args, retries, record)
        if record["status"] == "failed":
            raise StepFailed(json.loads(record["value"]))
        return json.loads(record["value"])

    def attempt(self, id: str, fn: Callable[..., Any], args: Any, retries: int, record: Any) -> Any:
        attempts, due = (record["attempts"], record["due"]) if record else (0, 0.0)
        self.wait_until(due)
        try:
            value = fn(*args)
        except Exception as error:
            if attempts == retries:
                return self.kernel.close(self.run, id, "failed", str(error))
            self.keep_open(id, self.kernel.now() + 2**attempts, attempts + 1)
            raise Suspended(self.kernel.now() + 2**attempts) from None
        return self.kernel.close(self.run, id, "done", value)

    # [end]

    # [waits]
    def sleep(self, id: str, seconds: float) -> None:
        """Wait. Meanwhile nothing runs: the run is a row with a `due`."""
        self.wait_for_event(id, "", {}, seconds)  # an event that nobody sends

    def wait_for_event(self, id: str, event: str, match: dict[str, Any], timeout: float) -> Any:
        """Wait for an event whose data holds these values. Its data, or None when time is out."""
        record = self.kernel.find(self.run, id)
        if record is None:
            record = self.keep_open(id, self.kernel.now() + timeout, 0, event, match)
        if record["status"] == "open":
            self.wait_until(record["due"])
            record = self.kernel.close(self.run, id, "done", None)  # out of time, unless the event was faster
        return json.loads(record["value"])

    def wait_until(self, due: float) -> None:
        if due > self.kernel.now():
            raise Suspended(due)

    # [end]

    def keep_open(self, id: str, due: float, attempts: int, event: str = "", match: Any = None) -> Any:
        row = (self.run, id, due, attempts, event, json.dumps(match))
        keep = "INSERT INTO steps VALUES (?, ?, 'open', ?, ?, ?, ?, NULL) ON CONFLICT DO UPDATE SET "
        keep += "due = excluded.due, attempts = excluded.attempts WHERE status = 'open'"
        self.kernel.db.execute(keep, row)
        return self.kernel.find(self.run, id)
