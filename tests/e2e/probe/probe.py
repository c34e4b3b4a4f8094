"""A user's app, deployed by the end-to-end test beside the examples. Each function is one thing that must hold in AWS."""

import os
from pathlib import Path

import boto3
from botocore.exceptions import ClientError

from stepwell import Batch, Callback, Concurrency, Context, Stepwell, step

VERSION = "one"  # the end-to-end test deploys another one over it

app = Stepwell("probe")


@app.function(on="probe/hello")
def greet(ctx: Context[dict]) -> str:
    return ctx.step.run("greet", lambda: f"hello, {ctx.event.data['name']}")


@app.function(on="probe/nap")
def nap(ctx: Context[dict]) -> str:
    ctx.step.run("before", lambda: "awake")
    ctx.step.sleep("nap", 2)
    return "rested"


@step
def die_once(marker: str) -> str:
    if not Path(marker).exists():
        Path(marker).touch()
        os._exit(1)  # as when the operating system ends a process that took too much memory
    return "survived"


@app.function(on="probe/crash")
def crash(ctx: Context[dict]) -> list[str]:
    first = ctx.step.run("first", lambda: str(os.getpid()))
    return [first, ctx.step.run(die_once, ctx.event.data["marker"])]


@app.function(on="probe/upgrade")
def upgrade(ctx: Context[dict]) -> list[str]:
    before = ctx.step.run("before", lambda: VERSION)
    ctx.step.wait_for_event("go", event="probe/go", timeout="1h")
    return [before, ctx.step.run("after", lambda: VERSION)]


@app.function(on="probe/turn", concurrency=Concurrency(1))
def take_turns(ctx: Context[dict]) -> float:
    ctx.step.run("work", lambda: 1)
    ctx.step.sleep("rest", 1)
    return ctx.step.run("more", lambda: 2)


@app.function(on="probe/item", batch=Batch(3, "1m"))
def collect(ctx: Context[dict]) -> list[int]:
    return [event.data["n"] for event in ctx.events]


@app.function(on="probe/ask")
def ask(ctx: Context[dict]) -> dict:
    def hand_out(callback: Callback) -> None:
        Path(ctx.event.data["letter"]).write_text(callback.url)

    return ctx.step.wait_for_callback("answer", timeout="1h", submit=hand_out)


@app.function(on=["aws/eventbridge/probe/Something-Happened", "aws/sns/*"])
def overhear(ctx: Context[dict]) -> str:
    return str(ctx.event.data.get("message") or ctx.event.data["detail"]["what"])


@step(retries=0)
def trespass(table: str, other: str) -> dict[str, str]:
    """What the worker's role is not allowed to do, and what AWS says to it."""
    database, queues, parameters = boto3.client("dynamodb"), boto3.client("sqs"), boto3.client("ssm")
    attempts = {
        "scan": lambda: database.scan(TableName=table),
        "index": lambda: database.query(
            TableName=table,
            IndexName="due",
            KeyConditionExpression="due_pk = :pk",
            ExpressionAttributeValues={":pk": {"S": "DUE#0"}},
        ),
        "receive": lambda: queues.receive_message(QueueUrl=os.environ["STEPWELL_QUEUE_URL"]),
        "dead letters": lambda: queues.receive_message(QueueUrl=os.environ["STEPWELL_DLQ_URL"]),
        "invoke": lambda: boto3.client("lambda").invoke(FunctionName=other),
        "payloads": lambda: boto3.client("s3").get_object(Bucket=os.environ["STEPWELL_BUCKET"], Key="shop/other"),
        "another's key": lambda: parameters.get_parameter(Name=f"/stepwell/{table}/shop/callback-key"),
        "own key": lambda: parameters.put_parameter(
            Name=f"/stepwell/{table}/probe/callback-key", Value="x", Type="SecureString", Overwrite=True
        ),
    }
    answers = {}
    for name, attempt in attempts.items():
        try:
            attempt()
            answers[name] = "allowed"
        except ClientError as error:
            answers[name] = error.response["Error"]["Code"]
    return answers


@app.function(on="probe/trespass")
def trespasser(ctx: Context[dict]) -> dict[str, str]:
    return ctx.step.run(trespass, os.environ["STEPWELL_TABLE"], ctx.event.data["other"])
