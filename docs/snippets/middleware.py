"""Middleware, one's own and those that come with Stepwell: docs/middleware.md."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# [imports]
from stepwell import Client, Context, Middleware, Stepwell, Trigger, provided
from stepwell.middleware import RunCall, StepCall
from stepwell.middleware.encryption import Encryption, KmsKey, SecretKey  # stepwell[encryption]
from stepwell.middleware.otel import Tracing  # stepwell[otel]

# [end]
from .outside import Database, metrics


# [timing]
class Timing(Middleware):
    """How long the steps take."""

    @contextmanager
    def on_step(self, step: StepCall) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield  # here the step runs, be it plain or async
        finally:
            metrics[step.id] = time.perf_counter() - began


# [end]


# [provide]
class Databases(Middleware):
    """A connection for each invocation, given back at its end, also when the run is suspended."""

    @contextmanager
    def on_run(self, run: RunCall) -> Iterator[None]:
        with Database.connect(os.environ.get("DATABASE", "orders.db")) as database:
            run.provide(database)
            yield


app = Stepwell("orders", middleware=[Timing(), Databases()])


def save(order_id: str) -> int:
    return provided(Database).insert(order_id)  # typed: a Database


@app.function(on="order/created")
def store_order(ctx: Context[Any]) -> int:
    return ctx.step.run(save, ctx.event.data["order_id"])


# [end]

TESTING_ONLY = b"no secret at all: known to all!!"

# [encryption]
arn = os.environ.get("VALUES_KEY")  # set where it is deployed
key = KmsKey(arn) if arn else SecretKey(TESTING_ONLY)

clinic = Stepwell("clinic", middleware=[Tracing(), Encryption(key, clear=["patient_id", "urgency"])])


@clinic.function(on=Trigger("exam/ordered", where="event.data.urgency > 2"))
def examine(ctx: Context[Any]) -> str:
    patient = ctx.event.data["patient_id"]
    findings = ctx.step.wait_for_event("exam", event="exam/done", match={"data.patient_id": patient}, timeout="7d")
    return f"{ctx.event.data['complaint']}: {findings.data['text'] if findings else 'not seen'}"


# [end]


def rotated(new: str, old: str) -> Stepwell:
    # [rotation]
    return Stepwell("clinic", middleware=[Encryption(SecretKey(new), SecretKey(old))])
    # [end]


def from_outside() -> Any:
    # [client]
    client = Client.from_stack("stepwell").with_middleware(Encryption(key, clear=["patient_id", "urgency"]))
    event_id = client.send("exam/ordered", {"patient_id": "p-1", "urgency": 3, "complaint": "a cough"})
    # [end]
    return client, event_id
