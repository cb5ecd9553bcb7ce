"""Opaque bearers: lictor's format, and the digest that represents any of them.

The format is `lct_`, 43 base62 characters of randomness (256 bits) and 6 of CRC-32 over all before
them. Prefix and checksum let secret scanners find a leaked token, and reject a typo before any
look-up; the checksum does not protect against attackers.
"""

import hashlib
import re
import secrets
import string
import zlib
from collections.abc import Callable
from typing import Final

PREFIX: Final = "lct_"
_ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM_LENGTH: Final = 43
_CHECKSUM_LENGTH: Final = 6
_FORM: Final = re.compile(
    f"({PREFIX}[0-9A-Za-z]{{{_RANDOM_LENGTH}}})([0-9A-Za-z]{{{_CHECKSUM_LENGTH}}})"
)


def mint_opaque(randbits: Callable[[int], int] = secrets.randbits) -> str:
    """Create an opaque token, to be shown once.

    Args:
        randbits: Returns an integer of the given number of random bits.
    """
    body = PREFIX + _base62(randbits(256), _RANDOM_LENGTH)
    return body + _checksum(body)


def is_intact(bearer: str) -> bool:
    """Return whether a bearer that starts with `lct_` has the right length, alphabet, checksum."""
    match = _FORM.fullmatch(bearer)
    return match is not None and _checksum(match[1]) == match[2]


def digest(bearer: str) -> str:
    """Return the bearer's SHA-256, 64 lowercase hex digits: all that is ever stored or sent."""
    return hashlib.sha256(bearer.encode("ascii")).hexdigest()


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode("ascii")), _CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
