"""The forms in which digests and tokens are written."""

import re

_DIGEST = re.compile(r"[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Return whether a text is a SHA-256 in lowercase hexadecimal."""
    return _DIGEST.fullmatch(text) is not None


def token_label(digest: str) -> str:
    """Return a token's display form: `lct_…` and the digest's first 8 hex digits."""
    return f"lct_…{digest[:8]}"
