"""The demo's registry, and one caller for each way in which a call can end."""

import time
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ed25519

from lictor.keys import KeyFolder
from lictor.settings import Settings
from lictor.state_dir import registry_opener
from pdp_client.bearer.opaque import digest, mint_opaque
from registry import Key, Registry, Team
from registry.operations import Operator

TURN_ISSUER = "daedalus"

_SHELVES = {
    "gothic": {"poe": ["public"], "shelley": ["public"]},
    "science": {"darwin": ["public"]},
    "nonsense": {"carroll": ["sealed"]},
}


@dataclass(frozen=True, slots=True)
class DemoCaller:
    """A caller: a name for the table, a bearer or none, a tool and its arguments."""

    who: str
    bearer: str | None
    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class People:
    """The callers of the demo.

    Attributes:
        callers: one for each row of the table.
        team_id: the team whose token is rotated.
        team_jwt: its token.
    """

    callers: list[DemoCaller]
    team_id: str
    team_jwt: str


async def populate(settings: Settings) -> People:
    """Fill an empty registry, and mint a credential of every kind."""
    async with aclosing(await registry_opener(settings)()) as registry:
        return await _Minting(registry, KeyFolder(settings.keys)).people()


class _Minting:
    def __init__(self, registry: Registry, keys: KeyFolder) -> None:
        self._registry = registry
        self._operator = Operator(registry, actor="demo")
        self._keys = keys

    async def people(self) -> People:
        for user in ("ada", "bob"):
            await self._operator.add_user(user, name=user.capitalize())
        for workspace, libraries in _SHELVES.items():
            await self._operator.add_workspace(workspace)
            for library, tags in libraries.items():
                await self._operator.add_library(library, workspace=workspace, tags=tags)

        of_retired_key = await self._team_jwt(await self._team("Old key", "gothic"))
        await self._operator.retire_key(jwt.get_unverified_header(of_retired_key)["kid"])
        await self._new_key()
        team = await self._team("Docs", *_SHELVES)
        team_jwt = await self._team_jwt(team)
        of_bob = await self._token("bob", "*", library="poe")
        await self._operator.disable_user("bob")

        search = ("search", {"query": "heart"})
        callers = [
            DemoCaller("anonymous", None, "get_health", {}),
            DemoCaller("anonymous", None, *search),
            DemoCaller("an opaque token", await self._token("ada", "*", library="poe"), *search),
            DemoCaller("a team's JWT", team_jwt, *search),
            DemoCaller(
                "a team without workspaces",
                await self._team_jwt(await self._team("Empty")),
                *search,
            ),
            DemoCaller(
                "a token without the tool",
                await self._token("ada", "get_*", library="poe"),
                *search,
            ),
            DemoCaller("a disabled user's token", of_bob, *search),
            DemoCaller("a per-turn JWT", await self._per_turn_jwt(), *search),
            DemoCaller("a retired key's JWT", of_retired_key, *search),
            DemoCaller("a forged JWT", _forged(team_jwt), *search),
        ]
        return People(callers, team.id, team_jwt)

    async def _team(self, name: str, *workspaces: str) -> Team:
        done = await self._operator.create_team(name, owner="ada", workspaces=workspaces)
        return done.record

    async def _team_jwt(self, team: Team) -> str:
        return self._keys.mint_team(
            team.id, jti=team.active_jti, active_kids=await self._active_kids()
        )

    async def _token(self, user: str, tool: str, *, library: str) -> str:
        bearer = mint_opaque()
        await self._operator.create_token(
            digest(bearer), user=user, tools=[tool], libraries=[library]
        )
        return bearer

    async def _per_turn_jwt(self) -> str:
        await self._new_key(issuer=TURN_ISSUER)
        now = int(time.time())
        claims = {"iss": TURN_ISSUER, "sub": "u-17", "jti": "turn-1", "iat": now, "exp": now + 600}
        return self._keys.sign(
            {**claims, "libs": ["poe"], "ws": "gothic"},
            issuer=TURN_ISSUER,
            active_kids=await self._active_kids(),
        )

    async def _new_key(self, **issuer: str) -> None:
        public = self._keys.new(**issuer)
        await self._operator.add_key(public["kid"], alg=public["alg"])

    async def _active_kids(self) -> list[str]:
        return [key.kid for key in await self._registry.all(Key) if key.active]


def _forged(team_jwt: str) -> str:
    """The same header and claims, signed with another key."""
    return jwt.encode(
        jwt.decode(team_jwt, options={"verify_signature": False}),
        ed25519.Ed25519PrivateKey.generate(),
        algorithm="EdDSA",
        headers={"kid": jwt.get_unverified_header(team_jwt)["kid"]},
    )
