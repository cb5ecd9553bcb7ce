"""Actions, contexts and decisions, as values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pdp_client.bearer.verifier import Credential
from pdp_client.exceptions import RuleError
from pdp_client.reasons import Reason, ReasonClass, message


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What a caller wants to do.

    Attributes:
        name: the tool's or the prompt's name, or the URI of a resource or of a template.
        method: the MCP method; list entries have the method that would use them.
        tags: the component's tags.
        arguments: the call's arguments, for rules that read them; never recorded, only hashed.
        version: the component's version; None without one.
        uri: the URI of a resource or a template.
        annotations: the component's hints, as MCP writes them (`readOnlyHint` and others).
    """

    name: str
    method: str = "tools/call"
    tags: Sequence[str] = ()
    arguments: Mapping[str, Any] | None = field(default=None, repr=False)
    version: str | None = None
    uri: str | None = None
    annotations: Mapping[str, Any] | None = None

    def as_input(self, *, arguments: bool = True) -> dict[str, Any]:
        """Return the `action` of the query to OPA, with or without its arguments."""
        action: dict[str, Any] = {"method": self.method, "name": self.name, "tags": [*self.tags]}
        if self.version is not None:
            action["version"] = self.version
        if self.uri is not None:
            action["uri"] = self.uri
        if self.annotations:
            action["annotations"] = dict(self.annotations)
        if arguments and self.arguments is not None:
            action["arguments"] = dict(self.arguments)
        return action


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The context in which an action is requested.

    Attributes:
        server: the MCP server's name.
        transport: `http`, `stdio`, or empty.
        shadow: whether a denial of the action alone is only counted, and does not stop it.
    """

    server: str = ""
    transport: str = ""
    shadow: bool = False

    def as_input(self) -> dict[str, Any]:
        """Return the `context` of the query to OPA, and of the record."""
        context: dict[str, Any] = {"server": self.server, "transport": self.transport}
        return {**context, "shadow": True} if self.shadow else context


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The caller, as the registry identifies it.

    Attributes:
        type: `token`, `team` or `jwt`.
        id: a token's label, a team's UUID, a JWT's subject.
        name: for people.
        user: the user behind it.
    """

    type: Literal["token", "team", "jwt"]
    id: str
    name: str | None = None
    user: str | None = None

    def __str__(self) -> str:
        """Return the form used in log lines: `mcptoken:<mask>`, `team:<id>` or `jwt:<sub>`."""
        return f"{'mcptoken' if self.type == 'token' else self.type}:{self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The decision on an action. A denial is a value too; only `allow is True` allows.

    In shadow mode an action may run despite a denial: the decision is then `shadowed`, and still a
    denial.

    Attributes:
        allow: whether the action may run.
        reason: the first reason that applies.
        reasons: all of them, sorted; a site rule's code as `site:<code>`.
        message: for people; may quote the caller.
        principal: the caller, if the registry knows it.
        libraries: the libraries that the call may touch, sorted; empty unless it runs.
        epoch: the registry's epoch behind it; None if OPA was not queried or had no data.
        revision: the registry's revision behind it, likewise.
        policy: the revision of the product's rules behind it, likewise.
        site: the revision of the site's rules, likewise.
        data_age_ms: the data's age in milliseconds, likewise.
        valid_until: when time alone could change it, seconds since 1970; None: never cache.
        uses_arguments: whether the arguments could change it.
        decision_id: this decision's id in the record.
        credential: the verified credential; None without a bearer, or with one that was refused.
        cached: whether it was made for an earlier call, and nothing has changed since.
        shadowed: whether it is a denial that does not stop the action.
        errors: the rules that failed in OPA, if that is the cause of the outage.
    """

    allow: bool
    reason: Reason
    reasons: tuple[str, ...]
    message: str
    principal: Principal | None = None
    libraries: tuple[str, ...] = ()
    epoch: int | None = None
    revision: int | None = None
    policy: str | None = None
    site: str | None = None
    data_age_ms: int | None = None
    valid_until: float | None = None
    uses_arguments: bool = True
    decision_id: str = ""
    credential: Credential | None = field(default=None, repr=False)
    cached: bool = False
    shadowed: bool = False
    errors: tuple[RuleError, ...] = ()

    @property
    def runs(self) -> bool:
        """Whether the action may run."""
        return self.allow or self.shadowed

    @property
    def reason_class(self) -> ReasonClass:
        """Whether it is an outage, a lack of permission or a failed authentication."""
        return self.reason.reason_class

    @classmethod
    def refused(cls, reason: Reason, text: str | None = None) -> "Decision":
        """Return a denial made in Python, without OPA, for one reason."""
        return cls(
            allow=False,
            reason=reason,
            reasons=(reason.value,),
            message=message(reason) if text is None else text,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Callers:
    """Why each of several callers is refused, whatever it wants to do.

    Attributes:
        reason: why all of them are, such as `stale_data` or `lockdown`; otherwise `ok`.
        reasons: for each of them, in the order of the query; empty if that is unknown.
        epoch: as in `Decision`.
        revision: as in `Decision`.
        policy: as in `Decision`.
        site: as in `Decision`.
    """

    reason: Reason
    reasons: tuple[Reason, ...] = ()
    epoch: int | None = None
    revision: int | None = None
    policy: str | None = None
    site: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Visible:
    """The actions of a list that a caller may see.

    Attributes:
        indices: positions in the list of the query, ascending.
        reason: `ok`, or why only listable actions are visible, or none.
        epoch: as in `Decision`.
        revision: as in `Decision`.
        policy: as in `Decision`.
        site: as in `Decision`.
        valid_until: as in `Decision`.
        cached: whether it was made for an equal list before, and nothing has changed since.
        shadowed: the positions that are visible only because of shadow mode.
        errors: as in `Decision`.
    """

    indices: tuple[int, ...]
    reason: Reason
    epoch: int | None = None
    revision: int | None = None
    policy: str | None = None
    site: str | None = None
    valid_until: float | None = None
    cached: bool = False
    shadowed: tuple[int, ...] = ()
    errors: tuple[RuleError, ...] = ()
