"""Runs OPA: its configuration, its tokens and its command line, hardened.

OPA gets nothing that it does not need: a unix socket that its owner may open (or a configured TCP
address), a bearer for every request, its own authorization policy, bounded bodies, no
telemetry, an environment of its own.

It starts with a bundle that is written here, `local`: digests of client tokens, and the rule that
answers no request before the policy bundle is there. OPA lets no two bundles own overlapping roots,
so what `local` owns no bundle from elsewhere can have.
"""

import itertools
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from bundles.build.policies import product_folder
from bundles.exceptions import AddressInvalidError, KeyUnusableError
from bundles.opa.binary import OPA
from bundles.publish.signing import pack_unsigned
from lictor_common.private_files import replace_private, write_private

_LOCAL_ROOTS = ("local", "system/bundles", "system/modules")
"""The roots that no other bundle may own: OPA's client tokens, and what OPA keeps about bundles and
their modules, by which the rules recognise a bundle that brings more than it may."""

_INHERITED = ("GOGC", "GOMAXPROCS", "GOMEMLIMIT", "SSL_CERT_DIR", "SSL_CERT_FILE", "TZ")
"""Environment variables that OPA gets: settings of Go's runtime, and where certificates are."""

_BODY_LIMIT = 1 << 20
_SOCKET_PATH_LIMIT = 100
"""Bytes; the kernel's limit for a unix socket's path is 107 with its NUL (unix(7))."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OPASettings:
    """The settings of an OPA.

    Attributes:
        id: the instance's name in status reports.
        folder: where configuration, tokens and persisted bundles are kept; made with mode 0700.
        address: `unix:///path` or `http://host:port`.
        bundles_url: the URL of `lictor serve`.
        bundles_bearer: the instance's own bearer for it (`bundles.fleet.credentials`).
        policy_key: public PEM of the key that signs `policy` and `site`.
        data_key: public PEM of the key that signs the data bundles.
        bundles: the names of the bundles to fetch.
    """

    id: str
    folder: Path
    address: str
    bundles_url: str
    bundles_bearer: str = field(repr=False)
    policy_key: str
    data_key: str
    bundles: Sequence[str]


def client_token_file(folder: Path) -> Path:
    """The file with the bearer that a PDP sends to this OPA."""
    return folder / "client.token"


def bundles_token_file(folder: Path) -> Path:
    """The file with the bearer that this OPA sends to `lictor serve`."""
    return folder / "bundles.token"


def prepare(settings: OPASettings) -> None:
    """Write what OPA reads at its start. A token that is there already is kept.

    Raises:
        AddressInvalidError: the address cannot be used.
        KeyUnusableError: the folder's token cannot be read.
    """
    _check_address(settings.address)
    settings.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    token = _token(client_token_file(settings.folder))
    # OPA learns the token's digest only; nothing that it serves or logs can give the token away.
    clients = {sha256(token.encode()).hexdigest(): "query"}
    write_private(bundles_token_file(settings.folder), settings.bundles_bearer)
    replace_private(_local_file(settings.folder), _local_bundle(clients))
    write_private(settings.folder / "config.json", json.dumps(_configuration(settings), indent=1))


def _token(path: Path) -> str:
    try:
        # A crash may have left an empty one, with which OPA would refuse every query.
        if not path.exists() or not path.read_text(encoding="ascii").strip():
            write_private(path, secrets.token_urlsafe(32))
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise KeyUnusableError(f"{path}: no readable token ({type(error).__name__})") from None


def command(opa: OPA, settings: OPASettings) -> list[str]:
    """The argument list that runs OPA in the foreground.

    Raises:
        AddressInvalidError: the address cannot be used.
    """
    return [
        str(opa.path), "run", "--server",
        f"--addr={settings.address.removeprefix('http://')}",
        "--unix-socket-perm=600",
        "--authentication=token",
        "--authorization=basic",
        f"--config-file={settings.folder / 'config.json'}",
        "--skip-version-check",
        "--log-level=error",
        str(_local_file(settings.folder)),
    ]  # fmt: skip


def environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment that OPA runs with: rules that reach it find no secret in it."""
    return {name: inherited[name] for name in _INHERITED if name in inherited}


def _local_file(folder: Path) -> Path:
    # OPA takes what ends like this for a bundle, and not for a file of data.
    return folder / "local.tar.gz"


def _local_bundle(clients: Mapping[str, str]) -> bytes:
    data = {"clients": dict(clients), "protects_roots": True}
    rego = (product_folder() / "local" / "local.rego").read_bytes()
    roots = sorted({spelling for root in _LOCAL_ROOTS for spelling in _spellings(root)})
    return pack_unsigned(roots=roots, data=data, path="local", rego={"local/local.rego": rego})


def _spellings(root: str) -> Iterator[str]:
    """A root, and what OPA takes for another one although it writes to the same place.

    OPA 1.22.2 compares roots as they are written, and decodes percent-escapes only when it writes
    below them (hasRootsOverlap and Truncate in v1/bundle/store.go and v1/storage/inmem/inmem.go). A
    root with an escape overlaps with this one's whole path or begins with an escaped spelling of a
    part of it, so those are the roots to own.
    """
    parts = root.split("/")
    yield root
    for n, part in enumerate(parts):
        spelt = ({char, f"%{ord(char):02x}", f"%{ord(char):02X}"} for char in part)
        for chosen in itertools.product(*spelt):
            escaped = "".join(chosen)
            if escaped != part:
                yield "/".join([*parts[:n], escaped])


def _configuration(settings: OPASettings) -> dict[str, Any]:
    return {
        "labels": {"instance": settings.id},
        "services": {
            "lictor": {
                "url": settings.bundles_url,
                "credentials": {"bearer": {"token_path": str(bundles_token_file(settings.folder))}},
                "response_header_timeout_seconds": 60,
            }
        },
        "keys": {
            "policy": {"algorithm": "ES256", "key": settings.policy_key},
            "data": {"algorithm": "ES256", "key": settings.data_key},
        },
        "bundles": {name: _bundle(name) for name in settings.bundles},
        "persistence_directory": str(settings.folder / "persisted"),
        "default_authorization_decision": "/local/allow",
        "status": {"service": "lictor"},
        "server": {
            "decoding": {"max_length": _BODY_LIMIT, "gzip": {"max_length": _BODY_LIMIT}},
        },
    }


def _bundle(name: str) -> dict[str, Any]:
    # A base changes at compaction only; whatever else changes must be here in milliseconds.
    polling = (
        {"min_delay_seconds": 30, "max_delay_seconds": 60}
        if name.startswith("base-")
        else {"min_delay_seconds": 1, "max_delay_seconds": 2, "long_polling_timeout_seconds": 30}
    )
    keyid = "policy" if name in {"policy", "site"} else "data"
    return {
        "service": "lictor",
        "resource": f"bundles/{name}.tar.gz",
        "persist": True,
        "polling": polling,
        "signing": {"keyid": keyid, "scope": name},
    }


def _check_address(address: str) -> None:
    if address.startswith("unix://"):
        if len(os.fsencode(address.removeprefix("unix://"))) > _SOCKET_PATH_LIMIT:
            raise AddressInvalidError(
                f"{address}: a unix socket's path has {_SOCKET_PATH_LIMIT} bytes at most"
            )
    elif not address.startswith("http://"):
        raise AddressInvalidError(f"{address}: OPA listens on unix:///path or http://host:port")
