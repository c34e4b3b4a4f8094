"""Stepwell in somebody else's CDK app: docs/deploying.md."""

# [existing]
import aws_cdk as cdk
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3

from stepwell_cdk import Stepwell, StepwellApp


class Website(cdk.Stack):
    """A stack that was there before."""

    def __init__(self, scope: cdk.App, id: str) -> None:
        super().__init__(scope, id)
        site = lambda_.Function(
            self,
            "Site",
            runtime=lambda_.Runtime.PYTHON_3_14,
            handler="index.handler",
            code=lambda_.Code.from_inline("def handler(event, context): ..."),
        )
        receipts = s3.Bucket(self, "Receipts")

        # New: Stepwell, and an app on it.
        stepwell = Stepwell(self, "Stepwell")
        shop = StepwellApp(self, "Shop", stepwell=stepwell, code="shop", app="app:app")
        shop.grant_send(site)  # the site may send events
        for name, value in stepwell.environment.items():
            site.add_environment(name, value)  # what Client.from_env() reads there
        receipts.grant_put(shop.role)  # the steps of shop may write receipts


# [end]


def two_apps(app: cdk.App) -> None:
    # [two-apps]
    platform = cdk.Stack(app, "platform")
    stepwell = Stepwell(platform, "Stepwell")
    StepwellApp(cdk.Stack(app, "shop"), "App", stepwell=stepwell, code="shop", app="app:app")
    StepwellApp(cdk.Stack(app, "crm"), "App", stepwell=stepwell, code="crm", app="app:app")
    # [end]


def with_a_key(stack: cdk.Stack) -> None:
    # [options]
    from aws_cdk import aws_cloudwatch_actions as actions
    from aws_cdk import aws_kms as kms
    from aws_cdk import aws_sns as sns

    pager = sns.Topic(stack, "Pager")
    Stepwell(
        stack,
        "Stepwell",
        encryption_key=kms.Key(stack, "Key", enable_key_rotation=True),
        removal_policy=cdk.RemovalPolicy.RETAIN,  # what becomes of the data when the stack goes; this is the default
        retention=cdk.Duration.days(90),  # how long ended runs are kept
        consumer_concurrency=50,
        alarm_actions=[actions.SnsAction(pager)],
    )
    # [end]


def with_a_door(stack: cdk.Stack) -> None:
    # [door]
    from stepwell.webhooks import GitHub, Webhook
    from stepwell_cdk import Webhooks

    sources = [Webhook("github", GitHub(), secret="/stepwell/github")]
    stepwell = Stepwell(stack, "Stepwell", webhooks=Webhooks(sources))
    # [end]
    # [sources]
    from aws_cdk import aws_events as events
    from aws_cdk import aws_sns as sns

    uploads = s3.Bucket(stack, "Uploads")
    stepwell.add_bucket_notification(uploads, s3.EventType.OBJECT_CREATED, prefix="in/", suffix=".csv")
    stepwell.add_event_rule("Orders", event_pattern=events.EventPattern(source=["com.example.shop"]))
    stepwell.add_topic_subscription("Alerts", sns.Topic(stack, "Topic", topic_name="alerts"))
    # [end]


def with_encrypted_values(stack: cdk.Stack, stepwell: Stepwell) -> StepwellApp:
    # [values-key]
    from aws_cdk import aws_kms as kms

    key = kms.Key(stack, "Values", enable_key_rotation=True)
    clinic = StepwellApp(
        stack, "Clinic", stepwell=stepwell, code="clinic", app="app:app", environment={"VALUES_KEY": key.key_arn}
    )
    key.grant(clinic.role, "kms:GenerateDataKey", "kms:Decrypt")
    # [end]
    return clinic
