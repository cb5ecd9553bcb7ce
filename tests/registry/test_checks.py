from __future__ import annotations

import math
from dataclasses import replace

import pytest

from registry import Key, Library, Setting, Team, Token, User, Workspace
from registry.checks import validate
from registry.exceptions import InvalidRecordError
from registry.globs import glob_fault

UUID = "7f0c1a52-6f0e-4d2c-9a53-0d8a4a1f5f10"
DIGEST = 64 * "a"
USER = User(id="ada", name="Ada")
TEAM = Team(id=UUID, name="Readers", owner="ada", active_jti="j")
TOKEN = Token(digest=DIGEST, label="lct_…aaaaaaaa", user="ada")
LIBRARY = Library(uid="l", name="L", workspace_id="w")
WORKSPACE = Workspace(id="w", name="W")
KEY = Key(kid="k", alg="EdDSA")


@pytest.mark.parametrize("record", [USER, TEAM, TOKEN, LIBRARY, WORKSPACE, KEY])
def test_valid_record_is_accepted_unchanged(record):
    assert validate(record) == record


@pytest.mark.parametrize("text", ["", "a\nb", "a\0", "\x7f", "\x85", "\ud800", "x" * 257, None, 7])
def test_invalid_id_is_refused_unquoted(text):
    with pytest.raises(InvalidRecordError) as caught:
        validate(replace(USER, id=text))
    assert (caught.value.record, caught.value.field) == ("users", "id")


@pytest.mark.parametrize("text", ["\u2028", "😀", 'it\'s "odd"/\\', "x" * 256, " "])
def test_odd_id_is_an_id(text):
    assert validate(replace(USER, id=text)).id == text


@pytest.mark.parametrize(
    ("record", "field", "value"),
    [
        (USER, "name", ""),
        (USER, "active", 1),
        (WORKSPACE, "name", "\t"),
        (LIBRARY, "tags", ("ok", "")),
        (LIBRARY, "tags", ["ok"]),
        (LIBRARY, "workspace_id", None),
        (TEAM, "id", UUID.upper()),
        (TEAM, "id", UUID.replace("-", "")),
        (TEAM, "id", "urn:uuid:" + UUID),
        (TEAM, "id", None),
        (TEAM, "id", "docs"),
        (TEAM, "active_jti", ""),
        (TEAM, "workspaces", "docs"),
        (TEAM, "tools", ("read_[",)),
        (TOKEN, "digest", DIGEST.upper()),
        (TOKEN, "digest", DIGEST + "\n"),
        (TOKEN, "digest", "lct_bearer"),
        (TOKEN, "expires_at", math.nan),
        (TOKEN, "expires_at", -math.inf),
        (TOKEN, "expires_at", 10**400),
        (TOKEN, "expires_at", True),
        (TOKEN, "expires_at", "tomorrow"),
        (TOKEN, "libraries", (None,)),
        (KEY, "alg", ""),
    ],
)
def test_invalid_field_is_named_and_not_quoted(record, field, value):
    with pytest.raises(InvalidRecordError) as caught:
        validate(replace(record, **{field: value}))
    assert caught.value.field == field
    assert caught.value.record == (
        record.kind if field == record.key else f"{record.kind}/{record.ref.id}"
    )
    assert "bearer" not in str(caught.value)


def test_expiry_is_a_float():
    assert isinstance(validate(replace(TOKEN, expires_at=5)).expires_at, float)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lockdown", True),
        ("staleness_limit", 2.5),
        ("reconcile_limit", 1),
        ("listable", {"anonymous": [], "rejected": ["read_*"]}),
        ("issuers", ["mnemosyne"]),
    ],
)
def test_setting_of_the_right_shape_is_accepted(name, value):
    assert validate(Setting(name=name, value=value)).value == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lockdown", 1),
        ("staleness_limit", 0),
        ("staleness_limit", math.inf),
        ("reconcile_limit", "600"),
        ("listable", {"anonymous": ["*"]}),
        ("listable", {"anonymous": ["{"], "rejected": []}),
        ("listable", ["*"]),
        ("issuers", "mnemosyne"),
        ("issuers", [""]),
        ("lock_down", True),
        ("", True),
    ],
)
def test_setting_of_another_shape_is_refused(name, value):
    with pytest.raises(InvalidRecordError):
        validate(Setting(name=name, value=value))


GOOD_GLOBS = [
    "*",
    "read_*",
    "a?c",
    "[abc]",
    "[!abc]",
    "[a-z]*",
    "{a,b}_{c,d}",
    "{get,list}_*",
    "{get_*,list_*,put_?}",
    "*a*b*c*d*e*f*g*",
    r"*\**\**[*]*[*]*[,{}]*a*b*",
    "{" + ",".join("abcdefghijklmnop") + "}*",
    "x" * 255 + "*",
    "x" * 10_000,
    r"\[x\]",
    r"[\]]",
    "é*",
]
BAD_GLOBS = [
    "[",
    "]",
    "{",
    "}",
    "a]",
    "[]",
    "[!]",
    "[z-a]",
    "[a-",
    "[a-]",
    "[a-zA-Z]",
    "[[a]",
    "{a,b",
    "x\\",
    "[a\\",
    # What OPA could spend seconds on.
    "*a*b*c*d*e*f*g*h*",
    "*" * 9,
    "{a,b{c,d}}",
    "{a*,aa*}{a*,aa*}{a*,aa*}c*",
    "{a*,aa*}c*",
    "{a*,aa*}{b*,bb*}",
    "{*a*,b}c",
    "*{a,aa}*",
    "{a,aa}{a,aa}{a,aa}",
    "{" + ",".join("abcdefghijklmnopq") + "}",
    "x" * 256 + "*",
    "x" * 256 + "?",
    "[x]" * 86,
]


@pytest.mark.parametrize("pattern", GOOD_GLOBS)
def test_pattern_that_opa_can_match_is_accepted(pattern):
    assert glob_fault(pattern) is None


@pytest.mark.parametrize("pattern", BAD_GLOBS)
def test_ambiguous_pattern_is_refused(pattern):
    assert glob_fault(pattern) is not None


@pytest.mark.parametrize("tools", [("",), ("x" * 257,), ("a\nb",)])
def test_pattern_is_plain_text(tools):
    with pytest.raises(InvalidRecordError):
        validate(replace(TEAM, tools=tools))
