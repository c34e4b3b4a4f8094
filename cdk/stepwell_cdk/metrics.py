"""Metrics that AWS does not have by itself, taken from the log lines of the engine.

Whoever ends a run as failed (a worker, or the orchestrator for a run whose worker keeps dying) logs one line with the
fields ``stepwell="run-failed"`` and ``app``. A metric filter counts them: no call to CloudWatch from the engine, and
nothing to pay while no run fails.
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_logs as logs
from constructs import Construct

NAMESPACE = "Stepwell"
RUNS_FAILED = "RunsFailed"


def count_failed_runs(scope: Construct, id: str, log_group: logs.ILogGroup) -> logs.MetricFilter:
    """Count the lines about failed runs in ``log_group``, by app."""
    return logs.MetricFilter(
        scope,
        id,
        log_group=log_group,
        filter_pattern=logs.FilterPattern.string_value("$.stepwell", "=", "run-failed"),
        metric_namespace=NAMESPACE,
        metric_name=RUNS_FAILED,
        metric_value="1",
        dimensions={"App": "$.app"},
    )


def failed_runs(app_id: str, *, period: cdk.Duration) -> cloudwatch.Metric:
    """How many runs of the app ended as failed."""
    return cloudwatch.Metric(
        namespace=NAMESPACE, metric_name=RUNS_FAILED, dimensions_map={"App": app_id}, statistic="Sum", period=period
    )
