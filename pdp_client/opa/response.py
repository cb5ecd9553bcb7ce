"""The strict parsing of OPA's responses: anything odd is an outage, never an allow."""

import math
from collections.abc import Mapping
from typing import Any, Final

from pdp_client.decision import Callers, Decision, Principal, Visible
from pdp_client.exceptions import ResponseUnusableError
from pdp_client.reasons import Reason

_REASONS: Final = frozenset(Reason)
_SITE: Final = "site:"


def parse_decision(result: Any, *, shadow: bool = False) -> Decision:
    """Read the `result` of `lictor/decision`.

    Args:
        result: the unparsed result.
        shadow: whether the query was made in shadow mode.

    Raises:
        ResponseUnusableError: anything is missing, of another type, or contradicts itself.
    """
    if not isinstance(result, dict) or not isinstance(result.get("allow"), bool):
        raise ResponseUnusableError("a decision must be an object with a boolean `allow`")
    allow: bool = result["allow"]
    reason = _reason(result.get("reason"))
    reasons = _texts(result.get("reasons"))
    libraries = _texts(result.get("libraries"))
    principal = _principal(result.get("principal"))
    if (allow and len(reasons) != 1) or allow is not (Reason.OK.value in reasons):
        raise ResponseUnusableError("`allow` and `reasons` contradict each other")
    if reason.value not in reasons or not all(map(_is_reason, reasons)):
        raise ResponseUnusableError("`reasons` must be the contract's, and `reason` one of them")
    if (libraries and not allow) or (principal is None and allow):
        raise ResponseUnusableError("libraries without an allow, or an allow without a principal")
    shadowed = _shadowed(result.get("shadow"), reasons) if shadow else None
    if shadowed is not None:
        if principal is None:
            raise ResponseUnusableError("an action runs without a principal")
        libraries = shadowed
    _no_obligations(result)
    epoch, revision = _version_of(result, required=allow or shadowed is not None)
    text = result.get("message")
    if not isinstance(text, str):
        raise ResponseUnusableError("`message` must be text")
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
        # Anything but an explicit `false` means that the arguments count.
        uses_arguments=result.get("uses_arguments") is not False,
        shadowed=shadowed is not None,
    )


def parse_visible(result: Any, *, count: int) -> Visible:
    """Read the `result` of `lictor/visible` for a list of `count` actions.

    Raises:
        ResponseUnusableError: anything is missing, of another type, or not a position of the list.
    """
    if not isinstance(result, dict) or not isinstance(result.get("indices"), list):
        raise ResponseUnusableError("the response for a list must be an object with `indices`")
    indices = result["indices"]
    # `type`, as True is an `int` too.
    known = sorted({index for index in indices if type(index) is int and 0 <= index < count})
    if len(known) != len(indices):
        raise ResponseUnusableError("`indices` must be distinct positions of the list")
    _no_obligations(result)
    epoch, revision = _version_of(result, required=bool(known))
    return Visible(
        indices=tuple(known),
        reason=_reason(result.get("reason")),
        epoch=epoch,
        revision=revision,
        policy=_optional_text(result.get("policy")),
        site=_optional_text(result.get("site")),
        valid_until=_seconds(result.get("valid_until")),
    )


def parse_callers(result: Any, *, count: int) -> Callers:
    """Read the `result` of `lictor/callers` for `count` credentials.

    Raises:
        ResponseUnusableError: anything is missing, of another type, or not one reason for each.
    """
    if not isinstance(result, dict):
        raise ResponseUnusableError("the response for callers must be an object")
    reason = _reason(result.get("reason"))
    reasons = tuple(map(_reason, _texts(result.get("reasons"))))
    # Without the data's state, nothing is said about any of them.
    if len(reasons) != count and (reasons or reason is Reason.OK):
        raise ResponseUnusableError("`reasons` must be one for each credential")
    _no_obligations(result)
    epoch, revision = _version_of(result, required=reason is Reason.OK)
    return Callers(
        reason=reason,
        reasons=reasons,
        epoch=epoch,
        revision=revision,
        policy=_optional_text(result.get("policy")),
        site=_optional_text(result.get("site")),
    )


def _reason(value: Any) -> Reason:
    if not isinstance(value, str) or value not in _REASONS:
        raise ResponseUnusableError("`reason` must be one of the contract's")
    return Reason(value)


def _is_reason(code: str) -> bool:
    return code in _REASONS or code.startswith(_SITE)


def _shadowed(value: Any, reasons: list[str]) -> list[str] | None:
    """Return the libraries of an action that runs despite a denial; None if it does not run.

    Only a denial of the action itself may be shadowed: never one of the caller, nor an outage.
    """
    if value is None:
        return None
    if not isinstance(value, dict) or not all(
        code in (Reason.TOOL_NOT_ALLOWED, Reason.SITE_RULE) or code.startswith(_SITE)
        for code in reasons
    ):
        raise ResponseUnusableError("an action denied for this reason must not run")
    return _texts(value.get("libraries"))


def _version_of(result: Mapping[str, Any], *, required: bool) -> tuple[int | None, int | None]:
    epoch, revision = _integer(result.get("epoch")), _integer(result.get("revision"))
    if required and (epoch is None or revision is None):
        raise ResponseUnusableError("a response that allows must have an epoch and a revision")
    return epoch, revision


def _no_obligations(result: Mapping[str, Any]) -> None:
    # An enforcement point that does not know an obligation must refuse (XACML 3.0, 7.18). This one
    # knows none, so that rules of a later version cannot require something that it does not do.
    if result.get("obligations"):
        raise ResponseUnusableError("the response has obligations")


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ResponseUnusableError("a list of texts was expected")
    return value


def _optional_text(value: Any) -> str | None:
    if not isinstance(value, str | None):
        raise ResponseUnusableError("a text was expected")
    return value


def _integer(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise ResponseUnusableError("an integer was expected")
    return value


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ResponseUnusableError("a number of seconds was expected")
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds):
        raise ResponseUnusableError("a finite number of seconds was expected")
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
        raise ResponseUnusableError("`principal` is malformed")
    return Principal(
        type=value["type"], id=value["id"], name=value.get("name"), user=value.get("user")
    )
