"""Operations without a body: they rest until something happens outside, or until time is up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from stepwell.callbacks import proof_of
from stepwell.codec import JSON, dumps
from stepwell.engine.core import Core, withholding
from stepwell.engine.looking_back import look_back_messages
from stepwell.engine.operations import Operation
from stepwell.engine.sending import large_field
from stepwell.errors import ErrorInfo
from stepwell.queue import Message
from stepwell.records import StepState, StepStatus
from stepwell.store.waiters import Waiter


@dataclass(eq=False)
class Sleep(Operation):
    """ctx.step.sleep and sleep_until. Its end is not written: it is known from the start."""

    until: Callable[[int], int] = lambda now: now
    """When it is over, from the time it begins; milliseconds."""

    def advance(self, core: Core) -> None:
        step = core.journal.find(self.key, self.kind, self.shape, self.args)
        if step is None:
            step = core.journal.record(self._new(core, StepStatus.WAITING, until=max(self.until(core.ports.now()), 0)))
        until = step.until or 0
        if until <= core.ports.now() or core.journal.place(self.key) is not None:
            self.recorded = True
            self.outcome, self.wake_at = replace(step, status=StepStatus.COMPLETED, ended=until), None
        else:
            self.wake_at = until


@dataclass(eq=False)
class EventWait(Operation):
    """ctx.step.wait_for_event. Out of time is an outcome too: None."""

    event: str = ""
    timeout: float = 0
    match: Mapping[str, JSON] = field(default_factory=dict)
    where: str | None = None
    since_start: bool = False

    def advance(self, core: Core) -> None:
        step = core.journal.find(self.key, self.kind, self.shape, self.args)
        if step is None:
            step = self._register(core)
        if not step.status.is_open:
            self.recorded = self.recorded or self.outcome is None
            self._take(core, step)
        elif (step.until or 0) <= core.ports.now():
            self._take(core, core.journal.record(self._new(core, StepStatus.TIMED_OUT, until=step.until)))
        else:
            self.wake_at = step.until

    def _register(self, core: Core) -> StepState:
        """File the waiter, then record the step: an event in between finds the waiter and resolves the step unrecorded."""
        now = core.ports.now()
        until = now + round(self.timeout * 1000)
        waiter = self._waiter(core, until, now)
        new_path = core.ports.store.waiters.file(waiter)
        if self.since_start:
            core.ports.queue.send(*look_back_messages(waiter, first_time=new_path))
        return core.journal.record(self._new(core, StepStatus.WAITING, until=until))

    def _waiter(self, core: Core, until: int, registered: int) -> Waiter:
        return Waiter(
            app=core.run.app,
            run=core.run.id,
            step=self.key,
            id=self.id,
            shape=self.shape,
            event=self.event,
            until=until,
            registered=registered,
            match=self.match,
            where=self.where,
        )

    def value(self, core: Core) -> Any:
        assert self.outcome is not None
        return None if self.outcome.status is StepStatus.TIMED_OUT else super().value(core)


@dataclass(eq=False)
class CallbackWait(Operation):
    """A callback: created at once, awaited when asked to."""

    timeout: float = 0
    heartbeat: float | None = None
    submit: str | None = None
    """The key of the step that hands it out."""
    token: str = field(default="", init=False)
    """What opens it, from the first look on: it is handed out only once its proof is recorded."""

    def advance(self, core: Core) -> None:
        step = core.journal.find(self.key, self.kind, self.shape, self.args)
        now = core.ports.now()
        if step is None:
            beat = None if self.heartbeat is None else round(self.heartbeat * 1000)
            step = core.journal.record(
                self._new(
                    core,
                    StepStatus.WAITING,
                    until=now + round(self.timeout * 1000),
                    beat=beat,
                    beat_by=None if beat is None else now + beat,
                    proof=proof_of(self._token(core)),
                    submit=self.submit,
                    begun=core.journal.latest,
                )
            )
        self.token = self.token or self._token(core, step.proof)
        if not step.status.is_open:
            self.recorded = self.recorded or self.outcome is None
            self._take(core, step)
            return
        ends = min(step.until or 0, step.beat_by or step.until or 0)
        if ends > now:
            self.wake_at = ends
            return
        missed = step.beat_by is not None and ends == step.beat_by != step.until
        why = "No heartbeat came in time." if missed else "No answer came in time."
        kept = {"until": step.until, "proof": step.proof, "submit": step.submit, "begun": step.begun}
        timed_out = self._new(core, StepStatus.TIMED_OUT, error=ErrorInfo("StepTimeout", why), **kept)
        stands = core.journal.record(timed_out, beat_by=step.beat_by)
        if stands.status.is_open:  # a heartbeat came after the steps were loaded
            self.wake_at = min(stands.until or 0, stands.beat_by or stands.until or 0)
        else:
            self._take(core, stands)

    def _token(self, core: Core, proof: str | None = None) -> str:
        """Made anew at each replay, since it is stored nowhere. A key that cannot be read is no error of the function."""
        with withholding():
            return core.ports.keyring.token(core.run.id, self.key, proof)


@dataclass(eq=False)
class ChildRun(Operation):
    """ctx.step.invoke, and every step that runs in a worker invocation of its own."""

    child: str = ""
    """The child's run id: the same at every attempt, so asking twice starts one."""
    message: Callable[[int], dict[str, JSON]] = lambda now: {}
    timeout: float | None = None

    def advance(self, core: Core) -> None:
        step = core.journal.find(self.key, self.kind, self.shape, self.args)
        now = core.ports.now()
        if step is None:
            core.ports.queue.send(self.request(core))
            step = self.register(core)
        if not step.status.is_open:
            self.recorded = self.recorded or self.outcome is None
            self._take(core, step)
        elif step.until is not None and step.until <= now:
            error = ErrorInfo("StepTimeout", f"Run {self.child} did not end within {self.timeout:g} s; it goes on.")
            timed_out = self._new(core, StepStatus.TIMED_OUT, until=step.until, error=error, child=self.child)
            self._take(core, core.journal.record(timed_out))
        else:
            self.wake_at = step.until if step.until is not None else now + 365 * 86_400_000

    def request(self, core: Core) -> Message:
        """The message that starts the child. It is sent before the step is recorded, so a crash in between repeats it."""
        message = core.values.send_call(self.message(core.ports.now()))
        body = large_field(core.ports, message, "data", f"events/{self.child}/input")
        return Message(body, group=core.run.app)

    def register(self, core: Core) -> StepState:
        """Record that the child is awaited."""
        until = None if self.timeout is None else core.ports.now() + round(self.timeout * 1000)
        return core.journal.record(self._new(core, StepStatus.WAITING, until=until, child=self.child))


@dataclass(eq=False)
class DetachedRun(ChildRun):
    """ctx.step.invoke(detached=True): the child is asked for, and goes its own way. The result is its run id."""

    def advance(self, core: Core) -> None:
        step = core.journal.find(self.key, self.kind, self.shape, self.args)
        self.recorded = self.recorded or (step is not None and self.outcome is None)
        if step is None:
            core.ports.queue.send(self.request(core))
            step = core.journal.record(
                self._new(core, StepStatus.COMPLETED, attempts=1, result=dumps(self.child), child=self.child)
            )
        self._take(core, step)
