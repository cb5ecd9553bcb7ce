"""The wire format of both transports: strict JSON, and a response that has a `result`."""

import json
from collections.abc import Mapping
from typing import Any, Final

from pdp_client.exceptions import EvaluationError, ResponseUnusableError, RuleError

LARGEST: Final = 16 << 20
"""Bytes of a response; that to a list of thousands of tools has less than a hundredth."""

LARGEST_QUERY: Final = 1 << 20
"""Bytes of a query; `lictor opa` limits OPA to the same (server.decoding.max_length)."""


_EVALUATION_CODES: Final = frozenset(
    {
        "eval_builtin_error",
        "eval_cancel_error",
        "eval_conflict_error",
        "eval_internal_error",
        "eval_type_error",
        "eval_unsupported_builtin_error",
        "eval_with_merge_error",
    }
)
"""OPA's codes (v1/topdown/errors.go), for labels of a metric."""

_MOST_ERRORS: Final = 8
_LONGEST_FILE: Final = 256
_LAST_ROW: Final = 10_000_000


def _refuse(constant: str) -> None:
    # Python parses NaN and the infinities, which are not JSON (RFC 8259, 6).
    raise ValueError(constant)


# Made once: json.dumps and json.loads make one for each call that has any option.
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_DECODER: Final = json.JSONDecoder(parse_constant=_refuse)


def encode_query(body: Mapping[str, Any]) -> str:
    """Write the body of a query.

    Raises:
        ResponseUnusableError: it is not JSON or too large, so OPA cannot respond to it.
    """
    try:
        text = _ENCODER.encode(body)
    except (TypeError, ValueError, RecursionError):
        raise ResponseUnusableError("the query is not JSON") from None
    if len(text) > LARGEST_QUERY:  # it is ASCII
        raise ResponseUnusableError("the query exceeds 1 MiB")
    return text


def decode_result(body: bytes | bytearray) -> Any:
    """Return the `result` in the body of a 200.

    Raises:
        ResponseUnusableError: not JSON, or no `result`, as from an OPA without a bundle.
    """
    try:
        document = _DECODER.decode(body.decode())
    except (ValueError, RecursionError):
        raise ResponseUnusableError("the response is not JSON") from None
    if not isinstance(document, dict) or "result" not in document:
        raise ResponseUnusableError("no `result`")
    return document["result"]


def decode_error(status: int, body: bytes | bytearray) -> ResponseUnusableError:
    """Return the error for a status other than 200, with the failed rules if OPA names them."""
    try:
        document = _DECODER.decode(body.decode())
        listed = document["errors"][:_MOST_ERRORS]
        errors = [_rule_error(one["code"], one.get("location")) for one in listed]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        errors = []
    return EvaluationError(status, errors) if errors else ResponseUnusableError(f"HTTP {status}")


def _rule_error(code: Any, location: Any) -> RuleError:
    place = location if isinstance(location, dict) else {}
    row = place.get("row")
    return RuleError(
        code=code if isinstance(code, str) and code in _EVALUATION_CODES else "other",
        file=_in_bundle(_printable(place.get("file"))),
        row=row if type(row) is int and 0 <= row <= _LAST_ROW else 0,
    )


def _in_bundle(file: str) -> str:
    """A file's path in its bundle.

    OPA names a module `/site/rules.rego` after its bundle was fetched, and `site/site/rules.rego`
    once another activation has read it back from its store.
    """
    for bundle in ("policy", "site"):
        if file.startswith(f"{bundle}/"):
            return file.removeprefix(f"{bundle}/")
    return file.removeprefix("/")


def _printable(file: Any) -> str:
    # A server in OPA's place must not be able to write lines of its own into a log.
    text = file[:_LONGEST_FILE] if isinstance(file, str) else ""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
