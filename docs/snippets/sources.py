"""Functions that AWS services start: docs/sources.md."""

from typing import Any

from pydantic import BaseModel

from stepwell import Context, Stepwell, Trigger, step
from stepwell.sources import EventBridgeEvent, S3ObjectCreated, SnsMessage, eventbridge_name

app = Stepwell("sources")


@step
def read(bucket: str, key: str) -> str:
    return f"{bucket}/{key}"


# [s3]
@app.function(on=Trigger(S3ObjectCreated, where="event.data.bucket == 'uploads' && event.data.key.endsWith('.csv')"))
def import_file(ctx: Context[S3ObjectCreated]) -> str:
    upload = ctx.event.data
    return ctx.step.run(read, upload.bucket, upload.key)


# [end]


# [eventbridge]
class Order(BaseModel):
    order_id: str
    amount: int


class OrderPlaced(EventBridgeEvent, name=eventbridge_name("com.example.shop", "Order Placed")):
    detail: Order


@app.function(on=OrderPlaced)
def place(ctx: Context[OrderPlaced]) -> int:
    return ctx.event.data.detail.amount


@app.function(on="aws/eventbridge/aws.ec2/*")  # everything from one source, untyped
def watch(ctx: Context[dict[str, Any]]) -> str:
    return str(ctx.event.data["detail"]["state"])


# [end]


# [sns]
class Alert(SnsMessage, name="aws/sns/alerts"):
    message: dict[str, Any]


@app.function(on=Alert)
def page(ctx: Context[Alert]) -> str:
    return f"{ctx.event.data.subject}: {ctx.event.data.message['text']}"


# [end]
