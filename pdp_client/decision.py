"""What is asked and what is answered, as values; and the strict reading of OPA's answer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pdp_client.exceptions import AnswerUnusable
from pdp_client.reasons import Reason, ReasonClass, message
from pdp_client.verifier import Credential

_REASONS = frozenset(Reason)


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

    Attributes:
        allow: whether the action may run.
        reason: the first reason that applies.
        reasons: all of them, sorted; a site rule's code as `site:<code>`.
        message: for people; may quote the caller.
        principal: who calls, where the registry knows.
        libraries: the libraries that the call may touch, sorted; empty unless allowed.
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
    """

    indices: tuple[int, ...]
    reason: Reason
    epoch: int | None = None
    revision: int | None = None


def read_decision(result: Any) -> Decision:
    """Read the `result` of `lictor/decision`.

    Raises:
        AnswerUnusable: anything is missing, of another type, or contradicts itself.
    """
    if not isinstance(result, dict) or not isinstance(result.get("allow"), bool):
        raise AnswerUnusable("a decision is an object with a boolean `allow`")
    allow: bool = result["allow"]
    reason = _reason(result.get("reason"))
    reasons = _texts(result.get("reasons"))
    libraries = _texts(result.get("libraries"))
    principal = _principal(result.get("principal"))
    if (allow and len(reasons) != 1) or allow is not (Reason.OK.value in reasons):
        raise AnswerUnusable("`allow` and `reasons` contradict each other")
    if reason.value not in reasons or not all(map(_is_reason, reasons)):
        raise AnswerUnusable("`reasons` are the contract's, `reason` one of them")
    if (libraries and not allow) or (principal is None and allow):
        raise AnswerUnusable("libraries without an allow, or an allow to nobody")
    _no_obligations(result)
    epoch, revision = _stamp(result, required=allow)
    text = result.get("message")
    if not isinstance(text, str):
        raise AnswerUnusable("`message` is text")
    return Decision(
        allow=allow,
        reason=reason,
        reasons=tuple(sorted(set(reasons))),
        message=text,
        principal=principal,
        libraries=tuple(sorted(set(libraries))),
        epoch=epoch,
        revision=revision,
        policy=_optional_text(result.get("policy")),
        site=_optional_text(result.get("site")),
        data_age_ms=_integer(result.get("data_age_ms")),
        valid_until=_seconds(result.get("valid_until")),
        # Anything but a clear no means that the arguments count.
        uses_arguments=result.get("uses_arguments") is not False,
    )


def read_visible(result: Any, *, count: int) -> Visible:
    """Read the `result` of `lictor/visible` for a list of `count` actions.

    Raises:
        AnswerUnusable: anything is missing, of another type, or no position of the list.
    """
    if not isinstance(result, dict) or not isinstance(result.get("indices"), list):
        raise AnswerUnusable("a list's answer is an object with `indices`")
    indices = [_integer(index) for index in result["indices"]]
    known = sorted({index for index in indices if index is not None and 0 <= index < count})
    if len(known) != len(indices):
        raise AnswerUnusable("`indices` are distinct positions of the list")
    _no_obligations(result)
    epoch, revision = _stamp(result, required=bool(known))
    return Visible(
        indices=tuple(known),
        reason=_reason(result.get("reason")),
        epoch=epoch,
        revision=revision,
    )


def _reason(value: Any) -> Reason:
    if not isinstance(value, str) or value not in _REASONS:
        raise AnswerUnusable("`reason` is none of the contract's")
    return Reason(value)


def _is_reason(code: str) -> bool:
    return code in _REASONS or code.startswith("site:")


def _stamp(result: Mapping[str, Any], *, required: bool) -> tuple[int | None, int | None]:
    epoch, revision = _integer(result.get("epoch")), _integer(result.get("revision"))
    if required and (epoch is None or revision is None):
        raise AnswerUnusable("an answer that allows has an epoch and a revision")
    return epoch, revision


def _no_obligations(result: Mapping[str, Any]) -> None:
    # An enforcement point that does not know an obligation must refuse (XACML 3.0, 7.18); this one
    # knows none, so that rules of a later version cannot ask for something that is not done.
    if result.get("obligations"):
        raise AnswerUnusable("the answer has obligations")


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise AnswerUnusable("a list of texts was expected")
    return value


def _optional_text(value: Any) -> str | None:
    if not isinstance(value, str | None):
        raise AnswerUnusable("a text was expected")
    return value


def _integer(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise AnswerUnusable("an integer was expected")
    return value


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise AnswerUnusable("a number of seconds was expected")
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds):
        raise AnswerUnusable("a finite number of seconds was expected")
    return seconds


def _principal(value: Any) -> Principal | None:
    if value is None:
        return None
    if (
        not isinstance(value, dict)
        or value.get("type") not in ("token", "team", "jwt")
        or not isinstance(value.get("id"), str)
        or not isinstance(value.get("name"), str | None)
        or not isinstance(value.get("user"), str | None)
    ):
        raise AnswerUnusable("`principal` is none")
    return Principal(
        type=value["type"], id=value["id"], name=value.get("name"), user=value.get("user")
    )
