"""Whether what moves is there and moves: Lambdas, the event source, the sweeper's schedule."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from stepwell.cli.doctor.patient import Finding, Patient, ok, problem, unknown, warning
from stepwell.cli.words import several
from stepwell.client import OUTPUTS

ENGINE = ("ConsumerName", "OrchestratorName", "SweeperName", "RegistrarName")
"""The outputs that name the engine's Lambdas."""
SWEPT_WITHIN = timedelta(minutes=10)
"""CloudWatch is up to a few minutes behind, and a sweep comes every minute."""
PARTIAL = "ReportBatchItemFailures"
NO_STACK = "without --stack it is not known which Lambdas belong to this Stepwell"
DEPLOY = "Deploy the stack again: `cdk deploy`."


def outputs(patient: Patient) -> Iterator[Finding]:
    """The stack says where everything is."""
    if patient.stack is None:
        yield warning("Only the environment was looked at, which names queue, table and bucket.", "Pass --stack NAME.")
        return
    missing = [name for name in (*OUTPUTS, *ENGINE) if name not in patient.outputs]
    if missing:
        yield problem(
            f"The stack has no output {', '.join(missing)}, so what it names cannot be found.",
            "Deploy it with this release, and without outputs=False.",
        )
    else:
        yield ok(f"The stack {patient.stack} names all its parts.")


def lambdas(patient: Patient) -> Iterator[Finding]:
    """The engine's Lambdas and the workers are there, active, and may run."""
    names = {name.removesuffix("Name").lower(): patient.outputs[name] for name in ENGINE if name in patient.outputs}
    if not names:
        yield unknown(NO_STACK)
    for app in patient.ports.store.apps.current()[0].values():
        names |= {f"worker {app.id}/{compute}": arn for compute, arn in app.workers.items()}
    for label, name in names.items():
        yield from _lambda(patient, label, name)


def _lambda(patient: Patient, label: str, name: str) -> Iterator[Finding]:
    client = patient.clients("lambda")
    try:
        configuration = client.get_function_configuration(FunctionName=name)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
        yield problem(f"The {label} ({name}) does not exist.", DEPLOY)
        return
    state, update = configuration.get("State", "Active"), configuration.get("LastUpdateStatus", "Successful")
    if state in ("Failed", "Inactive") or update == "Failed":
        why = configuration.get("StateReason") or configuration.get("LastUpdateStatusReason") or "no reason is given"
        yield problem(f"The {label} is {state.lower()}, its last update {update.lower()}: {why}.", DEPLOY)
    elif state == "Pending" or update == "InProgress":
        yield warning(f"The {label} is being deployed.", "Look again when the deployment is over.")
    else:
        yield ok(f"The {label} is active.")
    if client.get_function_concurrency(FunctionName=name).get("ReservedConcurrentExecutions") == 0:
        yield problem(
            f"The {label} has a reserved concurrency of 0: it never runs.",
            f"If it was stopped on purpose, let it go on: aws lambda delete-function-concurrency --function-name {name}",
        )


def source(patient: Patient) -> Iterator[Finding]:
    """The main queue feeds the consumer, record by record."""
    consumer = patient.outputs.get("ConsumerName")
    if consumer is None:
        yield unknown(NO_STACK)
        return
    arn = patient.queue_attributes(patient.ports.config.queue_url)["QueueArn"]
    mappings = patient.clients("lambda").list_event_source_mappings(FunctionName=consumer)["EventSourceMappings"]
    ours: list[dict[str, Any]] = [mapping for mapping in mappings if mapping.get("EventSourceArn") == arn]
    if not ours:
        yield problem("No event source mapping leads from the main queue to the consumer: no event is handled.", DEPLOY)
    for mapping in ours:
        if mapping.get("State") in ("Enabled", "Updating", "Enabling"):
            yield ok("The consumer takes events from the main queue.")
        else:
            yield problem(
                f"The event source mapping is {str(mapping.get('State')).lower()}: events wait in the queue.",
                f"Enable it: aws lambda update-event-source-mapping --enabled --uuid {mapping.get('UUID')}",
            )
        if PARTIAL not in mapping.get("FunctionResponseTypes", []):
            yield problem(
                f"The event source mapping lacks {PARTIAL}: the answers for single records are not read, so failed "
                "events count as handled and are lost.",
                DEPLOY,
            )


def schedule(patient: Patient) -> Iterator[Finding]:
    """The sweeper is invoked every minute."""
    sweeper = patient.outputs.get("SweeperName")
    if sweeper is None:
        yield unknown(NO_STACK)
        return
    arn = patient.clients("lambda").get_function_configuration(FunctionName=sweeper)["FunctionArn"]
    events = patient.clients("events")
    rules = [events.describe_rule(Name=name) for name in events.list_rule_names_by_target(TargetArn=arn)["RuleNames"]]
    if not rules:
        yield problem("No rule invokes the sweeper: overdue runs, cron and long waits stand still.", DEPLOY)
    elif not any(rule.get("State", "").startswith("ENABLED") for rule in rules):
        yield problem(
            f"The rule {rules[0]['Name']} is disabled: overdue runs, cron and long waits stand still.",
            f"Enable it: aws events enable-rule --name {rules[0]['Name']}",
        )
    else:
        yield ok("A rule invokes the sweeper.")


def swept(patient: Patient) -> Iterator[Finding]:
    """It has swept lately, and without errors."""
    sweeper = patient.outputs.get("SweeperName")
    if sweeper is None:
        yield unknown(NO_STACK)
        return
    sums = {metric: _sum(patient, sweeper, metric) for metric in ("Invocations", "Errors", "Throttles")}
    if not sums["Invocations"]:
        throttled = f" It was throttled {several(round(sums['Throttles']), 'time')}." if sums["Throttles"] else ""
        yield problem(
            f"The sweeper has not run in the last {SWEPT_WITHIN.seconds // 60} minutes.{throttled}",
            "A stack younger than that needs a little time. Otherwise: its rule, its permission to be invoked, and "
            "the account's concurrency.",
        )
    elif sums["Errors"]:
        yield problem(
            f"{sums['Errors']:.0f} of the last {sums['Invocations']:.0f} sweeps failed.",
            f"Look at the sweeper's log: aws logs tail --since 10m $(aws lambda get-function-configuration "
            f"--function-name {sweeper} --query LoggingConfig.LogGroup --output text)",
        )
    else:
        runs = several(round(sums["Invocations"]), "time")
        yield ok(f"The sweeper has run {runs} in the last {SWEPT_WITHIN.seconds // 60} minutes.")


def _sum(patient: Patient, function: str, metric: str) -> float:
    end = datetime.fromtimestamp(patient.now, UTC)
    points = patient.clients("cloudwatch").get_metric_statistics(
        Namespace="AWS/Lambda",
        MetricName=metric,
        Dimensions=[{"Name": "FunctionName", "Value": function}],
        StartTime=end - SWEPT_WITHIN,
        EndTime=end,
        Period=60,
        Statistics=["Sum"],
    )["Datapoints"]
    return float(sum(point["Sum"] for point in points))
