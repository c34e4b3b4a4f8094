"""A world with toy Lambdas in place of Stepwell's, to test the world itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from botocore.config import Config

from stepwell.testing.world import World

SETTINGS = Config(
    retries={"mode": "standard", "total_max_attempts": 5},
    connect_timeout=2,
    read_timeout=10,
    parameter_validation=False,
)


class Aws:
    """What a toy handler works with: the clients an engine would make, and verbs for the usual calls."""

    def __init__(self, world: World) -> None:
        self.world = world
        session = world.session()
        self.sqs = session.create_client("sqs", config=SETTINGS)
        self.dynamodb = session.create_client("dynamodb", config=SETTINGS)
        self.lambda_ = session.create_client("lambda", config=SETTINGS)
        self.s3 = session.create_client("s3", config=SETTINGS)

    def send(self, body: Any, **options: Any) -> Any:
        return self.sqs.send_message(
            QueueUrl=self.world.aws.resources.queue_url, MessageBody=json.dumps(body), **options
        )

    def send_batch(self, *entries: dict[str, Any]) -> Any:
        numbered = [{"Id": str(n), **entry} for n, entry in enumerate(entries)]
        return self.sqs.send_message_batch(QueueUrl=self.world.aws.resources.queue_url, Entries=numbered)

    def put(self, pk: str, sk: str = "RUN", *, condition: str | None = None, **attributes: str) -> Any:
        more = {"ConditionExpression": condition, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"} if condition else {}
        item = {"pk": {"S": pk}, "sk": {"S": sk}} | {name: {"S": value} for name, value in attributes.items()}
        return self.dynamodb.put_item(TableName=self.world.aws.resources.table, Item=item, **more)

    def update(self, pk: str, sk: str = "RUN", *, returning: str = "ALL_NEW", **attributes: str) -> Any:
        return self.dynamodb.update_item(
            TableName=self.world.aws.resources.table,
            Key={"pk": {"S": pk}, "sk": {"S": sk}},
            UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in attributes),
            ExpressionAttributeNames={f"#{name}": name for name in attributes},
            ExpressionAttributeValues={f":{name}": {"S": value} for name, value in attributes.items()},
            ReturnValues=returning,
        )

    def get(self, pk: str, sk: str = "RUN", *, consistent: bool = True) -> Any:
        key = {"pk": {"S": pk}, "sk": {"S": sk}}
        table = self.world.aws.resources.table
        return self.dynamodb.get_item(TableName=table, Key=key, ConsistentRead=consistent).get("Item")

    def start(self, function: str, event: Any) -> Any:
        return self.lambda_.invoke(FunctionName=function, InvocationType="Event", Payload=json.dumps(event).encode())

    def call(self, function: str, event: Any) -> Any:
        return self.lambda_.invoke(
            FunctionName=function, InvocationType="RequestResponse", Payload=json.dumps(event).encode()
        )


Toy = Callable[[Aws, Any, Any], Any]


@contextmanager
def toy_world(
    consumer: Toy | None = None, sweeper: Toy | None = None, workers: dict[str, Toy] | None = None, **options: Any
) -> Iterator[tuple[World, Aws]]:
    """A world whose Lambdas are these functions of (aws, event, context). By default the consumer does nothing."""
    world = World(**options).open()
    aws = Aws(world)

    def build(toy: Toy) -> Callable[[], Callable[[Any, Any], Any]]:
        return lambda: lambda event, context: toy(aws, event, context)

    world.lambdas.add("consumer", "consumer", build(consumer or (lambda aws, event, context: None)))
    if sweeper is not None:
        world.lambdas.add("sweeper", "sweeper", build(sweeper))
    for name, toy in (workers or {}).items():
        world.lambdas.add(name, "worker", build(toy))
    try:
        yield world, aws
    finally:
        world.close()


def bodies(event: Any) -> list[Any]:
    """The bodies of an SQS event, as JSON."""
    return [json.loads(record["body"]) for record in event["Records"]]
