"""A stack with Stepwell and one app: README and getting-started."""

# [stack]
import aws_cdk as cdk
from constructs import Construct

from stepwell_cdk import ComputeClass, Stepwell, StepwellApp


class Shop(cdk.Stack):
    def __init__(self, scope: Construct, id: str) -> None:
        super().__init__(scope, id)
        stepwell = Stepwell(self, "Stepwell")  # queues, table, bucket, Lambdas, alarms, a dashboard
        StepwellApp(
            self,
            "App",
            stepwell=stepwell,
            code="shop",  # the directory
            app="app:app",  # the module in it, and the app's name there
            compute={"default": ComputeClass(), "large": ComputeClass(memory=4096)},
        )


# [end]


class Watched(cdk.Stack):
    """With alarms that go to a topic; docs/operations.md."""

    def __init__(self, scope: Construct, id: str) -> None:
        from aws_cdk import aws_cloudwatch_actions, aws_sns

        super().__init__(scope, id)
        topic = aws_sns.Topic(self, "Topic")
        Stepwell(self, "Stepwell", alarm_actions=[aws_cloudwatch_actions.SnsAction(topic)])


def send() -> None:
    # [send]
    from stepwell import Client

    client = Client.from_stack("stepwell")  # the name of the stack
    client.send("user/signed-up", {"user_id": "u-1", "email": "ada@example.com"})
    # [end]
