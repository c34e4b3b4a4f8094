"""``StepwellApp``: a user's app on a Stepwell. Workers, packaging, registration, and what the user's code may do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from stepwell.ids import APP_ID, COMPUTE_CLASS
from stepwell_cdk import access
from stepwell_cdk.alarms import Watch, watch_failures, watch_worker
from stepwell_cdk.app_id import read_app_id
from stepwell_cdk.bundling import worker_recipe
from stepwell_cdk.functions import Network
from stepwell_cdk.platform import Platform
from stepwell_cdk.stepwell import Stepwell
from stepwell_cdk.worker import ComputeClass, Worker

DEFAULT = "default"
"""The compute class every app has: for functions that name none, and to say at deployment what the app holds."""

REGISTRATION_TIMEOUT = cdk.Duration.minutes(5)
"""How long CloudFormation waits for the registrar; without it, an hour."""


class StepwellApp(Construct):
    """The app ``app`` (``"module:name"``) in the directory ``code``, run by one worker Lambda for each compute class.

    compute: compute classes by name (default: ``{"default": ComputeClass()}``).
    requirements: a requirements.txt, a pyproject.toml, or the lines themselves (default: whichever ``code`` holds).
    into: the package that ``code`` itself is, if its modules are imported as ``into.module``. exclude: name
    patterns left out.
    services: the AWS services your code calls (``["sns"]``), if boto3 may forget all others: 25 MB less to load.
    app_id: the app's id, if it cannot be read from its source (see ``app_id.py``).
    environment: variables of all workers. Secrets do not belong here: keep an ARN, and read the secret with
    ``role``'s leave.
    platform: another Python version or processor than the Stepwell's, if a dependency needs it.
    network: a VPC the workers run in. They need a way to DynamoDB, SQS, S3 and Lambda there (endpoints or NAT), and to SSM
    if functions make callbacks.
    packed: the workers' code, if you pack it yourself; ``app_id`` is then needed.

    ``role`` is the workers' role: what your steps may do goes there (``topic.grant_publish(app.role)``).
    Raises ``ValueError`` for an app id, compute class or requirement that cannot be.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        stepwell: Stepwell,
        app: str,
        code: str | Path | None = None,
        compute: Mapping[str, ComputeClass] | None = None,
        requirements: Path | str | Sequence[str] | None = None,
        into: str = "",
        exclude: Sequence[str] = (),
        services: Sequence[str] | None = None,
        app_id: str | None = None,
        environment: Mapping[str, str] | None = None,
        platform: Platform | None = None,
        network: Network | None = None,
        packed: lambda_.Code | None = None,
    ) -> None:
        super().__init__(scope, id)
        classes = compute or {DEFAULT: ComputeClass()}
        if DEFAULT not in classes:
            raise ValueError(f"compute has no class {DEFAULT!r}: functions that name no class need one")
        for name in classes:
            if not COMPUTE_CLASS.fullmatch(name):
                raise ValueError(
                    f"compute has a class {name!r}: a name is letters, digits, '-', '_' and '.', at most 48 characters"
                )
        self.platform = platform or stepwell.platform
        if packed is None:
            if code is None:
                raise ValueError("give code=, your app's directory, or packed=, the Lambda code you packed yourself")
            place = Path(code)
            packed = worker_recipe(
                place, self.platform, requirements=requirements, into=into, exclude=exclude, services=services
            ).code()
            app_id = app_id or read_app_id(place, app, into=into)
        if app_id is None or not APP_ID.fullmatch(app_id):
            raise ValueError(
                f"app_id={app_id!r} cannot be an app's id: lower-case letters, digits and - (packed= needs one)"
            )
        self.app_id = app_id
        self.stepwell = stepwell
        self.role = stepwell.house.role(self, "Role", f"The workers of the Stepwell app {app_id}", network=network)
        access.of_worker(stepwell.storage, self.role, app_id)
        variables = {**stepwell.environment, "STEPWELL_APP": app, **(environment or {})}
        self._workers = {
            name: Worker(
                self,
                f"Worker-{name}",
                compute=size,
                role=self.role,
                code=packed,
                environment=variables,
                description=f"Stepwell: runs the functions of the app {app_id}, compute class {name}",
                stepwell=stepwell,
                house=replace(stepwell.house, platform=self.platform),
                network=network,
            )
            for name, size in classes.items()
        }
        self.registration = self._register()
        self._observe()

    @property
    def workers(self) -> Mapping[str, lambda_.Function]:
        """The worker Lambdas by compute class."""
        return {name: worker.function for name, worker in self._workers.items()}

    def grant_send(self, grantee: iam.IGrantable) -> None:
        """Let ``grantee`` send events to the main queue. They are offered to all apps of the Stepwell."""
        self.stepwell.grant_send(grantee)

    def _register(self) -> cdk.CustomResource:
        """Have the registrar ask the default worker for its manifest, at each deployment that changed the workers.

        A worker that cannot be imported fails the deployment here, with its traceback, before any event reaches it.
        """
        workers = {name: worker.function_arn for name, worker in self.workers.items()}
        registration = cdk.CustomResource(
            self,
            "Registration",
            resource_type="Custom::StepwellApp",
            service_token=self.stepwell.registrar.function.function_arn,
            service_timeout=REGISTRATION_TIMEOUT,
            properties={"AppId": self.app_id, "Workers": workers, "Revision": self._revision()},
        )
        # Asked only when it may run and be asked: its permissions, its failure destination and its callers are in
        # place. And at removal the app is unregistered before its workers go.
        registration.node.add_dependency(self.role, *self._workers.values())
        return registration

    def _revision(self) -> str:
        """A digest of what could change the manifest: CloudFormation calls the registrar only if a property changed."""
        stack = cdk.Stack.of(self)
        parts = []
        for worker in self._workers.values():
            resource = worker.function.node.default_child
            assert isinstance(resource, lambda_.CfnFunction)
            parts += [stack.resolve(resource.code), resource.runtime, stack.resolve(worker.environment)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _observe(self) -> None:
        """Alarms, outputs with the workers' names, and a row on the dashboard if that stands in the same stack."""
        self.watch = Watch(self, "Alarms", actions=self.stepwell.alarm_actions)
        for name, worker in self.workers.items():
            watch_worker(self.watch, f"Worker-{name}", worker)
        watch_failures(self.watch, self.app_id)
        if cdk.Stack.of(self) is cdk.Stack.of(self.stepwell):
            self.stepwell.dashboard.add_app(self.app_id, self.workers)
        for name, worker in self.workers.items():
            cdk.CfnOutput(
                self,
                f"WorkerName-{name}",
                value=worker.function_name,
                description=f"The app {self.app_id}, compute class {name}",
            )
