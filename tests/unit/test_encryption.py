"""Encrypting single values: bound to their place, with keys that rotate, expire and may be out of reach."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError
from hypothesis import given
from hypothesis import strategies as st

from stepwell import Event
from stepwell.clock import from_millis
from stepwell.errors import InvalidOption
from stepwell.middleware import KeyUnavailable, Place, TamperedValue
from stepwell.middleware.encryption import Encryption, KmsKey, SecretKey

PLACE = Place("step", "shop.01", "charge")
OTHERS = [Place("result", "shop.01", "charge"), Place("step", "shop.02", "charge"), Place("step", "shop.01", "refund")]


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time


class FakeKms:
    """Keys by id; refuses as KMS does. What it wraps is its id, the context and a counter."""

    def __init__(self, *keys: str) -> None:
        self.keys = set(keys)
        self.calls: list[str] = []
        self.error: Exception | None = None
        self.made: dict[bytes, tuple[str, str, bytes]] = {}

    def generate_data_key(self, KeyId: str, KeySpec: str, EncryptionContext: Any) -> Any:  # noqa: N803
        self._called("generate")
        assert KeySpec == "AES_256"
        blob = b"blob-%d" % len(self.made)
        self.made[blob] = (KeyId, json.dumps(EncryptionContext), len(self.made).to_bytes(32, "big"))
        return {"Plaintext": self.made[blob][2], "CiphertextBlob": blob}

    def decrypt(self, KeyId: str, CiphertextBlob: bytes, EncryptionContext: Any) -> Any:  # noqa: N803
        self._called("decrypt")
        key, context, plain = self.made.get(CiphertextBlob, ("", "", b""))
        if context != json.dumps(EncryptionContext):
            raise refusal("InvalidCiphertextException")
        if key != KeyId:
            raise refusal("IncorrectKeyException")
        return {"Plaintext": plain}

    def _called(self, verb: str) -> None:
        self.calls.append(verb)
        if self.error is not None:
            raise self.error


def refusal(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "Decrypt")


def secret(fill: int = 1) -> SecretKey:
    return SecretKey(bytes([fill]) * 32)


def event(data: dict[str, Any], id: str = "evt_1", name: str = "order/created") -> Event[dict[str, Any]]:
    return Event(id, name, data, from_millis(0))


@given(st.text())
def test_every_text_comes_back_and_only_at_its_place(text: str) -> None:
    middleware = Encryption(secret())
    stored = middleware.encode(text, PLACE)
    assert middleware.decode(stored, PLACE) == text
    assert set(json.loads(stored)) == {"$sealed"}
    for other in OTHERS:
        with pytest.raises(TamperedValue, match="encrypted for another place"):
            middleware.decode(stored, other)


def test_no_two_ciphertexts_are_equal() -> None:
    middleware = Encryption(secret())
    assert len({middleware.encode("same", PLACE) for _ in range(100)}) == 100


@given(st.data())
def test_a_changed_byte_anywhere_is_refused(data: st.DataObject) -> None:
    middleware = Encryption(secret())
    raw = bytearray(base64.b64decode(json.loads(middleware.encode('"some text"', PLACE))["$sealed"]))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises((TamperedValue, KeyUnavailable)):
        middleware.decode(json.dumps({"$sealed": base64.b64encode(raw).decode()}, separators=(",", ":")), PLACE)


@pytest.mark.parametrize("sealed", ["", "AQ", "!!!", "AQAA", base64.b64encode(b"\x09" * 100).decode()])
def test_what_is_no_ciphertext_but_says_so_is_refused(sealed: str) -> None:
    with pytest.raises(TamperedValue, match="no ciphertext"):
        Encryption(secret()).decode(f'{{"$sealed":"{sealed}"}}', PLACE)


@pytest.mark.parametrize("text", ["null", "5", '"text"', '{"a":1}', '{"$sealed":5}'])
def test_what_was_stored_in_clear_stays_as_it_is(text: str) -> None:
    assert Encryption(secret()).decode(text, PLACE) == text


def test_long_texts_are_compressed_before() -> None:
    middleware = Encryption(secret())
    stored = middleware.encode("word " * 10_000, PLACE)
    assert len(stored) < 500
    assert middleware.decode(stored, PLACE) == "word " * 10_000


# ---- events


def test_all_but_the_clear_fields_of_an_event_are_one_ciphertext() -> None:
    middleware = Encryption(secret(), clear=["order_id", "absent"])
    sent = middleware.on_send(event({"order_id": "o-1", "email": "ada@example.com", "amount": 5}))
    assert set(sent.data) == {"order_id", "$sealed"}
    assert middleware.on_receive(sent).data == {"order_id": "o-1", "email": "ada@example.com", "amount": 5}
    assert [middleware.hides(field) for field in ("order_id", "email")] == [False, True]


@pytest.mark.parametrize(
    "move",
    [
        lambda sent: event(sent.data, id="evt_2"),
        lambda sent: event(sent.data, name="order/paid"),
        lambda sent: event({**sent.data, "order_id": "o-2"}),
        lambda sent: event({"$sealed": sent.data["$sealed"]}),
    ],
)
def test_an_event_whose_ciphertext_was_moved_or_whose_clear_fields_were_changed_is_refused(
    move: Callable[[Event[dict[str, Any]]], Event[dict[str, Any]]],
) -> None:
    middleware = Encryption(secret(), clear=["order_id"])
    sent = middleware.on_send(event({"order_id": "o-1", "email": "ada@example.com"}))
    with pytest.raises(TamperedValue, match="event 'order/"):
        middleware.on_receive(move(sent))


@pytest.mark.parametrize("data", [{}, {"order_id": "o-1"}])
def test_an_event_with_nothing_to_hide_stays_as_it_is(data: dict[str, Any]) -> None:
    middleware = Encryption(secret(), clear=["order_id"])
    assert middleware.on_send(event(data)).data == data
    assert middleware.on_receive(event(data)).data == data


def test_a_field_with_the_name_of_the_ciphertext_survives() -> None:
    middleware = Encryption(secret())
    data = {"$sealed": "mine", "x": 1}
    assert middleware.on_receive(middleware.on_send(event(data))).data == data


# ---- keys


def test_the_first_key_encrypts_and_all_decrypt() -> None:
    old, new = secret(1), secret(2)
    before = Encryption(old).encode("text", PLACE)
    rotated = Encryption(new, old)
    after = rotated.encode("text", PLACE)
    assert [rotated.decode(stored, PLACE) for stored in (before, after)] == ["text", "text"]
    assert Encryption(new).decode(after, PLACE) == "text"
    with pytest.raises(KeyUnavailable, match=r"not among those given \(<SecretKey [0-9a-f]{16}>\)"):
        Encryption(old).decode(after, PLACE)


def test_a_secret_can_be_made_and_is_never_shown() -> None:
    made = SecretKey.generate()
    assert made != SecretKey.generate()
    assert made not in repr(SecretKey(made))
    assert Encryption(SecretKey(made)).decode(Encryption(SecretKey(made)).encode("x", PLACE), PLACE) == "x"


@pytest.mark.parametrize("wrong", ["password", b"short", "", None, 5, base64.b64encode(b"x" * 31).decode()])
def test_what_is_no_secret_of_32_bytes_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidOption, match="32 random bytes"):
        SecretKey(wrong)


@pytest.mark.parametrize(
    ("keys", "options"),
    [((), {}), (("text",), {}), ((secret(),), {"clear": "order_id"}), ((secret(),), {"clear": ["$sealed"]})],
)
def test_options_that_make_no_sense_are_refused(keys: Any, options: Any) -> None:
    with pytest.raises(InvalidOption):
        Encryption(*keys, **options)


def kms_key(kms: FakeKms, id: str = "k1", **options: Any) -> KmsKey:
    return KmsKey(id, client=lambda: kms, **options)


def test_kms_is_asked_once_for_many_values() -> None:
    kms, clock = FakeKms("k1"), Clock()
    writer = Encryption(kms_key(kms), clock=clock)
    stored = [writer.encode(str(n), PLACE) for n in range(10)]
    assert kms.calls == ["generate"]
    reader = Encryption(kms_key(kms), clock=clock)
    assert [reader.decode(each, PLACE) for each in stored] == [str(n) for n in range(10)]
    assert kms.calls == ["generate", "decrypt"]
    assert writer.decode(stored[0], PLACE) == "0"
    assert kms.calls == ["generate", "decrypt"], "it knows what it made itself"


def test_data_keys_are_renewed_after_their_lifetime() -> None:
    kms, clock = FakeKms("k1"), Clock()
    middleware = Encryption(kms_key(kms), lifetime="1m", clock=clock)
    first = middleware.encode("text", PLACE)
    clock.time += 61
    second = middleware.encode("text", PLACE)
    assert middleware.decode(second, PLACE) == "text"
    assert kms.calls == ["generate", "generate"]
    assert middleware.decode(first, PLACE) == "text"
    assert kms.calls == ["generate", "generate", "decrypt"]


def test_an_outage_of_kms_stops_nothing_for_an_hour() -> None:
    kms, clock = FakeKms("k1"), Clock()
    middleware = Encryption(kms_key(kms), clock=clock)
    stored = middleware.encode("text", PLACE)
    kms.error = ConnectTimeoutError(endpoint_url="kms")
    clock.time += 3500
    assert middleware.decode(middleware.encode("text", PLACE), PLACE) == "text"
    clock.time += 200
    with pytest.raises(KeyUnavailable, match=r"KMS cannot be reached for key k1 \(generate_data_key\)"):
        middleware.encode("text", PLACE)
    with pytest.raises(KeyUnavailable, match=r"\(decrypt\)"):
        middleware.decode(stored, PLACE)
    kms.error = None
    assert middleware.decode(stored, PLACE) == "text"


@pytest.mark.parametrize(
    "code", ["AccessDeniedException", "DisabledException", "KMSInvalidStateException", "ThrottlingException"]
)
def test_a_key_that_may_not_be_used_now_is_unavailable_and_no_tampering(code: str) -> None:
    kms = FakeKms("k1")
    stored = Encryption(kms_key(kms)).encode("text", PLACE)
    kms.error = refusal(code)
    with pytest.raises(KeyUnavailable, match=code):
        Encryption(kms_key(kms)).decode(stored, PLACE)


def test_kms_keys_rotate_too_also_from_and_to_secrets() -> None:
    kms = FakeKms("k1", "k2")
    texts = {}
    for key in (kms_key(kms, "k1"), kms_key(kms, "k2"), secret()):
        texts[key] = Encryption(key).encode("text", PLACE)
    everything = Encryption(*texts)
    assert [everything.decode(stored, PLACE) for stored in texts.values()] == ["text"] * 3
    with pytest.raises(KeyUnavailable, match="not among those given"):
        Encryption(kms_key(kms, "k1")).decode(texts[list(texts)[1]], PLACE)


def test_a_data_key_of_another_encryption_context_is_refused() -> None:
    kms = FakeKms("k1")
    stored = Encryption(kms_key(kms, context={"app": "shop"})).encode("text", PLACE)
    other = kms_key(kms, context={"app": "crm"})
    with pytest.raises(TamperedValue, match="another encryption context"):
        Encryption(other).decode(stored, PLACE)
    assert Encryption(other, kms_key(kms, context={"app": "shop"})).decode(stored, PLACE) == "text"
