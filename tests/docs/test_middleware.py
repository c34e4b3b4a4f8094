"""The examples of docs/middleware.md, run."""

from __future__ import annotations

import pytest

from docs.snippets import middleware, outside
from stepwell import Client
from stepwell.middleware import KeyUnavailable
from stepwell.middleware.encryption import SecretKey
from stepwell.testing import LocalStepwell


def test_steps_find_their_database_and_are_timed() -> None:
    outside.reset()
    with LocalStepwell(middleware.app) as local:
        event_id = local.send("order/created", {"order_id": "o-1"})
        local.run_until_idle()
        run = local.run(event_id)
    assert run is not None
    assert run.result == 1
    assert (outside.Database.rows, outside.Database.connections) == (["o-1"], 0)
    assert list(outside.metrics) == ["save"]


def test_what_is_in_clear_is_matched_and_the_rest_encrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalStepwell(middleware.clinic) as local:
        monkeypatch.setattr(Client, "from_stack", lambda name: local.client.with_middleware())
        client, event_id = middleware.from_outside()
        local.run_until_idle()
        client.send("exam/done", {"patient_id": "p-2", "text": "not this one"})
        client.send("exam/done", {"patient_id": "p-1", "text": "well"})
        client.send("exam/ordered", {"patient_id": "p-1", "urgency": 1, "complaint": "nothing"})
        local.run_until_idle()
        run = local.run(event_id)
        assert run is not None
        assert run.result == "a cough: well"
        assert len(list(local.client.runs())) == 1
        assert "cough" not in str([image.plain() for _, image in local.world.table.items()])


def test_a_rotated_app_reads_what_the_old_key_wrote_and_the_old_one_not_what_the_new_writes() -> None:
    new, old = SecretKey.generate(), SecretKey.generate()
    before, after = middleware.rotated(old, old), middleware.rotated(new, old)
    for app in (before, after):
        app.function(on="go", id="fn")(lambda ctx: ctx.event.data["text"])
    with LocalStepwell(before) as local:
        local.send("go", {"text": "secret"})
        local.run_until_idle()
        (run,) = local.client.runs()
        assert local.client.with_middleware(*after.middleware.all).result(run.id) == "secret"
        bound = after.bind(lambda: local.client)
        event_id = after.send("go", {"text": "secret"})
        local.run_until_idle()
        later = local.run(event_id)
        assert later is not None
        with pytest.raises(KeyUnavailable):
            assert later.event
        after.bind(bound)
