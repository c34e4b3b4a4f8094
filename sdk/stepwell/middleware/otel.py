"""OpenTelemetry: spans for what is sent, for each invocation of a run and each attempt at a step, all in one trace.

The trace travels with the event, as the W3C traceparent in its `trace`. A run that sleeps for days therefore stays in the
trace of whoever sent its event, and so do its children. Only opentelemetry-api is needed here; which SDK and exporter
take the spans is decided where your app is configured. Without an SDK nothing is recorded and nothing is sent along.

Attributes follow OpenTelemetry's semantic conventions for messaging where they have a word for it; the rest begins with
`stepwell.`. No payloads are recorded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TracerProvider,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from stepwell.durations import Duration, seconds
from stepwell.events import Event
from stepwell.middleware.base import Middleware, RunCall, StepCall

_SYSTEM = "stepwell"


class Tracing(Middleware):
    """Spans for events, runs and steps.

    provider: where spans go; the global one unless given. exceptions: whether messages and stack traces of exceptions are
    recorded, or only their types. flush_timeout: how long a worker waits at the end of an invocation for its spans to be
    exported, before Lambda may freeze it. Put it first: it is then around all other middleware.
    """

    def __init__(
        self, provider: TracerProvider | None = None, *, exceptions: bool = True, flush_timeout: Duration = "2s"
    ) -> None:
        self._provider = provider
        self._exceptions = exceptions
        self._flush_timeout = seconds(flush_timeout, what="flush_timeout")
        self._tracer = trace.get_tracer("stepwell", tracer_provider=provider)
        self._format = TraceContextTextMapPropagator()

    def on_send(self, event: Event[dict[str, Any]]) -> Event[dict[str, Any]]:
        """A span for the creation of the event; the event carries its traceparent."""
        if event.trace is not None:
            return event
        attributes = {**_messaging(event.name, event.id, "create"), "stepwell.event.name": event.name}
        with self._tracer.start_as_current_span(
            f"create {event.name}", kind=SpanKind.PRODUCER, attributes=attributes
        ) as span:
            carrier: dict[str, str] = {}
            self._format.inject(carrier, trace.set_span_in_context(span))
        return replace(event, trace=carrier.get("traceparent"))

    @contextmanager
    def on_run(self, run: RunCall) -> Iterator[None]:
        """A span for this invocation, in the trace of the event."""
        attributes: dict[str, str | int | bool] = {
            **_messaging(run.event.name, run.event.id, "process"),
            "stepwell.app": run.app,
            "stepwell.function": run.function,
            "stepwell.run.id": run.run_id,
            "stepwell.run.attempt": run.attempt,
            "stepwell.run.invocation": run.invocation,
            "stepwell.run.replay": run.replay,
        }
        around = trace.get_current_span().get_span_context()  # of Lambda's own instrumentation, if there is any
        links = [Link(around)] if around.is_valid else []
        with (
            self._tracer.start_as_current_span(
                f"process {run.app}/{run.function}",
                context=self._cause(run),
                kind=SpanKind.CONSUMER,
                attributes=attributes,
                links=links,
                record_exception=False,
                set_status_on_exception=False,
            ) as span,
            self._noting(span),
        ):
            yield
            span.set_attribute("stepwell.run.suspended", run.suspended)

    @contextmanager
    def on_step(self, step: StepCall) -> Iterator[None]:
        """A span for this attempt."""
        attributes: dict[str, str | int | bool] = {
            "stepwell.app": step.run.app,
            "stepwell.function": step.run.function,
            "stepwell.run.id": step.run.run_id,
            "stepwell.step.key": step.key,
            "stepwell.step.kind": step.kind,
            "stepwell.step.attempt": step.attempt,
        }
        name = f"step {step.id.partition('[')[0]}"  # the items of a map have one name
        with (
            self._tracer.start_as_current_span(
                name, attributes=attributes, record_exception=False, set_status_on_exception=False
            ) as span,
            self._noting(span),
        ):
            yield

    def flush(self) -> None:
        """Have the spans exported while the process still runs."""
        provider = self._provider or trace.get_tracer_provider()
        flush = getattr(provider, "force_flush", None)
        if flush is not None:
            flush(round(self._flush_timeout * 1000))

    @contextmanager
    def _noting(self, span: Span) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            kind = type(error).__qualname__
            span.set_attribute("error.type", kind)
            if self._exceptions:
                span.record_exception(error)
            span.set_status(Status(StatusCode.ERROR, f"{kind}: {error}" if self._exceptions else kind))
            raise

    def _cause(self, run: RunCall) -> Context:
        """The event's trace. An event from a sender that does not trace gets one that follows from the run's id, so that
        all invocations find the same."""
        if run.event.trace is not None:
            return self._format.extract({"traceparent": run.event.trace}, Context())
        seed = hashlib.sha256(run.run_id.encode()).digest()
        derived = SpanContext(
            int.from_bytes(seed[:16], "big"),
            int.from_bytes(seed[16:24], "big"),
            is_remote=True,
            trace_flags=TraceFlags(TraceFlags.SAMPLED),
        )
        return trace.set_span_in_context(NonRecordingSpan(derived), Context())


def _messaging(name: str, id: str, operation: str) -> Mapping[str, str]:
    return {
        "messaging.system": _SYSTEM,
        "messaging.operation.type": operation,
        "messaging.operation.name": operation,
        "messaging.destination.name": name,
        "messaging.message.id": id,
    }
