"""Whether what happens is what should: registration, runs that stand still, dead letters."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Any

from stepwell.cli.doctor.patient import Finding, Patient, ok, problem, unknown, warning
from stepwell.cli.words import cut, duration, several
from stepwell.codec import dumps, loads
from stepwell.records import RunState
from stepwell.store.apps import AppRecord
from stepwell.store.layout import DUE_SHARDS

OVERDUE = 300
"""Seconds after due_at from which a run stands still: the sweeper comes every minute."""
AHEAD = 1200
"""Seconds: a run that reaches no worker is tried again within 15 minutes."""
MOST = 500
"""Runs that are looked at."""
SHOWN = 5


def registration(patient: Patient) -> Iterator[Finding]:
    """What is registered is what the workers hold."""
    apps = patient.ports.store.apps.current()[0]
    if not apps:
        yield warning(
            "No app is registered: events are recorded, and nothing runs.",
            "Deploy a StepwellApp. If one is deployed: its stack's Custom::StepwellApp resource registers it.",
        )
    for app in apps.values():
        yield from _registered(patient, app)


def _registered(patient: Patient, app: AppRecord) -> Iterator[Finding]:
    if "default" not in app.workers:
        yield problem(f"The app {app.id} is registered without a default worker.", "Deploy its stack again.")
        return
    answer = patient.clients("lambda").invoke(
        FunctionName=app.workers["default"], InvocationType="RequestResponse", Payload=b'{"describe": true}'
    )
    text = answer["Payload"].read().decode()
    if "FunctionError" in answer:
        yield problem(
            f"The worker of {app.id} cannot load the app: {cut(_error(text), 300)}",
            "Its runs wait for 24 hours. Deploy a version that can be imported.",
        )
        return
    manifest = json.loads(text)["manifest"]
    difference = _difference(app.manifest, manifest)
    if difference:
        yield problem(
            f"What is registered of {app.id} is not what its worker holds: {difference}.",
            "Code was updated without a deployment of the stack. Deploy it: that registers the app anew.",
        )
    else:
        yield ok(f"{app.id}: {several(len(app.functions), 'function')} registered as the worker holds them.")


def callback_keys(patient: Patient) -> Iterator[Finding]:
    """Each app's worker can read its callback key. Only itself can tell: by its own role, from where it stands."""
    for app in patient.ports.store.apps.current()[0].values():
        if "default" not in app.workers:
            continue
        answer = patient.clients("lambda").invoke(
            FunctionName=app.workers["default"],
            InvocationType="RequestResponse",
            Payload=b'{"describe": true, "examine": true}',
        )
        if "FunctionError" in answer:
            continue  # it cannot load its app, as was said before
        told = json.loads(answer["Payload"].read())
        if "callback_key" not in told:
            yield unknown(f"the worker of {app.id} does not say whether it can read its callback key")
        elif told["callback_key"] is not None:
            yield warning(
                f"Functions of {app.id} that make callbacks wait: {cut(told['callback_key'], 300)}",
                "Deploy the app's stack, which makes the key if it is missing. Nothing is wrong if it makes no callbacks.",
            )
        else:
            yield ok(f"The worker of {app.id} can read its callback key.")


def _error(text: str) -> str:
    try:
        told = json.loads(text)
        return f"{told.get('errorType', 'Error')}: {told.get('errorMessage', '')}"
    except (ValueError, AttributeError):
        return text


def _difference(registered: Mapping[str, Any], held: Mapping[str, Any]) -> str:
    """In words; empty if there is none."""
    if registered.get("app") != held.get("app"):
        return f"the worker holds the app {held.get('app')!r}"
    ours = {entry["id"]: loads(dumps(entry)) for entry in registered["functions"]}
    theirs = {entry["id"]: entry for entry in held["functions"]}
    words = []
    for label, ids in (
        ("not registered", theirs.keys() - ours.keys()),
        ("registered, but gone", ours.keys() - theirs.keys()),
        ("changed", {each for each in ours.keys() & theirs.keys() if ours[each] != theirs[each]}),
    ):
        if ids:
            words.append(f"{label}: {', '.join(sorted(ids))}")
    return "; ".join(words)


def stuck(patient: Patient) -> Iterator[Finding]:
    """No run is overdue, and all of them reach a worker."""
    runs, now, more = _due_soon(patient)
    late = [run for run in runs if run.due_at is not None and run.due_at < now - OVERDUE * 1000]
    lost = [run for run in runs if run.misfires]
    at_least = "At least " if more else ""
    if late:
        yield problem(
            f"{at_least}{several(len(late), 'run')} should have gone on more than {OVERDUE // 60} minutes ago, the first "
            f"{duration((now - min(run.due_at or now for run in late)) / 1000)} ago: {_names(late)}.",
            "The sweeper takes them up when it runs: see what is said about it above, and its log.",
        )
    if lost:
        reasons = sorted({run.reason or f"not taken {run.misfires} times" for run in lost})
        yield problem(
            f"{at_least}{several(len(lost), 'run')} reach{'es' if len(lost) == 1 else ''} no worker: {_names(lost)}. "
            f"{cut('; '.join(reasons), 300)}",
            "They are tried again for 24 hours, then they fail. Mend the worker: its log, its concurrency, its deployment.",
        )
    if not late and not lost:
        yield ok("No run is overdue, and none fails to reach its worker.")


def _due_soon(patient: Patient) -> tuple[list[RunState], int, bool]:
    """Live runs that are due by now or soon, read one by one as the index may be behind; whether there are more."""
    now, store = round(patient.now * 1000), patient.ports.store
    ids = list(
        islice(chain.from_iterable(store.runs.due(shard, now + AHEAD * 1000) for shard in range(DUE_SHARDS)), MOST + 1)
    )
    found = store.runs.read_many(ids[:MOST])
    return [run for run in found.values() if run.due_at is not None], now, len(ids) > MOST


def _names(runs: list[RunState]) -> str:
    shown = ", ".join(run.id for run in runs[:SHOWN])
    return f"{shown} and {len(runs) - SHOWN} more" if len(runs) > SHOWN else shown


def dead_letters(patient: Patient) -> Iterator[Finding]:
    """Nothing lies in the dead-letter queue."""
    url = patient.ports.config.dlq_url
    if url is None:
        yield unknown("the dead-letter queue is not named; set STEPWELL_DLQ_URL or pass --stack")
        return
    attributes = patient.queue_attributes(url)
    lying = sum(
        int(attributes.get(name, 0))
        for name in ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
    )
    if lying:
        yield problem(
            f"{several(lying, 'dead letter')}: events that could not be handled, lost 14 days after they arrived.",
            "`stepwell dlq list` shows why; when the cause is mended, `stepwell dlq redrive` sends them back.",
        )
    else:
        yield ok("There are no dead letters.")


def backlog(patient: Patient) -> Iterator[Finding]:
    """How many messages wait in the main queue."""
    attributes = patient.queue_attributes(patient.ports.config.queue_url)
    waiting = int(attributes.get("ApproximateNumberOfMessages", 0))
    if waiting > 10_000:
        yield warning(
            f"About {waiting:,} messages wait in the main queue.",
            "If that number grows, more come than are handled: raise consumer_concurrency or batch_size.",
        )
    else:
        yield ok(f"About {several(waiting, 'message')} {'waits' if waiting == 1 else 'wait'} in the main queue.")
