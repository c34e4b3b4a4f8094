"""Apps that between them make every kind of AWS call, and the calls that their Lambdas were seen to make.

The calls are recorded in a local world, where the real handlers of consumer, orchestrator, workers and sweeper run. What is
recorded is put into the words of IAM: who, which action, on which kind of resource, with which key.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import boto3

from stepwell import (
    Batch,
    Callback,
    CancelOn,
    Concurrency,
    Context,
    Cron,
    Debounce,
    EventModel,
    Failure,
    NonRetriableError,
    RateLimit,
    Singleton,
    Stepwell,
    Throttle,
    Timeouts,
    Trigger,
    step,
)
from stepwell.testing import Fault, FaultKind, FaultPlan, LocalStepwell
from stepwell_lambdas.registrar.handler import make_handler


def text(size: int) -> str:
    """So many characters that do not get smaller by compressing them."""
    return Random(size).randbytes(size // 2).hex()


LARGE = text(100_000)
"""Too large for an item, small enough for a message."""

HUGE = text(600_000)
"""Too large for a message, by what the library allows itself."""

TABLE, INDEX, QUEUE, DEAD_LETTERS, BUCKET, FUNCTION = "table", "index", "queue", "dead letters", "bucket", "function"
PARAMETER = "parameter"


# ---- the apps --------------------------------------------------------------------------------------------------------

shop = Stepwell("shop")
crm = Stepwell("crm")
"""Its functions are called by those of shop, and its events are heard by them: what crosses apps must be allowed too."""


bulky = Stepwell("bulky")
"""Its manifest is too large for an item."""


class Order(EventModel, name="order"):
    id: str


@step
def noise(size: int) -> str:
    return text(size)


@step(compute="large")
def heavy(number: int) -> int:
    return number * number


TOKENS: list[str] = []
ANSWERS: list[dict[str, Any]] = []


def ask(callback: Callback) -> None:
    TOKENS.append(callback.token)


def clean_up(ctx: Context[Failure]) -> str:
    return ctx.step.run("clean-up", lambda: "done")


@shop.function(
    on=Order,
    cancel_on=CancelOn("order/stopped", match={"data.order": "event.data.id"}),
    tags={"order": "event.data.id"},
    timeouts=Timeouts(start="1h", finish="30d"),
)
def fulfil(ctx: Context[Order]) -> dict[str, object]:
    order = ctx.event.data.id
    ctx.step.run("small", lambda: 1)
    ctx.step.run(noise, 100_000)
    ctx.step.sleep("nap", "20m")
    ctx.step.send_event("told", "order/told", {"order": order, "text": LARGE})
    ctx.step.send_event("shouted", "order/shouted", {"order": order, "text": HUGE})
    paid = ctx.step.wait_for_event("paid", event="order/paid", match={"data.order": order}, timeout="3d")
    ctx.step.wait_for_event(
        "packed", event="order/packed", match={"data.order": order}, timeout="1d", since="run_start"
    )
    answer = ctx.step.wait_for_callback("approved", timeout="1d", submit=ask)
    scored = ctx.step.invoke("crm/score", {"order": order, "text": HUGE})
    own = ctx.step.invoke(own_child, {"order": order})
    ctx.step.invoke("crm/score", {"order": order}, id="detached", detached=True)
    squares = ctx.step.map(heavy, [1, 2], spread=True)
    ctx.progress(1, 1)
    return {"paid": paid is not None, "answer": answer, "scored": scored, "own": own, "squares": squares, "text": LARGE}


@crm.function(on="stepwell/run.*")
def audit(ctx: Context[dict]) -> str:
    return str(ctx.event.data["status"])


@shop.function(on="order/child")
def own_child(ctx: Context[dict]) -> str:
    return ctx.step.run(noise, 50_000)


@shop.function(on="order/delegated")
def delegate(ctx: Context[dict]) -> object:
    return ctx.step.invoke("crm/score", {})


@shop.function(on="order/broken", on_failure=clean_up, retries=0)
def broken(ctx: Context[dict]) -> None:
    ctx.step.run("fine", lambda: 1)
    raise NonRetriableError("as intended")


@shop.function(on="order/shouted")
def hear_own(ctx: Context[dict]) -> int:
    return len(ctx.event.data["text"])


@shop.function(on=Cron("*/20 * * * *"))
def tidy_up(ctx: Context[dict]) -> None:
    return None


@shop.function(on="shift/begun", concurrency=[Concurrency(1), Concurrency(2, key="event.name", scope="app")])
def work_shift(ctx: Context[dict]) -> None:
    ctx.step.run("work", lambda: 1)
    ctx.step.sleep("pause", "1m")


@shop.function(
    on="desk/touched", throttle=Throttle(1, "1m"), rate_limit=RateLimit(2, "1h"), singleton=Singleton("cancel")
)
def sit_down(ctx: Context[dict]) -> None:
    ctx.step.sleep("sit", "2m")


@shop.function(on="desk/touched", debounce=Debounce("1m"))
def wipe(ctx: Context[dict]) -> None:
    return None


@shop.function(on="desk/touched", batch=Batch(3, "1m"), retries=0, on_failure=lambda ctx: len(ctx.event.data.events))
def count(ctx: Context[dict]) -> int:
    raise ValueError(f"{len(ctx.events)} are too many")


@crm.function(on="crm/score")
def score(ctx: Context[dict]) -> dict[str, object]:
    ctx.step.sleep("think", "5m")
    ctx.step.send_event("scored", "crm/scored", {"text": HUGE})
    ctx.step.create_callback("second-opinion", timeout="1d")
    return {"score": 7, "text": LARGE}


@crm.function(on="order/shouted")
def hear(ctx: Context[dict]) -> str:
    ctx.step.run(noise, 50_000)
    return str(ctx.event.data["text"])


@bulky.function(on=Trigger("bulky/never", where=f"event.data.x == '{text(80_000)}'"))
def never(ctx: Context[dict]) -> None:
    return None


# ---- what they were seen to call -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """A call in the words of IAM."""

    role: str
    """The kind of Lambda: consumer, orchestrator, sweeper; of a worker the app's id."""
    action: str
    resource: str
    key: str
    """The partition key of an item, the key of an object; empty for a queue. Of an invocation, the function's name; of a
    parameter its name, with TABLE for the table's."""


def play() -> list[Call]:
    """Run all of it once, and give back every call that a Lambda made."""
    TOKENS.clear()
    outage = Fault(FaultKind.REFUSED, operation="dynamodb.BatchGetItem", label="orchestrator")
    with LocalStepwell(shop, crm, bulky, plan=FaultPlan([outage])) as local:
        local._keys = None  # in Parameter Store, as deployed
        for function in local.world.lambdas.functions:
            function.idle.clear()
        _register(local)
        order = local.send(Order(id="o-1"), id="chosen-by-the-sender")
        doomed = local.send(Order(id="o-2"))
        local.send("order/broken", {})
        local.send("nobody/listens", {})
        local.send("order/shouted", {"text": HUGE})
        given_up = local.send("order/delegated", {})
        for number in range(3):
            local.send("shift/begun", {"number": number})
            local.send("desk/touched", {"number": number, "text": LARGE})
        local.crash_before("noise")
        local.advance("1m")  # the outage is over, what failed has come again
        local.client.cancel(_run_of(local, given_up, "delegate"))  # and with it the child that it waits for
        local.advance("30m")
        local.client.cancel(_run_of(local, doomed, "fulfil"))
        local.send(Order(id="o-3"))
        local.advance("1m")
        local.send("order/stopped", {"order": "o-3"})
        local.send("order/packed", {"order": "o-1"})
        local.send("order/paid", {"order": "o-1"})
        local.run_until_idle()
        local.client.complete_callback(TOKENS[0], {"text": LARGE})
        local.advance("1h")
        run = local.run(order, function="fulfil")
        assert run is not None
        assert run.status.value == "completed", run.error
        boto3.client("sqs").send_message(QueueUrl=local.queue_url, MessageBody="not json")
        local.run_until_idle()
        return list(dict.fromkeys(_translated(local)))


def _register(local: LocalStepwell) -> None:
    """As CloudFormation does: register apps again and remove them, then leave them registered."""
    lambdas = local.world.lambdas
    build = lambda: make_handler(local._ports(), answer=lambda url, body: ANSWERS.append(json.loads(body)))  # noqa: E731
    registrar = lambdas.add("stepwell-registrar", "registrar", build)
    for app, classes in [("shop", ["default", "large"]), ("crm", ["default"]), ("bulky", ["default"])]:
        workers = {name: lambdas.get(f"stepwell-{app}-{name}").arn for name in classes}  # type: ignore[union-attr]
        for kind in ("Create", "Delete", "Create"):
            event = {
                **dict.fromkeys(["ResponseURL", "StackId", "RequestId", "LogicalResourceId"], ""),
                "RequestType": kind,
                "PhysicalResourceId": f"stepwell-app/{app}",
                "ResourceProperties": {"AppId": app, "Workers": workers},
            }
            lambdas.invoke(registrar, json.dumps(event))
            assert ANSWERS.pop()["Status"] == "SUCCESS"


def _run_of(local: LocalStepwell, event_id: str, function: str) -> str:
    run = local.run(event_id, function=function)
    assert run is not None
    return run.id


def _translated(local: LocalStepwell) -> Iterator[Call]:
    made = local.world.aws.resources
    for call in local.world.calls:
        assert call.invocation is not None
        if call.foreign:
            continue
        role = call.label
        if role == "worker":
            role = call.invocation.function.split("-")[1]
        for action, resource, key in _named(call.service, call.operation, call.params):
            queues = {made.queue_url: QUEUE, made.dlq_url: DEAD_LETTERS}
            named = key.replace(made.table, TABLE) if resource == PARAMETER else key
            yield Call(role, action, queues.get(resource, resource), named)


def _named(service: str, operation: str, params: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(action, resource, key) of each permission that AWS asks for."""
    if service == "dynamodb":
        yield from _items(operation, params)
    elif service == "sqs":
        # IAM knows no batch actions: they are allowed by the single ones.
        yield f"sqs:{operation.removesuffix('Batch')}", params["QueueUrl"], ""
    elif (service, operation) == ("s3", "CopyObject"):
        yield "s3:GetObject", BUCKET, params["CopySource"].partition("/")[2]  # botocore has made it bucket/key
        yield "s3:PutObject", BUCKET, params["Key"]
    elif service == "s3":
        yield f"s3:{operation}", BUCKET, params["Key"]
    elif service == "ssm":
        yield f"ssm:{operation}", PARAMETER, params["Name"]
    elif service == "lambda":
        assert operation == "Invoke"
        yield "lambda:InvokeFunction", FUNCTION, params["FunctionName"].rpartition(":")[2]
    else:
        raise AssertionError(f"a call of {service} that nobody granted: {operation}")


def _items(operation: str, params: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    if operation == "TransactWriteItems":
        names = {
            "Put": "PutItem",
            "Update": "UpdateItem",
            "Delete": "DeleteItem",
            "ConditionCheck": "ConditionCheckItem",
        }
        for item in params["TransactItems"]:
            ((kind, inner),) = item.items()
            yield f"dynamodb:{names[kind]}", TABLE, (inner.get("Key") or inner["Item"])["pk"]["S"]
    elif operation == "BatchGetItem":
        for asked in params["RequestItems"].values():
            for key in asked["Keys"]:
                yield "dynamodb:BatchGetItem", TABLE, key["pk"]["S"]
    elif operation == "BatchWriteItem":
        for requests in params["RequestItems"].values():
            for request in requests:
                yield "dynamodb:BatchWriteItem", TABLE, request["PutRequest"]["Item"]["pk"]["S"]
    elif operation == "Query":
        key = params["ExpressionAttributeValues"][":p"]["S"]
        yield "dynamodb:Query", INDEX if "IndexName" in params else TABLE, key
    else:
        yield f"dynamodb:{operation}", TABLE, (params.get("Key") or params["Item"])["pk"]["S"]
