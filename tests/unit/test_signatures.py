"""Signatures: the vectors that providers publish, and everything that must not pass."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.errors import InvalidOption
from stepwell.signatures import (
    ALGORITHMS,
    TOLERANCE,
    GitHub,
    Hmac,
    Scheme,
    StandardWebhooks,
    Stripe,
    scheme_from,
    scheme_json,
)

NOW = 1_767_225_600.0

SLACK = Hmac("X-Slack-Signature", prefix="v0=", timestamp="X-Slack-Request-Timestamp", payload="v0:{timestamp}:{body}")
SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar"
    b"&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com"
    b"%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14"
    b"d10d2c447fce8b6703c"
)

# What the providers' own documentation gives as an example: scheme, secret, body, headers, the time of signing.
PUBLISHED: dict[str, tuple[Scheme, str, bytes, dict[str, str], float]] = {
    "GitHub, Validating webhook deliveries": (
        GitHub(),
        "It's a Secret to Everybody",
        b"Hello, World!",
        {"x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"},
        NOW,
    ),
    "Standard Webhooks, reference vector": (
        StandardWebhooks(),
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        b'{"test": 2432232314}',
        {
            "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "webhook-timestamp": "1614265330",
            "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        },
        1_614_265_330,
    ),
    "Svix, how to verify manually": (
        StandardWebhooks(prefix="svix-"),
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        b'{"test": 2432232314}',
        {
            "svix-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "svix-timestamp": "1614265330",
            "svix-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        },
        1_614_265_330,
    ),
    "Slack, Verifying requests": (
        SLACK,
        "8f742231b10e8888abcd99yyyzzz85a5",
        SLACK_BODY,
        {
            "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
            "x-slack-request-timestamp": "1531420618",
        },
        1_531_420_618,
    ),
    "RFC 4231, test case 2, SHA-256": (
        Hmac("X-Signature"),
        "Jefe",
        b"what do ya want for nothing?",
        {"x-signature": "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
        NOW,
    ),
    "RFC 4231, test case 2, SHA-512": (
        Hmac("X-Signature", algorithm="sha512"),
        "Jefe",
        b"what do ya want for nothing?",
        {
            "x-signature": "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
            "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"
        },
        NOW,
    ),
    "RFC 2202, test case 2, SHA-1": (
        Hmac("X-Signature", algorithm="sha1"),
        "Jefe",
        b"what do ya want for nothing?",
        {"x-signature": "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"},
        NOW,
    ),
    # No example of these providers' own: computed with openssl dgst -hmac.
    "Stripe's scheme": (
        Stripe(),
        "whsec_test",
        b'{"id":"evt_1"}',
        {"stripe-signature": "t=1767225600,v1=45b40331de0325606dc5400202ade162460fbe48daf9401adfdcd0d7b4f35470"},
        NOW,
    ),
}

TIMED: list[Scheme] = [Stripe(), StandardWebhooks(), SLACK, Hmac("X-Signature", timestamp="X-Time")]
UNTIMED: list[Scheme] = [GitHub(), Hmac("X-Signature"), Hmac("X-Shopify-Hmac-Sha256", encoding="base64")]
each_scheme = pytest.mark.parametrize("scheme", TIMED + UNTIMED, ids=repr)
each_timed = pytest.mark.parametrize("scheme", TIMED, ids=repr)


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_a_provider_publishes_is_genuine(name: str) -> None:
    scheme, secret, body, headers, signed_at = PUBLISHED[name]
    assert scheme.verify([secret], headers, body, signed_at)
    assert not scheme.verify([secret], headers, body + b" ", signed_at)
    assert not scheme.verify([secret + "x"], headers, body, signed_at)


@each_scheme
@pytest.mark.parametrize("body", [b"", b"{}", b"\x00\xff\n", "ü€".encode(), b"x" * 100_000])
def test_what_was_signed_is_genuine_and_nothing_else_is(scheme: Scheme, body: bytes) -> None:
    headers = scheme.sign("one", body, NOW)
    assert scheme.verify(["one"], headers, body, NOW)
    assert not scheme.verify(["two"], headers, body, NOW)
    assert not scheme.verify(["one"], headers, body + b"x", NOW)
    assert not scheme.verify(["one"], headers, b"x" + body, NOW)


@each_scheme
def test_while_a_secret_is_replaced_both_are_good_and_afterwards_the_old_one_is_not(scheme: Scheme) -> None:
    by_old, by_new = scheme.sign("old", b"{}", NOW), scheme.sign("new", b"{}", NOW)
    for headers in (by_old, by_new):
        assert scheme.verify(["old", "new"], headers, b"{}", NOW)
    assert not scheme.verify(["new"], by_old, b"{}", NOW)


@each_scheme
def test_without_a_secret_nothing_is_genuine(scheme: Scheme) -> None:
    assert not scheme.verify([], scheme.sign("", b"{}", NOW), b"{}", NOW)


@each_scheme
@pytest.mark.parametrize("value", ["", " ", "sha256=", "v1,", "t=,v1=", "t=1,v1=", "ü" * 64, "0" * 64, ",", "=" * 300])
def test_headers_that_are_none_or_nonsense_prove_nothing(scheme: Scheme, value: str) -> None:
    genuine = scheme.sign("one", b"{}", NOW)
    assert not scheme.verify(["one"], {}, b"{}", NOW)
    for name in genuine:
        assert not scheme.verify(["one"], {**genuine, name: value}, b"{}", NOW)
        assert not scheme.verify(["one"], {other: genuine[other] for other in genuine if other != name}, b"{}", NOW)


@each_timed
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_time_is_good_up_to_its_tolerance_and_no_further(scheme: Scheme, sign: int) -> None:
    headers = scheme.sign("one", b"{}", NOW)
    assert scheme.verify(["one"], headers, b"{}", NOW + sign * TOLERANCE)
    assert not scheme.verify(["one"], headers, b"{}", NOW + sign * (TOLERANCE + 1))


@each_timed
def test_a_time_cannot_be_made_young_again(scheme: Scheme) -> None:
    """An old delivery with the time of now: the time is signed, too."""
    old, young = scheme.sign("one", b"{}", NOW - 1000), scheme.sign("one", b"{}", NOW)
    mixed = {name: old[name].replace(str(int(NOW - 1000)), str(int(NOW))) for name in young}
    assert mixed != old
    assert not scheme.verify(["one"], mixed, b"{}", NOW)


@pytest.mark.parametrize(
    "scheme", [Stripe("1h"), StandardWebhooks(tolerance="1h"), Hmac("X", timestamp="T", tolerance="1h")]
)
def test_the_tolerance_is_the_users_choice(scheme: Scheme) -> None:
    headers = scheme.sign("one", b"{}", NOW)
    assert scheme.verify(["one"], headers, b"{}", NOW + 3600)
    assert not scheme.verify(["one"], headers, b"{}", NOW + 3601)


@pytest.mark.parametrize("time", ["NaN", "inf", "1e9", "-1", "１７６７２２５６００", "9" * 400, "1767225600.0"])
@each_timed
def test_a_time_that_is_no_number_of_seconds_proves_nothing(scheme: Scheme, time: str) -> None:
    headers = scheme.sign("one", b"{}", NOW)
    forged = {name: value.replace(str(int(NOW)), time) for name, value in headers.items()}
    assert not scheme.verify(["one"], forged, b"{}", NOW)


def test_of_several_signatures_one_good_one_is_enough() -> None:
    good, bad = "0" * 64, ""
    stripe = Stripe().sign("one", b"{}", NOW)["stripe-signature"]
    time, good = stripe.split(",")
    for header in (f"{time},v1={bad},{good}", f"{time},{good},v1={bad}", f"{time},v0=x,{good}", f"{good},{time}"):
        assert Stripe().verify(["one"], {"stripe-signature": header}, b"{}", NOW)
    assert not Stripe().verify(["one"], {"stripe-signature": f"{time},{good.replace('v1', 'v0')}"}, b"{}", NOW)

    standard = StandardWebhooks().sign("one", b"{}", NOW)
    signatures = f"v1,AAAA v2,x {standard['webhook-signature']}"
    assert StandardWebhooks().verify(["one"], {**standard, "webhook-signature": signatures}, b"{}", NOW)


def test_a_delivery_cannot_take_the_id_of_another() -> None:
    headers = StandardWebhooks().sign("one", b"{}", NOW)
    assert not StandardWebhooks().verify(["one"], {**headers, "webhook-id": "msg_another"}, b"{}", NOW)


def test_a_hexadecimal_signature_may_be_written_in_capitals_and_a_prefix_must_be_there() -> None:
    scheme = Hmac("X-Signature", prefix="sha256=")
    (value,) = scheme.sign("one", b"{}", NOW).values()
    digest = value.removeprefix("sha256=")
    assert scheme.verify(["one"], {"x-signature": "sha256=" + digest.upper()}, b"{}", NOW)
    assert not scheme.verify(["one"], {"x-signature": digest}, b"{}", NOW)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("encoding", ["hex", "base64"])
def test_every_algorithm_in_every_encoding(algorithm: str, encoding: str) -> None:
    scheme = Hmac("X-Signature", algorithm=algorithm, encoding=encoding, prefix=f"{algorithm}=")
    assert scheme.verify(["one"], scheme.sign("one", b"{}", NOW), b"{}", NOW)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"algorithm": "md5"}, "md5"),
        ({"encoding": "base32"}, "base32"),
        ({"payload": "{timestamp}"}, "leaves out"),
        ({"payload": "{timestamp}.{body}"}, "timestamp=None"),
        ({"timestamp": "X-Time", "payload": "{body}"}, "X-Time".lower()),
        ({"timestamp": "X-Time", "tolerance": "soon"}, "tolerance"),
    ],
)
def test_a_scheme_that_would_protect_from_nothing_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidOption, match=words):
        Hmac("X-Signature", **options)


@each_scheme
def test_a_scheme_survives_being_written_down(scheme: Scheme) -> None:
    assert scheme_from(scheme_json(scheme)) == scheme


@given(secret=st.text(min_size=1), body=st.binary(), other=st.binary())
def test_whatever_the_bytes_only_those_that_were_signed_pass(secret: str, body: bytes, other: bytes) -> None:
    for scheme in TIMED + UNTIMED:
        headers = scheme.sign(secret, body, NOW)
        assert scheme.verify([secret], headers, body, NOW)
        assert scheme.verify([secret], headers, other, NOW) is (other == body)


@pytest.mark.parametrize("scheme", [StandardWebhooks(), Stripe(), SLACK])
def test_half_of_a_surrogate_pair_does_not_pass_for_the_question_mark_that_was_signed(scheme: Scheme) -> None:
    """Headers are signed as bytes; two that differ must not be one and the same of them."""
    for header, value in scheme.sign("secret", b"{}", NOW).items():
        assert not scheme.verify(
            ["secret"], {**scheme.sign("secret", b"{}", NOW), header: value + "\ud800"}, b"{}", NOW
        )
    if isinstance(scheme, StandardWebhooks):
        headers = {"webhook-id": "msg?", "webhook-timestamp": str(int(NOW))}
        payload = f"msg?.{int(NOW)}.".encode() + b"{}"
        headers["webhook-signature"] = scheme._signature("secret", payload)
        assert scheme.verify(["secret"], headers, b"{}", NOW)
        assert not scheme.verify(["secret"], {**headers, "webhook-id": "msg\ud800"}, b"{}", NOW)
