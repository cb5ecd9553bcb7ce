"""Which spelling of a URI may be decided on: the one that has no other."""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

_SHAPE: Final = re.compile(r"[a-z][a-z0-9+.-]*:(?:[!#$&-;=?-Z\[\]_a-z~]|%[0-9A-F]{2})*")
_DELIMITERS: Final = re.compile(r"[/?#&=;]")
_ENCODED: Final = re.compile(rb"%([0-9A-F]{2})")
_UNRESERVED: Final = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
)
_STRUCTURE: Final = frozenset(b"/\\%?#&=;:@") | frozenset(range(0x20)) | {0x7F}


def is_canonical(uri: str) -> bool:
    """Whether a URI is written in the one way that rules and patterns are written for.

    FastMCP decodes a URI for its templates, and a handler may resolve `..`; a pattern or a rule
    sees the text. So that both mean the same resource, it has to be ASCII with a scheme in lower
    case, without `.` and `..` as segments, and without an encoded octet that need not be encoded or
    that would be a delimiter (`%2F`), a control or another `%`. RFC 3986 §6.2.2; unlike there, what
    is written otherwise is not brought into this form.
    """
    if not _SHAPE.fullmatch(uri):
        return False
    octets = {int(hexadecimal, 16) for hexadecimal in _ENCODED.findall(uri.encode())}
    if octets & (_UNRESERVED | _STRUCTURE):
        return False
    try:
        unquote_to_bytes(uri).decode()
    except UnicodeDecodeError:
        return False
    return not {".", ".."} & set(_DELIMITERS.split(uri.partition(":")[2]))
