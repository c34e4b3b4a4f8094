"""`stepwell keys`: what is made opens the door, what is revoked does not, and nothing shows a key twice."""

from __future__ import annotations

import pytest

from stepwell.testing import LocalStepwell

from .test_cli import from_json, local, stepwell

__all__ = ["local"]


def post(local: LocalStepwell, key: str, name: str = "order/created") -> int:
    return local.http("POST", f"/e/{key}", body={"name": name, "data": {}}).status


def test_a_key_that_was_made_opens_the_door_until_it_is_revoked(local: LocalStepwell) -> None:
    key, hint = stepwell("keys", "create", "website").splitlines()
    assert "not shown again" in hint
    assert post(local, key) == 202
    (listed,) = from_json("keys", "list")
    assert listed["name"] == "website"
    assert key not in stepwell("keys", "list") + str(listed)
    assert listed["id"] in stepwell("keys", "revoke", listed["id"])
    local.advance("61s")
    assert post(local, key) == 401
    assert from_json("keys", "list") == []


def test_what_it_is_for_and_how_often_are_the_makers_choice(local: LocalStepwell) -> None:
    options = ["--events", "order/*", "--events", "user/left", "--limit", "2/1h"]
    made = from_json("keys", "create", "site", *options)
    assert (made["events"], made["limit"], made["url"]) == (["order/*", "user/left"], "2/3600s", None)
    assert [post(local, made["key"], name) for name in ("order/a", "user/joined", "order/b")] == [202, 403, 429]
    assert "order/*, user/left" in stepwell("keys", "list")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["create", "Web Site"], "lower-case"),
        (["create", "site", "--limit", "many"], "not a limit"),
        (["create", "site", "--events", "a b"], "white space"),
        (["revoke", "nobody"], "unknown-key"),
    ],
)
def test_what_makes_no_sense_is_said(local: LocalStepwell, arguments: list[str], says: str) -> None:
    assert says in stepwell("keys", *arguments, status=1)
    assert from_json("keys", "list") == []


def test_without_keys_the_list_says_how_to_make_one(local: LocalStepwell) -> None:
    assert "stepwell keys create" in stepwell("keys", "list")
