from __future__ import annotations

import hashlib
from uuid import UUID

import pytest

from registry import RegistryVersion, Setting, Team, Token, User
from registry.exceptions import (
    AlreadyExistsError,
    AmbiguousLabelError,
    InvalidRecordError,
    NotFoundError,
)
from registry.operations import Operator

pytestmark = pytest.mark.anyio

DIGEST = hashlib.sha256(b"test").hexdigest()


@pytest.fixture
def operator(registry):
    return Operator(registry, actor="ops")


@pytest.fixture
async def team(operator, sample_records):
    return (await operator.create_team("Readers", owner="ada", workspaces=["docs"])).record


async def test_verb_makes_one_log_entry_with_its_actor(operator, registry):
    await operator.add_user("ada", name="Ada")
    await operator.add_workspace("docs")
    await operator.add_library("lib-a", workspace="docs", tags=["b", "a"])
    team = (await operator.create_team("Readers", owner="ada")).record
    await operator.assign(team.id, "docs")
    await operator.rotate_team(team.id)
    await operator.unassign(team.id, "docs")
    await operator.deactivate_team(team.id)
    await operator.activate_team(team.id)
    await operator.create_token(DIGEST, user="ada", tools=["read_*"], libraries=["lib-a"])
    await operator.revoke_token(DIGEST)
    await operator.add_key("k1", alg="EdDSA")
    await operator.retire_key("k1")
    await operator.disable_user("ada")
    await operator.enable_user("ada")
    await operator.lockdown(on=True)
    done = await operator.lockdown(on=False)
    log = await registry.log()
    assert [entry.action for entry in log] == [
        *("user add", "workspace add", "library add", "team create", "team assign", "team rotate"),
        *("team unassign", "team deactivate", "team activate", "token create", "token revoke"),
        *("key add", "key retire", "user disable", "user enable", "lockdown on", "lockdown off"),
    ]
    assert {entry.actor for entry in log} == {"ops"}
    assert done.version == RegistryVersion(1, len(log))


async def test_disabling_a_disabled_user_reports_and_makes_no_revision(operator, sample_records):
    first = await operator.disable_user("ada")
    again = await operator.disable_user("ada")
    assert (first.changed, again.changed) == (True, False)
    assert first.version == again.version == RegistryVersion(1, 2)
    assert again.record == User(id="ada", name="Ada", active=False)


async def test_new_team_has_a_uuid_a_jti_and_every_tool(team, registry):
    assert str(UUID(team.id)) == team.id
    assert team.active_jti
    assert (team.workspaces, team.tools) == (("docs",), ("*",))
    assert await registry.get(Team, team.id) == team


async def test_team_rotation_gives_a_new_jti_each_time(operator, team):
    jtis = {team.active_jti}
    for _ in range(2):
        jtis.add((await operator.rotate_team(team.id)).record.active_jti)
    assert len(jtis) == 3


async def test_assigning_twice_and_unassigning_twice_changes_once(operator, team):
    assigned = [await operator.assign(team.id, "lab") for _ in range(2)]
    assert [done.changed for done in assigned] == [True, False]
    assert assigned[0].record.workspaces == ("docs", "lab")
    unassigned = [await operator.unassign(team.id, "lab") for _ in range(2)]
    assert [done.changed for done in unassigned] == [True, False]
    assert unassigned[1].record == team


async def test_missing_workspace_is_neither_assigned_nor_unassigned(operator, team):
    for verb in (operator.assign, operator.unassign):
        with pytest.raises(NotFoundError, match="'typo'"):
            await verb(team.id, "typo")


@pytest.mark.parametrize("given", ["lct_…9f86d081", DIGEST])
async def test_token_is_revoked_by_label_or_digest(operator, sample_records, registry, given):
    created = await operator.create_token(DIGEST, user="ada", tools=["*"], expires_at=5)
    assert created.record.label == "lct_…9f86d081"
    revoked = await operator.revoke_token(given)
    assert revoked.changed
    assert (await registry.get(Token, DIGEST)).active is False


async def test_label_of_two_tokens_revokes_neither(operator, sample_records, registry):
    digests = [DIGEST, DIGEST[:8] + 56 * "0"]
    for digest in digests:
        await operator.create_token(digest, user="ada", tools=["*"])
    with pytest.raises(AmbiguousLabelError) as caught:
        await operator.revoke_token("lct_…9f86d081")
    assert set(caught.value.digests) == set(digests)
    assert all(token.active for token in await registry.all(Token))


async def test_bearer_given_by_mistake_is_not_repeated(operator, sample_records):
    with pytest.raises(NotFoundError) as not_found:
        await operator.revoke_token("lct_secret")
    with pytest.raises(InvalidRecordError) as invalid:
        await operator.create_token("lct_secret", user="ada", tools=["*"])
    assert "secret" not in f"{not_found.value} {invalid.value}"


async def test_token_without_a_tool_is_refused(operator, sample_records):
    with pytest.raises(InvalidRecordError, match="tools"):
        await operator.create_token(DIGEST, user="ada", tools=[])


async def test_existing_record_is_not_created_again(operator, sample_records):
    await operator.create_token(DIGEST, user="ada", tools=["*"])
    await operator.add_key("k1", alg="EdDSA")
    for verb in (
        operator.add_user("ada"),
        operator.add_workspace("docs"),
        operator.add_library("lib-a", workspace="lab"),
        operator.create_token(DIGEST, user="ada", tools=["*"]),
        operator.add_key("k1", alg="HS256"),
    ):
        with pytest.raises(AlreadyExistsError):
            await verb


async def test_missing_record_is_not_changed(operator):
    for verb in (
        operator.disable_user("nobody"),
        operator.enable_user("\udcff"),
        operator.rotate_team("none"),
        operator.deactivate_team("none"),
        operator.retire_key("none"),
        operator.revoke_token(DIGEST),
        operator.create_team("Readers", owner="nobody"),
    ):
        with pytest.raises(NotFoundError):
            await verb


async def test_lockdown_is_a_setting(operator, registry):
    await operator.lockdown(on=True)
    assert await registry.get(Setting, "lockdown") == Setting(name="lockdown", value=True)
