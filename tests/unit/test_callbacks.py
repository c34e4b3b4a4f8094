"""Callback tokens and the keys they are made with."""

from __future__ import annotations

import base64
import hashlib
from random import Random

import pytest

from stepwell.callbacks import callback_key_name, callback_token, parse_token, proof_of, proves, without_secrets
from stepwell.errors import KeyUnavailable
from stepwell.keyring import Keyring
from stepwell.testing.clock import SeededIds

ONE, OTHER = b"1" * 32, b"2" * 32
RUN = "shop.01KDVDNA00T72HFXFYNWKQAGDB"


def text_of(*keys: bytes) -> str:
    return "\n".join(base64.b64encode(key).decode() for key in keys)


class Kept:
    """Keys as somebody has put them there, and how often they were read."""

    def __init__(self, text: str | None) -> None:
        self.text = text
        self.reads = 0

    def read(self, app: str) -> str:
        self.reads += 1
        if self.text is None:
            raise KeyUnavailable("There is none.")
        return self.text

    def create(self, app: str, text: str) -> bool:
        made = self.text is None
        self.text = self.text or text
        return made


class TestTokens:
    def test_a_token_is_the_same_for_the_same_callback_and_no_other(self) -> None:
        token = callback_token(ONE, RUN, "approval")
        assert token == callback_token(ONE, RUN, "approval")
        others = {
            callback_token(ONE, RUN, "approval:1"),
            callback_token(ONE, RUN[:-1] + "C", "approval"),
            callback_token(OTHER, RUN, "approval"),
        }
        secrets = {each.rpartition("~")[2] for each in (token, *others)}
        assert len(secrets) == 4
        assert all(len(bytes.fromhex(secret)) * 8 >= 128 for secret in secrets)

    @pytest.mark.parametrize("key", ["approval", "fetch:2/approval", "für alle~/?#", "x" * 300])
    def test_it_names_its_step_and_may_stand_in_a_url(self, key: str) -> None:
        token = callback_token(ONE, RUN, key)
        assert parse_token(token) == (RUN, key)
        assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")

    def test_its_proof_is_a_hash_that_holds_for_it_alone(self) -> None:
        token = callback_token(ONE, RUN, "approval")
        proof = proof_of(token)
        assert proof == hashlib.sha256(token.rpartition("~")[2].encode()).hexdigest()
        assert proves(token, proof)
        for other in (callback_token(OTHER, RUN, "approval"), f"{RUN}~YXBwcm92YWw~{proof}", "", "~~", "ü~ü~\udcff"):
            assert not proves(other, proof)

    def test_keys_of_two_apps_or_two_tables_lie_in_two_places(self) -> None:
        names = {callback_key_name(table, app) for table in ("a", "a-b") for app in ("b", "b-c", "c")}
        assert len(names) == 6


class TestSecretsInTexts:
    def test_what_is_kept_to_be_shown_leaves_them_out(self) -> None:
        token = callback_token(ONE, RUN, "approval")
        secret = token.rpartition("~")[2]
        text = without_secrets(f'"boss@example.com","https://door/c/{token}?x=1"')
        assert text == f'"boss@example.com","https://door/c/{token.removesuffix(secret)}...?x=1"'

    @pytest.mark.parametrize("left", range(1, 32))
    def test_however_little_of_one_is_there(self, left: int) -> None:
        token = callback_token(ONE, RUN, "approval")
        assert without_secrets(token[: left - 32]).endswith("~...")

    @pytest.mark.parametrize("text", ["", "~", "a ~ b ~ c", "~/code~old", "1~2", f"{RUN}~YXBwcm92YWw"])
    def test_other_texts_stay_as_they_are(self, text: str) -> None:
        assert without_secrets(text) == text


class TestKeyring:
    def test_a_key_is_read_once(self) -> None:
        kept = Kept(text_of(ONE))
        ring = Keyring(kept)
        assert kept.reads == 0
        assert {ring.token(RUN, "approval") for _ in range(3)} == {callback_token(ONE, RUN, "approval")}
        assert kept.reads == 1

    def test_the_first_key_makes_new_tokens_and_all_of_them_their_old_ones(self) -> None:
        old = callback_token(OTHER, RUN, "approval")
        ring = Keyring(Kept(text_of(ONE, OTHER)))
        assert ring.token(RUN, "approval", proof_of(old)) == old
        assert ring.token(RUN, "approval") == callback_token(ONE, RUN, "approval")

    def test_a_key_that_was_added_since_is_found(self) -> None:
        kept = Kept(text_of(ONE))
        ring = Keyring(kept)
        ring.token(RUN, "approval")
        kept.text = text_of(OTHER, ONE)
        made = callback_token(OTHER, RUN, "approval")  # by a worker that started later
        assert ring.token(RUN, "approval", proof_of(made)) == made

    def test_a_token_of_a_key_that_is_gone_is_not_replaced_by_another(self) -> None:
        ring = Keyring(Kept(text_of(ONE)))
        with pytest.raises(KeyUnavailable, match="no longer has"):
            ring.token(RUN, "approval", proof_of(callback_token(OTHER, RUN, "approval")))

    @pytest.mark.parametrize("text", ["", "\n", "secret", text_of(b"short"), text_of(ONE) + "\nx", "*" * 44])
    def test_what_is_no_key_makes_no_token(self, text: str) -> None:
        with pytest.raises(KeyUnavailable, match="32 random bytes"):
            Keyring(Kept(text)).token(RUN, "approval")

    def test_a_key_is_made_once(self) -> None:
        kept = Kept(None)
        ring, ids = Keyring(kept), SeededIds(Random(1))
        with pytest.raises(KeyUnavailable):
            ring.check("shop")
        assert ring.ensure("shop", ids)
        ring.check("shop")
        first = kept.text
        assert not ring.ensure("shop", ids)
        assert kept.text == first
