"""Logical ids are a promise: if one changes, CloudFormation makes a new, empty resource and lets go of the old one.

A change of any id below is a change that loses somebody's state or messages. It must not happen with an upgrade.
"""

from __future__ import annotations

import pytest

from .conftest import Template

STATEFUL = {
    "StepwellTable0EF42FC2": "AWS::DynamoDB::Table",
    "StepwellBucketBE56DE7B": "AWS::S3::Bucket",
    "StepwellQueueF2248837": "AWS::SQS::Queue",
    "StepwellDeadLetters9A3D2189": "AWS::SQS::Queue",
}

FUNCTIONS = {
    "StepwellConsumerFunction4C01FFC7",
    "StepwellOrchestratorFunctionD4FD6DCD",
    "StepwellSweeperFunction71972FA1",
    "StepwellRegistrarFunctionF0CDE628",
    "ShopWorkerdefaultFunction12A29368",
    "ShopWorkerlargeFunctionE4569A4C",
}


@pytest.mark.parametrize(("id", "kind"), STATEFUL.items())
def test_what_holds_state_keeps_its_logical_id(platform: Template, id: str, kind: str) -> None:
    assert platform.resources[id]["Type"] == kind


def test_nothing_else_holds_state(platform: Template) -> None:
    kinds = set(STATEFUL.values())
    assert {id for id, resource in platform.resources.items() if resource["Type"] in kinds} == set(STATEFUL)


def test_functions_keep_their_logical_ids(platform: Template) -> None:
    assert set(platform.of_type("AWS::Lambda::Function")) == FUNCTIONS


def test_the_registration_keeps_its_logical_id(platform: Template) -> None:
    assert set(platform.of_type("Custom::StepwellApp")) == {"ShopRegistration839450A3"}


def test_outputs_keep_their_names(platform: Template) -> None:
    names = {"QueueUrl", "DeadLetterQueueUrl", "TableName", "BucketName", "OrchestratorName", "ConsumerName"}
    assert names | {"SweeperName", "RegistrarName"} <= set(platform.outputs)
