"""The errors of `pdp_client`.

A denial is a value (`Decision`), and so is an outage: only `ConfigurationError` leaves the package,
unless a caller uses its parts directly. No message ever holds a part of a bearer or of a key; a
`kid` is quoted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from pdp_client.reasons import Reason
from pdp_client.reasons import message as message_for


class PDPError(Exception):
    """The base of this package's errors, never raised itself; `code` is a stable metric label."""

    code: ClassVar[str]


class BearerRejected(PDPError):
    """A bearer was refused.

    Attributes:
        reason: The reason, from a bounded set.
        message: The reason for people; may quote a `kid`, never the bearer.
    """

    code = "bearer_rejected"

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return self.message

    @classmethod
    def because(cls, reason: Reason, **details: str) -> Self:
        """Return the rejection with the contract's message; `details` as in `reasons.message`."""
        return cls(reason, message_for(reason, **details))


class OPAUnreachableError(PDPError):
    """OPA could not be reached, or closed the connection before it had responded."""

    code = "opa_unreachable"


class ResponseUnusableError(PDPError):
    """OPA's response is not a decision: another status, not JSON, no `result`, another shape."""

    code = "answer_unusable"


@dataclass(frozen=True, slots=True)
class RuleError:
    """An error of a rule in OPA, without OPA's message, which may quote input.

    Attributes:
        code: OPA's code, such as `eval_conflict_error`; `other` for an unknown code.
        file: the file of the rule as OPA names it, with the bundle in front; may be empty.
        row: the line; 0 if OPA does not name one.
    """

    code: str
    file: str
    row: int

    def __str__(self) -> str:
        return f"{self.code} at {self.file or '?'}:{self.row}"


class EvaluationError(ResponseUnusableError):
    """OPA could not evaluate the rules.

    Attributes:
        errors: what failed, and where.
    """

    code = "evaluation_failed"

    def __init__(self, status: int, errors: Sequence[RuleError]) -> None:
        super().__init__(status, errors)
        self.status = status
        self.errors = tuple(errors)

    def __str__(self) -> str:
        return f"HTTP {self.status}: {', '.join(map(str, self.errors))}"


class RecordFailed(PDPError):
    """A decision could not be recorded, so it must not take effect."""

    code = "record_failed"


class ConfigurationError(PDPError):
    """A setting, or a combination of settings, that cannot work."""

    code = "configuration_invalid"


class KeyringError(ConfigurationError):
    """A JWK set that cannot be used: one invalid key invalidates the whole set."""

    code = "keyring_invalid"
