"""OpenTelemetry: one trace from whoever sends an event to the last invocation of the last run that follows from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from stepwell import Context, RunStatus, StepError, Stepwell, step
from stepwell.middleware.encryption import Encryption, SecretKey
from stepwell.middleware.otel import Tracing

from .support import Declare, Deploy, play, run_of


@step
def apart(number: int) -> int:
    return number + 1


class Spans:
    """What was recorded."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (found,) = self.named(name)
        return found

    def traces(self) -> set[int]:
        return {span.context.trace_id for span in self.all if span.context}


@pytest.fixture
def spans() -> Iterator[Spans]:
    spans = Spans()
    yield spans
    spans.provider.shutdown()


def parent(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_a_run_over_days_is_one_trace_with_a_span_for_each_invocation_and_step(
    declare: Declare, deploy: Deploy, spans: Spans
) -> None:
    app = Stepwell("shop", middleware=[Tracing(spans.provider)])

    def body(ctx: Any) -> Any:
        yield ctx.step.run("one", str, 1)
        yield ctx.step.sleep("rest", "3d")
        yield ctx.step.run("two", str, 2)

    declare(app, body)
    run = play(deploy(app), wait="4d")
    assert run.status == RunStatus.COMPLETED
    assert [span.name for span in spans.all] == [
        "create go",
        "step one",
        "process shop/fn",
        "step two",
        "process shop/fn",
    ]
    assert len(spans.traces()) == 1
    sent, (first, second) = spans.one("create go"), spans.named("process shop/fn")
    assert (sent.kind, first.kind, spans.one("step one").kind) == (
        SpanKind.PRODUCER,
        SpanKind.CONSUMER,
        SpanKind.INTERNAL,
    )
    assert [parent(span) for span in (first, second)] == [id_of(sent)] * 2
    assert [parent(spans.one(f"step {name}")) for name in ("one", "two")] == [id_of(first), id_of(second)]
    assert attributes(first) == {
        "messaging.system": "stepwell",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": "go",
        "messaging.message.id": run.event.id,
        "stepwell.app": "shop",
        "stepwell.function": "fn",
        "stepwell.run.id": run.id,
        "stepwell.run.attempt": 1,
        "stepwell.run.invocation": 1,
        "stepwell.run.replay": False,
        "stepwell.run.suspended": True,
    }
    again = attributes(second)
    assert (again["stepwell.run.replay"], again["stepwell.run.suspended"]) == (True, False)
    assert attributes(spans.one("step two"))["stepwell.step.attempt"] == 1
    assert {span.status.status_code for span in spans.all} == {StatusCode.UNSET}, "to be suspended is no error"


def test_it_goes_on_in_children_in_events_that_are_sent_and_in_handlers_of_failures(
    declare: Declare, deploy: Deploy, spans: Spans
) -> None:
    app = Stepwell("shop", middleware=[Tracing(spans.provider), Encryption(SecretKey(b"x" * 32))])

    def body(ctx: Any) -> Any:
        try:
            yield ctx.step.invoke(child)
        except StepError:
            yield ctx.step.send_event("tell", "told", {})
        yield ctx.step.map(apart, [1], spread=True)

    declare(app, body)

    @app.function(on="never", id="child", retries=0, on_failure=lambda ctx: None)
    def child(ctx: Context[Any]) -> None:
        raise ValueError("no")

    app.function(on="told", id="listener")(lambda ctx: app.send("inside"))
    local = deploy(app)
    with spans.provider.get_tracer("web").start_as_current_span("POST /orders"):
        local.send("go")
    local.advance("1h")
    assert len(spans.traces()) == 1
    assert spans.one("create go").parent is not None
    assert parent(spans.one("process shop/child")) == id_of(spans.one("create stepwell/function.invoked"))
    assert id_of(spans.named("process shop/fn")[0]) == parent(spans.one("create stepwell/function.invoked"))
    assert parent(spans.one("create told")) == id_of(spans.one("step tell"))
    assert parent(spans.one("process shop/listener")) == id_of(spans.one("create told"))
    assert parent(spans.one("create inside")) == id_of(spans.one("process shop/listener"))
    assert len(spans.named("process shop/child.on-failure")) == 1
    assert len(spans.named("process shop/fn.apart-0")) == 1
    assert len(spans.named("step apart")) == 1


def test_it_goes_on_in_detached_runs_and_in_whoever_hears_of_the_end(
    declare: Declare, deploy: Deploy, spans: Spans
) -> None:
    app = Stepwell("shop", middleware=[Tracing(spans.provider)])

    def body(ctx: Any) -> Any:
        yield ctx.step.invoke(aside, {}, detached=True)

    declare(app, body)
    app.function(on="stepwell/run.finished", id="listener")(lambda ctx: None)

    @app.function(on="never", id="aside")
    def aside(ctx: Context[Any]) -> None:
        return None

    local = deploy(app)
    run = play(local, wait="5m")
    assert len(spans.traces()) == 1
    assert {span.name for span in spans.named("process shop/listener") + spans.named("process shop/aside")} == {
        "process shop/listener",
        "process shop/aside",
    }
    first = spans.traces()
    edited = local.client.fork(run.id, "aside", input={"n": 1})
    local.run_until_idle()
    assert local.client.run(edited).status == RunStatus.COMPLETED
    assert len(spans.traces()) == 2, "who edits an event sends another"
    assert first < spans.traces()


@pytest.mark.parametrize("exceptions", [True, False])
def test_errors_are_recorded_with_their_attempts(
    declare: Declare, deploy: Deploy, spans: Spans, exceptions: bool
) -> None:
    app = Stepwell("shop", middleware=[Tracing(spans.provider, exceptions=exceptions)])

    def body(ctx: Any) -> Any:
        def fails() -> None:
            raise ValueError("secret")

        yield ctx.step.run("work", fails)

    declare(app, body, retries=1)
    assert play(deploy(app), wait="1h").status == RunStatus.FAILED
    steps = spans.named("step work")
    assert [attributes(span)["stepwell.step.attempt"] for span in steps] == [1, 2]
    for span in steps:
        assert (span.status.status_code, attributes(span)["error.type"]) == (StatusCode.ERROR, "ValueError")
        assert span.status.description == ("ValueError: secret" if exceptions else "ValueError")
        assert [event.name for event in span.events] == (["exception"] if exceptions else [])
    first, last = spans.named("process shop/fn")
    assert (first.status.status_code, last.status.status_code) == (StatusCode.UNSET, StatusCode.ERROR)
    assert attributes(last)["error.type"] == "StepError"


def test_an_event_from_a_sender_that_does_not_trace_gets_one_trace_for_its_run(
    declare: Declare, deploy: Deploy, spans: Spans
) -> None:
    app = Stepwell("shop", middleware=[Tracing(spans.provider)])

    def body(ctx: Any) -> Any:
        yield ctx.step.sleep("rest", "1d")

    declare(app, body)
    local = deploy(app)
    stranger = local.client.with_middleware()
    ids = [stranger.send("go"), stranger.send("go")]
    local.advance("2d")
    assert [run_of(local, event_id).status for event_id in ids] == [RunStatus.COMPLETED] * 2
    assert (len(spans.all), len(spans.traces())) == (4, 2)


def test_spans_are_exported_before_the_worker_is_frozen(declare: Declare, deploy: Deploy) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=3_600_000))
    app = Stepwell("shop", middleware=[Tracing(provider)])

    def body(ctx: Any) -> Any:
        yield ctx.step.run("work", str, 1)

    declare(app, body)
    play(deploy(app))
    exported = [span.name for span in exporter.get_finished_spans()]
    provider.shutdown()
    assert exported == ["create go", "step work", "process shop/fn"]


def test_without_an_sdk_nothing_is_sent_along(declare: Declare, deploy: Deploy) -> None:
    app = Stepwell("shop", middleware=[Tracing(trace.NoOpTracerProvider())])

    def body(ctx: Any) -> Any:
        return ctx.event.trace
        yield

    declare(app, body)
    run = play(deploy(app))
    assert (run.status, run.result) == (RunStatus.COMPLETED, None)
