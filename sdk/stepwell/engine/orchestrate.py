"""The orchestrator: one record of the consumer after the other, each answered for itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from stepwell.codec import JSON
from stepwell.engine.accept import Paths, accept, take_effect
from stepwell.engine.following import abandon, go_on_with_children, outlived
from stepwell.engine.lines import follow
from stepwell.engine.look import look_at
from stepwell.engine.looking_back import look_back
from stepwell.engine.starting import start_child
from stepwell.engine.ticking import start_tick
from stepwell.engine.wake import crashed, wake
from stepwell.errors import StepwellError
from stepwell.events import Envelope
from stepwell.ports import Ports
from stepwell.records import Parent
from stepwell.store.apps import AppRecord
from stepwell.store.waiters import Waiter

logger = logging.getLogger("stepwell")

MARGIN = 5.0
"""Seconds before the end of the invocation after which no further record is begun."""

Record = Mapping[str, JSON]


def orchestrate(ports: Ports, records: Iterable[Record], remaining: Callable[[], float]) -> list[dict[str, JSON]]:
    """Handle records; one answer each: done, retry, or dead with a code and a reason."""
    batch = _once(records)
    names = {record["event"]["name"] for record in batch if record["kind"] in ("event", "fanout")}
    apps, paths = ports.store.apps.current(sorted(names)) if names else ({}, {})
    return [_answer(ports, record, apps, paths, remaining) for record in batch]


def _once(records: Iterable[Record]) -> list[Record]:
    """The records, those that call the same line only once: whatever they tell of has happened before the first of them."""
    called: set[tuple[JSON, JSON]] = set()
    batch: list[Record] = []
    for record in records:
        if record["kind"] == "drain":
            call = (record["gate"], record.get("after"))
            if call in called:
                record = {**record, "kind": "heard"}
            called.add(call)
        batch.append(record)
    return batch


def _answer(
    ports: Ports, record: Record, apps: Mapping[str, AppRecord], paths: Paths, remaining: Callable[[], float]
) -> dict[str, Any]:
    answer = {"id": record["id"]}
    if remaining() < MARGIN:
        return {**answer, "outcome": "retry"}
    try:
        _handle(ports, record, apps, paths)
    except StepwellError as error:
        return {**answer, "outcome": "dead", "code": error.code, "reason": error.message}
    except Exception:  # one record must not fail its neighbours; this one comes again
        logger.exception("record %s (%s) failed; it will be delivered again", record["id"], record["kind"])
        return {**answer, "outcome": "retry"}
    return {**answer, "outcome": "done"}


def _handle(ports: Ports, record: Record, apps: Mapping[str, AppRecord], paths: Paths) -> None:
    kind, again = record["kind"], bool(record.get("again"))
    if kind == "event":
        accept(ports, Envelope.from_json(record["event"]), record["sent"], apps, paths, again=again)
    elif kind == "look":
        look_at(ports, record["run"], missed=record.get("missed"))
        if record.get("left"):
            abandon(ports, record["run"])
    elif kind == "wake":
        wake(ports, record["run"], again=again)
    elif kind == "invoke":
        start_child(ports, record, again=again)
        if record.get("parent"):
            outlived(ports, record["run"], Parent(**record["parent"]))
    elif kind == "crash":
        crashed(ports, record["run"], record["epoch"], record["request"], record["why"])
        abandon(ports, record["run"])
    elif kind == "fanout":
        event = Envelope.from_json(record["event"])
        accept(ports, event, record["sent"], apps, paths, again=again, cursor=record["cursor"])
    elif kind == "effect":
        take_effect(ports, record["place"], again=again)
    elif kind == "drain":
        follow(ports, record["gate"], after=record.get("after", ""))
    elif kind == "heard":
        return
    elif kind == "lookback":
        waiter, cursor = Waiter(**record["waiter"]), record.get("cursor")
        look_back(ports, waiter, thorough=bool(record.get("thorough")), again=again, cursor=cursor)
    elif kind == "children":
        go_on_with_children(ports, record["run"], record["after"])
    elif kind == "tick":
        start_tick(ports, record, again=again)
    else:
        raise ValueError(f"unknown kind of record: {kind!r}")
