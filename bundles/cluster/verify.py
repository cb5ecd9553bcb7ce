"""The check of a bundle from the object store: whole, of its name and signed, as OPA checks it."""

import hashlib
import io
import json
import tarfile
import zlib
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from bundles.exceptions import KeyUnusableError, ObjectRefusedError
from bundles.publish.policy_releases import NAMES
from bundles.publish.signing import Bundle, etag_of

_LARGEST = 4 << 30


class BundleVerifier:
    """Knows the two keys that bundles are signed with."""

    def __init__(self, *, policy_key: str, data_key: str) -> None:
        """Take the public halves, as PEM text.

        Raises:
            KeyUnusableError: one of them is not a public P-256 key.
        """
        self._keys = {"policy": _public(policy_key), "data": _public(data_key)}

    def bundle(self, name: str, content: bytes) -> Bundle:
        """The bundle that these bytes are.

        Raises:
            ObjectRefusedError: they are none, of another name, or not signed by the name's key.
        """
        try:
            files = _unpacked(content)
            (token,) = json.loads(files.pop(".signatures.json"))["signatures"]
            kid = "policy" if name in NAMES else "data"
            if jwt.get_unverified_header(token).get("kid") != kid:
                raise ObjectRefusedError(f"{name}: signed with another key than {kid}")
            payload = jwt.decode(token, self._keys[kid], algorithms=["ES256"])
            signed = {file["name"]: file["hash"] for file in payload["files"]}
            revision = json.loads(files[".manifest"])["revision"]
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise ObjectRefusedError(f"{name}: no bundle ({type(error).__name__})") from None
        except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
            raise ObjectRefusedError(f"{name}: not whole ({type(error).__name__})") from None
        except jwt.PyJWTError as error:
            raise ObjectRefusedError(
                f"{name}: a wrong signature ({type(error).__name__})"
            ) from None
        if payload.get("scope") != name or not isinstance(revision, str):
            raise ObjectRefusedError(f"{name}: signed under another name")
        if signed != {path: hashlib.sha256(body).hexdigest() for path, body in files.items()}:
            raise ObjectRefusedError(f"{name}: its files are not those that were signed")
        return Bundle(name, revision, etag_of(content), content)


def _public(pem: str) -> EllipticCurvePublicKey:
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, TypeError) as error:
        raise KeyUnusableError(f"no public key ({type(error).__name__})") from None
    if not isinstance(key, EllipticCurvePublicKey):
        raise KeyUnusableError("bundles are signed with ES256, this is not a P-256 key")
    return key


def _unpacked(content: bytes) -> dict[str, bytes]:
    """Every file by its path. All is read, to the checksum at the end."""
    unzip = zlib.decompressobj(wbits=31)
    packed = unzip.decompress(content, _LARGEST)
    if not unzip.eof or unzip.unused_data:
        raise EOFError
    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:") as tar:
        for member in tar:
            file: Any = tar.extractfile(member)
            path = member.name.lstrip("/")
            if file is None or path in files:
                raise ValueError(path)
            files[path] = file.read()
    return files
