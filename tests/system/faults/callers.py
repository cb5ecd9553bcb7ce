"""Who calls in a trial, and what is revoked in it."""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pdp_client.bearer.opaque import digest, mint_opaque
from registry import Key, Setting, Team, Token, User

CHANGES = ("token", "rotation", "team", "user", "owner", "lockdown")
"""What may be revoked: each has a reason of its own."""


@dataclass
class Victim:
    """A caller that is good until `revoke`.

    Attributes:
        bearer: what it shows.
        reason: of its refusals, from then on.
        revoke: what the operator does.
        holds: whether the registry has it.
    """

    change: str
    bearer: str
    reason: str
    revoke: Callable[..., Awaitable[object]]
    holds: Callable[..., Awaitable[bool]]


class Callers:
    """The callers of a deployment. Everything secret that they show is in `secrets`."""

    def __init__(self, deployment):
        self._deployment = deployment
        self.secret = f"canary{secrets.token_hex(12)}"
        self.secrets = [self.secret]
        self.unknown = f"canary{secrets.token_hex(12)}"

    async def begin(self):
        """Those that are never revoked."""
        await self.write(lambda operator: operator.add_user("bystander"))
        self.control = await self._token("bystander")

    async def write(self, verb):
        wrong = await self._deployment.write(verb)
        assert not wrong, wrong

    async def _token(self, user):
        bearer = mint_opaque()
        self.secrets.append(bearer)
        await self.write(
            lambda operator: operator.create_token(digest(bearer), user=user, tools=["*"])
        )
        return bearer

    async def _team(self, owner):
        made = []

        async def create(operator):
            made.append((await operator.create_team("Docs", owner=owner)).record)

        await self.write(create)
        active = [key.kid for key in await self._deployment.registry.all(Key) if key.active]
        team = made[0]
        bearer = self._deployment.keys.mint_team(team.id, jti=team.active_jti, active_kids=active)
        self.secrets += [bearer, bearer.rpartition(".")[2]]
        return team, bearer

    async def victim(self, change):
        """A new caller, from whom the change will take everything."""
        user = f"u-{secrets.token_hex(4)}"
        await self.write(lambda operator: operator.add_user(user))
        if change in {"token", "user", "lockdown"}:
            bearer = await self._token(user)
        else:
            team, bearer = await self._team(user)
        hashed = digest(bearer)

        async def holds(registry):
            match change:
                case "token":
                    return not (await registry.get(Token, hashed)).active
                case "rotation":
                    return (await registry.get(Team, team.id)).active_jti != team.active_jti
                case "team":
                    return not (await registry.get(Team, team.id)).active
                case "lockdown":
                    return (await registry.get(Setting, "lockdown")).value is True
            return not (await registry.get(User, user)).active

        async def rotate_once(operator):
            # A second rotation would be another one.
            if not await holds(self._deployment.registry):
                return await operator.rotate_team(team.id)
            return await operator.activate_team(team.id)

        reason, revoke = {
            "token": ("token_deactivated", lambda operator: operator.revoke_token(hashed)),
            "rotation": ("invalid_token", rotate_once),
            "team": ("team_inactive", lambda operator: operator.deactivate_team(team.id)),
            "user": ("user_disabled", lambda operator: operator.disable_user(user)),
            "owner": ("owner_disabled", lambda operator: operator.disable_user(user)),
            "lockdown": ("lockdown", lambda operator: operator.lockdown(on=True)),
        }[change]
        return Victim(change, bearer, reason, revoke, holds)
