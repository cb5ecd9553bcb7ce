"""What is asked and what is answered, as values."""

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
        method: the MCP method; entries of a list have the method that would use them.
        tags: the component's tags.
        arguments: the call's arguments, for rules that read them; never recorded, only hashed.
        version: the component's version; None where it has none.
        uri: where a resource or a template is concerned, its URI.
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
        """The action of the query to OPA, with its arguments or without."""
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
    """Where an action is asked for.

    Attributes:
        server: the MCP server's name.
        transport: `http`, `stdio`, or nothing.
        shadow: whether a refusal of the action alone only counts, and does not stop it.
    """

    server: str = ""
    transport: str = ""
    shadow: bool = False

    def as_input(self) -> dict[str, Any]:
        """The context of the query to OPA, and of the record."""
        context: dict[str, Any] = {"server": self.server, "transport": self.transport}
        return {**context, "shadow": True} if self.shadow else context


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who the registry says is calling.

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
        """The words of the log lines: `mcptoken:<mask>`, `team:<id>` or `jwt:<sub>`."""
        return f"{'mcptoken' if self.type == 'token' else self.type}:{self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer. A denial is a value like any other; only `allow is True` allows.

    In shadow mode a denial may let the action through: then it is `shadowed`, and still a denial.

    Attributes:
        allow: whether the action may run.
        reason: the first reason that applies.
        reasons: all of them, sorted; a site rule's code as `site:<code>`.
        message: for people; may quote the caller.
        principal: who calls, where the registry knows.
        libraries: the libraries that the call may touch, sorted; empty unless it runs.
        epoch: the registry's epoch behind the answer; None when OPA was not asked or had no data.
        revision: its revision, likewise.
        policy: the revision of the product's rules behind the answer, likewise.
        site: the revision of the site's rules, likewise.
        data_age_ms: the data's age in milliseconds, likewise.
        valid_until: when time alone could change the answer, seconds since 1970; None: never cache.
        uses_arguments: whether the arguments could change the answer.
        decision_id: this decision's id in the record.
        credential: what the bearer proved; None without a bearer, or with one that was refused.
        cached: whether it was made for an earlier call, and nothing has changed since.
        shadowed: whether it is a denial that stops nothing.
        errors: the rules that failed in OPA, where that is why there is no other answer.
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
        """Whether an outage, a lack of permission or a failed authentication."""
        return self.reason.reason_class

    @classmethod
    def refused(cls, reason: Reason, text: str | None = None) -> "Decision":
        """A denial that Python makes by itself, for one reason."""
        return cls(
            allow=False,
            reason=reason,
            reasons=(reason.value,),
            message=message(reason) if text is None else text,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Visible:
    """Which of a list of actions a caller may see.

    Attributes:
        indices: positions in the list that was asked about, ascending.
        reason: `ok`, or why only what is listable shows, or nothing.
        epoch: as in `Decision`.
        revision: as in `Decision`.
        policy: as in `Decision`.
        site: as in `Decision`.
        valid_until: as in `Decision`.
        cached: whether it was made for an equal list before, and nothing has changed since.
        shadowed: those of the positions that show in shadow mode alone.
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
