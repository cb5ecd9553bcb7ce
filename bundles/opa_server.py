"""How an OPA is run: its configuration, its tokens and its command line, hardened.

OPA gets nothing that it does not need: a unix socket that its owner may open (or a TCP address that
was asked for), a bearer for every request, its own authorization policy, bounded bodies, no
telemetry.
"""

import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from bundles.exceptions import AddressInvalid, KeyUnusable
from bundles.opa_binary import OPA
from bundles.private import write_private

_BODY_LIMIT = 1 << 20
_SOCKET_PATH_LIMIT = 100
"""Bytes; the kernel's limit for a unix socket's path is 107 with its NUL (unix(7))."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OPASettings:
    """What an OPA must be told.

    Attributes:
        id: the instance's name in status reports.
        folder: where configuration, tokens and persisted bundles are kept; made with mode 0700.
        address: `unix:///path` or `http://host:port`.
        bundles_url: the URL of `lictor serve`.
        bundles_bearer: the instance's own bearer for it (`bundles.instances`).
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
    """Where the bearer is that a PDP shows to this OPA."""
    return folder / "client.token"


def bundles_token_file(folder: Path) -> Path:
    """Where the bearer is that this OPA shows to `lictor serve`."""
    return folder / "bundles.token"


def prepare(settings: OPASettings) -> None:
    """Write what OPA reads at its start. A token that is there already is kept.

    Raises:
        AddressInvalid: the address cannot be used.
        KeyUnusable: the folder's token cannot be read.
    """
    _check_address(settings.address)
    settings.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    token = _token(client_token_file(settings.folder))
    # OPA learns the token's digest only; nothing that it serves or logs can give the token away.
    local = {"local": {"clients": {sha256(token.encode()).hexdigest(): "query"}}}
    write_private(bundles_token_file(settings.folder), settings.bundles_bearer)
    write_private(settings.folder / "local.json", json.dumps(local))
    write_private(settings.folder / "config.json", json.dumps(_configuration(settings), indent=1))


def _token(path: Path) -> str:
    try:
        # One that is empty was left by a crash; with it nobody could ask anything.
        if not path.exists() or not path.read_text(encoding="ascii").strip():
            write_private(path, secrets.token_urlsafe(32))
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise KeyUnusable(f"{path}: no readable token ({type(error).__name__})") from None


def command(opa: OPA, settings: OPASettings) -> list[str]:
    """The argument list that runs OPA in the foreground.

    Raises:
        AddressInvalid: the address cannot be used.
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
        str(settings.folder / "local.json"),
    ]  # fmt: skip


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
            raise AddressInvalid(
                f"{address}: a unix socket's path has {_SOCKET_PATH_LIMIT} bytes at most"
            )
    elif not address.startswith("http://"):
        raise AddressInvalid(f"{address}: OPA listens on unix:///path or http://host:port")
