"""The state of a scenario: the registry in plain Python, one ledger for each revision.

It knows nothing of bundles, caches, processes or time. Records that a scenario does not touch are not in it.
"""

from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

DEEPEST = 5
"""What the site's rule lets pass."""


@dataclass(frozen=True)
class Bearer:
    """What a caller shows: an opaque token (`id` is its digest), or a team's JWT (`id` is the team's)."""

    text: str = field(repr=False)
    id: str
    jti: str = ""
    kid: str = ""


@dataclass(frozen=True)
class TokenFacts:
    user: str
    tools: tuple
    libraries: tuple
    active: bool = True


@dataclass(frozen=True)
class TeamFacts:
    owner: str
    jti: str
    tools: tuple
    workspaces: tuple = ()
    active: bool = True


@dataclass(frozen=True)
class Ledger:
    """One state. Every change makes another; none is ever altered."""

    users: dict = field(default_factory=dict)
    """Id to whether active."""
    tokens: dict = field(default_factory=dict)
    teams: dict = field(default_factory=dict)
    workspaces: dict = field(default_factory=dict)
    """Id to the uids of its libraries."""
    keys: dict = field(default_factory=dict)
    """Kid to whether active."""
    lockdown: bool = False

    def with_(self, kind, key, value):
        """The ledger with one entry more, or another."""
        return replace(self, **{kind: {**getattr(self, kind), key: value}})

    def changed(self, kind, key, **fields):
        """The ledger with one entry changed."""
        return self.with_(kind, key, replace(getattr(self, kind)[key], **fields))

    def expected(self, bearer, tool, depth=0):
        """The reason that a call should get, and the libraries that it may touch."""
        reason = self._refusal(bearer)
        facts = self.teams.get(bearer.id) if bearer.jti else self.tokens.get(bearer.id)
        if not reason and not any(fnmatchcase(tool, pattern) for pattern in facts.tools):
            reason = "tool_not_allowed"
        if not reason and depth > DEEPEST:
            reason = "site_rule"
        if reason:
            return reason, ()
        if not bearer.jti:
            return "ok", tuple(sorted(facts.libraries))
        granted = {uid for name in facts.workspaces for uid in self.workspaces[name]}
        return "ok", tuple(sorted(granted))

    def _refusal(self, bearer):
        if self.lockdown:
            return "lockdown"
        return self._of_team(bearer) if bearer.jti else self._of_token(bearer)

    def _of_token(self, bearer):
        token = self.tokens.get(bearer.id)
        if token is None:
            return "invalid_token"
        if not token.active:
            return "token_deactivated"
        return "" if self.users[token.user] else "user_disabled"

    def _of_team(self, bearer):
        if bearer.kid not in self.keys:
            return "key_unknown"
        if not self.keys[bearer.kid]:
            return "key_retired"
        team = self.teams.get(bearer.id)
        if team is None:
            return "team_unknown"
        if not team.active:
            return "team_inactive"
        if not self.users[team.owner]:
            return "owner_disabled"
        return "" if bearer.jti == team.jti else "invalid_token"
