"""The operator's verbs on any registry. Each is one transaction.

A verb whose result is already in place changes nothing: it makes no revision and no log entry, and
`Done.changed` is False. A name that does not exist is always an error, even for a removal: a
mistyped revocation must not report success.
"""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import uuid4

from lictor_common.text import is_digest, token_label
from lictor_common.version import RegistryVersion
from registry.checks import validate
from registry.exceptions import (
    AlreadyExistsError,
    AmbiguousLabelError,
    InvalidRecordError,
    NotFoundError,
)
from registry.model import Key, Kind, Library, Record, Setting, Team, Token, User, Workspace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from registry.interface import Registry, Transaction

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done(Generic[R]):
    """A verb's result: the record as it is now, and the state of the registry that holds it."""

    record: R
    version: RegistryVersion
    changed: bool


class Operator:
    """The verbs of one person or program.

    Every verb raises `InvalidRecordError` for an argument that no record may hold, `NotFoundError`
    for a record that does not exist, and `AlreadyExistsError` if it would create one that does.

    Args:
        registry: the registry to write.
        actor: the actor of the writes, for the change log.
        committed: called after each committed write, even one that changed nothing.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        actor: str,
        committed: Callable[[Registry], Awaitable[None]] | None = None,
    ) -> None:
        self._registry = registry
        self._actor = actor
        self._committed = committed

    async def add_user(self, user_id: str, *, name: str | None = None) -> Done[User]:
        """Add an active user; the name is the id unless another is given."""
        user = User(id=user_id, name=user_id if name is None else name)
        return await self._add(user, action="user add")

    async def disable_user(self, user_id: str) -> Done[User]:
        """Disable a user, and with it the user's tokens and teams."""
        return await self._change(User, user_id, action="user disable", active=False)

    async def enable_user(self, user_id: str) -> Done[User]:
        """Undo `disable_user`."""
        return await self._change(User, user_id, action="user enable", active=True)

    async def add_workspace(self, workspace_id: str, *, name: str | None = None) -> Done[Workspace]:
        """Add a workspace; the name is the id unless another is given."""
        workspace = Workspace(id=workspace_id, name=workspace_id if name is None else name)
        return await self._add(workspace, action="workspace add")

    async def add_library(
        self, uid: str, *, workspace: str, name: str | None = None, tags: Iterable[str] = ()
    ) -> Done[Library]:
        """Add a library to a workspace; the name is the uid unless another is given."""
        library = Library(
            uid=uid, name=uid if name is None else name, workspace_id=workspace, tags=tuple(tags)
        )
        return await self._add(library, action="library add")

    async def create_team(
        self,
        name: str,
        *,
        owner: str,
        workspaces: Iterable[str] = (),
        tools: Iterable[str] = ("*",),
    ) -> Done[Team]:
        """Create a team; its record has the id and the jti that its JWT must carry."""
        team = Team(
            id=str(uuid4()),
            name=name,
            owner=owner,
            active_jti=_new_jti(),
            workspaces=tuple(workspaces),
            tools=tuple(tools),
        )
        return await self._add(team, action="team create")

    async def rotate_team(self, team_id: str) -> Done[Team]:
        """Give a team a new jti, which invalidates its JWT."""
        return await self._change(Team, team_id, action="team rotate", active_jti=_new_jti())

    async def deactivate_team(self, team_id: str) -> Done[Team]:
        """Deactivate a team."""
        return await self._change(Team, team_id, action="team deactivate", active=False)

    async def activate_team(self, team_id: str) -> Done[Team]:
        """Undo `deactivate_team`; the team's JWT is valid again."""
        return await self._change(Team, team_id, action="team activate", active=True)

    async def assign(self, team_id: str, workspace_id: str) -> Done[Team]:
        """Grant a workspace's libraries to a team."""
        async with self._transaction("team assign") as tx:
            before = await _existing(tx, Team, team_id)
            after = validate(replace(before, workspaces=(*before.workspaces, workspace_id)))
            await tx.put(after)
        return Done(record=after, version=tx.version, changed=after != before)

    async def unassign(self, team_id: str, workspace_id: str) -> Done[Team]:
        """Withdraw a workspace's libraries from a team."""
        async with self._transaction("team unassign") as tx:
            before = await _existing(tx, Team, team_id)
            await _existing(tx, Workspace, workspace_id)
            after = replace(
                before, workspaces=tuple(w for w in before.workspaces if w != workspace_id)
            )
            await tx.put(after)
        return Done(record=after, version=tx.version, changed=after != before)

    async def create_token(
        self,
        digest: str,
        *,
        user: str,
        tools: Iterable[str],
        libraries: Iterable[str] = (),
        expires_at: float | None = None,
    ) -> Done[Token]:
        """Store a token by its digest.

        Args:
            digest: SHA-256 of the bearer in lowercase hex; the bearer itself is never passed in.
            user: the id of the user that it belongs to.
            tools: glob patterns of the tools that it may call, at least one.
            libraries: the uids of the libraries that it may touch; without any, none.
            expires_at: seconds since 1970, None for never.
        """
        token = Token(
            digest=digest,
            label=token_label(digest),
            user=user,
            expires_at=expires_at,
            libraries=tuple(libraries),
            tools=tuple(tools),
        )
        if not token.tools:
            raise InvalidRecordError("tokens", "tools", "must name at least one")
        return await self._add(token, action="token create")

    async def revoke_token(self, token_id: str) -> Done[Token]:
        """Revoke a token permanently.

        Args:
            token_id: its label, or its whole digest.

        Raises:
            NotFoundError: no token matches. The argument is not quoted: it may be a bearer.
            AmbiguousLabelError: several tokens have that label.
        """
        async with self._transaction("token revoke") as tx:
            before = await _token(tx, token_id)
            after = replace(before, active=False)
            await tx.put(after)
        return Done(record=after, version=tx.version, changed=after != before)

    async def add_key(self, kid: str, *, alg: str) -> Done[Key]:
        """Register a signing key by its id and its one algorithm."""
        return await self._add(Key(kid=kid, alg=alg), action="key add")

    async def retire_key(self, kid: str) -> Done[Key]:
        """Retire a key, which invalidates every JWT that it signed."""
        return await self._change(Key, kid, action="key retire", active=False)

    async def lockdown(self, *, on: bool) -> Done[Setting]:
        """Stop everything except the public tools, or resume."""
        action = f"lockdown {'on' if on else 'off'}"
        return await self._change(Setting, "lockdown", action=action, value=on)

    @asynccontextmanager
    async def _transaction(self, action: str) -> AsyncIterator[Transaction]:
        async with self._registry.transaction(actor=self._actor, action=action) as tx:
            yield tx
        if self._committed:
            await self._committed(self._registry)

    async def _add(self, record: R, *, action: str) -> Done[R]:
        record = validate(record)
        ref = record.ref
        async with self._transaction(action) as tx:
            if await tx.get(type(record), ref.id) is not None:
                raise AlreadyExistsError(ref.kind, ref.id)
            await tx.put(record)
        return Done(record=record, version=tx.version, changed=True)

    async def _change(self, type_: type[R], id_: str, *, action: str, **fields: Any) -> Done[R]:
        async with self._transaction(action) as tx:
            before = await _existing(tx, type_, id_)
            after = replace(before, **fields)
            await tx.put(after)
        return Done(record=after, version=tx.version, changed=after != before)


def _new_jti() -> str:
    return secrets.token_urlsafe(16)


async def _existing(tx: Transaction, type_: type[R], id_: str) -> R:
    record = await tx.get(type_, id_)
    if record is None:
        raise NotFoundError(type_.kind, id_)
    return record


async def _token(tx: Transaction, token_id: str) -> Token:
    if is_digest(token_id):
        return await _existing(tx, Token, token_id)
    match await tx.tokens_labelled(token_id):
        case [token]:
            return token
        case []:
            raise NotFoundError(Kind.TOKENS, None)
        case several:
            raise AmbiguousLabelError(token_id, tuple(token.digest for token in several))
