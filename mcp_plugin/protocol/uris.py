"""Which spelling of a URI may be decided on: the one that has no other."""

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
    """Whether a URI is written in the one way that rules and patterns are written for.

    FastMCP decodes a URI for its templates, and a handler may resolve `..`; a pattern or a rule
    sees the text. So that both mean the same resource, it has to be ASCII with a scheme in lower
    case, without `.` and `..` as segments, and without an encoded octet that need not be encoded or
    that would be a delimiter (`%2F`), a control or another `%`. Nor has it a fragment, which is no
    part of a resource's name, an empty segment of its path or field of its query, or a `+` there,
    which may be a space. RFC 3986 §3.5 and §6.2.2; unlike there, what is written otherwise is not
    brought into this form.
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
    return not {".", ".."} & set(_DELIMITERS.split(uri.partition(":")[2]))


def is_expansion(uri: str, expanded: str, values: Iterable[object]) -> bool:
    """Whether a canonical URI is what its template would make of the values found in it.

    A template looks away from what it does not know, as fields of a query, and decodes what need
    not be encoded: then several URIs would be one resource. RFC 6570 §3.2.1: in a value all but the
    unreserved is encoded; but for what no canonical URI has encoded.

    Args:
        uri: canonical.
        expanded: the template with the values.
        values: those that the template found.
    """
    if any(isinstance(one, str) and one.endswith("/") for one in values):
        return False  # the name of a folder, to many who read files
    return uri == _ENCODED_TEXT.sub(_as_written, expanded)


def _as_written(encoded: re.Match[str]) -> str:
    octet = int(encoded[1], 16)
    return chr(octet) if octet in _STRUCTURE else encoded[0]
