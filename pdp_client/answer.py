"""What both roads send and read: strict JSON, and an answer that has a `result`."""

import json
from collections.abc import Mapping
from typing import Any, Final

from pdp_client.exceptions import AnswerUnusable

LARGEST: Final = 16 << 20
"""Bytes of an answer; OPA's to a list of thousands of tools has less than a hundredth."""

LARGEST_QUESTION: Final = 1 << 20
"""Bytes of a question; `lictor opa` has OPA read no more (server.decoding.max_length)."""


def _refuse(constant: str) -> None:
    # Python reads NaN and the infinities, which are no JSON (RFC 8259, 6).
    raise ValueError(constant)


# Made once: json.dumps and json.loads make one for each call that has any option.
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_DECODER: Final = json.JSONDecoder(parse_constant=_refuse)


def encode(body: Mapping[str, Any]) -> str:
    """Write the body of a question.

    Raises:
        AnswerUnusable: it is no JSON or too large, so there can be no answer to it.
    """
    try:
        text = _ENCODER.encode(body)
    except (TypeError, ValueError, RecursionError):
        raise AnswerUnusable("the question is no JSON") from None
    if len(text) > LARGEST_QUESTION:  # it is ASCII
        raise AnswerUnusable("a question past 1 MiB")
    return text


def result_of(body: bytes | bytearray) -> Any:
    """The `result` of the body of a 200.

    Raises:
        AnswerUnusable: it is no JSON, or has no `result`; so answers an OPA without a bundle.
    """
    try:
        document = _DECODER.decode(body.decode())
    except (ValueError, RecursionError):
        raise AnswerUnusable("the answer is no JSON") from None
    if not isinstance(document, dict) or "result" not in document:
        raise AnswerUnusable("no `result`")
    return document["result"]
