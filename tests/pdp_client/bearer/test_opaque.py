import hashlib
import math
import re
import string
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lictor_common.text import token_label
from pdp_client.bearer.opaque import digest, is_intact, mint_opaque
from pdp_client.exceptions import BearerRejected
from pdp_client.reasons import Reason


def test_minted_token_is_prefix_random_part_and_checksum():
    token = mint_opaque()
    assert re.fullmatch(r"lct_[0-9A-Za-z]{49}", token)
    assert token != mint_opaque()


def test_43_characters_hold_256_bits_and_6_hold_a_crc():
    assert 43 * math.log2(62) >= 256
    assert 6 * math.log2(62) >= 32


def test_checksum_is_crc_32_in_padded_base62():
    token = mint_opaque(lambda bits: 0)
    body = "lct_" + "0" * 43
    alphabet = string.digits + string.ascii_uppercase + string.ascii_lowercase
    assert token.startswith(body)
    number = 0
    for character in token[len(body) :]:
        number = number * 62 + alphabet.index(character)
    assert number == zlib.crc32(body.encode())


@given(st.integers(min_value=0, max_value=2**256 - 1))
def test_minted_token_has_one_length_for_every_number(number):
    token = mint_opaque(lambda bits: number)
    assert len(token) == 53
    assert is_intact(token)


@given(st.integers(min_value=0, max_value=52), st.sampled_from(string.ascii_letters + "-_~."))
def test_single_wrong_character_is_noticed_anywhere(position, character):
    token = mint_opaque()
    damaged = token[:position] + character + token[position + 1 :]
    assert is_intact(damaged) == (damaged == token)


def test_damaged_token_is_refused_before_any_lookup(verifier, reason_of):
    token = mint_opaque()
    assert verifier.verify(token).digest == digest(token)
    swapped = token[:4] + ("a" if token[4] != "a" else "b") + token[5:]
    assert reason_of(swapped) is Reason.INVALID_TOKEN


@pytest.mark.parametrize(
    "change", [lambda t: t[:-1], lambda t: t + "0", lambda t: "lct_", lambda t: t + "="]
)
def test_prefixed_bearer_of_another_length_is_refused(change, reason_of):
    assert reason_of(change(mint_opaque())) is Reason.INVALID_TOKEN


@pytest.mark.parametrize(
    "bearer", ["x", "ghp_abc123", "a.b", "a.b.c", "LCT_abc", "c29tZQ==", "~+/-_."]
)
def test_any_other_b64token_is_an_opaque_bearer(bearer, verifier):
    credential = verifier.verify(bearer)
    assert credential.kind == "token"
    assert credential.as_input() == {
        "kind": "token",
        "digest": hashlib.sha256(bearer.encode()).hexdigest(),
    }


def test_token_label_is_the_prefix_and_eight_hex_digits(verifier):
    token = mint_opaque()
    credential = verifier.verify(token)
    assert credential.label == token_label(credential.digest) == f"lct_…{credential.digest[:8]}"
    assert token[4:] not in repr(credential)
    assert credential.digest not in repr(credential)


def test_checksum_reveals_nothing_about_known_tokens(verifier):
    try:
        verifier.verify(mint_opaque())
    except BearerRejected:
        pytest.fail("whether a token is known is for OPA to say")
