"""What is registered of an app lasts until it is deployed again, however long that takes and however much it is."""

from __future__ import annotations

from random import Random
from typing import Any

import boto3
import pytest

from stepwell import Context, RunStatus, Stepwell, Trigger
from stepwell.engine.registration import register
from stepwell.errors import PayloadTooLarge
from stepwell.testing import LocalStepwell

from .support import Deploy, cold_start, play

EACH = 50_000
"""Characters of one function's condition; an expression may have 100,000."""


def large(functions: int) -> Stepwell:
    """An app with so many functions, whose conditions do not get smaller than half by compressing them."""
    app, random = Stepwell("shop"), Random(1)
    for n in range(functions):
        where = f"event.data.x == '{random.randbytes(EACH // 2).hex()}'"
        app.function(on=Trigger(f"never/{n}", where=where), id=f"never-{n}")(lambda ctx: None)

    @app.function(on="go")
    def fn(ctx: Context[Any]) -> str:
        return ctx.step.run("once", lambda: "done")

    return app


def expire(local: LocalStepwell) -> list[str]:
    """Let everything in the bucket expire, as S3 does by age; what there was."""
    s3, bucket = boto3.client("s3"), local.world.aws.resources.bucket
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
    for key in keys:
        s3.delete_object(Bucket=bucket, Key=key)
    return keys


@pytest.mark.parametrize("functions", [0, 2, 13])
def test_an_app_runs_years_after_its_deployment(deploy: Deploy, functions: int) -> None:
    local = deploy(large(functions))
    local.advance("1100d")
    expire(local)
    cold_start(local)
    run = play(local)
    assert (run.status, run.result) == (RunStatus.COMPLETED, "done")
    assert len(local.client.functions()) == functions + 1


def test_more_than_can_be_registered_fails_the_deployment_and_leaves_what_was_there(deploy: Deploy) -> None:
    local = deploy(large(0))
    ports = local._backstage._ports
    workers = ports.store.apps.current()[0]["shop"].workers
    with pytest.raises(PayloadTooLarge, match=r"app 'shop' \(17 functions\) is .* Divide its functions among several"):
        register(ports, large(16).manifest(), workers)
    cold_start(local)
    assert play(local).result == "done"
