"""The whole templates, against what they were: every change of what is deployed is seen in review.

`pytest tests/infra/test_snapshot.py --snapshot-update` writes the new ones, once the change is meant.
"""

from __future__ import annotations

import json
import re

import pytest
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.json import JSONSnapshotExtension

from .conftest import Template


def normalised(template: Template) -> dict:
    """The template without what changes with the code or the CDK's version."""
    text = json.dumps(template.body)
    text = re.sub(r"[0-9a-f]{64}", "<hash>", text)
    body: dict = json.loads(text)
    for unstable in ("Parameters", "Rules"):
        body.pop(unstable, None)  # the bootstrap version that this release of the CDK asks for
    return body


@pytest.mark.parametrize("name", ["Platform", "Other"])
def test_the_templates_are_as_they_were(
    deployment: dict[str, Template], name: str, snapshot: SnapshotAssertion
) -> None:
    assert normalised(deployment[name]) == snapshot(name=name, extension_class=JSONSnapshotExtension)
