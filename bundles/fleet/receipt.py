"""Receipts: what was revoked, and which instances ran that when, signed with the data key.

A receipt is a JWS (RFC 7515) that anyone with the public key can check offline. It holds the entry
of the change log with the hash of the previous one, so that kept receipts can later prove that a
log was rewritten.
"""

import json
import time
from typing import Any

import jwt

from bundles.exceptions import ReceiptInvalidError
from bundles.fleet.propagation import Propagation
from bundles.publish.signing import SigningKey
from registry import Kind, Ref
from registry.changelog import LogEntry

TYPE = "lictor-receipt+jwt"


def issue(effect: Propagation, entry: LogEntry, key: SigningKey) -> str:
    """A receipt for a change that is effective, as a compact JWS."""
    claims = {
        "iss": "lictor",
        "iat": int(time.time()),
        "entry": {
            "revision": entry.revision,
            "at": entry.at,
            "actor": entry.actor,
            "action": entry.action,
            "touched": [[ref.kind, ref.id] for ref in entry.touched],
            "previous": entry.previous,
            "hash": entry.hash,
        },
        "effect": effect.as_json(),
    }
    headers = {"kid": key.keyid, "typ": TYPE}
    return jwt.encode(claims, key.private, algorithm="ES256", headers=headers)


def verify(receipt: str, public_pem: str) -> dict[str, Any]:
    """Check a receipt and return its claims.

    Raises:
        ReceiptInvalidError: it is not a receipt, has another signature, or contradicts itself.
    """
    try:
        if jwt.get_unverified_header(receipt).get("typ") != TYPE:
            raise ReceiptInvalidError("it is signed, but no receipt")
        claims: dict[str, Any] = jwt.decode(
            receipt, public_pem, algorithms=["ES256"], issuer="lictor",
            options={"require": ["iss", "iat", "entry", "effect"], "verify_iat": False},
        )  # fmt: skip
        entry, effect = claims["entry"], claims["effect"]
        computed = LogEntry(
            **{**entry, "touched": tuple(Ref(Kind(kind), id_) for kind, id_ in entry["touched"])}
        ).with_hash()
        whole = computed.hash == entry["hash"] and effect["revision"] >= entry["revision"]
        whole = whole and effect["effective"] is True
    except jwt.PyJWTError as error:
        raise ReceiptInvalidError(f"its signature does not hold ({type(error).__name__})") from None
    except (TypeError, ValueError, KeyError) as error:
        raise ReceiptInvalidError(f"it lacks what a receipt has ({type(error).__name__})") from None
    if not whole:
        raise ReceiptInvalidError("it contradicts itself")
    return claims


def document(receipt: str) -> str:
    """A receipt's file: the JWS, and its claims for people to read."""
    claims = jwt.decode(receipt, options={"verify_signature": False})
    return json.dumps({"receipt": receipt, "claims": claims}, indent=1, ensure_ascii=False) + "\n"
