"""The canonical spelling of URIs, the only one that decisions are made on."""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote_to_bytes

_SHAPE: Final = re.compile(r"[a-z][a-z0-9+.-]*:(?:[!$&-;=?-Z\[\]_a-z~]|%[0-9A-F]{2})*")
_DELIMITERS: Final = re.compile(r"[/?#&=;]")
_ENCODED: Final = re.compile(rb"%([0-9A-F]{2})")
_ENCODED_TEXT: Final = re.compile(r"%([0-9A-F]{2})")
_UNRESERVED: Final = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
)
_STRUCTURE: Final = frozenset(b"/\\%?#&=;:@") | frozenset(range(0x20)) | {0x7F}


def is_canonical(uri: str) -> bool:
    """Return whether a URI has the canonical spelling, which rules and patterns are written for.

    FastMCP decodes a URI for its templates, and a handler may resolve `..`; a pattern or a rule
    sees the text. So that both mean the same resource, a canonical URI is ASCII with a lower-case
    scheme. It has no `.` or `..` segment, and no encoded octet that need not be encoded or that
    would be a delimiter (`%2F`), a control or another `%`. It has no fragment, which is not part of
    a resource's name, no empty path segment or query field, and no `+` in the query, which may be
    a space. RFC 3986 §3.5 and §6.2.2; unlike there, other spellings are not normalised.
    """
    if not _SHAPE.fullmatch(uri):
        return False
    path, asked, query = uri.partition(":")[2].partition("?")
    if "//" in path.removeprefix("//") or "+" in query or (asked and "" in query.split("&")):
        return False
    octets = {int(hexadecimal, 16) for hexadecimal in _ENCODED.findall(uri.encode())}
    if octets & (_UNRESERVED | _STRUCTURE):
        return False
    try:
        unquote_to_bytes(uri).decode()
    except UnicodeDecodeError:
        return False
    return not has_dot_segment(uri)


def has_dot_segment(uri: str) -> bool:
    """Return whether a URI has a segment `.` or `..`, which a handler may resolve.

    RFC 3986 §3.3; encoded ones count too.
    """
    decoded = unquote_to_bytes(uri.partition(":")[2]).decode(errors="replace")
    return any(
        not {".", ".."}.isdisjoint(_DELIMITERS.split(text))
        for text in (uri.partition(":")[2], decoded)
    )


def is_expansion(uri: str, expanded: str, values: Iterable[object]) -> bool:
    """Return whether a canonical URI equals its template expanded with the values found in it.

    A template ignores what it does not know, such as query fields, and decodes what need not be
    encoded: several URIs would then be one resource. RFC 6570 §3.2.1: in a value everything except
    unreserved characters is encoded; here, except for what no canonical URI has encoded.

    Args:
        uri: a canonical URI.
        expanded: the template expanded with the values.
        values: the values that the template found.
    """
    if any(isinstance(one, str) and one.endswith("/") for one in values):
        return False  # the name of a folder, to many handlers that read files
    return uri == _ENCODED_TEXT.sub(_as_written, expanded)


def _as_written(encoded: re.Match[str]) -> str:
    octet = int(encoded[1], 16)
    return chr(octet) if octet in _STRUCTURE else encoded[0]
