"""A key file changes while bearers are verified with it."""

import json
import logging
import os
import threading
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pdp_client import (
    BearerRejected,
    BearerVerifier,
    ConfigurationError,
    Issuer,
    Keyring,
    KeyringError,
    KeyringFile,
)

from .conftest import NOW, Signer

GARBAGE = [
    b"",
    b"\x00\xff\xfe garbage \x80",
    b"-----BEGIN PUBLIC KEY-----",
    b"[]",
    b'{"keys": [{}]}',
    b'{"keys": [], "keys": []}',
    b'{"keys": [{"kty":"oct","kid":"k1","alg":"HS256","k":"c2hvcnQ"}]}',
    b" " * (1024 * 1024 + 1),
]


def replace(path, *keys):
    """As an operator's tool does it: another file, renamed over the first."""
    written = path.with_suffix(".new")
    written.write_text(json.dumps({"keys": [key.public_jwk() for key in keys]}))
    written.replace(path)


def signer_of(kid):
    return Signer(kid, "EdDSA", Ed25519PrivateKey.generate())


@pytest.fixture
def first():
    return signer_of("first")


@pytest.fixture
def second():
    return signer_of("second")


@pytest.fixture
def path(tmp_path, first):
    path = tmp_path / "mnemosyne.public.jwks"
    replace(path, first)
    return path


@pytest.fixture
def verifying():
    """Make a verifier that looks at its files each time."""

    def start(*issuers, **settings):
        settings = {"check_every": 0, "clock": lambda: NOW, **settings}
        return BearerVerifier(issuers, **settings)

    return start


@pytest.fixture
def accepts(team_claims):
    """Whether a verifier takes what a key signs."""

    def accepts(verifier, signer, **changes):
        try:
            verifier.verify(signer.token({**team_claims, **changes}))
        except BearerRejected as error:
            assert error.reason in ("key_unknown", "invalid_token", "issuer_invalid")
            return False
        return True

    return accepts


@pytest.fixture
def kept(caplog):
    """The warnings so far."""
    caplog.set_level(logging.INFO, "pdp_client")
    return lambda: [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def test_a_key_that_is_added_verifies_at_the_next_check(path, first, second, verifying, accepts):
    verifier = verifying(Issuer("mnemosyne", KeyringFile(path)))
    assert (accepts(verifier, first), accepts(verifier, second)) == (True, False)

    replace(path, first, second)

    assert (accepts(verifier, first), accepts(verifier, second)) == (True, True)


def test_a_key_that_is_removed_is_refused_at_the_next_check(
    path, first, second, verifying, accepts
):
    verifier = verifying(Issuer("mnemosyne", KeyringFile(path)))
    assert accepts(verifier, first)

    replace(path, second)

    assert (accepts(verifier, first), accepts(verifier, second)) == (False, True)
    replace(path)
    assert not accepts(verifier, second)


def test_another_key_of_the_same_kid_takes_the_place_of_the_first(path, first, verifying, accepts):
    verifier = verifying(Issuer("mnemosyne", KeyringFile(path)))
    other = signer_of("first")

    replace(path, other)

    assert (accepts(verifier, first), accepts(verifier, other)) == (False, True)


def test_the_file_is_looked_at_once_in_a_period(path, first, second, verifying, accepts):
    moment = 100.0
    verifier = verifying(
        Issuer("mnemosyne", KeyringFile(path)), check_every=1.0, monotonic=lambda: moment
    )
    replace(path, second)
    for moment in (100.0, 100.5, 100.999):
        assert accepts(verifier, first), moment

    moment = 101.0

    assert not accepts(verifier, first)
    replace(path, first)
    moment = 101.9
    assert not accepts(verifier, first)
    moment = 102.0
    assert accepts(verifier, first)


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda raw: repr(raw[:12]))
def test_a_key_file_replaced_by_garbage_while_serving_keeps_the_last_good_one(
    garbage, path, first, second, verifying, accepts, kept
):
    verifier = verifying(Issuer("mnemosyne", KeyringFile(path)))

    path.write_bytes(garbage)

    for _ in range(3):
        assert accepts(verifier, first)
    assert verifier.generation == 0
    (problem,) = verifier.problems
    assert isinstance(problem, KeyringError)
    assert str(problem).startswith(f"{path}: ")
    assert kept() == [f"keyring.kept code=keyring_invalid detail={problem}"]

    replace(path, second)
    assert (accepts(verifier, first), accepts(verifier, second)) == (False, True)
    assert verifier.problems == ()


@pytest.mark.parametrize("how", ["missing", "folder", "unreachable"])
def test_a_missing_key_file_keeps_the_last_good_one(
    how, path, first, second, verifying, accepts, kept
):
    verifier = verifying(Issuer("mnemosyne", KeyringFile(path)))
    aside = path.parent.parent / f"{path.parent.name}-aside"
    if how == "unreachable":
        path.parent.rename(aside)
    else:
        path.unlink()
        if how == "folder":
            path.mkdir()

    for _ in range(3):
        assert accepts(verifier, first)
    assert len(kept()) == 1
    assert "cannot be read" in str(verifier.problems[0])

    if how == "unreachable":
        aside.rename(path.parent)
        assert accepts(verifier, first)
        assert verifier.generation == 0
    elif how == "folder":
        path.rmdir()
    replace(path, second)
    assert (accepts(verifier, first), accepts(verifier, second)) == (False, True)
    assert verifier.problems == ()
    assert len(kept()) == 1


def test_a_file_that_is_half_written_is_taken_when_it_is_whole(
    path, first, second, verifying, accepts
):
    verifier = verifying(Issuer("mnemosyne", KeyringFile(path)))
    whole = json.dumps({"keys": [second.public_jwk()]})
    with path.open("w") as file:
        for position in range(0, len(whole), 20):
            file.flush()
            assert accepts(verifier, first), position
            file.write(whole[position : position + 20])

    assert (accepts(verifier, first), accepts(verifier, second)) == (False, True)


def test_a_change_that_leaves_the_timestamp_and_the_size_is_found_all_the_same(
    path, first, verifying, accepts, monkeypatch
):
    """Within one tick of the file system's clock, a second write looks like the first."""
    other = signer_of("first")
    found = path.stat()
    monkeypatch.setattr(type(path), "stat", lambda *_args, **_kwargs: found)
    verifier = verifying(Issuer("mnemosyne", KeyringFile(path)))
    assert accepts(verifier, first)

    with path.open("r+b") as file:
        file.write(json.dumps({"keys": [other.public_jwk()]}).encode())

    assert (accepts(verifier, first), accepts(verifier, other)) == (False, True)


def test_a_file_that_is_given_its_old_timestamp_is_found(
    path, first, verifying, accepts, monkeypatch
):
    """`cp -p` and rsync do that; the size is the same too."""
    long_ago = time.time() - 1000
    os.utime(path, (long_ago, long_ago))
    verifier = verifying(Issuer("mnemosyne", KeyringFile(path)))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3)
    assert accepts(verifier, first)

    path.write_text(json.dumps({"keys": [signer_of("first").public_jwk()]}))
    os.utime(path, (long_ago, long_ago))

    assert not accepts(verifier, first)


def test_a_file_that_has_not_changed_for_long_is_not_read_again(path, monkeypatch):
    file = KeyringFile(path)
    read = []
    monkeypatch.setattr(
        "pdp_client.keyring_file.read_jwks", lambda p: read.append(p) or p.read_bytes()
    )
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3)
    keyring = file.look()  # The last one that could have missed a second write.
    assert len(read) == 1

    for _ in range(5):
        assert file.look() is keyring
    assert len(read) == 1
    path.touch()
    assert file.look() is keyring
    assert len(read) == 2


# generation


def test_the_generation_rises_by_one_at_each_swap_and_at_nothing_else(
    path, first, second, verifying
):
    verifier = verifying(Issuer("mnemosyne", KeyringFile(path)))
    generations = [verifier.generation]

    def note(change):
        change()
        generations.extend([verifier.generation, verifier.generation])

    note(lambda: replace(path, first, second))
    note(path.touch)
    note(lambda: replace(path, first, second))
    note(lambda: path.write_bytes(b"garbage"))
    note(path.unlink)
    note(lambda: replace(path, first, second))
    note(lambda: replace(path, second))

    assert generations == [0, *[1, 1] * 6, 2, 2]


def test_two_files_that_change_together_are_one_swap(path, first, second, verifying):
    turns = path.with_name("daedalus.public.jwks")
    replace(turns, second)
    verifier = verifying(
        Issuer("mnemosyne", KeyringFile(path)), Issuer("daedalus", KeyringFile(turns))
    )
    replace(path, signer_of("third"))
    replace(turns, signer_of("fourth"))

    assert verifier.generation == 1


def test_keyrings_that_are_no_files_stay_in_generation_zero(team_keys):
    clock = iter(range(10**6))
    verifier = BearerVerifier(
        [Issuer("mnemosyne", team_keys)], check_every=0, monotonic=lambda: next(clock)
    )
    assert {verifier.generation for _ in range(10)} == {0}


# several issuers


@pytest.fixture
def turns(tmp_path, second):
    path = tmp_path / "daedalus.public.jwks"
    replace(path, second)
    return path


@pytest.fixture
def both(path, turns, verifying):
    return verifying(Issuer("mnemosyne", KeyringFile(path)), Issuer("daedalus", KeyringFile(turns)))


def test_a_new_file_with_a_kid_of_another_issuer_does_not_take_effect(
    turns, first, second, both, accepts, turn_claims, kept
):
    replace(turns, signer_of("first"), signer_of("third"))

    for _ in range(3):
        assert accepts(both, first)
        assert accepts(both, second, **turn_claims, typ="turn")
    assert both.generation == 0
    assert str(both.problems[0]) == "kid 'first' is in the keyrings of mnemosyne and daedalus"
    assert len(kept()) == 1

    replace(turns, signer_of("third"))
    assert not accepts(both, second, **turn_claims, typ="turn")
    assert both.problems == ()


def test_what_is_wrong_with_one_file_does_not_hold_up_the_other(
    path, turns, first, second, both, accepts, turn_claims
):
    third = signer_of("third")
    replace(path, third)
    replace(turns, signer_of("third"))

    assert (accepts(both, first), accepts(both, third)) == (False, True)
    assert accepts(both, second, **turn_claims, typ="turn")
    assert (both.generation, len(both.problems)) == (1, 1)


def test_a_kid_may_move_from_one_issuer_to_another(
    path, turns, first, second, both, accepts, turn_claims
):
    replace(path, second)
    replace(turns, first)

    assert accepts(both, first, **turn_claims, typ="turn")
    assert accepts(both, second)
    assert (both.generation, both.problems) == (1, ())


def test_a_keyring_and_a_file_go_together(path, first, second, verifying, accepts, turn_claims):
    fixed = Keyring.from_jwks({"keys": [second.public_jwk()]})
    verifier = verifying(Issuer("mnemosyne", KeyringFile(path)), Issuer("daedalus", fixed))
    replace(path, second)

    assert accepts(verifier, first)
    assert accepts(verifier, second, **turn_claims, typ="turn")
    assert verifier.generation == 0


# the algorithms of an issuer


def test_an_issuer_is_bound_to_its_algorithms(signers):
    keyring = Keyring.from_jwks({"keys": [signers["ES256"].public_jwk()]})
    with pytest.raises(ConfigurationError, match="'k-ES256': mnemosyne does not allow alg ES256"):
        BearerVerifier([Issuer("mnemosyne", keyring, algorithms=frozenset({"EdDSA"}))])
    assert BearerVerifier([Issuer("mnemosyne", keyring, algorithms=frozenset({"ES256"}))])


def test_a_key_of_an_algorithm_that_is_not_the_issuers_never_comes_in_with_a_new_file(
    path, first, signers, verifying, accepts
):
    verifier = verifying(
        Issuer("mnemosyne", KeyringFile(path), algorithms=frozenset({"EdDSA", "ES256"}))
    )
    replace(path, first, signers["HS256"])
    assert accepts(verifier, first)
    assert not accepts(verifier, signers["HS256"])

    replace(path, first, signers["ES256"])
    assert accepts(verifier, signers["ES256"])


# at the start, and beside each other


def test_a_bad_file_at_the_start_is_an_error(tmp_path):
    with pytest.raises(KeyringError, match=r"gone\.jwks: cannot be read"):
        KeyringFile(tmp_path / "gone.jwks")
    (tmp_path / "bad.jwks").write_bytes(b"garbage")
    with pytest.raises(KeyringError, match=r"bad\.jwks: not a JSON object"):
        KeyringFile(tmp_path / "bad.jwks")


def test_threads_see_the_old_keys_or_the_new_ones_and_never_a_mixture(
    path, first, second, verifying, team_claims
):
    """Two keys are in the file, or two others; both of a pair verify within one generation."""
    pairs = [(first, second), (signer_of("first"), signer_of("second"))]
    tokens = [[signer.token(team_claims) for signer in pair] for pair in pairs]
    replace(path, *pairs[0])
    verifier = verifying(Issuer("mnemosyne", KeyringFile(path)))
    mixed, errors, stop = [], [], threading.Event()

    def verdicts(pair):
        for token in pair:
            try:
                verifier.verify(token)
                yield True
            except BearerRejected:
                yield False

    def watch():
        try:
            while not stop.is_set():
                before = verifier.generation
                seen = [tuple(verdicts(pair)) for pair in tokens]
                if verifier.generation == before and sorted(seen) != [(False, False), (True, True)]:
                    mixed.append(seen)
        except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
            errors.append(error)

    threads = [threading.Thread(target=watch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(100):
        replace(path, *pairs[number % 2])
        while verifier.generation < number:
            assert not errors
    stop.set()
    for thread in threads:
        thread.join()

    assert (mixed, errors) == ([], [])


def test_no_material_is_in_a_log_or_a_problem(path, verifying, kept, first):
    verifier = verifying(Issuer("mnemosyne", KeyringFile(path)))
    secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQ"
    for text in (
        f'{{"keys": [{{"kty":"oct","kid":"old","alg":"HS256","k":"{secret}"}}]}}',
        f'{{"keys": [{{"kty":"oct","kid":"old","alg":"HS256","k":"{secret}!"}}]}}',
        f'{{"keys": [{{"k":"{secret}"',
    ):
        path.write_text(text)
        assert verifier.generation == 0
        (problem,) = verifier.problems
        assert secret not in repr(problem)
        assert (problem.__traceback__, problem.__context__, problem.__cause__) == (None, None, None)
    assert len(kept()) == 3
    assert secret not in "".join(kept())
