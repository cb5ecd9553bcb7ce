"""The registry's verbs: `lictor user`, `workspace`, `library`, `team`, `token` and `lockdown`."""

import re
import time
from typing import Annotated, Literal

from cyclopts import App, Parameter

from lictor.commands.done import as_shown, show_done
from lictor.console import Common
from lictor.exceptions import InvalidArgumentError
from lictor.keys import KeyFolder
from lictor.wait import WaitOptions
from pdp_client.bearer.opaque import digest, mint_opaque
from registry import Key, Library, Registry, Team, Token, Usage, User, Workspace
from registry.operations import Done

user = App(name="user", help="People and service accounts.")
workspace = App(name="workspace", help="Groups of libraries that teams are assigned to.")
library = App(name="library", help="Libraries, each in one workspace.")
team = App(name="team", help="Teams, and the one JWT that each has.")
token = App(name="token", help="Opaque tokens of users.")

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DEFAULT = Common()
_AT_ONCE = WaitOptions()
_ALL = ("*",)


@user.command(name="add")
async def add_user(user_id: str, /, *, name: str | None = None, common: Common = _DEFAULT) -> None:
    """Add an active user."""
    async with common.operator() as operator:
        await show_done(common, await operator.add_user(user_id, name=name))


@user.command(name="disable")
async def disable_user(
    user_id: str, /, *, waiting: WaitOptions = _AT_ONCE, common: Common = _DEFAULT
) -> None:
    """Switch off all that a user's tokens and teams may do."""
    async with common.operator() as operator:
        await show_done(common, await operator.disable_user(user_id), waiting=waiting)


@user.command(name="enable")
async def enable_user(user_id: str, /, *, common: Common = _DEFAULT) -> None:
    """Undo `disable`."""
    async with common.operator() as operator:
        await show_done(common, await operator.enable_user(user_id))


@user.command(name="list")
async def list_users(*, common: Common = _DEFAULT) -> None:
    """List all users."""
    async with common.reading() as registry:
        common.show(await registry.all(User))


@workspace.command(name="add")
async def add_workspace(
    workspace_id: str, /, *, name: str | None = None, common: Common = _DEFAULT
) -> None:
    """Add a workspace."""
    async with common.operator() as operator:
        await show_done(common, await operator.add_workspace(workspace_id, name=name))


@workspace.command(name="list")
async def list_workspaces(*, common: Common = _DEFAULT) -> None:
    """List all workspaces."""
    async with common.reading() as registry:
        common.show(await registry.all(Workspace))


@library.command(name="add")
async def add_library(
    uid: str,
    /,
    *,
    workspace: str,
    name: str | None = None,
    tag: Annotated[list[str] | None, Parameter(negative="")] = None,
    common: Common = _DEFAULT,
) -> None:
    """Add a library to a workspace."""
    async with common.operator() as operator:
        await show_done(
            common, await operator.add_library(uid, workspace=workspace, name=name, tags=tag or ())
        )


@library.command(name="list")
async def list_libraries(*, common: Common = _DEFAULT) -> None:
    """List all libraries."""
    async with common.reading() as registry:
        common.show(await registry.all(Library))


@team.command(name="create")
async def create_team(
    name: str,
    /,
    *,
    owner: str,
    workspace: Annotated[list[str] | None, Parameter(negative="")] = None,
    tool: Annotated[list[str] | None, Parameter(negative="")] = None,
    common: Common = _DEFAULT,
) -> None:
    """Create a team and print its JWT, this once.

    Args:
        name: for people.
        owner: a user; when that user is disabled, so is the team.
        workspace: whose libraries the team may touch; more than once for several.
        tool: a pattern of tools that it may call; without any, all.
        common: the flags that every command has.
    """
    async with common.operator() as operator, common.reading() as registry:
        # Before the team is created: without a signing key it would not get a JWT.
        kids = await _active_kids(common, registry)
        done = await operator.create_team(
            name, owner=owner, workspaces=workspace or (), tools=tool or _ALL
        )
        await _minted(common, done, kids)


@team.command(name="rotate")
async def rotate_team(
    team_id: str, /, *, waiting: WaitOptions = _AT_ONCE, common: Common = _DEFAULT
) -> None:
    """Kill a team's JWT and print the new one, this once."""
    async with common.operator() as operator, common.reading() as registry:
        kids = await _active_kids(common, registry)
        await _minted(common, await operator.rotate_team(team_id), kids, waiting=waiting)


@team.command(name="deactivate")
async def deactivate_team(
    team_id: str, /, *, waiting: WaitOptions = _AT_ONCE, common: Common = _DEFAULT
) -> None:
    """Switch a team off."""
    async with common.operator() as operator:
        await show_done(common, await operator.deactivate_team(team_id), waiting=waiting)


@team.command(name="activate")
async def activate_team(team_id: str, /, *, common: Common = _DEFAULT) -> None:
    """Undo `deactivate`; the team's JWT is good again."""
    async with common.operator() as operator:
        await show_done(common, await operator.activate_team(team_id))


@team.command(name="assign")
async def assign(team_id: str, workspace_id: str, /, *, common: Common = _DEFAULT) -> None:
    """Give a team a workspace's libraries."""
    async with common.operator() as operator:
        await show_done(common, await operator.assign(team_id, workspace_id))


@team.command(name="unassign")
async def unassign(
    team_id: str,
    workspace_id: str,
    /,
    *,
    waiting: WaitOptions = _AT_ONCE,
    common: Common = _DEFAULT,
) -> None:
    """Take a workspace's libraries from a team."""
    async with common.operator() as operator:
        await show_done(common, await operator.unassign(team_id, workspace_id), waiting=waiting)


@team.command(name="list")
async def list_teams(*, common: Common = _DEFAULT) -> None:
    """List all teams."""
    async with common.reading() as registry:
        common.show([as_shown(team) for team in await registry.all(Team)])


@token.command(name="create")
async def create_token(
    *,
    user: str,
    tool: Annotated[list[str], Parameter(negative="")],
    library: Annotated[list[str] | None, Parameter(negative="")] = None,
    expires_in: str | None = None,
    common: Common = _DEFAULT,
) -> None:
    """Create an opaque token and print it, this once.

    Args:
        user: whose token it is.
        tool: a pattern of tools that it may call; at least one.
        library: a library that it may touch; without any, none.
        expires_in: such as 90s, 15m, 1h or 30d; without it, never.
        common: the flags that every command has.
    """
    expires_at = None if expires_in is None else round(time.time()) + _seconds(expires_in)
    bearer = mint_opaque()
    async with common.operator() as operator:
        done = await operator.create_token(
            digest(bearer), user=user, tools=tool, libraries=library or (), expires_at=expires_at
        )
        await show_done(common, done, token=bearer)


@token.command(name="revoke")
async def revoke_token(
    token_id: str, /, *, waiting: WaitOptions = _AT_ONCE, common: Common = _DEFAULT
) -> None:
    """Switch a token off, for good.

    Args:
        token_id: its id as `create` and `list` print it, or its whole digest.
        waiting: whether to wait until that holds everywhere.
        common: the flags that every command has.
    """
    async with common.operator() as operator:
        await show_done(common, await operator.revoke_token(token_id), waiting=waiting)


@token.command(name="list")
async def list_tokens(*, common: Common = _DEFAULT) -> None:
    """List all tokens, masked, with how often each was used, and when last."""
    async with common.reading() as registry:
        tokens = await registry.all(Token)
        usage = await registry.usage(token.digest for token in tokens)
    common.show([{**as_shown(token), **_used(usage.get(token.digest))} for token in tokens])


async def lockdown(
    state: Literal["on", "off"], /, *, waiting: WaitOptions = _AT_ONCE, common: Common = _DEFAULT
) -> None:
    """Stop everything but public tools, or go on."""
    async with common.operator() as operator:
        done = await operator.lockdown(on=state == "on")
        await show_done(common, done, waiting=waiting if state == "on" else None)


async def _active_kids(common: Common, registry: Registry) -> list[str]:
    kids = [key.kid for key in await registry.all(Key) if key.active]
    KeyFolder(common.settings.keys).require_signing_key(kids)
    return kids


async def _minted(
    common: Common, done: Done[Team], kids: list[str], *, waiting: WaitOptions | None = None
) -> None:
    jwt = KeyFolder(common.settings.keys).mint_team(
        done.record.id, jti=done.record.active_jti, active_kids=kids
    )
    await show_done(common, done, waiting=waiting, jwt=jwt)


def _used(usage: Usage | None) -> dict[str, int | None]:
    return {
        "uses": usage.uses if usage else 0,
        "last_used_at": round(usage.last_used_at) if usage else None,
    }


def _seconds(text: str) -> int:
    found = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if not found:
        raise InvalidArgumentError(f"{text!r} is not a duration such as 90s, 15m, 1h or 30d")
    return int(found[1]) * _UNITS[found[2]]
