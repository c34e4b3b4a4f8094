"""Events as they come from the queue."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.errors import InvalidEvent
from stepwell.events import Envelope, check_id, check_name, check_tenant, parse_envelope, parse_ts


def parsed(body: Any) -> Envelope:
    return parse_envelope(body, default_id="made", received_ms=77)


def test_what_the_sender_left_out_is_filled_in() -> None:
    assert parsed({"name": "a", "data": {}}) == Envelope("made", "a", {}, 77)


def test_what_the_sender_said_is_kept() -> None:
    body = {"name": "a/b", "data": {"x": [1]}, "id": "o-1", "ts": "2026-01-01T00:00:00Z", "tenant": "acme"}
    envelope = parsed(body)
    assert envelope == Envelope("o-1", "a/b", {"x": [1]}, 1_767_225_600_000, "acme")
    assert envelope.event().ts == datetime(2026, 1, 1, tzinfo=UTC)
    assert envelope.scope()["data"] == {"x": [1]}


def test_fields_that_nobody_knows_are_ignored() -> None:
    assert parsed({"name": "a", "data": {}, "v": 2}).name == "a"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (None, "not null"),
        ([], "not a list"),
        ("x", "not text"),
        (3, "not a number"),
        (True, "not a boolean"),
        ({}, "needs a name"),
        ({"name": "", "data": {}}, "needs a name"),
        ({"name": 5, "data": {}}, "got 5"),
        ({"name": "a b", "data": {}}, "white space"),
        ({"name": "a#", "data": {}}, "'#'"),
        ({"name": "stepwell/cron.tick", "data": {}}, "the engine's own"),
        ({"name": "a" * 257, "data": {}}, "256"),
        ({"name": "a"}, "'a': data must be a JSON object, not null"),
        ({"name": "a", "data": []}, "not a list"),
        ({"name": "a", "data": "x"}, "not text"),
        ({"name": "a", "data": {}, "id": ""}, "1 to 256"),
        ({"name": "a", "data": {}, "id": 7}, "text"),
        ({"name": "a", "data": {}, "ts": "soon"}, "ISO 8601"),
        ({"name": "a", "data": {}, "ts": -1}, "milliseconds"),
        ({"name": "a", "data": {}, "ts": True}, "not a time"),
        ({"name": "a", "data": {}, "ts": float("inf")}, "milliseconds"),
        ({"name": "a", "data_ref": "crm/crm.01J8Z/secret"}, "not below 'events/'"),
        ({"name": "a", "data": {}, "tenant": "ü"}, "tenant"),
        ({"name": "a", "data": {}, "tenant": ""}, "tenant"),
        ({"name": "a", "data": {}, "tenant": "x" * 129}, "128"),
        ({"name": "a", "data_ref": 5}, "data_ref"),
    ],
)
def test_an_event_that_is_none_is_refused_saying_which_field_is_wrong(body: Any, says: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        parsed(body)
    assert says in caught.value.message


@given(
    st.builds(
        Envelope,
        id=st.text(min_size=1, max_size=20),
        name=st.just("order/created"),
        data=st.dictionaries(st.text(), st.integers()),
        ts=st.integers(0, 1 << 47),
        tenant=st.none() | st.just("acme"),
        ref=st.none() | st.just("events/x"),
    )
)
def test_an_envelope_survives_being_stored(envelope: Envelope) -> None:
    again = Envelope.from_json(envelope.as_json())
    assert again == (envelope if envelope.ref is None else Envelope(**{**_fields(envelope), "data": {}}))


def _fields(envelope: Envelope) -> dict[str, Any]:
    return {name: getattr(envelope, name) for name in ("id", "name", "data", "ts", "tenant", "ref")}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0), (1_767_225_600_000, 1_767_225_600_000), (1.6, 2), ("2026-01-01", 1_767_225_600_000),
        ("2026-01-01T01:00:00+01:00", 1_767_225_600_000), (datetime(2026, 1, 1), 1_767_225_600_000),
        (datetime(2026, 1, 1, tzinfo=UTC), 1_767_225_600_000),
    ],
)  # fmt: skip
def test_a_time_is_iso_text_or_milliseconds_and_naive_means_utc(value: Any, expected: int) -> None:
    assert parse_ts(value) == expected


@pytest.mark.parametrize("name", ["a", "order/created", "ż", "a.b-c_d:e", "x" * 256])
def test_names_may_hold_anything_but_white_space_and_two_marks(name: str) -> None:
    assert check_name(name) == name


def test_ids_and_tenants_have_their_limits() -> None:
    assert check_id("x" * 256) == "x" * 256
    assert check_tenant(None) is None
    assert check_tenant("a!~[]") == "a!~[]"
