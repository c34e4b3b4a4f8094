"""How a run and its steps are written as items of the table, and read again. What each attribute means stands in `layout`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from stepwell.codec import canonical, dumps, loads
from stepwell.errors import ErrorInfo
from stepwell.records import Fork, Lease, Parent, RunState, RunStatus, StepState, StepStatus
from stepwell.store import layout
from stepwell.store.table import Item


def changes(run: str, fields: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...], dict[str, Any]]:
    """What is set, what is removed, and the values that the condition names.

    `fields` are attributes of a run, None to remove one. Those beginning with `_` are values of the condition; `due`
    (milliseconds) moves the run in the index.
    """
    values = {":" + name[1:]: value for name, value in fields.items() if name.startswith("_")}
    plain = {name: value for name, value in fields.items() if not name.startswith("_") and name != "due"}
    set_ = {name: value for name, value in plain.items() if value is not None}
    if fields.get("due") is not None:
        set_["due_pk"], set_["due_sk"] = layout.due_key(run, fields["due"])
    return set_, tuple(name for name, value in plain.items() if value is None), values


def run_item(run: RunState) -> Item:
    """The item of a run. Absent fields and defaults are left out: every byte is paid for."""
    due_pk, due_sk = None, None
    if run.status.is_terminal and not run.owes:
        due_pk, due_sk = layout.done_key(run, run.status)
    elif run.due_at is not None:
        due_pk, due_sk = layout.due_key(run.id, run.due_at, owing=run.status.is_terminal)
    item: Item = {
        "pk": layout.run_pk(run.id),
        "sk": layout.RUN_SK,
        "function": run.function,
        "status": run.status.value,
        "epoch": run.epoch,
        "wakes": run.wakes,
        "created": run.created,
        "seed": run.seed,
        "event_id": run.event_id,
        "event_name": run.event_name,
        "event_digest": run.event_digest,
        "event": run.event,
        "due_pk": due_pk,
        "due_sk": due_sk,
        "wake_at": run.wake_at,
        "started": run.started,
        "ended": run.ended,
        "reason": run.reason,
        "call": run.call,
        "replay_of": run.replay_of,
        "child": run.child or None,
        "on_failure": run.on_failure or None,
        "start_within": run.start_within,
        "finish_within": run.finish_within,
        "guards": list(run.guards) or None,
        "announces": list(run.announces) or None,
        "quiet": run.quiet or None,
    }
    if run.compute != "default":
        item["compute"] = run.compute
    if run.attempt != 1:
        item["attempt"] = run.attempt
    if run.owes:
        item["owes"] = list(run.owes)
    if run.parent:
        item["parent"] = asdict(run.parent)
    if run.fork:
        item["fork"] = asdict(run.fork)
    if run.tags:
        item["tags"] = dict(run.tags)
    if run.gates:
        item["gates"] = list(run.gates)
    item |= {"held": run.held or None, "line": run.line, "priority": run.priority or None}
    item |= {"unasked": run.unasked or None, "turn": run.turn, "batch": run.batch or None, "taken_by": run.taken_by}
    item |= {"memories": list(run.memories) or None}
    return {name: value for name, value in item.items() if value is not None}


def run_from(item: Item) -> RunState:
    """A run from its item."""
    run = item["pk"].removeprefix("RUN#")
    due_pk = item.get("due_pk", "")
    parent, fork = item.get("parent"), item.get("fork")
    holder = item.get("holder")
    return RunState(
        id=run,
        app=run.rpartition(".")[0],
        function=item["function"],
        status=RunStatus(item["status"]),
        created=item["created"],
        seed=item["seed"],
        event_id=item["event_id"],
        event_name=item["event_name"],
        event_digest=item["event_digest"],
        event=item.get("event"),
        compute=item.get("compute", "default"),
        epoch=item["epoch"],
        attempt=item.get("attempt", 1),
        wakes=item["wakes"],
        wake_at=item.get("wake_at"),
        due_at=layout.due_millis(item["due_sk"]) if due_pk.startswith("DUE#") else None,
        due_sk=item.get("due_sk"),
        lease=Lease(holder, item["lease_until"]) if holder else None,
        started=item.get("started"),
        ended=item.get("ended"),
        crashes=item.get("crashes", 0),
        progressed=item.get("progressed", 0),
        stalls=item.get("stalls", 0),
        misfires=item.get("misfires", 0),
        owes=tuple(item.get("owes", ())),
        result=item.get("result"),
        error=ErrorInfo.from_json(loads(item["error"])) if "error" in item else None,
        reason=item.get("reason"),
        parent=Parent(**parent) if parent else None,
        call=item.get("call"),
        progress=loads(item["progress"]) if "progress" in item else None,
        tags=item.get("tags", {}),
        replay_of=item.get("replay_of"),
        gates=tuple(item.get("gates", ())),
        held=item.get("held", False),
        line=item.get("line"),
        priority=item.get("priority", 0),
        unasked=item.get("unasked", False),
        turn=item.get("turn"),
        batch=item.get("batch", False),
        taken_by=item.get("taken_by"),
        memories=tuple(item.get("memories", ())),
        fork=Fork(**fork) if fork else None,
        child=item.get("child", False),
        on_failure=item.get("on_failure", False),
        start_within=item.get("start_within"),
        finish_within=item.get("finish_within"),
        guards=tuple(item.get("guards", ())),
        announces=tuple(item.get("announces", ())),
        quiet=item.get("quiet", False),
    )


def step_item(run: str, step: StepState) -> Item:
    """The item of a checkpoint."""
    item: Item = {
        "pk": layout.run_pk(run),
        "sk": layout.step_sk(step.key),
        "id": step.id if step.id != step.key else None,
        "kind": step.kind,
        "status": step.status.value,
        "shape": step.shape,
        "epoch": step.epoch,
        "seq": step.seq,
        "attempts": step.attempts or None,
        "started": step.started,
        "ended": step.ended,
        "until": step.until,
        "retry_at": step.retry_at,
        "failures": step.failures or None,
        "result": step.result,
        "error": dumps(step.error.as_json()) if step.error else None,
        "saw": canonical(dict(step.saw)) if step.saw else None,
        "beat": step.beat,
        "beat_by": step.beat_by,
        "proof": step.proof,
        "submit": step.submit,
        "begun": step.begun,
        "child": step.child,
        "by": step.by,
        "args": step.args,
        "ttl": step.ttl or None,
    }
    if item["sk"] != layout.STEP_PREFIX + step.key:
        item["key"] = step.key
    return {name: value for name, value in item.items() if value is not None}


def step_from(item: Item) -> StepState:
    """A checkpoint from its item."""
    key: str = item.get("key") or item["sk"].removeprefix(layout.STEP_PREFIX)
    return StepState(
        key=key,
        id=item.get("id", key),
        kind=item["kind"],
        status=StepStatus(item["status"]),
        shape=item["shape"],
        epoch=item.get("epoch", 0),
        seq=item.get("seq"),
        attempts=item.get("attempts", 0),
        started=item.get("started"),
        ended=item.get("ended"),
        until=item.get("until"),
        retry_at=item.get("retry_at"),
        failures=item.get("failures", 0),
        result=item.get("result"),
        error=ErrorInfo.from_json(loads(item["error"])) if "error" in item else None,
        saw=loads(item["saw"]) if "saw" in item else {},
        beat=item.get("beat"),
        beat_by=item.get("beat_by"),
        proof=item.get("proof"),
        submit=item.get("submit"),
        begun=item.get("begun"),
        child=item.get("child"),
        by=item.get("by"),
        args=item.get("args"),
        ttl=item.get("ttl", 0),
    )
