"""Queries to OPA as values: their input, how to parse the response, and their cache key."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, TypeVar

from pdp_client.decision import Action, Callers, Context, Decision, Visible
from pdp_client.opa.response import parse_callers, parse_decision, parse_visible
from pdp_client.reasons import Reason

Entrypoint: TypeAlias = Literal["decision", "visible", "callers"]
"""The rules of package `lictor` that are queried. A caller's text never becomes part of a URL."""

CacheKey: TypeAlias = bytes
"""Everything in a verified query that its response may depend on."""

Response = TypeVar("Response", Decision, Visible)
AnyResponse = TypeVar("AnyResponse", Decision, Visible, Callers)

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


class Query(Protocol[AnyResponse]):
    """A query, of any kind."""

    @property
    def entrypoint(self) -> Entrypoint: ...

    def as_input(self) -> dict[str, Any]:
        """Return the `input` document, without the version that the response must be made from."""
        ...

    def parse(self, result: Any) -> AnyResponse:
        """Read the `result` of a response.

        Raises:
            ResponseUnusableError: it is not what this entrypoint returns.
        """
        ...

    def when_behind(self, response: AnyResponse) -> AnyResponse:
        """Return the result to use for a response made from older data than required."""
        ...


class CacheableQuery(Query[Response], Protocol[Response]):
    """A query whose response may be cached."""

    def cache_key(self, credential_key: str) -> CacheKey | None:
        """Return the response's cache key; None if the query cannot be written as JSON.

        Args:
            credential_key: the credential as text; equal credentials have the same.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionQuery:
    """May this credential take this action?

    Attributes:
        credential: the credential as sent to OPA.
        action: the requested action.
        context: the context of the action.
        with_arguments: whether the action's arguments are sent. They may be large, and hold
            anything: they are sent only where a rule reads them.
    """

    credential: Mapping[str, Any]
    action: Action
    context: Context
    with_arguments: bool

    entrypoint: ClassVar[Entrypoint] = "decision"

    def as_input(self) -> dict[str, Any]:
        """As `Query.as_input`."""
        action = self.action.as_input(arguments=self.with_arguments)
        return {
            "credential": self.credential,
            "context": self.context.as_input(),
            "action": action,
        }

    def parse(self, result: Any) -> Decision:
        """As `Query.parse`."""
        return parse_decision(result, shadow=self.context.shadow)

    def when_behind(self, response: Decision) -> Decision:
        """As `Query.when_behind`."""
        return replace(
            Decision.refused(Reason.BEHIND),
            epoch=response.epoch,
            revision=response.revision,
            uses_arguments=response.uses_arguments,
        )

    def cache_key(self, credential_key: str) -> CacheKey | None:
        """As `Query.cache_key`."""
        text = _as_text(self.action.as_input(arguments=self.with_arguments))
        return None if text is None else _key(credential_key, self.context, text)

    def is_about_arguments(self, decision: Decision) -> bool:
        """Return whether a decision depends on arguments that were not sent."""
        unsent = not self.with_arguments and self.action.arguments is not None
        return unsent and decision.uses_arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class VisibleQuery:
    """Which of these actions may this credential see in a list?

    Attributes:
        credential: the credential as sent to OPA.
        actions: the action of using each entry of the list.
        context: the context of the list.
    """

    credential: Mapping[str, Any]
    actions: Sequence[Action]
    context: Context

    entrypoint: ClassVar[Entrypoint] = "visible"

    def as_input(self) -> dict[str, Any]:
        """As `Query.as_input`."""
        actions = [action.as_input() for action in self.actions]
        return {
            "credential": self.credential,
            "context": self.context.as_input(),
            "actions": actions,
        }

    def parse(self, result: Any) -> Visible:
        """As `Query.parse`."""
        return parse_visible(result, count=len(self.actions))

    def when_behind(self, response: Visible) -> Visible:
        """As `Query.when_behind`."""
        del response
        return Visible(indices=(), reason=Reason.BEHIND)

    def cache_key(self, credential_key: str) -> CacheKey | None:
        """As `Query.cache_key`."""
        # Arrays distinguish the same actions as `as_input`, in half the time.
        text = _as_text(
            [
                (
                    one.method,
                    one.name,
                    [*one.tags],
                    one.version,
                    one.uri,
                    one.annotations and dict(one.annotations),
                    one.arguments and dict(one.arguments),
                )
                for one in self.actions
            ]
        )
        if text is None:
            return None
        return _key(credential_key, self.context, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallersQuery:
    """Is any of these credentials refused, whatever it wants to do?

    Attributes:
        credentials: the credentials as sent to OPA.
        context: the context of the check.
    """

    credentials: Sequence[Mapping[str, Any]]
    context: Context

    entrypoint: ClassVar[Entrypoint] = "callers"

    def as_input(self) -> dict[str, Any]:
        """As `Query.as_input`."""
        return {"credentials": self.credentials, "context": self.context.as_input()}

    def parse(self, result: Any) -> Callers:
        """As `Query.parse`."""
        return parse_callers(result, count=len(self.credentials))

    def when_behind(self, response: Callers) -> Callers:
        """As `Query.when_behind`."""
        del response
        return Callers(reason=Reason.BEHIND)


def _key(credential_key: str, context: Context, text: str) -> CacheKey:
    """Return a SHA-256, as a caller chooses the length of what is asked."""
    asked = (credential_key, context.server, context.transport, str(context.shadow), text)
    return sha256("\0".join(asked).encode(errors="surrogatepass")).digest()


def _as_text(value: Any) -> str | None:
    try:
        return _ENCODER.encode(value)
    except (TypeError, ValueError, RecursionError):
        return None
