"""Why a call was allowed or refused: the codes of the contract, their classes and their messages.

Metrics and logs carry the reason, which comes from a bounded set; a message is for people and may
quote a caller.
"""

from enum import StrEnum
from typing import Final

from lictor_common.text import printable

_QUOTED_LENGTH: Final = 64
"""Characters of a caller's text that a message quotes."""


class ReasonClass(StrEnum):
    """The class of a reason; it determines the exit code and the HTTP status."""

    OK = "ok"
    OUTAGE = "outage"
    AUTHORISATION = "authorisation"
    AUTHENTICATION = "authentication"


class Reason(StrEnum):
    """Every reason a decision can have, as the contract's table lists them.

    A site rule's own code stands beside `SITE_RULE` in a decision's `reasons`, as `site:<code>`.
    """

    OK = "ok"
    UNAVAILABLE = "unavailable"
    BEHIND = "behind"
    STALE_DATA = "stale_data"
    LOCKDOWN = "lockdown"
    MISSING_TOKEN = "missing_token"
    KEY_MISSING = "key_missing"
    KEY_UNKNOWN = "key_unknown"
    KEY_RETIRED = "key_retired"
    ALG_UNSUPPORTED = "alg_unsupported"
    CLAIM_MISSING = "claim_missing"
    CLAIM_INVALID = "claim_invalid"
    ISSUER_INVALID = "issuer_invalid"
    AUDIENCE_INVALID = "audience_invalid"
    INVALID_TOKEN = "invalid_token"
    TOKEN_EXPIRED = "token_expired"
    REPLAYED = "replayed"
    PER_TURN_RETIRED = "per_turn_retired"
    TOKEN_DEACTIVATED = "token_deactivated"
    TEAM_UNKNOWN = "team_unknown"
    TEAM_INACTIVE = "team_inactive"
    USER_DISABLED = "user_disabled"
    OWNER_DISABLED = "owner_disabled"
    TOOL_NOT_ALLOWED = "tool_not_allowed"
    SITE_RULE = "site_rule"

    @property
    def reason_class(self) -> ReasonClass:
        """The class of the reason; by default, an authentication failure."""
        return _CLASSES.get(self, ReasonClass.AUTHENTICATION)


_CLASSES: Final = {
    Reason.OK: ReasonClass.OK,
    Reason.UNAVAILABLE: ReasonClass.OUTAGE,
    Reason.BEHIND: ReasonClass.OUTAGE,
    Reason.STALE_DATA: ReasonClass.OUTAGE,
    Reason.LOCKDOWN: ReasonClass.AUTHORISATION,
    Reason.TOOL_NOT_ALLOWED: ReasonClass.AUTHORISATION,
    Reason.SITE_RULE: ReasonClass.AUTHORISATION,
}

_MESSAGES: Final = {
    Reason.OK: "",
    Reason.UNAVAILABLE: "The policy decision point is unavailable.",
    Reason.BEHIND: "Policy data has not caught up yet.",
    Reason.STALE_DATA: "Policy data is too old to decide on.",
    Reason.LOCKDOWN: "An operator has stopped all calls.",
    Reason.MISSING_TOKEN: "Authentication required. Provide a Bearer token.",
    Reason.KEY_MISSING: "JWT header missing kid.",
    Reason.KEY_UNKNOWN: "Unknown signing key kid='{kid}'.",
    Reason.KEY_RETIRED: "Signing key '{kid}' has been retired.",
    Reason.ALG_UNSUPPORTED: "Unsupported JWT alg.",
    Reason.CLAIM_MISSING: "JWT missing required claim: {claim}",
    Reason.CLAIM_INVALID: "Invalid JWT claim: {problem}.",
    Reason.ISSUER_INVALID: "Invalid token issuer.",
    Reason.AUDIENCE_INVALID: "Invalid token audience.",
    Reason.INVALID_TOKEN: "Invalid MCP token.",
    Reason.TOKEN_EXPIRED: "Token has expired.",
    Reason.REPLAYED: "Token replay detected.",
    Reason.PER_TURN_RETIRED: "Per-turn JWTs are no longer accepted; mint a team JWT.",
    Reason.TOKEN_DEACTIVATED: "Token has been deactivated.",
    Reason.TEAM_UNKNOWN: "Team JWT references a team that no longer exists.",
    Reason.TEAM_INACTIVE: "Team JWT references an inactive team.",
    Reason.USER_DISABLED: "User account is disabled.",
    Reason.OWNER_DISABLED: "Team owner '{owner}' is disabled.",
    Reason.TOOL_NOT_ALLOWED: "Token does not have permission to call '{tool}'.",
    Reason.SITE_RULE: "A rule of this site refused the call.",
}


def quote(text: str) -> str:
    """Prepare a caller's text for a message: at most 64 characters, quoted and escaped."""
    return f"'{_plain(text)}'"


def message(reason: Reason, **details: str) -> str:
    """Return the contract's message for a reason.

    Args:
        reason: The reason.
        details: The details in the message: `kid` for the key reasons, `claim` for `CLAIM_MISSING`,
            `problem` for `CLAIM_INVALID`, `owner` for `OWNER_DISABLED`, `tool` for
            `TOOL_NOT_ALLOWED`. Each is cut to 64 characters, and escaped where unprintable.

    Raises:
        KeyError: A detail that the message names was not given.
    """
    return _MESSAGES[reason].format(**{name: _plain(text) for name, text in details.items()})


def _plain(text: str) -> str:
    # The rules in Rego quote and cut in the same way (`_quoted` in lictor.rego).
    cut = text if len(text) <= _QUOTED_LENGTH else f"{text[: _QUOTED_LENGTH - 1]}…"
    return printable(cut)
