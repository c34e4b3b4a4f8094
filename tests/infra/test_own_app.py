"""Stepwell in somebody else's CDK app: the code that docs/deploying.md shows, synthesized."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import aws_cdk as cdk
import pytest

from docs.snippets import deploying
from stepwell_cdk import Stepwell

from .conftest import QUICK, Template, synthesize
from .policies import allowed, statements_of
from .test_nag import findings

ROOT = Path(__file__).resolve().parents[2]
UNPACKED = {"aws:cdk:bundling-stacks": []}
"""What the `cdk` command says about stacks that it only lists: their code is not packed."""


@pytest.fixture(autouse=True)
def _at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("shop", "crm", "clinic"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "app.py").write_text(f'from stepwell import Stepwell\n\napp = Stepwell("{name}")\n')
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def website() -> Template:
    return synthesize(lambda app: deploying.Website(app, "website") and None, context=UNPACKED)["website"]


def test_it_takes_ten_lines_in_an_app_that_was_there_before(website: Template) -> None:
    source = (ROOT / "docs" / "snippets" / "deploying.py").read_text(encoding="utf-8")
    new = source[source.index("# New: Stepwell") : source.index("# [end]")].strip().splitlines()[1:]
    imports = [line for line in source.splitlines() if line.startswith("from stepwell_cdk")]
    assert len(new) + len(imports) <= 10
    assert len(website.of_type("Custom::StepwellApp")) == 1


def test_the_site_may_send_events_and_do_nothing_else(website: Template) -> None:
    queue = website.id("AWS::SQS::Queue", "StepwellQueue")
    bucket = website.id("AWS::S3::Bucket", "StepwellBucket")
    granted = statements_of(website, "Site")
    assert {action for statement in granted for action in statement.actions} == {"sqs:SendMessage", "s3:PutObject"}
    assert allowed(granted, "sqs:SendMessage", f"{queue}.Arn")
    assert allowed(granted, "s3:PutObject", f"{bucket}.Arn/events/e-1/x")
    assert not allowed(granted, "s3:PutObject", f"{bucket}.Arn/shop/x")


def test_what_the_steps_may_do_stands_on_the_apps_role(website: Template) -> None:
    receipts = website.id("AWS::S3::Bucket", "Receipts")
    assert allowed(statements_of(website, "ShopRole"), "s3:PutObject", f"{receipts}.Arn/r-1.pdf")
    assert not allowed(statements_of(website, "StepwellOrchestratorRole"), "s3:PutObject", f"{receipts}.Arn/r-1.pdf")


def test_only_the_workers_of_the_app_may_use_the_key_of_its_values() -> None:
    def build(app: cdk.App) -> None:
        stack = cdk.Stack(app, "clinic")
        deploying.with_encrypted_values(stack, Stepwell(stack, "Stepwell"))

    made = synthesize(build, context=UNPACKED)["clinic"]
    key = made.id("AWS::KMS::Key", "Values")
    for action in ("kms:GenerateDataKey", "kms:Decrypt"):
        assert allowed(statements_of(made, "ClinicRole"), action, f"{key}.Arn")
        assert not allowed(statements_of(made, "StepwellOrchestratorRole"), action, f"{key}.Arn")
    assert not allowed(statements_of(made, "ClinicRole"), "kms:Encrypt", f"{key}.Arn")


def test_two_apps_share_one_stepwell_from_stacks_of_their_own() -> None:
    made = synthesize(deploying.two_apps, context=UNPACKED)
    for name in ("shop", "crm"):
        assert made[name].only("Custom::StepwellApp")["AppId"] == name
        partitions = [it.partitions for it in statements_of(made[name], "AppRole") if it.partitions]
        assert all(name in pattern for patterns in partitions for pattern in patterns)
    assert "shop" not in json.dumps(made["platform"].body)


def test_the_options_fit_together() -> None:
    def build(app: cdk.App) -> None:
        deploying.with_a_key(cdk.Stack(app, "shop"))

    made = synthesize(build, context=UNPACKED)["shop"]
    assert made.only("AWS::Lambda::EventSourceMapping")["ScalingConfig"] == {"MaximumConcurrency": 50}
    assert all(alarm["AlarmActions"] for alarm in made.of_type("AWS::CloudWatch::Alarm").values())
    (rule,) = made.only("AWS::S3::Bucket")["LifecycleConfiguration"]["Rules"]
    assert rule["ExpirationInDays"] == 490


def test_a_door_and_sources_take_a_line_each() -> None:
    def build(app: cdk.App) -> None:
        deploying.with_a_door(cdk.Stack(app, "shop"))

    made = synthesize(build, context=UNPACKED)["shop"]
    assert made.only("AWS::Lambda::Url")["AuthType"] == "NONE"
    assert len(made.of_type("AWS::SNS::Subscription")) == len(made.of_type("Custom::S3BucketNotifications")) == 1
    assert made.only("AWS::Events::Rule", "StepwellOrders")["EventPattern"] == {"source": ["com.example.shop"]}


class TestRootApp:
    """cdk/app.py, which is a script."""

    @pytest.fixture(scope="class")
    @classmethod
    def deployed(cls) -> Callable[[cdk.App], cdk.Stack]:
        spec = importlib.util.spec_from_file_location("root_app", ROOT / "cdk" / "app.py")
        assert spec is not None
        assert spec.loader is not None
        script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
        return script.deployed

    def synthesized(self, deployed: Callable[[cdk.App], cdk.Stack], **context: str) -> dict[str, Template]:
        return synthesize(lambda app: deployed(app) and None, context={**UNPACKED, **context})

    def test_it_holds_all_examples(self, deployed: Callable[[cdk.App], cdk.Stack]) -> None:
        template = self.synthesized(deployed)["stepwell"]
        ids = {registration["AppId"] for registration in template.of_type("Custom::StepwellApp").values()}
        assert ids == {"shop", "pricing", "debate", "clips", "sermons"}
        assert {"QueueUrl", "TableName"} <= set(template.outputs)

    def test_name_examples_and_platform_are_the_users_choice(self, deployed: Callable[[cdk.App], cdk.Stack]) -> None:
        chosen = {"stack": "mine", "examples": "orders", "python": "3.13", "architecture": "x86_64"}
        template = self.synthesized(deployed, **chosen)["mine"]
        assert len(template.of_type("Custom::StepwellApp")) == 1
        for function in template.of_type("AWS::Lambda::Function").values():
            assert (function["Runtime"], function["Architectures"]) == ("python3.13", ["x86_64"])

    def test_the_door_is_closed_unless_it_is_asked_for(self, deployed: Callable[[cdk.App], cdk.Stack]) -> None:
        assert "ApiUrl" not in self.synthesized(deployed, examples="orders")["stepwell"].outputs
        opened = self.synthesized(deployed, examples="debate", webhooks="on")["stepwell"]
        assert "ApiUrl" in opened.outputs
        worker = opened.only("AWS::Lambda::Function", "DebateWorker")
        assert "STEPWELL_API_URL" in worker["Environment"]["Variables"]

    def test_an_example_that_does_not_exist_is_named(self, deployed: Callable[[cdk.App], cdk.Stack]) -> None:
        with pytest.raises(ValueError, match="no examples bakery"):
            self.synthesized(deployed, examples="orders,bakery")

    def test_the_rule_packs_find_nothing_in_it(self, deployed: Callable[[cdk.App], cdk.Stack]) -> None:
        assert findings(lambda app: deployed(app) and None, context=UNPACKED) == set()

    def test_it_is_synthesized_without_credentials_and_without_docker(self, tmp_path: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        context = {**QUICK, **UNPACKED, "examples": "orders"}
        environment |= dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull)
        environment |= {
            "AWS_EC2_METADATA_DISABLED": "true",
            "DOCKER_HOST": "unix:///nowhere",
            "CDK_OUTDIR": str(tmp_path / "out"),
        }
        environment["CDK_CONTEXT_JSON"] = json.dumps(context)
        command = [sys.executable, str(ROOT / "cdk" / "app.py")]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "out" / "stepwell.template.json").is_file()
