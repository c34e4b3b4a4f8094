"""What the integration tests share: functions written once for both faces, and runs that must be there."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from typing import Any, Protocol

from stepwell import AsyncContext, Context, Run, Stepwell
from stepwell.app import Function
from stepwell.decisions.flow import resolve
from stepwell.engine.registration import register
from stepwell.queue import drain
from stepwell.store.layout import GATE_PREFIX, GATE_SK, gate_pk
from stepwell.testing import DeadLetter, LocalStepwell
from stepwell.testing.observations import Began, Wrote
from stepwell_lambdas.registrar import handler as registrar

Body = Callable[[Any], Generator[Any, Any, Any]]
"""A function that yields what it would await: `charge = yield ctx.step.run(charge_card)`."""


def sync_face(body: Body) -> Callable[[Context[Any]], Any]:
    """The body as a `def` function: what it yields is the value already."""

    def function(ctx: Context[Any]) -> Any:
        steps = body(ctx)
        value = None
        while True:
            try:
                value = steps.send(value)
            except StopIteration as end:
                return end.value

    return function


def async_face(body: Body) -> Callable[[AsyncContext[Any]], Any]:
    """The body as an `async def` function: what it yields is awaited."""

    async def function(ctx: AsyncContext[Any]) -> Any:
        steps = body(ctx)
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                waited = steps.throw(error) if error is not None else steps.send(value)
            except StopIteration as end:
                return end.value
            value, error = None, None
            try:
                value = await waited if hasattr(waited, "__await__") else waited
            except BaseException as raised:
                error = raised

    return function


FACES = {"sync": sync_face, "async": async_face}


class Declare(Protocol):
    """Declares a body as a function of an app, in the face under test."""

    def __call__(self, app: Stepwell, body: Body, *, on: Any = "go", id: str = "fn", **options: Any) -> Function: ...


class Deploy(Protocol):
    """Opens a local world with these apps for the rest of the test."""

    def __call__(self, *apps: Stepwell, **options: Any) -> LocalStepwell: ...


def run_of(local: LocalStepwell, event_id: str, function: str | None = None) -> Run:
    """The run that an event started; there must be one."""
    run = local.run(event_id, function=function)
    assert run is not None, f"event {event_id} started no run"
    return run


def play(local: LocalStepwell, data: dict[str, Any] | None = None, *, event: str = "go", wait: str = "0s") -> Run:
    """Send an event, let `wait` go by, and give the run it started."""
    event_id = local.send(event, data)
    local.advance(wait)
    return run_of(local, event_id)


def only_dead_letter(local: LocalStepwell) -> DeadLetter:
    """The one message in the dead-letter queue."""
    letters = local.dead_letters()
    assert len(letters) == 1, letters
    return letters[0]


def invocations_of(local: LocalStepwell, run: Run) -> int:
    """How many worker invocations the run took."""
    return sum(1 for began in local.world.observations.of(Began) if began.by.run_id == run.id)


def writes_to(local: LocalStepwell, run: Run, prefix: str) -> int:
    """How many writes the items of a run under this sort key prefix took."""
    return sum(
        1 for write in local.world.observations.of(Wrote) if write.run_id == run.id and write.sk.startswith(prefix)
    )


def cold_start(local: LocalStepwell) -> None:
    """Let every Lambda begin anew at its next invocation, knowing nothing."""
    for function in local.world.lambdas.functions:
        function.idle.clear()


def expire(local: LocalStepwell, run: str, *sks: str) -> None:
    """What DynamoDB does some time after the ttl of these items."""
    at = round(local.now().timestamp()) + 70 * 86_400
    for sk in sks:
        image = local.world.table.get((f"RUN#{run}", sk))
        assert image is not None
        assert image.plain()["ttl"] < at
        backstage = local.world.session(counted=False).create_client("dynamodb", "us-east-1")
        key = {"pk": {"S": f"RUN#{run}"}, "sk": {"S": sk}}
        backstage.delete_item(TableName=local.world.aws.resources.table, Key=key)


def declare_as(local: LocalStepwell, changed: Stepwell) -> None:
    """Register an app as another declaration of it says, and leave its workers as they are."""
    ports = local._ports(counted=False)
    workers = dict(ports.store.apps.current()[0][changed.id].workers)
    register(ports, changed.manifest(), workers)


def redeploy(local: LocalStepwell, app: Stepwell, kind: str = "Update") -> None:
    """Register the app anew as it is now, as CloudFormation does, or with the kind "Delete" remove it."""
    answers: list[dict[str, Any]] = []
    lambdas = local.world.lambdas
    name = f"stepwell-registrar-{app.id}"
    build = lambda: registrar.make_handler(local._ports(), answer=lambda url, body: answers.append(json.loads(body)))  # noqa: E731
    function = lambdas.add(name, "registrar", build)
    workers = dict(local._backstage._ports.store.apps.current()[0][app.id].workers)
    event = {
        **dict.fromkeys(["ResponseURL", "StackId", "RequestId", "LogicalResourceId"], ""),
        "RequestType": kind,
        "PhysicalResourceId": f"stepwell-app/{app.id}",
        "ResourceProperties": {"AppId": app.id, "Workers": workers},
    }
    lambdas.invoke(function, json.dumps(event))
    assert [answer["Status"] for answer in answers] == ["SUCCESS"], answers


def occupied(local: LocalStepwell, function: str, slots: int = 1, **data: Any) -> str:
    """Take slots of a function for such an event, as runs that never end would; the gate's partition."""
    app, _, id = function.partition("/")
    ports = local._ports()
    entry = ports.store.apps.current()[0][app].function(id)
    assert entry is not None
    (slot,) = resolve(app, entry, {"name": "go", "data": data}, triggered=True).slots
    ports.store.table.update(gate_pk(slot.gate), GATE_SK, add={"held": slots})
    return gate_pk(slot.gate)


def release(local: LocalStepwell, gate: str, slots: int = 1) -> None:
    """Give them back, and call the next in line."""
    ports = local._ports()
    ports.store.table.update(gate, GATE_SK, add={"held": -slots})
    ports.queue.send(drain(gate.removeprefix(GATE_PREFIX)))
