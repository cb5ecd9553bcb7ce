"""A key file changes while bearers are verified with it."""

import json
import logging
import os
import resource
import threading
import time
from concurrent.futures import ThreadPoolExecutor

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
from tests.pdp_client.conftest import NOW, Signer

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


class Keys:
    """Two keys, and whether a verifier takes what any key signs."""

    def __init__(self, team_claims, turn_claims):
        self.first = signer_of("first")
        self.second = signer_of("second")
        self._claims = team_claims
        self._turn_claims = turn_claims

    def accepted(self, verifier, signer, *, turn=False):
        claims = self._turn_claims if turn else self._claims
        try:
            verifier.verify(signer.token(claims))
        except BearerRejected as error:
            if error.reason in ("key_unknown", "invalid_token"):
                return False
            raise
        return True

    def verdicts(self, verifier, *signers):
        return [self.accepted(verifier, signer) for signer in signers]


@pytest.fixture
def keys(team_claims, turn_claims):
    return Keys(team_claims, turn_claims)


@pytest.fixture
def path(tmp_path, keys):
    path = tmp_path / "mnemosyne.public.jwks"
    replace(path, keys.first)
    return path


@pytest.fixture
def verifying():
    """Make a verifier that checks its files each time."""

    def start(*issuers, **settings):
        settings = {"check_every": 0, "clock": lambda: NOW, **settings}
        return BearerVerifier(issuers, **settings)

    return start


@pytest.fixture
def kept(caplog):
    """The warnings so far."""
    caplog.set_level(logging.INFO, "pdp_client")
    return lambda: [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def test_key_that_is_added_verifies_at_the_next_check(path, keys, verifying):
    verifier = verifying(Issuer("mnemosyne", KeyringFile(path)))
    assert keys.verdicts(verifier, keys.first, keys.second) == [True, False]

    replace(path, keys.first, keys.second)

    assert keys.verdicts(verifier, keys.first, keys.second) == [True, True]


def test_key_that_is_removed_is_refused_at_the_next_check(path, keys, verifying):
    verifier = verifying(Issuer("mnemosyne", KeyringFile(path)))
    assert keys.accepted(verifier, keys.first)

    replace(path, keys.second)

    assert keys.verdicts(verifier, keys.first, keys.second) == [False, True]
    replace(path)
    assert not keys.accepted(verifier, keys.second)


def test_new_key_of_the_same_kid_replaces_the_first(path, keys, verifying):
    verifier = verifying(Issuer("mnemosyne", KeyringFile(path)))
    other = signer_of("first")

    replace(path, other)

    assert keys.verdicts(verifier, keys.first, other) == [False, True]


def test_file_is_looked_at_once_in_a_period(path, keys, verifying):
    moment = 100.0
    verifier = verifying(
        Issuer("mnemosyne", KeyringFile(path)), check_every=1.0, monotonic=lambda: moment
    )
    replace(path, keys.second)
    for moment in (100.0, 100.5, 100.999):
        assert keys.accepted(verifier, keys.first), moment

    moment = 101.0

    assert not keys.accepted(verifier, keys.first)
    replace(path, keys.first)
    moment = 101.9
    assert not keys.accepted(verifier, keys.first)
    moment = 102.0
    assert keys.accepted(verifier, keys.first)


def test_file_is_read_again_beside_a_keyring_that_is_not_a_file(path, keys, verifying, turn_keys):
    verifier = verifying(Issuer("daedalus", turn_keys), Issuer("mnemosyne", KeyringFile(path)))
    assert keys.verdicts(verifier, keys.first, keys.second) == [True, False]

    replace(path, keys.second)

    assert keys.verdicts(verifier, keys.first, keys.second) == [False, True]


def test_file_of_one_mebibyte_is_read_whole_and_a_longer_one_is_refused(path, keys, verifying):
    keyset = path.read_text()
    path.write_text(keyset.ljust(1024 * 1024))
    assert keys.accepted(verifying(Issuer("mnemosyne", KeyringFile(path))), keys.first)
    path.write_text(keyset.ljust(1024 * 1024 + 1))
    with pytest.raises(KeyringError, match="is longer than 1 MiB"):
        KeyringFile(path)


def test_file_without_a_usable_key_is_refused_at_the_start(path):
    path.write_text(json.dumps({"keys": [{"kty": "EC", "kid": "k1"}]}))
    with pytest.raises(KeyringError, match="k1"):
        KeyringFile(path)


@pytest.mark.parametrize(
    "garbage",
    GARBAGE,
    ids=["empty", "binary", "pem", "array", "no kty", "keys twice", "weak key", "too long"],
)
def test_key_file_replaced_by_garbage_keeps_the_last_good_keys(
    garbage, path, keys, verifying, kept
):
    verifier = verifying(Issuer("mnemosyne", KeyringFile(path)))

    path.write_bytes(garbage)

    for _ in range(3):
        assert keys.accepted(verifier, keys.first)
    assert verifier.generation == 0
    (problem,) = verifier.problems
    assert isinstance(problem, KeyringError)
    assert str(problem).startswith(f"{path}: ")
    assert kept() == [f"keyring.reload_failed code=keyring_invalid detail={problem}"]

    replace(path, keys.second)
    assert keys.verdicts(verifier, keys.first, keys.second) == [False, True]
    assert verifier.problems == ()


@pytest.mark.parametrize("how", ["missing", "folder", "unreachable"])
def test_missing_key_file_keeps_the_last_good_keys(how, path, keys, verifying, kept):
    verifier = verifying(Issuer("mnemosyne", KeyringFile(path)))
    aside = path.parent.parent / f"{path.parent.name}-aside"
    if how == "unreachable":
        path.parent.rename(aside)
    else:
        path.unlink()
        if how == "folder":
            path.mkdir()

    for _ in range(3):
        assert keys.accepted(verifier, keys.first)
    assert len(kept()) == 1
    assert "cannot be read" in str(verifier.problems[0])

    if how == "unreachable":
        aside.rename(path.parent)
        assert keys.accepted(verifier, keys.first)
        assert verifier.generation == 0
    elif how == "folder":
        path.rmdir()
    replace(path, keys.second)
    assert keys.verdicts(verifier, keys.first, keys.second) == [False, True]
    assert verifier.problems == ()
    assert len(kept()) == 1


def test_file_that_could_not_be_opened_is_tried_again(path, keys, verifying, monkeypatch):
    """The process had no file descriptor left; the file itself does not change any more."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 10)
    verifier = verifying(Issuer("mnemosyne", KeyringFile(path)))
    replace(path, keys.second)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        verifier.generation  # noqa: B018 - checks the files
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert str(verifier.problems[0]) == f"{path}: cannot be read: Too many open files"

    assert keys.verdicts(verifier, keys.first, keys.second) == [False, True]


def test_half_written_key_file_is_loaded_once_complete(path, keys, verifying):
    verifier = verifying(Issuer("mnemosyne", KeyringFile(path)))
    whole = json.dumps({"keys": [keys.second.public_jwk()]})
    with path.open("w") as file:
        for position in range(0, len(whole), 20):
            file.flush()
            assert keys.accepted(verifier, keys.first), position
            file.write(whole[position : position + 20])

    assert keys.verdicts(verifier, keys.first, keys.second) == [False, True]


def test_change_with_equal_mtime_and_size_is_found(path, keys, verifying, monkeypatch):
    """Within one tick of the file system's clock, a keys.second write looks like the keys.first."""
    other = signer_of("first")
    found = path.stat()
    monkeypatch.setattr(type(path), "stat", lambda *_args, **_kwargs: found)
    verifier = verifying(Issuer("mnemosyne", KeyringFile(path)))
    assert keys.accepted(verifier, keys.first)

    with path.open("r+b") as file:
        file.write(json.dumps({"keys": [other.public_jwk()]}).encode())

    assert keys.verdicts(verifier, keys.first, other) == [False, True]


def test_change_with_the_old_mtime_restored_is_found(path, keys, verifying, monkeypatch):
    """`cp -p` and rsync do that; the size is the same too."""
    long_ago = time.time() - 1000
    os.utime(path, (long_ago, long_ago))
    verifier = verifying(Issuer("mnemosyne", KeyringFile(path)))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3)
    assert keys.accepted(verifier, keys.first)

    path.write_text(json.dumps({"keys": [signer_of("first").public_jwk()]}))
    os.utime(path, (long_ago, long_ago))

    assert not keys.accepted(verifier, keys.first)


def test_file_that_has_not_changed_for_long_is_not_read_again(path, monkeypatch):
    file = KeyringFile(path)
    read = []
    monkeypatch.setattr(
        "pdp_client.bearer.keyring_file.read_jwks", lambda p: read.append(p) or p.read_bytes()
    )
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3)
    keyring = file.reload_if_changed()  # The last one that could have missed a keys.second write.
    assert len(read) == 1

    for _ in range(5):
        assert file.reload_if_changed() is keyring
    assert len(read) == 1
    path.touch()
    assert file.reload_if_changed() is keyring
    assert len(read) == 2


# generation


def test_generation_rises_by_one_at_each_swap_only(path, keys, verifying):
    verifier = verifying(Issuer("mnemosyne", KeyringFile(path)))
    generations = [verifier.generation]

    def note(change):
        change()
        generations.extend([verifier.generation, verifier.generation])

    note(lambda: replace(path, keys.first, keys.second))
    note(path.touch)
    note(lambda: replace(path, keys.first, keys.second))
    note(lambda: path.write_bytes(b"garbage"))
    note(path.unlink)
    note(lambda: replace(path, keys.first, keys.second))
    note(lambda: replace(path, keys.second))

    assert generations == [0, *[1, 1] * 6, 2, 2]


def test_two_files_changed_together_are_one_swap(path, keys, verifying):
    turns = path.with_name("daedalus.public.jwks")
    replace(turns, keys.second)
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
def turns(tmp_path, keys):
    path = tmp_path / "daedalus.public.jwks"
    replace(path, keys.second)
    return path


@pytest.fixture
def both(path, turns, verifying):
    return verifying(Issuer("mnemosyne", KeyringFile(path)), Issuer("daedalus", KeyringFile(turns)))


def test_new_file_with_a_kid_of_another_issuer_is_ignored(turns, keys, both, kept):
    replace(turns, signer_of("first"), signer_of("third"))

    for _ in range(3):
        assert keys.accepted(both, keys.first)
        assert keys.accepted(both, keys.second, turn=True)
    assert both.generation == 0
    assert str(both.problems[0]) == "kid 'first' is in the keyrings of mnemosyne and daedalus"
    assert len(kept()) == 1

    replace(turns, signer_of("third"))
    assert not keys.accepted(both, keys.second, turn=True)
    assert both.problems == ()


def test_broken_key_file_does_not_hold_up_the_other(path, turns, keys, both):
    third = signer_of("third")
    replace(path, third)
    replace(turns, signer_of("third"))

    assert keys.verdicts(both, keys.first, third) == [False, True]
    assert keys.accepted(both, keys.second, turn=True)
    assert (both.generation, len(both.problems)) == (1, 1)


def test_kid_may_move_to_another_issuer(path, turns, keys, both):
    replace(path, keys.second)
    replace(turns, keys.first)

    assert keys.accepted(both, keys.first, turn=True)
    assert keys.accepted(both, keys.second)
    assert (both.generation, both.problems) == (1, ())


def test_keyring_and_a_file_go_together(path, keys, verifying):
    fixed = Keyring.from_jwks({"keys": [keys.second.public_jwk()]})
    verifier = verifying(Issuer("mnemosyne", KeyringFile(path)), Issuer("daedalus", fixed))
    replace(path, keys.second)

    assert keys.accepted(verifier, keys.first)
    assert keys.accepted(verifier, keys.second, turn=True)
    assert verifier.generation == 0


# keys that cannot be used


UNUSABLE = {"kty": "EC", "crv": "P-384", "kid": "new", "alg": "ES384", "x": "AA", "y": "AA"}


@pytest.mark.parametrize("others", [0, 1])
def test_withdrawn_key_ends_though_its_successor_cannot_be_used(
    others, path, keys, verifying, kept
):
    verifier = verifying(Issuer("mnemosyne", KeyringFile(path)))
    assert keys.accepted(verifier, keys.first)
    kept_keys = [keys.second.public_jwk()][:others]
    path.write_text(json.dumps({"keys": [UNUSABLE, *kept_keys]}))
    assert not keys.accepted(verifier, keys.first)
    assert keys.accepted(verifier, keys.second) is bool(others)
    assert verifier.problems == ()
    (line,) = kept()
    assert "mnemosyne: kid 'new': alg must be one of" in line


def test_withdrawn_key_ends_though_the_issuer_allows_no_key_of_the_new_set(
    path, keys, signers, verifying
):
    verifier = verifying(Issuer("mnemosyne", KeyringFile(path), algorithms=frozenset({"EdDSA"})))
    replace(path, signers["ES256"])
    assert not keys.accepted(verifier, keys.first)
    assert not keys.accepted(verifier, signers["ES256"])


# the algorithms of an issuer


def test_issuer_is_bound_to_its_algorithms(signers):
    keyring = Keyring.from_jwks({"keys": [signers["ES256"].public_jwk()]})
    with pytest.raises(ConfigurationError, match="'k-ES256': mnemosyne does not allow alg ES256"):
        BearerVerifier([Issuer("mnemosyne", keyring, algorithms=frozenset({"EdDSA"}))])
    assert BearerVerifier([Issuer("mnemosyne", keyring, algorithms=frozenset({"ES256"}))])


def test_key_of_a_foreign_algorithm_is_never_loaded(path, keys, signers, verifying):
    verifier = verifying(
        Issuer("mnemosyne", KeyringFile(path), algorithms=frozenset({"EdDSA", "ES256"}))
    )
    replace(path, keys.first, signers["HS256"])
    assert keys.accepted(verifier, keys.first)
    assert not keys.accepted(verifier, signers["HS256"])

    replace(path, keys.first, signers["ES256"])
    assert keys.accepted(verifier, signers["ES256"])


# at the start, and beside each other


def test_bad_file_at_the_start_is_an_error(tmp_path):
    with pytest.raises(KeyringError, match=r"gone\.jwks: cannot be read"):
        KeyringFile(tmp_path / "gone.jwks")
    (tmp_path / "bad.jwks").write_bytes(b"garbage")
    with pytest.raises(KeyringError, match=r"bad\.jwks: not a JSON object"):
        KeyringFile(tmp_path / "bad.jwks")


def watch(verifier, keys, pairs, stop):
    """Verify by both pairs until it is stopped; what verifies is one pair or the other."""
    while not stop.is_set():
        before = verifier.generation
        seen = [keys.verdicts(verifier, *pair) for pair in pairs]
        if verifier.generation == before:
            assert sorted(seen) == [[False, False], [True, True]]


def test_threads_see_old_or_new_keys_never_a_mixture(path, keys, verifying):
    pairs = [(keys.first, keys.second), (signer_of("first"), signer_of("second"))]
    replace(path, *pairs[0])
    verifier = verifying(Issuer("mnemosyne", KeyringFile(path)))
    stop = threading.Event()
    with ThreadPoolExecutor() as threads:
        watching = [threads.submit(watch, verifier, keys, pairs, stop) for _ in range(4)]
        try:
            for number in range(1, 50):
                replace(path, *pairs[number % 2])
                while verifier.generation < number:
                    assert not any(one.done() for one in watching)
        finally:
            stop.set()
        assert [one.result() for one in watching] == [None] * 4


def test_no_material_is_in_a_log_or_a_problem(path, verifying, kept, keys):
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
