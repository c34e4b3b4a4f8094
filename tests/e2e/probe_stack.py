"""The CDK app of somebody who puts an app of their own beside the deployed root app: `cdk deploy --app "python <this>" probe`.

Context: `code`, the directory of the app's code, besides what the root app takes.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_sns as sns

from stepwell_cdk import ComputeClass, StepwellApp

ROOT_APP = Path(__file__).resolve().parents[2] / "cdk" / "app.py"


def root_app() -> ModuleType:
    """cdk/app.py, which is a script and not part of a package."""
    spec = importlib.util.spec_from_file_location("root_app", ROOT_APP)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Synthesize the root stack and the probe's."""
    app = cdk.App()
    platform = root_app().deployed(app)
    probe = cdk.Stack(app, "probe")
    pattern = events.EventPattern(source=["probe"])
    platform.stepwell.add_event_rule("Probed", event_pattern=pattern, scope=probe)
    topic = sns.Topic(probe, "Topic")
    platform.stepwell.add_topic_subscription("Told", topic, scope=probe)
    cdk.CfnOutput(probe, "TopicArn", value=topic.topic_arn)
    StepwellApp(
        probe,
        "Probe",
        stepwell=platform.stepwell,
        code=app.node.get_context("code"),
        app="probe:app",
        compute={"default": ComputeClass(timeout=cdk.Duration.seconds(60))},
    )
    app.synth()


if __name__ == "__main__":
    main()
