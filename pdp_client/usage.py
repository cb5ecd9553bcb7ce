"""Uses of tokens: which decisions count as one, and the interface of counters.

A use is a call whose opaque token was valid, whether or not the call was then permitted. The counts
distinguish tokens that are in use from those that can be removed.
"""

from typing import Final, Protocol

from pdp_client.decision import Decision
from pdp_client.reasons import Reason, ReasonClass

# In a lockdown the token is not checked.
_AUTHENTICATED: Final = frozenset(
    reason
    for reason in Reason
    if reason.reason_class in {ReasonClass.OK, ReasonClass.AUTHORISATION}
    and reason is not Reason.LOCKDOWN
)


class UsageCounter(Protocol):
    """A counter of uses. It may lose counts, and never affects a decision."""

    def count(self, decision: Decision, at: float) -> None:
        """Count a decision, if it is a use: in microseconds, without waiting, raising nothing.

        Args:
            decision: the decision as it takes effect.
            at: when it takes effect, in seconds since 1970.
        """

    async def aclose(self) -> None:
        """Send what has been counted, in bounded time, raising nothing; then stop counting."""


def used_token(decision: Decision) -> str:
    """Return the digest of the token that a decision is a use of; empty if it is not a use."""
    credential = decision.credential
    return credential.digest if credential and is_use(credential.kind, decision.reason) else ""


def is_use(kind: object, reason: object) -> bool:
    """Return whether a decision with this reason and kind of credential is a use of a token."""
    return kind == "token" and isinstance(reason, str) and reason in _AUTHENTICATED
