"""What must hold in every world, whatever fails in it: the promises of Stepwell as checks over what was observed.

Each law looks at the whole trace and names every moment at which it was broken. `check` runs those that need no more
than the trace; the others take what they have to know.

    I1   an event creates a run at most once
    I2   a recorded result never changes                  (of waits too: I8, a wait resolves exactly once)
    I3   no body begins after its result is recorded
    I4   bodies begun <= retries + 1, and one more for each crash of the run       `attempts_within`
    I5   exactly one terminal transition, and only transitions that are allowed
    I6   nothing begins after the end
    I7   every live run has a next cause: a place in the due index
    I9   no more runs at once than the limit                                       `concurrency_within`
         and a gate counts the runs that hold it, and those in its line, exactly
    I10  on_failure fires if and only if the run failed, once
    I11  every child that a fan-out should have has one run                        `children_of`
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from stepwell.ids import app_of, child_run_id
from stepwell.records import OPEN_STEPS, TRANSITIONS, RunStatus, StepStatus
from stepwell.store.layout import GATE_PREFIX, GATE_SK, LINE_PREFIX, RUN_SK, STEP_PREFIX, step_sk
from stepwell.testing.observations import BodyBegan, Crashed, Ended, Observations, Wrote, told
from stepwell.testing.shadow import Image

Law = Callable[[Observations], Iterator[str]]


class InvariantBroken(AssertionError):
    """A promise of Stepwell was broken; the message says which, where, and how it came to it."""


def check(observations: Observations, laws: Iterable[Law] | None = None) -> None:
    """Raise InvariantBroken if any of the laws (by default all that need only the trace) was broken."""
    broken = [violation for law in (ALL if laws is None else laws) for violation in law(observations)]
    if not broken:
        return
    runs = {run_id for entry in observations.of(Wrote) if (run_id := entry.run_id) and any(run_id in b for b in broken)}
    story = "\n".join(told(entry) for run_id in sorted(runs) for entry in observations.about(run_id))
    raise InvariantBroken("\n".join(broken) + (f"\n\nWhat happened:\n{story}" if story else ""))


def one_run_for_an_event(observations: Observations) -> Iterator[str]:
    """I1: no run comes into being twice."""
    created = Counter(write.run_id for write in _run_writes(observations) if write.before is None and write.after)
    for run_id, count in created.items():
        if count > 1:
            yield f"I1: run {run_id} was created {count} times"


def results_never_change(observations: Observations) -> Iterator[str]:
    """I2 and I8: a step that is closed stays as it is, until it expires some time after its run has ended."""
    over: set[str | None] = set()
    for write in observations.of(Wrote):
        status = _run_status(write.after or write.before) if write.sk == RUN_SK else None
        if status is not None and status.is_terminal:
            over.add(write.run_id)
        if not write.sk.startswith(STEP_PREFIX) or write.before is None or not _closed(write.before):
            continue
        if write.after is None and write.run_id in over:
            continue
        for name in ("status", "result", "error", "seq", "attempts", "by"):
            old, new = write.before.attributes.get(name), (write.after.attributes if write.after else {}).get(name)
            if old != new:
                yield f"I2: run {write.run_id}, {write.sk}: recorded {name} changed from {old} to {new}"


def no_body_after_its_result(observations: Observations) -> Iterator[str]:
    """I3: a step whose result is recorded never runs again."""
    closed: set[tuple[str | None, str]] = set()
    for entry in observations:
        if isinstance(entry, Wrote) and entry.sk.startswith(STEP_PREFIX) and entry.after and _closed(entry.after):
            closed.add((entry.run_id, entry.sk))
        elif isinstance(entry, BodyBegan) and (entry.run_id, step_sk(entry.key)) in closed:
            yield f"I3: run {entry.run_id}: the body of {entry.key} began again after its result was recorded"


def attempts_within(retries: int) -> Law:
    """I4 for steps with this many retries: bodies begun, less the invocations of the run that were cut off."""

    def law(observations: Observations) -> Iterator[str]:
        bodies = Counter((entry.run_id, entry.key) for entry in observations.of(BodyBegan))
        cut_off = Counter(entry.by.run_id for entry in observations.of(Crashed))
        cut_off.update(entry.by.run_id for entry in observations.of(Ended) if isinstance(entry.error, Exception))
        for (run_id, key), count in bodies.items():
            if count > retries + 1 + cut_off[run_id]:
                allowed = f"{retries} retries and {cut_off[run_id]} crashes"
                yield f"I4: run {run_id}: {key} began {count} times with {allowed}"

    return law


def one_end(observations: Observations) -> Iterator[str]:
    """I5: a run passes only through allowed states, its end is final, and only then may it expire."""
    for write in _run_writes(observations):
        old, new = _run_status(write.before), _run_status(write.after)
        if old is None or old is new:
            continue
        if new is None:  # expired
            if not old.is_terminal or (write.before and "owes" in write.before.attributes):
                yield f"I5: run {write.run_id} was deleted while {old.value}"
        elif new not in TRANSITIONS[old]:
            yield f"I5: run {write.run_id} went from {old.value} to {new.value}"


def nothing_after_the_end(observations: Observations) -> Iterator[str]:
    """I6: no body begins in a run that has ended."""
    ended: set[str | None] = set()
    for entry in observations:
        if isinstance(entry, Wrote) and entry.sk == RUN_SK:
            status = _run_status(entry.after)
            if status is not None and status.is_terminal:
                ended.add(entry.run_id)
        elif isinstance(entry, BodyBegan) and entry.run_id in ended:
            yield f"I6: run {entry.run_id}: the body of {entry.key} began after the run had ended"


def always_a_next_cause(observations: Observations) -> Iterator[str]:
    """I7: whenever a run is left live, or owes its end to somebody, it stands in the due index."""
    for write in _run_writes(observations):
        status = _run_status(write.after)
        if status is None or write.after is None:
            continue
        if status.is_terminal and "owes" not in write.after.attributes:
            continue
        index_key = write.after.index_key
        if index_key is None or not index_key[0].startswith("DUE#"):
            yield f"I7: run {write.run_id} was left {status.value} without a time at which it is due"


def concurrency_within(limit: int, group: Callable[[dict[str, Any]], Any] = lambda run: run["function"]) -> Law:
    """I9: at no moment more than `limit` runs of a group execute; `group` makes its name of a run's item, or None."""

    def law(observations: Observations) -> Iterator[str]:
        executing: dict[Any, set[str | None]] = {}
        for write in _run_writes(observations):
            item = write.after.plain() if write.after else (write.before.plain() if write.before else {})
            name = group(item)
            if name is None:
                continue
            runs = executing.setdefault(name, set())
            if _run_status(write.after) is RunStatus.RUNNING:
                runs.add(write.run_id)
            else:
                runs.discard(write.run_id)
            if len(runs) > limit:
                yield f"I9: {len(runs)} runs of {name} at once, the limit is {limit}: {sorted(map(str, runs))}"

    return law


def gates_count_rightly(observations: Observations) -> Iterator[str]:
    """I9: in the end every gate counts as many slots as runs hold, and as many places as its line has."""
    items: dict[tuple[str, str], dict[str, Any]] = {}
    for write in observations.of(Wrote):
        if write.sk == RUN_SK or write.pk.startswith(GATE_PREFIX):
            items.pop((write.pk, write.sk), None)
            if write.after is not None:
                items[write.pk, write.sk] = write.after.plain()
    held = Counter(
        gate for (_, sk), item in items.items() if sk == RUN_SK and item.get("held") for gate in item["gates"]
    )
    lines = Counter(pk for pk, sk in items if sk.startswith(LINE_PREFIX))
    for (pk, sk), item in items.items():
        if sk != GATE_SK:
            continue
        name = pk.removeprefix(GATE_PREFIX)
        if item.get("held", 0) != held[name]:
            yield f"I9: gate {name} counts {item.get('held', 0)} slots as held, but {held[name]} runs hold one"
        if item.get("waiting", 0) != lines[pk]:
            yield f"I9: gate {name} counts {item.get('waiting', 0)} runs in line, but {lines[pk]} stand in it"


def failures_are_handled(observations: Observations) -> Iterator[str]:
    """I10: the on_failure handler of a run that failed has one run; of any other run none."""
    last: dict[str, Image] = {}
    for write in _run_writes(observations):
        if write.run_id and write.after:
            last[write.run_id] = write.after
    expected = {}
    for run_id, image in last.items():
        function = image.attributes["function"]["S"]
        expected[child_run_id(app_of(run_id), f"{function}.on-failure", run_id, "on_failure")] = (run_id, image)
    for handler, (run_id, image) in expected.items():
        status = _run_status(image)
        settled = status is not None and status.is_terminal and "owes" not in image.attributes
        if not settled:
            continue
        declared = bool(image.attributes.get("on_failure", {}).get("BOOL"))
        should = declared and status is RunStatus.FAILED
        if should and handler not in last:
            yield f"I10: run {run_id} failed, but its on_failure handler never got a run"
        if not should and handler in last:
            yield f"I10: run {run_id} ended as {status.value if status else '?'}, but its on_failure handler has a run"


def children_of(parent: str, expected: int) -> Law:
    """I11: the run `parent` has exactly this many child runs."""

    def law(observations: Observations) -> Iterator[str]:
        children = {
            write.run_id
            for write in _run_writes(observations)
            if write.after and write.after.attributes.get("parent", {}).get("M", {}).get("run", {}).get("S") == parent
        }
        if len(children) != expected:
            yield f"I11: run {parent} has {len(children)} children instead of {expected}"

    return law


ALL: tuple[Law, ...] = (
    one_run_for_an_event,
    results_never_change,
    no_body_after_its_result,
    one_end,
    nothing_after_the_end,
    always_a_next_cause,
    gates_count_rightly,
    failures_are_handled,
)
"""The laws that need nothing but the trace."""


def _run_writes(observations: Observations) -> Iterator[Wrote]:
    return (entry for entry in observations.of(Wrote) if entry.sk == RUN_SK)


def _step_writes(observations: Observations) -> Iterator[Wrote]:
    return (entry for entry in observations.of(Wrote) if entry.sk.startswith(STEP_PREFIX))


def _run_status(image: Image | None) -> RunStatus | None:
    return RunStatus(image.attributes["status"]["S"]) if image is not None else None


def _closed(image: Image) -> bool:
    return StepStatus(image.attributes["status"]["S"]) not in OPEN_STEPS
