from __future__ import annotations

import asyncio
import tempfile
from contextlib import aclosing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry import (
    Key,
    Library,
    RegistryVersion,
    Setting,
    Team,
    Token,
    User,
    Workspace,
    open_registry,
)
from registry.document import export_document, import_document
from registry.exceptions import InvalidDocumentError, InvalidRecordError, NotFoundError

pytestmark = pytest.mark.anyio

UUID = "7f0c1a52-6f0e-4d2c-9a53-0d8a4a1f5f10"
DIGEST = "9f86d081" + 56 * "a"

DOCUMENT = f"""\
version: 1
settings:
  issuers:
  - daedalus
  - mnemosyne
  listable:
    anonymous:
    - '*'
    rejected: []
  lockdown: false
  reconcile_limit: 600
  staleness_limit: 30
users:
- id: ada
  name: Ada
  active: true
workspaces:
- id: docs
  name: Docs
libraries:
- uid: lib-a
  name: A
  workspace_id: docs
  tags:
  - public
teams:
- id: {UUID}
  name: Readers
  owner: ada
  active_jti: j
  active: true
  workspaces:
  - docs
  tools:
  - '*'
tokens:
- digest: {DIGEST}
  label: lct_…9f86d081
  user: ada
  active: true
  expires_at: null
  libraries: []
  tools:
  - '*'
keys:
- kid: k1
  alg: EdDSA
  active: true
"""


async def test_document_round_trips(registry):
    imported = await import_document(registry, DOCUMENT, actor="tests")
    assert (imported.records, imported.version) == (11, RegistryVersion(1, 1))
    assert await export_document(registry, actor="tests") == DOCUMENT
    assert await registry.version() == RegistryVersion(1, 1)


async def test_document_imported_again_changes_nothing(registry):
    await import_document(registry, DOCUMENT, actor="tests")
    assert (await import_document(registry, DOCUMENT, actor="tests")).version == RegistryVersion(
        1, 1
    )


async def test_document_leaves_unnamed_records_unchanged(registry, sample_records):
    await import_document(registry, "version: 1\nusers: [{id: bob, name: Bob}]", actor="tests")
    assert await registry.all(User) == [User(id="ada", name="Ada"), User(id="bob", name="Bob")]


async def test_document_omitted_fields_get_their_defaults(registry, sample_records):
    text = f"""
version: 1
users: [{{id: ada, name: Ada}}]
teams: [{{id: {UUID}, name: T, owner: ada, active_jti: j}}]
tokens: [{{digest: {DIGEST}, user: ada}}]
"""
    await import_document(registry, text, actor="tests")
    assert (await registry.get(Team, UUID)).tools == ("*",)
    token = await registry.get(Token, DIGEST)
    assert (token.label, token.tools, token.active) == ("lct_…9f86d081", (), True)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", "document"),
        ("[]", "document"),
        ("users: []", "version"),
        ("version: 2", "version"),
        ("version: 1\ngroups: []", "groups"),
        ("version: 1\nsettings: {color: red}", "settings.color"),
        (
            "version: 1\nsettings: {listable: {anonymous: [], rejected: [], x: []}}",
            "settings.listable.x",
        ),
        ("version: 1\nusers: [{id: a, name: A, secret: lct_x}]", "users[0].secret"),
        ("version: 1\nusers: [{id: a}]", "users[0].name"),
        ("version: 1\nusers: [{id: no, name: A}]", "users[0].id"),
        ("version: 1\nusers: [{id: a, name: 2024-01-01}]", "users[0].name"),
        ("version: 1\ntokens: [{digest: lct_x, user: a}]", "tokens[0].digest"),
        ("version: 1\nkeys: [{kid: k, alg: HS256, k: lct_x}]", "keys[0].k"),
        ("version: 1\nusers: [{id: a, name: A}, {id: a, name: B}]", "users[1]"),
        ("version: 1\nversion: 1", "line 2, column 1"),
        ("version: 1\nusers: [{id: a, name: A, name: B}]", "line 2, column 26"),
        ("version: 1\nusers: [{<<: {id: a}, name: A}]", "line 2, column 10"),
        ("version: 1\nusers: [&u {id: a, name: A}, *u]", "line 2, column 30"),
        ("version: 1\nusers: [!!python/object:os.system {}]", "line 2, column 9"),
        ("version: 1\nusers: [lct_x", "line 2, column 14"),
        ("version: 1\n? [a]\n: b", "line 2, column 3"),
        ("version: \0", "document"),
        ("version: 2024-99-99", "document"),
        ("[" * 5000, "document"),
    ],
)
async def test_invalid_document_is_refused_with_the_place(registry, text, path):
    with pytest.raises(InvalidDocumentError) as caught:
        await import_document(registry, text, actor="tests")
    assert caught.value.path == path
    assert "lct_x" not in str(caught.value)
    assert await registry.version() == RegistryVersion(1, 0)


async def test_document_with_a_missing_owner_is_refused_whole(registry):
    with pytest.raises(NotFoundError, match="'ada'"):
        await import_document(registry, DOCUMENT.replace("id: ada", "id: eve"), actor="tests")
    assert await registry.version() == RegistryVersion(1, 0)
    assert await registry.all(User) == []


async def test_document_with_an_invalid_record_is_refused_whole(registry):
    head, teams = DOCUMENT.split("teams:")
    text = head + "teams:" + teams.replace("'*'", "'read_['")
    with pytest.raises(InvalidRecordError, match=f"teams/{UUID}: tools"):
        await import_document(registry, text, actor="tests")
    assert await registry.all(User) == []


names = st.one_of(
    st.sampled_from(
        ["\u2028", "😀", "'\"", "a/b\\c", " - x", "no", "1e3", "~", "#", "\ufeff", "\ufffe", " "]
    ),
    st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=256),
)
texts = st.lists(names, max_size=3).map(lambda values: tuple(sorted(set(values))))


@st.composite
def registries(draw):
    """The records of a registry, each after those that it names."""
    users = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    workspaces = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    user, workspace = st.sampled_from(users), st.sampled_from(workspaces)
    return [
        *(User(id=id_, name=draw(names), active=draw(st.booleans())) for id_ in users),
        *(Workspace(id=id_, name=draw(names)) for id_ in workspaces),
        Library(uid=draw(names), name=draw(names), workspace_id=draw(workspace), tags=draw(texts)),
        Team(
            id=str(draw(st.uuids())),
            name=draw(names),
            owner=draw(user),
            active_jti=draw(names),
            workspaces=tuple(sorted(draw(st.sets(workspace)))),
        ),
        Token(
            digest=draw(st.binary(min_size=32, max_size=32)).hex(),
            label=draw(names),
            user=draw(user),
            expires_at=draw(st.none() | st.floats(allow_nan=False, allow_infinity=False)),
            libraries=draw(texts),
        ),
        Key(kid=draw(names), alg=draw(names)),
        Setting(name="issuers", value=draw(st.lists(names, max_size=3))),
    ]


async def moved(records, *, source, target):
    """Put records into one registry, move them to the other, and expect them there."""
    async with (
        aclosing(await open_registry(source)) as one,
        aclosing(await open_registry(target)) as two,
    ):
        await two.check(fix=True)
        async with one.transaction(actor="tests", action="fill") as tx:
            await tx.put(*records)
        text = await export_document(one, actor="tests")
        await import_document(two, text, actor="tests")
        assert await export_document(two, actor="tests") == text
        for record in records:
            assert await two.get(type(record), record.ref.id) == record


@pytest.mark.system
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(registries())
def test_exported_document_round_trips(records):
    with tempfile.TemporaryDirectory() as folder:
        one, two = f"sqlite:///{folder}/one.db", f"sqlite:///{folder}/two.db"
        asyncio.run(moved(records, source=one, target=two))


# The fixture is one graph for all examples: each empties it.
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(registries())
def test_registry_moves_from_sqlite_to_neo4j_unchanged(neo4j_server, cypher, records):
    cypher("MATCH (n) DETACH DELETE n")
    with tempfile.TemporaryDirectory() as folder:
        one = f"sqlite:///{folder}/one.db"
        asyncio.run(moved(records, source=one, target=neo4j_server.url))
