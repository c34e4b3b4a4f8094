"""The registrar: CloudFormation gets an answer whatever happens; an app is registered, replaced, forgotten or left alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from stepwell.ids import SystemIds
from stepwell.invoker import InvokeFailed
from stepwell.keyring import Keyring, KeyStore
from stepwell.ports import Config, Ports
from stepwell.store.table import TABLE_SPEC
from stepwell_lambdas.registrar import handler
from stepwell_lambdas.registrar.handler import MAX_REASON, PATIENCE, make_handler, readable, shorten

WORKERS = {"default": "arn:aws:lambda:us-east-1:123456789012:function:shop"}
OTHERS = {"default": "arn:aws:lambda:us-east-1:123456789012:function:shop-moved"}


def manifest(app: str = "shop", **function: Any) -> dict[str, Any]:
    listens = {"id": "fulfil", "compute": "default", "triggers": [{"event": "order/created"}], **function}
    return {"version": 1, "app": app, "functions": [listens], "computes": []}


class Workers:
    """Stands for Lambda: answers, or fails, as a deployed worker would."""

    def __init__(self) -> None:
        self.behaviour: Callable[[], Any] = lambda: {"manifest": manifest()}
        self.asked: list[tuple[str, Any]] = []

    def call(self, function: str, payload: Any) -> Any:
        self.asked.append((function, payload))
        return self.behaviour()


class World:
    """A table, a registrar over it, and CloudFormation's side of the conversation."""

    def __init__(self, ports: Ports, workers: Workers) -> None:
        self.workers = workers
        self.waited: list[float] = []
        self._ports = replace(ports, invoker=workers)  # type: ignore[arg-type]
        self._answers: list[tuple[str, dict[str, Any]]] = []

    def send(self, kind: str, *, store: KeyStore | None = None, **event: Any) -> dict[str, Any]:
        """A request of CloudFormation, and the one answer that it gets."""
        keep = lambda url, body: self._answers.append((url, json.loads(body)))  # noqa: E731
        ports = self._ports if store is None else replace(self._ports, open_keyring=lambda: Keyring(store))
        handler = make_handler(ports, answer=keep, wait=self.waited.append)
        properties = {"ServiceToken": "arn", "AppId": "shop", "Workers": WORKERS, **event.pop("properties", {})}
        request = {
            "RequestType": kind,
            "ResponseURL": "https://cloudformation/answer",
            "StackId": "stack",
            "RequestId": "request",
            "LogicalResourceId": "ShopRegistration",
            "ResourceProperties": properties,
            **event,
        }
        self._answers.clear()
        handler(request, None)
        ((url, answer),) = self._answers
        assert url == "https://cloudformation/answer"
        assert {answer[key] for key in ("StackId", "RequestId", "LogicalResourceId")} == {
            "stack",
            "request",
            "ShopRegistration",
        }
        return answer

    def keys(self) -> dict[str, str]:
        """The callback keys that were made, by the names of their parameters."""
        ssm = boto3.client("ssm")
        names = [each["Name"] for each in ssm.describe_parameters()["Parameters"]]
        return {name: ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"] for name in names}

    def registered(self) -> Mapping[str, Any]:
        """The workers of each registered app, as the orchestrator would read them."""
        apps, _ = self._ports.store.apps.current()
        return {app: dict(record.workers) for app, record in apps.items()}


@pytest.fixture
def world() -> Iterator[World]:
    with mock_aws():
        boto3.client("dynamodb").create_table(TableName="stepwell", **TABLE_SPEC)
        config = Config(table="stepwell", queue_url="queue", region="us-east-1")
        yield World(Ports.build(botocore.session.get_session(), config), Workers())


def refused(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "not yet"}}, "Invoke")


class TestCreate:
    def test_the_default_worker_says_what_the_app_holds_and_it_is_registered(self, world: World) -> None:
        answer = world.send("Create")
        assert answer["Status"] == "SUCCESS"
        assert world.workers.asked == [(WORKERS["default"], {"describe": True})]
        assert world.registered() == {"shop": WORKERS}

    def test_a_worker_that_cannot_be_imported_fails_it_with_the_traceback(self, world: World) -> None:
        failure = {
            "errorType": "ModuleNotFoundError",
            "errorMessage": "No module named 'requests'",
            "stackTrace": ['  File "/var/task/shop/app.py", line 3, in <module>\n    import requests\n'],
        }

        def fail() -> None:
            raise InvokeFailed(json.dumps(failure))

        world.workers.behaviour = fail
        answer = world.send("Create")
        assert answer["Status"] == "FAILED"
        assert 'File "/var/task/shop/app.py", line 3' in answer["Reason"]
        assert answer["Reason"].endswith("ModuleNotFoundError: No module named 'requests'")
        assert world.registered() == {}

    def test_an_app_under_another_id_than_its_role_is_fenced_to_is_refused(self, world: World) -> None:
        world.workers.behaviour = lambda: {"manifest": manifest("store")}
        answer = world.send("Create")
        assert answer["Status"] == "FAILED"
        assert "app_id='store'" in answer["Reason"]
        assert world.registered() == {}

    @pytest.mark.parametrize("told", [manifest(compute="gigantic"), {**manifest(), "computes": ["gigantic"]}])
    def test_a_compute_class_without_a_worker_is_refused_by_name(self, world: World, told: dict[str, Any]) -> None:
        world.workers.behaviour = lambda: {"manifest": told}
        answer = world.send("Create")
        assert answer["Status"] == "FAILED"
        assert "gigantic" in answer["Reason"]

    @pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceConflictException"])
    def test_a_worker_that_is_not_yet_known_everywhere_is_asked_again(self, world: World, code: str) -> None:
        answers = iter([refused(code), refused(code)])

        def behave() -> Any:
            if error := next(answers, None):
                raise error
            return {"manifest": manifest()}

        world.workers.behaviour = behave
        assert world.send("Create")["Status"] == "SUCCESS"
        assert world.waited == list(PATIENCE[:2])

    def test_it_gives_up_in_time_to_say_so(self, world: World) -> None:
        def behave() -> None:
            raise refused("AccessDeniedException")

        world.workers.behaviour = behave
        answer = world.send("Create")
        assert answer["Status"] == "FAILED"
        assert "AccessDeniedException" in answer["Reason"]
        assert sum(world.waited) <= 60

    def test_other_refusals_are_not_waited_out(self, world: World) -> None:
        def behave() -> None:
            raise refused("KMSDisabledException")

        world.workers.behaviour = behave
        assert world.send("Create")["Status"] == "FAILED"
        assert world.waited == []


class TestUpdate:
    def test_new_code_replaces_what_was_registered(self, world: World) -> None:
        first = world.send("Create")
        world.workers.behaviour = lambda: {"manifest": manifest(id="refund")}
        answer = world.send("Update", PhysicalResourceId=first["PhysicalResourceId"])
        assert answer["Status"] == "SUCCESS"
        assert answer["PhysicalResourceId"] == first["PhysicalResourceId"]
        apps, _ = world._ports.store.apps.current()
        assert [function["id"] for function in apps["shop"].functions] == ["refund"]

    def test_a_failed_update_leaves_what_was_registered(self, world: World) -> None:
        first = world.send("Create")

        def fail() -> None:
            raise InvokeFailed('{"errorMessage": "no", "errorType": "ImportError"}')

        world.workers.behaviour = fail
        answer = world.send("Update", PhysicalResourceId=first["PhysicalResourceId"])
        assert answer["Status"] == "FAILED"
        assert answer["PhysicalResourceId"] == first["PhysicalResourceId"]
        assert world.registered() == {"shop": WORKERS}

    def test_an_app_that_changed_its_id_is_registered_anew_and_the_old_one_then_forgotten(self, world: World) -> None:
        first = world.send("Create")
        world.workers.behaviour = lambda: {"manifest": manifest("store")}
        renamed = {"AppId": "store", "Workers": OTHERS}
        answer = world.send("Update", PhysicalResourceId=first["PhysicalResourceId"], properties=renamed)
        assert answer["PhysicalResourceId"] != first["PhysicalResourceId"]
        # CloudFormation sees another physical id, and deletes the old one.
        assert world.send("Delete", PhysicalResourceId=first["PhysicalResourceId"])["Status"] == "SUCCESS"
        assert world.registered() == {"store": OTHERS}


class TestDelete:
    def test_a_removed_app_is_forgotten(self, world: World) -> None:
        made = world.send("Create")
        assert world.send("Delete", PhysicalResourceId=made["PhysicalResourceId"])["Status"] == "SUCCESS"
        assert world.registered() == {}

    def test_deleting_twice_is_harmless(self, world: World) -> None:
        made = world.send("Create")
        for _ in range(2):
            assert world.send("Delete", PhysicalResourceId=made["PhysicalResourceId"])["Status"] == "SUCCESS"

    def test_the_worker_is_not_asked_since_it_may_be_gone(self, world: World) -> None:
        made = world.send("Create")
        world.workers.asked.clear()
        world.send("Delete", PhysicalResourceId=made["PhysicalResourceId"])
        assert world.workers.asked == []

    def test_what_was_never_created_takes_no_other_app_with_it(self, world: World) -> None:
        """Rolling back a failed creation, CloudFormation deletes the resource. Another stack may hold an app of that id."""
        world.send("Create")

        def fail() -> None:
            raise InvokeFailed("died")

        world.workers.behaviour = fail
        failed = world.send("Create")
        assert world.send("Delete", PhysicalResourceId=failed["PhysicalResourceId"])["Status"] == "SUCCESS"
        assert world.registered() == {"shop": WORKERS}

    def test_a_resource_that_was_moved_does_not_unregister_its_successor(self, world: World) -> None:
        """With a new logical id CloudFormation first creates the new resource, then deletes the old one."""
        old = world.send("Create")
        world.send("Create", properties={"Workers": OTHERS})
        assert world.send("Delete", PhysicalResourceId=old["PhysicalResourceId"])["Status"] == "SUCCESS"
        assert world.registered() == {"shop": OTHERS}

    def test_a_table_that_is_gone_is_reported(self, world: World) -> None:
        made = world.send("Create")
        boto3.client("dynamodb").delete_table(TableName="stepwell")
        answer = world.send("Delete", PhysicalResourceId=made["PhysicalResourceId"])
        assert answer["Status"] == "FAILED"
        assert "ResourceNotFoundException" in answer["Reason"]


class TestCallbackKey:
    def test_an_app_has_one_before_it_is_registered(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(handler, "register", lambda *_: (_ for _ in ()).throw(RuntimeError("no table")))
        assert world.send("Create")["Status"] == "FAILED"
        assert set(world.keys()) == {"/stepwell/stepwell/shop/callback-key"}

    def test_it_stays_whatever_becomes_of_the_app(self, world: World) -> None:
        made = world.send("Create")
        keys = world.keys()
        for kind in ("Update", "Delete", "Create"):
            assert world.send(kind, PhysicalResourceId=made["PhysicalResourceId"])["Status"] == "SUCCESS"
        assert world.keys() == keys

    def test_two_apps_have_two(self, world: World) -> None:
        world.send("Create")
        world.workers.behaviour = lambda: {"manifest": manifest("store")}
        world.send("Create", properties={"AppId": "store"})
        assert len(set(world.keys().values())) == 2

    def test_it_is_under_the_customers_key_if_there_is_one(self, world: World) -> None:
        assert world.send("Create")["Status"] == "SUCCESS"
        config = Config(table="other", queue_url="queue", region="us-east-1", kms_key="alias/mine")
        Ports.build(botocore.session.get_session(), config).keyring.ensure("shop", SystemIds())
        (under,) = [
            each["KeyId"] for each in boto3.client("ssm").describe_parameters()["Parameters"] if "other" in each["Name"]
        ]
        assert under == "alias/mine"

    def test_leave_that_is_not_yet_known_everywhere_is_waited_for(self, world: World) -> None:
        store = Refusing(2, "AccessDeniedException")
        assert world.send("Create", store=store)["Status"] == "SUCCESS"
        assert world.waited == list(PATIENCE[:2])
        assert store.kept == {"shop"}

    def test_without_it_the_deployment_fails_and_says_why(self, world: World) -> None:
        answer = world.send("Create", store=Refusing(99, "AccessDeniedException"))
        assert answer["Status"] == "FAILED"
        assert "AccessDeniedException" in answer["Reason"]
        assert "PutParameter" in answer["Reason"]
        assert world.registered() == {}


class Refusing:
    """Parameter Store, refusing so many times."""

    def __init__(self, times: int, code: str) -> None:
        self.left, self.code = times, code
        self.kept: set[str] = set()

    def read(self, app: str) -> str:
        raise AssertionError("the registrar may not read keys")

    def create(self, app: str, text: str) -> bool:
        if self.left:
            self.left -= 1
            raise ClientError({"Error": {"Code": self.code, "Message": "not yet"}}, "PutParameter")
        self.kept.add(app)
        return True


class TestReason:
    def test_short_reasons_are_left_as_they_are(self) -> None:
        assert shorten("it is broken\nhere") == "it is broken\nhere"

    def test_a_long_traceback_keeps_its_first_line_and_its_end(self) -> None:
        lines = [f'  File "/var/task/module_{n}.py", line {n}, in <module>' for n in range(500)]
        short = shorten("\n".join(["The app cannot be loaded in its worker.", *lines, "ImportError: the cause"]))
        assert short.startswith("The app cannot be loaded in its worker.\n")
        assert short.endswith("ImportError: the cause")
        assert 0.8 * MAX_REASON < len(json.dumps(short)) <= MAX_REASON

    @pytest.mark.parametrize("character", ["x", '"', "ü", "\U0001f600", "\\"])
    def test_the_answer_fits_whatever_the_characters(self, character: str) -> None:
        assert len(json.dumps(shorten("first line\n" + character * 10_000))) <= MAX_REASON
        assert len(json.dumps(shorten(character * 10_000))) <= MAX_REASON

    def test_what_is_no_json_is_shown_as_it_came(self) -> None:
        assert readable("RequestId: 1 Error: Runtime exited") == "RequestId: 1 Error: Runtime exited"
        assert readable('["a list"]') == '["a list"]'
