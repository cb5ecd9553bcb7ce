"""The two roads to OPA, behind one small interface.

`unix://` is the default and the fast one (`unix_road`). `http://` and `https://` are for an OPA in
a container or on another host (`http_road`). The deadline is the caller's, over all of it.
"""

from collections.abc import Mapping
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from pdp_client.exceptions import ConfigurationError
from pdp_client.unix_road import UnixRoad

Rule = Literal["decision", "visible"]
"""What can be asked. A caller's text never becomes part of a URL."""


class Road(Protocol):
    """A way to ask OPA."""

    async def ask(self, rule: Rule, question: Mapping[str, Any]) -> Any:
        """Ask for a rule of package `lictor` and return its `result`.

        Args:
            rule: the entrypoint.
            question: the `input` document.

        Raises:
            OPAUnreachable: there was no answer.
            AnswerUnusable: there was one, but not 200 with JSON that has a `result`.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


def open_road(
    url: str, *, token: str | None = None, client_cert: tuple[str, str] | None = None
) -> Road:
    """The road that a URL names; nothing is opened before the first question.

    Args:
        url: `unix:///path/to/opa.sock`, `http://host:port` or `https://host:port`.
        token: the bearer that OPA asks for (`--authentication=token`).
        client_cert: certificate and key files for mutual TLS; `https` only.

    Raises:
        ConfigurationError: the URL has another form, or a certificate no use.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or 8181
    except ValueError:
        raise _url_invalid() from None
    bare = not (parts.query or parts.fragment or parts.username or parts.password)
    if parts.scheme == "unix" and parts.path and not parts.netloc and bare and not client_cert:
        return UnixRoad(parts.path, token=token)
    tls = parts.scheme == "https"
    http = tls or (parts.scheme == "http" and not client_cert)
    if http and parts.hostname and bare and parts.path in {"", "/"}:
        # What it needs takes longer to load than all else here, and few need it.
        from pdp_client.http_road import HTTPRoad  # noqa: PLC0415

        return HTTPRoad(parts.hostname, port, tls=tls, token=token, client_cert=client_cert)
    raise _url_invalid()


def _url_invalid() -> ConfigurationError:
    # Not quoted: a URL may hold a password.
    return ConfigurationError(
        "OPA's URL is unix:///path, http://host:port or https://host:port; "
        "a client certificate goes with https"
    )
