"""The stack of README and getting-started, synthesized; and how events are sent to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stepwell import Client
from stepwell.testing import LocalStepwell
from tests.infra.conftest import inline, synthesize

pytestmark = pytest.mark.filterwarnings("default")


class Packed:
    """Code that needs no packing: packing is tested elsewhere."""

    def __init__(self, *_: Any, **__: Any) -> None:
        return None

    def code(self) -> Any:
        return inline()


def test_the_stack_has_a_worker_of_each_class_for_the_app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import stepwell_cdk.app
    import stepwell_cdk.stepwell
    from docs.snippets.deployment import Shop

    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "app.py").write_text('from stepwell import Stepwell\n\napp = Stepwell("shop")\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stepwell_cdk.app, "worker_recipe", Packed)
    monkeypatch.setattr(stepwell_cdk.stepwell, "engine_code", lambda *_, **__: inline())

    def build(app: Any) -> None:
        Shop(app, "shop")

    template = synthesize(build)["shop"]

    workers = [
        function
        for function in template.of_type("AWS::Lambda::Function").values()
        if function.get("Environment", {}).get("Variables", {}).get("STEPWELL_APP")
    ]
    assert {worker["Environment"]["Variables"]["STEPWELL_APP"] for worker in workers} == {"app:app"}
    assert sorted(worker["MemorySize"] for worker in workers) == [1024, 4096]


def test_every_alarm_goes_to_the_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    import stepwell_cdk.stepwell
    from docs.snippets.deployment import Watched

    monkeypatch.setattr(stepwell_cdk.stepwell, "engine_code", lambda *_, **__: inline())

    def build(app: Any) -> None:
        Watched(app, "watched")

    template = synthesize(build)["watched"]
    topic = {"Ref": template.id("AWS::SNS::Topic")}
    alarms = template.of_type("AWS::CloudWatch::Alarm").values()
    assert alarms
    assert all(alarm["AlarmActions"] == [topic] for alarm in alarms)


def test_a_client_of_the_stack_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    from docs.snippets import deployment, onboarding

    with LocalStepwell(onboarding.app) as local:
        monkeypatch.setattr(Client, "from_stack", lambda name: local.client)
        deployment.send()
        local.run_until_idle()
        (event,) = local.client.events(name="user/signed-up")
        assert len(local.client.runs_of_event(event.id)) == 2
