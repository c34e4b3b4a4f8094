"""Events as they come from the queue."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.errors import InvalidEvent
from stepwell.events import (
    LARGE_EVENTS,
    Envelope,
    check_id,
    check_made,
    check_name,
    check_tenant,
    large_key,
    parse_envelope,
    parse_ts,
)
from stepwell.ids import ulid_of

NOW = 1_767_225_600_000
"""The first moment of 2026."""
DAY = 86_400_000


def parsed(body: Any) -> Envelope:
    return parse_envelope(body, default_id="made", received_ms=NOW)


def nested(depth: int) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for _ in range(depth - 1):
        data = {"x": data}
    return data


def test_what_the_sender_left_out_is_filled_in() -> None:
    assert parsed({"name": "a", "data": {}}) == Envelope("made", "a", {}, NOW)


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
        ({"name": "a", "data": {}, "ts": -1}, "before 1970"),
        ({"name": "a", "data": {}, "ts": "1969-12-31T23:59:59Z"}, "before 1970"),
        ({"name": "a", "data": {}, "ts": True}, "neither ISO 8601"),
        ({"name": "a", "data": {}, "ts": NOW + 367 * DAY}, "more than 366 days ahead"),
        ({"name": "a", "data": {}, "ts": "9999-01-01"}, "more than 366 days ahead"),
        ({"name": "a", "data": {}, "ts": (1 << 48) - 1}, "after 9999"),
        ({"name": "a", "data": {}, "ts": 10**400}, "after 9999"),
        ({"name": "a", "data": {}, "ts": "9999-12-31T23:59:59-12:00"}, "9999"),
        ({"name": "a\ud800", "data": {}}, "white space"),
        ({"name": "\U0001f600" * 256, "data": {}}, "900 bytes"),
        ({"name": "a", "data": {}, "id": "\ud800"}, "event id"),
        ({"name": "a", "data": nested(101)}, "more than 100 deep"),
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


def test_an_event_may_take_effect_within_a_year_of_its_coming() -> None:
    for ts in (0, NOW - 400 * DAY, NOW, NOW + 366 * DAY):
        assert parsed({"name": "a", "data": {}, "ts": ts}).ts == ts


def test_data_may_be_nested_a_hundred_deep() -> None:
    assert parsed({"name": "a", "data": nested(100)}).data == nested(100)


@pytest.mark.parametrize(
    ("event_id", "says"),
    [
        ("evt_" + ulid_of(NOW + 301_000, b"x" * 10), "in the future"),
        ("evt_7" + "Z" * 25, "in the future"),
        ("evt_" + ulid_of(0, b"x" * 10), "before 2020"),
        ("evt_" + ulid_of(1_577_836_799_999, b"x" * 10), "before 2020"),
    ],
)
def test_an_id_that_looks_made_must_carry_a_time_that_can_be(event_id: str, says: str) -> None:
    with pytest.raises(InvalidEvent, match=says):
        check_made(event_id, NOW)


def test_an_id_with_a_time_of_the_last_years_or_without_one_may_be() -> None:
    for ms in (1_577_836_800_000, NOW - 60 * DAY, NOW, NOW + 299_000):
        assert check_made("evt_" + ulid_of(ms, b"x" * 10), NOW)
    assert check_made("evt_1NG8Du2eZvKYlo2CUI79vXWy", NOW)  # one of Stripe's
    assert check_made("7" + "Z" * 25, NOW)


@pytest.mark.parametrize("event_id", ["o-1", "x" * 256, "\U0001f600" * 256])
def test_what_lies_in_s3_of_an_event_has_a_key_that_s3_takes(event_id: str) -> None:
    for rest in ("0123456789abcdef", "a" * 256, "\U0001f600" * 225):
        key = large_key(event_id, rest)
        assert key.startswith(LARGE_EVENTS)
        assert len(key.encode()) <= 1024
        assert len({key, large_key(event_id, rest + "x"), large_key(event_id + "x", rest)}) == 3


@pytest.mark.parametrize("name", ["a", "order/created", "ż", "a.b-c_d:e", "x" * 256])
def test_names_may_hold_anything_but_white_space_and_two_marks(name: str) -> None:
    assert check_name(name) == name


def test_ids_and_tenants_have_their_limits() -> None:
    assert check_id("x" * 256) == "x" * 256
    assert check_tenant(None) is None
    assert check_tenant("a!~[]") == "a!~[]"
