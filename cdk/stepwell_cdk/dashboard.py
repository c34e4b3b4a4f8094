"""One CloudWatch page: is the queue flowing, are the Lambdas well, what do the workers do."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from stepwell_cdk.metrics import failed_runs
from stepwell_cdk.storage import Storage

_MINUTE = cdk.Duration.minutes(1)
_WIDTH = 8


class Dashboard(Construct):
    """The dashboard of one Stepwell. Apps in the same stack add a row of their own."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        storage: Storage,
        functions: Mapping[str, lambda_.Function],
        name: str | None,
    ) -> None:
        super().__init__(scope, id)
        self.page = cloudwatch.Dashboard(self, "Page", dashboard_name=name, default_interval=cdk.Duration.hours(3))
        queue, dead_letters, table = storage.queue, storage.dead_letters, storage.table
        self.page.add_widgets(
            _graph(
                "Main queue: messages",
                queue.metric_number_of_messages_sent(period=_MINUTE, label="in"),
                queue.metric_number_of_messages_deleted(period=_MINUTE, label="done"),
                queue.metric_approximate_number_of_messages_visible(period=_MINUTE, label="waiting"),
            ),
            _graph(
                "Main queue: age of the oldest message, seconds",
                queue.metric_approximate_age_of_oldest_message(period=_MINUTE, statistic="Maximum", label="age"),
            ),
            _graph(
                "Dead letters",
                dead_letters.metric_approximate_number_of_messages_visible(
                    period=_MINUTE, statistic="Maximum", label="dead letters"
                ),
            ),
        )
        self.page.add_widgets(
            _graph("Invocations", *(_of(function.metric_invocations, name) for name, function in functions.items())),
            _graph("Errors", *(_of(function.metric_errors, name) for name, function in functions.items())),
            _graph(
                "Duration p99, ms",
                *(
                    function.metric_duration(period=_MINUTE, statistic="p99", label=name)
                    for name, function in functions.items()
                ),
            ),
        )
        self.page.add_widgets(
            _graph(
                "Table: units consumed",
                table.metric_consumed_write_capacity_units(period=_MINUTE, label="write"),
                table.metric_consumed_read_capacity_units(period=_MINUTE, label="read"),
            ),
            _graph(
                "Table: throttles",
                table.metric("WriteThrottleEvents", period=_MINUTE, statistic="Sum", label="write"),
                table.metric("ReadThrottleEvents", period=_MINUTE, statistic="Sum", label="read"),
            ),
            _graph(
                "Lost races (normal; a flood of them is not)",
                table.metric(
                    "ConditionalCheckFailedRequests", period=_MINUTE, statistic="Sum", label="refused conditions"
                ),
            ),
        )

    def add_app(self, app_id: str, workers: Mapping[str, lambda_.Function]) -> None:
        """A row about an app: its failed runs, its workers' invocations and errors."""
        self.page.add_widgets(
            _graph(f"{app_id}: failed runs", failed_runs(app_id, period=_MINUTE)),
            _graph(
                f"{app_id}: invocations", *(_of(worker.metric_invocations, name) for name, worker in workers.items())
            ),
            _graph(f"{app_id}: crashes", *(_of(worker.metric_errors, name) for name, worker in workers.items())),
        )


def _of(metric: Callable[..., cloudwatch.Metric], label: str) -> cloudwatch.Metric:
    return metric(period=_MINUTE, statistic="Sum", label=label)


def _graph(title: str, *metrics: cloudwatch.IMetric) -> cloudwatch.GraphWidget:
    return cloudwatch.GraphWidget(
        title=title, left=list(metrics), width=_WIDTH, left_y_axis=cloudwatch.YAxisProps(min=0)
    )
