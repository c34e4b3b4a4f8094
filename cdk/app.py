"""The root app: Stepwell and its example apps in one stack. ``cdk deploy`` in an empty account brings up all of it.

Context (``cdk deploy -c name=value``):

    stack         the stack's name, which ``Client.from_stack`` and ``stepwell --stack`` take   (default: stepwell)
    examples      which example apps, by directory, separated by commas                         (default: all)
    python        the Python version of the Lambdas                                             (default: 3.14)
    architecture  arm64 or x86_64                                                               (default: arm64)
    webhooks      on: with a public URL for events by key and answers to callbacks               (default: off)

An emulator that runs handlers on this machine's own interpreter needs ``-c python=local``: all is then packed for it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns
from constructs import Construct

from stepwell_cdk import ComputeClass, Platform, Stepwell, StepwellApp, Webhooks
from stepwell_cdk.findings import explain, explain_keys

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PACKAGE = "stepwell_examples"

PLAIN = ("orders", "pricing_sync", "debate")
"""Examples that need nothing but Stepwell. They share one zip."""

MEDIA = ("clips", "sermons")
"""Examples that work on films and sound. They share another zip, with what they need for it."""

MEDIA_REQUIREMENTS = ("imageio-ffmpeg==0.8.1", "pocketsphinx==5.1.1")
MEDIA_PYTHON = "3.13"
"""The newest Python that the speech recogniser publishes wheels for."""

LARGE = ComputeClass(memory=3008, timeout=cdk.Duration.minutes(15), ephemeral_storage=cdk.Size.gibibytes(4))
"""Two processors. New AWS accounts are given no more than 3008 MB."""


class Examples(cdk.Stack):
    """Stepwell with the example apps in ``chosen`` (names of directories under examples/)."""

    def __init__(
        self, scope: Construct, id: str, *, platform: Platform, chosen: Collection[str], webhooks: bool = False
    ) -> None:
        super().__init__(scope, id, description="Stepwell: durable step functions, and its example apps")
        unknown = sorted(set(chosen) - {*PLAIN, *MEDIA})
        if unknown:
            raise ValueError(f"no examples {', '.join(unknown)}: there are {', '.join([*PLAIN, *MEDIA])}")
        self.platform = platform
        self.stepwell = Stepwell(self, "Stepwell", platform=platform, webhooks=Webhooks() if webhooks else None)
        self.apps = {name: self._plain(name) for name in PLAIN if name in chosen}
        if "clips" in chosen:
            self.apps["clips"] = self._clips()
        if "sermons" in chosen:
            self.apps["sermons"] = self._sermons()

    def _plain(self, name: str) -> StepwellApp:
        return StepwellApp(
            self,
            "".join(word.capitalize() for word in name.split("_")),
            stepwell=self.stepwell,
            code=EXAMPLES,
            into=PACKAGE,
            exclude=MEDIA,
            app=f"{PACKAGE}.{name}.app:app",
        )

    def _media(self, id: str, name: str, environment: Mapping[str, str]) -> StepwellApp:
        on_aws = self.platform == replace(Platform(), architecture=self.platform.architecture)
        made = StepwellApp(
            self,
            id,
            stepwell=self.stepwell,
            code=EXAMPLES,
            into=PACKAGE,
            exclude=PLAIN,
            requirements=MEDIA_REQUIREMENTS,
            services=("sns",),  # without the descriptions of all others ffmpeg fits, on x86_64 as well
            app=f"{PACKAGE}.{name}.app:app",
            compute={"default": ComputeClass(memory=2048), "large": LARGE},
            environment=environment,
            platform=replace(self.platform, python=MEDIA_PYTHON) if on_aws else self.platform,
        )
        for worker in made.workers.values():
            reason = f"Python {MEDIA_PYTHON}: the speech recogniser has no wheels for a newer one."
            explain(worker, "AwsSolutions-L1", reason)
            explain(worker, "Serverless-LambdaLatestVersion", reason)
        return made

    def _clips(self) -> StepwellApp:
        files = _files(self, "ClipsFiles")
        records = dynamodb.Table(
            self,
            "ClipsRecords",
            partition_key=dynamodb.Attribute(name="video_id", type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="clip_id", type=dynamodb.AttributeType.STRING),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
        )
        made = self._media("Clips", "clips", {"CLIPS_BUCKET": files.bucket_name, "CLIPS_TABLE": records.table_name})
        _let_use(files, made.role)
        records.grant(made.role, "dynamodb:BatchWriteItem", "dynamodb:Query")
        return made

    def _sermons(self) -> StepwellApp:
        files = _files(self, "SermonsFiles")
        files.add_lifecycle_rule(prefix="pieces/", expiration=cdk.Duration.days(7))
        topic = sns.Topic(self, "SermonsTopic", enforce_ssl=True)
        made = self._media(
            "Sermons", "sermons", {"SERMONS_BUCKET": files.bucket_name, "SERMONS_TOPIC": topic.topic_name}
        )
        _let_use(files, made.role)
        # The example looks its topic up by name, and SNS answers that with CreateTopic.
        made.role.add_to_policy(
            iam.PolicyStatement(actions=["sns:CreateTopic", "sns:Publish"], resources=[topic.topic_arn])
        )
        return made


def _files(scope: Construct, id: str) -> s3.Bucket:
    made = s3.Bucket(
        scope, id, block_public_access=s3.BlockPublicAccess.BLOCK_ALL, enforce_ssl=True, minimum_tls_version=1.2
    )
    explain(made, "AwsSolutions-S1", "An example's working files.")
    return made


def _let_use(files: s3.Bucket, role: iam.Role) -> None:
    """Leave to read and write files, and to list them (without it S3 says "forbidden" where it means "missing")."""
    statements = [
        iam.PolicyStatement(actions=["s3:ListBucket"], resources=[files.bucket_arn]),
        iam.PolicyStatement(actions=["s3:GetObject", "s3:PutObject"], resources=[files.arn_for_objects("*")]),
    ]
    policy = iam.Policy(role, "Files", roles=[role], statements=statements)
    explain_keys(policy, files, ["*"], "The example's own bucket.")


def _platform(app: cdk.App) -> Platform:
    python, architecture = app.node.try_get_context("python"), app.node.try_get_context("architecture")
    if python == "local":
        return Platform.local()
    default = Platform()
    return Platform(python or default.python, architecture or default.architecture)


def deployed(app: cdk.App) -> Examples:
    """The stack that the app's context asks for."""
    chosen = app.node.try_get_context("examples")
    name = app.node.try_get_context("stack") or "stepwell"
    return Examples(
        app,
        name,
        platform=_platform(app),
        chosen=chosen.split(",") if chosen else [*PLAIN, *MEDIA],
        webhooks=app.node.try_get_context("webhooks") == "on",
    )


if __name__ == "__main__":
    root = cdk.App()
    deployed(root)
    root.synth()
