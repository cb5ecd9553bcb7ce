"""Texts: the forms of digests and tokens, and foreign text that must not steer a terminal."""

import json
import re
from typing import Any

_DIGEST = re.compile(r"[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Return whether a text is a SHA-256 in lowercase hexadecimal."""
    return _DIGEST.fullmatch(text) is not None


def token_label(digest: str) -> str:
    """Return a token's display form: `lct_…` and the digest's first 8 hex digits."""
    return f"lct_…{digest[:8]}"


def printable(text: str, *, longest: int | None = None) -> str:
    """Return a text with its unprintable characters escaped: controls, lone surrogates, bidi marks.

    Args:
        text: foreign text.
        longest: characters of it that are kept; None for all.
    """
    cut = text[:longest]
    if cut.isprintable():
        return cut
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in cut)[:longest]


def printable_json(value: Any, *, indent: int | None = None) -> str:
    """Return a value as JSON in which every unprintable character is escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return "".join(
        char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text
    )
