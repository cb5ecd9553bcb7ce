"""The two transports to OPA, behind one small interface.

`unix://` is the default and the fast one (`pdp_client.opa.unix`). `http://` and `https://` are for
an OPA in a container or on another host (`pdp_client.opa.http`). The deadline is the caller's.
"""

from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

from pdp_client.exceptions import ConfigurationError
from pdp_client.opa.query import Entrypoint
from pdp_client.opa.unix import UnixSocketTransport


class Transport(Protocol):
    """A way to query OPA."""

    async def query(self, entrypoint: Entrypoint, document: Mapping[str, Any]) -> Any:
        """Query an entrypoint of package `lictor` and return the `result`.

        Args:
            entrypoint: the rule.
            document: the `input` document.

        Raises:
            OPAUnreachableError: there was no response.
            ResponseUnusableError: there was one, but not 200 with JSON that has a `result`.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


def open_transport(
    url: str, *, token: str | None = None, client_cert: tuple[str, str] | None = None
) -> Transport:
    """Create the transport that a URL names; it connects on the first query.

    Args:
        url: `unix:///path/to/opa.sock`, `http://host:port` or `https://host:port`.
        token: the bearer that OPA requires (`--authentication=token`).
        client_cert: certificate and key files for mutual TLS; `https` only.

    Raises:
        ConfigurationError: the URL has another form, or a certificate does not apply to it.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or 8181
    except ValueError:
        raise _url_invalid() from None
    bare = not (parts.query or parts.fragment or parts.username or parts.password)
    if parts.scheme == "unix" and parts.path and not parts.netloc and bare and not client_cert:
        return UnixSocketTransport(parts.path, token=token)
    tls = parts.scheme == "https"
    http = tls or (parts.scheme == "http" and not client_cert)
    if http and parts.hostname and bare and parts.path in {"", "/"}:
        # Its dependencies load more slowly than everything else here, and few programs need it.
        from pdp_client.opa.http import HTTPTransport  # noqa: PLC0415

        return HTTPTransport(parts.hostname, port, tls=tls, token=token, client_cert=client_cert)
    raise _url_invalid()


def _url_invalid() -> ConfigurationError:
    # Not quoted: a URL may hold a password.
    return ConfigurationError(
        "OPA's URL is unix:///path, http://host:port or https://host:port; "
        "a client certificate goes with https"
    )
