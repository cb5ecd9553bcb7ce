"""Search for bearers and private keys where none may be: their format identifies them, so each is a canary."""

import base64
import gzip
import io
import json
import re
import subprocess
import tarfile
import zlib

OPAQUE = re.compile(rb"lct_[0-9A-Za-z]{12,}")
JWT = re.compile(rb"(eyJ[A-Za-z0-9_-]+)\.(eyJ[A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+")
PEM = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
# In the last three a reader of the docs keeps what `lictor token create` and `lictor team` printed, and his shell's
# variables.
_HOLD_SECRETS = (
    "*.jwks", "*.key", "policy.pem", "data.pem", "*.token", "*.jwt",
    "created.txt", "docs.txt", ".variables",
)  # fmt: skip


def secrets_in(content):
    """What of a file's or a log's bytes is a bearer or a private key, each by its first characters."""
    found = [*OPAQUE.findall(content), *PEM.findall(content)]
    found += [one[0] for one in JWT.finditer(content) if _is_bearer(one[2])]
    return sorted({one[:12].decode() for one in found})


def may_hold_secrets(path):
    """Whether a file is made to hold a secret. `*.public.jwks` is not: it must hold none."""
    public = path.name.endswith((".public.jwks", ".pub.pem"))
    return not public and any(path.match(name) for name in _HOLD_SECRETS)


def content_of(path):
    """A file's bytes, and those of the files that it packs; none if it was replaced meanwhile.

    Another process reads the registry: if this one closed it, its own connections lost their locks, `lictor serve`
    cut the registry's shared memory, and the bus error killed the tests.
    https://www.sqlite.org/howtocorrupt.html (2.2)
    """
    if path.name.startswith("registry.db"):
        return subprocess.run(["cat", path], check=False, capture_output=True).stdout
    try:
        content = path.read_bytes()
    except OSError:
        return b""
    try:
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(content))) as tar:
            return content + b"".join(tar.extractfile(one).read() for one in tar if one.isfile())
    except (OSError, EOFError, ValueError, zlib.error, tarfile.TarError):
        return content


def secrets_under(folder):
    """The files of a folder that hold what they may not: `path: what`."""
    return [
        f"{path.relative_to(folder)}: {found}"
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not may_hold_secrets(path)
        if (found := secrets_in(content_of(path)))
    ]


def _is_bearer(payload):
    # Signatures of bundles and receipts are JWTs too, and no secrets.
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
    except ValueError:
        return False
    return isinstance(claims, dict) and "sub" in claims and "files" not in claims
