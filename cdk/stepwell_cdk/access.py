"""Who may do what: the statements of every role, in one place to be reviewed.

Each role gets the calls that its own code makes and no other, on the resources it makes them on. A test records the
AWS calls of real flows and holds them against these statements, both ways.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aws_cdk import Stack
from aws_cdk import aws_iam as iam

from stepwell.callbacks import callback_key_name
from stepwell.webhooks import SECRETS_MANAGER
from stepwell_cdk.findings import explain_keys, explain_parameters
from stepwell_cdk.storage import Storage

ITEMS = ("dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem", "dynamodb:UpdateItem")
"""What all who write runs do. A transaction has no action of its own: IAM asks for those of the operations inside."""

OBJECTS = ("s3:GetObject", "s3:PutObject")

LARGE_EVENTS = "events/*"
"""Where senders put the data of events too large for a message. Only the orchestrator reads it."""


def app_partitions(app_id: str) -> tuple[str, ...]:
    """The partition keys an app's worker may touch, as patterns. ``.`` and ``#`` end the id: no longer one matches."""
    return (f"RUN#{app_id}.*", f"WAIT#{app_id}#*", f"PATHS#{app_id}#*", f"GATE#{app_id}#*", f"TAG#{app_id}#*")


def of_consumer(storage: Storage, role: iam.Role, orchestrator_arn: str) -> None:
    """The consumer: takes from the main queue, hands batches to the orchestrator, sets malformed messages aside."""
    takes = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ChangeMessageVisibility"]
    _allow(role, takes, storage.queue.queue_arn)
    _allow(role, ["sqs:SendMessage"], storage.dead_letters.queue_arn)
    _allow(role, ["lambda:InvokeFunction"], orchestrator_arn)
    _use_key(storage, role, "sqs")


def of_orchestrator(storage: Storage, role: iam.Role) -> None:
    """The orchestrator: all of the table. Leave to invoke a worker is given by each worker itself."""
    _allow(
        role,
        [*ITEMS, "dynamodb:BatchGetItem", "dynamodb:DeleteItem", "dynamodb:ConditionCheckItem"],
        storage.table.table_arn,
    )
    _allow(role, ["dynamodb:Query"], storage.index_arn)
    _allow(role, ["sqs:SendMessage"], storage.queue.queue_arn)
    reason = "The orchestrator serves all apps, so it reads and writes the payloads of all of them."
    _payloads(storage, role, reason, {"*": OBJECTS})
    _use_key(storage, role, "dynamodb", "sqs", "s3")


def of_sweeper(storage: Storage, role: iam.Role) -> None:
    """The sweeper: looks up what is due in the index, moves it on, posts it to the main queue."""
    _allow(role, ["dynamodb:Query"], storage.index_arn)
    _allow(role, ["dynamodb:BatchGetItem", "dynamodb:UpdateItem"], storage.table.table_arn)
    _allow(role, ["sqs:SendMessage"], storage.queue.queue_arn)
    _use_key(storage, role, "dynamodb", "sqs")


def of_registrar(storage: Storage, role: iam.Role) -> None:
    """The registrar: the registered apps and their schedules, and new callback keys, which it can neither read nor replace.

    Leave to ask a worker is given by each worker itself.
    """
    touches = [*ITEMS, "dynamodb:BatchGetItem", "dynamodb:DeleteItem"]
    _allow(role, touches, storage.table.table_arn, partitions=("APP", "CRON#*"))
    makes = iam.PolicyStatement(
        actions=["ssm:PutParameter"],
        resources=[_callback_key(storage, role, "*")],
        conditions={"StringNotEquals": {"ssm:Overwrite": "true"}},
    )
    policy = iam.Policy(role, "CallbackKeys", roles=[role], statements=[makes])
    explain_parameters(
        policy,
        storage.table,
        callback_key_name("<table>", "*"),
        "Which apps there will be is not known beforehand; a key that is there it can neither read nor replace.",
    )
    _use_key(storage, role, "dynamodb", "ssm")


def of_worker(storage: Storage, role: iam.Role, app_id: str) -> None:
    """A worker: runs user code, so it is held to its own app's runs, waits, gates, tags, payloads and callback key."""
    _allow(role, ITEMS, storage.table.table_arn, partitions=app_partitions(app_id))
    _allow(role, ["ssm:GetParameter"], _callback_key(storage, role, app_id))
    _allow(role, ["sqs:SendMessage"], storage.queue.queue_arn)
    reason = (
        "Payload keys are not known beforehand; the prefixes hold the worker to its own app's, and to large events."
    )
    _payloads(storage, role, reason, {f"{app_id}/*": OBJECTS, LARGE_EVENTS: ["s3:PutObject"]})
    _use_key(storage, role, "dynamodb", "sqs", "s3", "ssm")


def of_api(storage: Storage, role: iam.Role, secrets: Sequence[str]) -> None:
    """The webhook door: event keys and counters, the runs whose callbacks are answered, the secrets of its sources."""
    table = storage.table.table_arn
    _allow(role, ["dynamodb:GetItem"], table, partitions=("KEYS", "RUN#*"))
    _allow(role, ["dynamodb:UpdateItem"], table, partitions=("RATE#*", "RUN#*"))
    _allow(role, ["sqs:SendMessage"], storage.queue.queue_arn)
    reason = "Large events and large answers to callbacks; under which app an answer belongs is not known beforehand."
    _payloads(storage, role, reason, {"*": ["s3:PutObject"]})
    kept = [place.removeprefix(SECRETS_MANAGER) for place in secrets if place.startswith(SECRETS_MANAGER)]
    parameters = [_parameter(role, place) for place in secrets if not place.startswith(SECRETS_MANAGER)]
    for action, places in [("secretsmanager:GetSecretValue", kept), ("ssm:GetParameter", parameters)]:
        if places:
            role.add_to_policy(_statement([action], list(dict.fromkeys(places))))
    _use_key(storage, role, "dynamodb", "sqs", "s3")


def to_send(storage: Storage, grantee: iam.IGrantable) -> None:
    """Whoever sends events: the main queue, a place for events too large for it, and nothing to read."""
    principal = grantee.grant_principal
    principal.add_to_principal_policy(_statement(["sqs:SendMessage"], [storage.queue.queue_arn]))
    principal.add_to_principal_policy(_statement(["s3:PutObject"], [storage.bucket.arn_for_objects(LARGE_EVENTS)]))
    if storage.key is not None:
        principal.add_to_principal_policy(_key_statement(storage, "sqs", "s3"))


def to_operate(storage: Storage, grantee: iam.IGrantable) -> None:
    """Whoever operates: all that a client does, for all apps. It reads the data of every run and changes runs."""
    principal = grantee.grant_principal
    reads = ["dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query"]
    writes = ["dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:BatchWriteItem"]
    looks = ["sqs:ReceiveMessage", "sqs:ChangeMessageVisibility", "sqs:DeleteMessage"]
    for actions, resource in (
        ([*reads, *writes], storage.table.table_arn),
        (["dynamodb:Query"], storage.index_arn),
        (["sqs:SendMessage"], storage.queue.queue_arn),
        (looks, storage.dead_letters.queue_arn),
        (OBJECTS, storage.bucket.arn_for_objects("*")),
        (["cloudformation:DescribeStacks"], Stack.of(storage.table).stack_id),
    ):
        principal.add_to_principal_policy(_statement(actions, [resource]))
    if storage.key is not None:
        principal.add_to_principal_policy(_key_statement(storage, "dynamodb", "sqs", "s3"))


def _callback_key(storage: Storage, role: iam.Role, app_id: str) -> str:
    """The ARN of the parameter with the callback key of an app."""
    return _parameter(role, callback_key_name(storage.table.table_name, app_id))


def _parameter(role: iam.Role, name: str) -> str:
    return Stack.of(role).format_arn(service="ssm", resource="parameter", resource_name=name.removeprefix("/"))


def _allow(role: iam.Role, actions: Sequence[str], resource: str, *, partitions: Sequence[str] | None = None) -> None:
    role.add_to_policy(_statement(actions, [resource], partitions=partitions))


def _payloads(storage: Storage, role: iam.Role, reason: str, allowed: Mapping[str, Sequence[str]]) -> None:
    """Leave for objects under the given key patterns: in a policy of its own, so that the reason covers these
    wildcards only and not what a user adds to the role."""
    statements = [_statement(actions, [storage.bucket.arn_for_objects(keys)]) for keys, actions in allowed.items()]
    policy = iam.Policy(role, "Payloads", roles=[role], statements=statements)
    explain_keys(policy, storage.bucket, allowed, reason)


def _statement(
    actions: Sequence[str], resources: Sequence[str], *, partitions: Sequence[str] | None = None
) -> iam.PolicyStatement:
    # Every one of the granted actions names a partition key, so there is no request in which "for all values" holds
    # for none.
    fence = {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": list(partitions)}} if partitions else None
    return iam.PolicyStatement(actions=list(actions), resources=list(resources), conditions=fence)


def _use_key(storage: Storage, role: iam.Role, *services: str) -> None:
    if storage.key is not None:
        role.add_to_policy(_key_statement(storage, *services))


def _key_statement(storage: Storage, *services: str) -> iam.PolicyStatement:
    """Leave to use the customer's key, but only through the services that hold Stepwell's data."""
    assert storage.key is not None
    region = Stack.of(storage.table).region
    return iam.PolicyStatement(
        actions=["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:DescribeKey"],
        resources=[storage.key.key_arn],
        conditions={"StringEquals": {"kms:ViaService": [f"{service}.{region}.amazonaws.com" for service in services]}},
    )
