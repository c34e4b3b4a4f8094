"""What must wake somebody up. Each alarm says in its description what happened; docs/operations.md says what to do."""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from stepwell_cdk.api import UNUSABLE, Api
from stepwell_cdk.engine import Consumer, Orchestrator, Sweeper
from stepwell_cdk.metrics import NAMESPACE, failed_runs
from stepwell_cdk.storage import Storage

OLD_MESSAGE = cdk.Duration.minutes(30)
"""The age of the oldest message in the main queue at which somebody should look. A wake-up posted ahead is up to 15
minutes old when it arrives, and a message that failed comes back after up to as long: below that, age means
nothing."""

OLD_ASYNC_EVENT = cdk.Duration.seconds(30)
"""How long a dispatch may wait for its worker. After 60 s Lambda drops it, and the run is dispatched anew."""

_BREACH = cloudwatch.TreatMissingData.BREACHING
_CALM = cloudwatch.TreatMissingData.NOT_BREACHING
_SHORT = cdk.Duration.minutes(1)
_LONG = cdk.Duration.minutes(5)


class Watch(Construct):
    """A set of alarms with the same actions, by name in ``alarms``."""

    def __init__(self, scope: Construct, id: str, *, actions: Sequence[cloudwatch.IAlarmAction]) -> None:
        super().__init__(scope, id)
        self.alarms: dict[str, cloudwatch.Alarm] = {}
        self._actions = tuple(actions)

    def add(
        self,
        id: str,
        description: str,
        metric: cloudwatch.IMetric,
        *,
        threshold: float,
        periods: int = 1,
        below: bool = False,
        missing: cloudwatch.TreatMissingData = _CALM,
    ) -> cloudwatch.Alarm:
        """Alarm if ``metric`` is at or above ``threshold`` (``below``: under it) ``periods`` times in a row."""
        operator = cloudwatch.ComparisonOperator
        alarm = cloudwatch.Alarm(
            self,
            id,
            alarm_description=f"Stepwell: {description}",
            metric=metric,
            threshold=threshold,
            evaluation_periods=periods,
            comparison_operator=operator.LESS_THAN_THRESHOLD if below else operator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            treat_missing_data=missing,
        )
        for action in self._actions:
            alarm.add_alarm_action(action)
            alarm.add_ok_action(action)
        self.alarms[id] = alarm
        return alarm


def watch_engine(
    watch: Watch, *, storage: Storage, consumer: Consumer, orchestrator: Orchestrator, sweeper: Sweeper
) -> None:
    """The alarms of the queues, the table and the engine's Lambdas."""
    watch.add(
        "DeadLettersNotEmpty",
        "an event could not be handled and lies in the dead-letter queue, with the reason beside it",
        storage.dead_letters.metric_approximate_number_of_messages_visible(period=_SHORT, statistic="Maximum"),
        threshold=1,
    )
    watch.add(
        "OldestMessage",
        f"events wait in the main queue for more than {OLD_MESSAGE.to_minutes()} minutes",
        storage.queue.metric_approximate_age_of_oldest_message(period=_SHORT, statistic="Maximum"),
        threshold=OLD_MESSAGE.to_seconds(),
        periods=3,
    )
    for name, function in [
        ("Consumer", consumer.function),
        ("Orchestrator", orchestrator.function),
        ("Sweeper", sweeper.function),
    ]:
        watch_function(watch, name, function)
    for operation, title in [("Read", "reads"), ("Write", "writes")]:
        watch.add(
            f"Table{operation}sThrottled",
            f"DynamoDB throttles {title} of the table",
            storage.table.metric(f"{operation}ThrottleEvents", period=_SHORT, statistic="Sum"),
            threshold=1,
            periods=3,
        )
    watch.add(
        "SweepMissed",
        "no sweep for five minutes: overdue runs, cron and long waits stand still",
        sweeper.function.metric_invocations(period=_LONG, statistic="Sum"),
        threshold=1,
        below=True,
        missing=_BREACH,
    )


def watch_door(watch: Watch, api: Api) -> None:
    """The alarms of the webhook door."""
    watch_function(watch, "Api", api.function)
    watch.add(
        "WebhooksUnusable",
        "genuine webhooks could not be made into events, or a secret cannot be read; the reasons are in the door's log",
        cloudwatch.Metric(namespace=NAMESPACE, metric_name=UNUSABLE, statistic="Sum", period=_LONG),
        threshold=1,
    )


def watch_worker(watch: Watch, name: str, function: lambda_.Function) -> None:
    """The alarms of one worker Lambda: errors, throttles, and dispatches that wait or are dropped."""
    watch_function(watch, name, function)
    watch.add(
        f"{name}DispatchesWait",
        f"dispatches wait for the worker {name} for more than {OLD_ASYNC_EVENT.to_seconds()} seconds",
        function.metric("AsyncEventAge", period=_SHORT, statistic="Maximum"),
        threshold=OLD_ASYNC_EVENT.to_milliseconds(),
        periods=3,
    )
    watch.add(
        f"{name}DispatchesDropped",
        f"dispatches of the worker {name} were dropped (throttled for a minute); their runs are dispatched anew",
        function.metric("AsyncEventsDropped", period=_LONG, statistic="Sum"),
        threshold=1,
    )


def watch_failures(watch: Watch, app_id: str) -> None:
    """The alarm for runs of an app that ended as failed."""
    watch.add(
        "RunsFailed",
        f"runs of the app {app_id} failed. Look: stepwell runs list --status failed",
        failed_runs(app_id, period=_LONG),
        threshold=1,
    )


def watch_function(watch: Watch, name: str, function: lambda_.Function) -> None:
    """The alarms every Lambda has: invocations that ended in an error, and that were throttled."""
    watch.add(
        f"{name}Errors", f"invocations of the {name.lower()} end in an error",
        function.metric_errors(period=_LONG, statistic="Sum"), threshold=1,
    )  # fmt: skip
    watch.add(
        f"{name}Throttles", f"invocations of the {name.lower()} are throttled",
        function.metric_throttles(period=_SHORT, statistic="Sum"), threshold=1, periods=3,
    )  # fmt: skip
