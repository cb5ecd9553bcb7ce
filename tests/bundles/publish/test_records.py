"""Records as the contract has them; what does not fit is named without its values."""

import logging
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.plain_opa import make_dataset

from bundles.publish.records import RecordValidator, find_problem, shard_of
from registry import Fault, Kind, Ref

DIGEST = "2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90"
GOOD = {
    Ref(Kind.TOKENS, DIGEST): {
        "label": "lct_…2bd806c9", "user": "ada", "active": True, "expires_at": None,
        "libraries": ["lib-a"], "tools": ["search", "get_*"],
    },
    Ref(Kind.TEAMS, "7f"): {
        "name": "Docs", "owner": "ada", "active": True, "active_jti": "j", "workspaces": ["w"],
        "tools": ["*"],
    },
    Ref(Kind.USERS, "ada"): {"name": "Ada", "active": True},
    Ref(Kind.KEYS, "k1"): {"alg": "EdDSA", "active": False},
    Ref(Kind.WORKSPACES, "w"): {"name": "Docs", "libraries": []},
    Ref(Kind.LIBRARIES, "lib-a"): {"name": "A", "tags": ["sealed"]},
}  # fmt: skip
FIELDS = [(ref, field) for ref, record in GOOD.items() for field in record]
SECRET = "s3cret-value"


@pytest.mark.parametrize("ref", GOOD, ids=str)
def test_record_of_the_contract_passes(ref):
    assert find_problem(ref, GOOD[ref]) is None
    assert find_problem(ref, None) is None


@pytest.mark.parametrize("expires_at", [None, 0, 1795000000, 1795000000.5])
def test_expiry_is_a_number_or_absent(expires_at):
    ref = Ref(Kind.TOKENS, DIGEST)
    assert find_problem(ref, {**GOOD[ref], "expires_at": expires_at}) is None


@pytest.mark.parametrize(("ref", "field"), FIELDS, ids=str)
def test_field_that_is_missing_is_named(ref, field):
    record = {name: value for name, value in GOOD[ref].items() if name != field}
    assert find_problem(ref, record).startswith(f"{ref}: {field}: ")


@pytest.mark.parametrize(("ref", "field"), FIELDS, ids=str)
@pytest.mark.parametrize(
    "odd",
    [{"x": SECRET}, [{"x": SECRET}], [7], 7 + 0j, math.nan, math.inf, "\ud800" + SECRET, b"s3cret-value", ["\ud800"]],
    ids=repr,
)  # fmt: skip
def test_field_of_another_type_is_named_without_its_value(ref, field, odd):
    reported = find_problem(ref, {**GOOD[ref], field: odd})
    assert reported.startswith(f"{ref}: {field}")
    assert SECRET not in reported
    assert "\n" not in reported


@pytest.mark.parametrize(("field", "odd"), [("active", 1), ("active", "true"), ("active", None), ("name", 7), ("name", None)])  # fmt: skip
def test_record_values_are_not_converted(field, odd):
    ref = Ref(Kind.USERS, "ada")
    assert find_problem(ref, {**GOOD[ref], field: odd}).startswith(f"users/ada: {field}: ")


@pytest.mark.parametrize("ref", GOOD, ids=str)
def test_unknown_field_is_named_without_its_value(ref):
    assert find_problem(ref, {**GOOD[ref], "extra": SECRET}).startswith(f"{ref}: extra: ")
    assert SECRET not in find_problem(ref, {**GOOD[ref], "extra": SECRET})


@pytest.mark.parametrize("pattern", ["[", "{a", "a]", "\\", SECRET + "["])
def test_pattern_opa_cannot_match_is_refused_unquoted(pattern):
    for ref in (Ref(Kind.TOKENS, DIGEST), Ref(Kind.TEAMS, "7f")):
        reported = find_problem(ref, {**GOOD[ref], "tools": ["ok", pattern]})
        assert reported.startswith(f"{ref}: tools.1: ")
        assert SECRET not in reported


@pytest.mark.parametrize("odd", ["text", [], 7, False])
def test_record_that_is_not_an_object_is_refused(odd):
    assert find_problem(Ref(Kind.USERS, "ada"), odd).startswith("users/ada: ")


@pytest.mark.parametrize("id_", ["", "zz" * 32, DIGEST.upper(), DIGEST[:-1], "lct_bearer-put-here-by-mistake", "\ud800"])  # fmt: skip
def test_token_without_a_digest_has_no_shard_and_no_name(id_):
    validator, document = RecordValidator(), {}
    ref = Ref(Kind.TOKENS, id_)
    validator.insert(document, ref, validator.validate(ref, GOOD[Ref(Kind.TOKENS, DIGEST)]))
    assert document == {}
    assert validator.problems[ref] == "tokens: an id that is not a digest, or not text"
    assert shard_of(ref, 64) == "00"


def test_invalid_record_is_null_and_listed_until_valid(caplog):
    validator, document = RecordValidator(), {}
    ref = Ref(Kind.USERS, "ada")
    for _ in range(3):
        validator.insert(document, ref, validator.validate(ref, {"name": SECRET}))
    assert document == {"users": {"ada": None}}
    assert list(validator.problems) == [ref]
    with caplog.at_level(logging.WARNING):
        assert caplog.messages == [f"publisher.record_refused {validator.problems[ref]}"]
    assert SECRET not in caplog.text
    validator.insert(document, ref, validator.validate(ref, GOOD[ref]))
    assert document == {"users": {"ada": GOOD[ref]}}
    assert validator.problems == {}


def test_setting_that_json_cannot_hold_is_left_out_and_named():
    validator = RecordValidator()
    assert validator.valid_settings({"lockdown": False, "staleness_limit": math.inf}) == {
        "lockdown": False
    }
    assert list(validator.problems.values()) == ["settings/staleness_limit: is not a JSON value"]
    validator.valid_settings({"lockdown": False, "staleness_limit": 30})
    assert validator.problems == {}


ODD_IDS = [
    "", " ", "a", "ada", "7f000000-0000-4000-8000-000000000001", "a/b", "../x", "\x00", "\n", "é",
    "e\u0301", "\u2028", "🙂", "\U0010ffff", "x" * 10_000, '"', "\\", "%s", "<&>", "null", "00",
]  # fmt: skip


@pytest.mark.parametrize("shards", [1, 2, 3, 7, 16, 64])
def test_shard_in_python_equals_shard_in_rego(plain_opa, shards):
    since = {f"{n:02x}": 0 for n in range(shards)}
    plain_opa.set_dataset(make_dataset())
    plain_opa.request("PUT", "/v1/data/registry/live/since", since)
    refs = [Ref(kind, id_) for kind in Kind for id_ in ODD_IDS if kind is not Kind.TOKENS]
    refs += [Ref(Kind.TOKENS, f"{n:02x}{DIGEST[2:]}") for n in range(256)]
    asked = [[ref.kind.value, ref.id] for ref in refs]
    plain_opa.request("PUT", "/v1/data/asked", asked)
    answer = plain_opa.query(
        "shards := [shard | some [kind, id] in data.asked; shard := data.lictor.registry.shard(kind, id)]"
    )["shards"]
    assert answer == [shard_of(ref, shards) for ref in refs]
    assert set(answer) <= set(since)


@given(st.sampled_from([Kind.USERS, Kind.TEAMS]), st.text(), st.integers(1, 64))
def test_every_id_has_a_shard(kind, id_, shards):
    assert 0 <= int(shard_of(Ref(kind, id_), shards), 16) < shards


def test_invalid_library_is_not_one_without_tags():
    validator = RecordValidator()
    ref = Ref(Kind.LIBRARIES, "lib-a")
    for record in (
        {"name": "A", "tags": "sealed"},
        {"name": "A", "tags": None},
        Fault("has no workspace"),
    ):
        assert validator.validate(ref, record) == {"name": "", "tags": None}
        assert list(validator.problems) == [ref]
    assert validator.validate(ref, None) is None
    assert validator.problems == {}
