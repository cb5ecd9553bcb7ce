"""Which decisions count as a use of a token, and what counts them.

A use is a call whose opaque token was found good, whether or not the call was then permitted. So
tokens that are still in use can be told from those that nobody would miss.
"""

from typing import Final, Protocol

from pdp_client.decision import Decision
from pdp_client.reasons import Reason, ReasonClass

# In a lockdown nobody looks at the token.
_AUTHENTICATED: Final = frozenset(
    reason
    for reason in Reason
    if reason.reason_class in {ReasonClass.OK, ReasonClass.AUTHORISATION}
    and reason is not Reason.LOCKDOWN
)


class UsageCounter(Protocol):
    """Where uses are counted. What is lost there are counts, and never a decision."""

    def count(self, decision: Decision, at: float) -> None:
        """Count a decision, if it is a use: in microseconds, without waiting, raising nothing.

        Args:
            decision: as it takes effect.
            at: when, in seconds since 1970.
        """

    async def aclose(self) -> None:
        """Hand on what has been counted, in bounded time, raising nothing; then count no more."""


def used_token(decision: Decision) -> str:
    """The digest of the token that a decision is a use of; empty if it is of none."""
    credential = decision.credential
    return credential.digest if credential and is_use(credential.kind, decision.reason) else ""


def is_use(kind: object, reason: object) -> bool:
    """Whether a decision of this reason, about this kind of credential, is a use of a token."""
    return kind == "token" and isinstance(reason, str) and reason in _AUTHENTICATED
